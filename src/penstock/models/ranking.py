"""Card Precision at k: how many of the k cards that an analyst looks at each day are compromised.

Per day, a card counts once, with its highest score and whether any of its events is positive. The k cards with the
highest scores are looked at; the share of positive ones is the day's precision; cards found leave for the days after.
The mean over the days is the figure. Published with the fraud benchmark; it works for any entity and period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CardPrecision:
    """Card Precision at `k`, and the `ceiling` that a perfect ranking reaches on the same data."""

    k: int
    value: float
    ceiling: float
    by_day: tuple[float, ...]


def card_precision_at_k(
    days: NDArray[Any],
    cards: NDArray[Any],
    scores: NDArray[np.float64],
    labels: NDArray[Any],
    *,
    k: int = 100,
) -> CardPrecision:
    """Mean share of positive cards among the `k` with the highest scores of each day.

    Parameters
    ----------
    days, cards
        Period and entity of each row, shape [n]; any sortable type.
    scores, labels
        Scores, and labels of which those above zero are positive, shape [n].
    k
        How many cards can be looked at in a day. A day with fewer cards still divides by `k`.

    Notes
    -----
    Of cards with equal scores the one that sorts first is taken first, so the figure is reproducible; models with few
    distinct scores (a shallow tree) depend on this choice.

    Examples
    --------
    Card 7 is found on the first day and leaves; the second day's best is then card 8, which is good.

    >>> found = card_precision_at_k(
    ...     np.array([1, 1, 2, 2, 2]),
    ...     np.array([7, 8, 7, 8, 9]),
    ...     np.array([0.9, 0.2, 0.9, 0.5, 0.4]),
    ...     np.array([1, 0, 1, 0, 1]),
    ...     k=1,
    ... )
    >>> found.by_day, found.value, found.ceiling
    ((1.0, 0.0), 0.5, 1.0)
    """
    if k < 1 or not len(days):
        raise ModelError(f"Card Precision: k is {k} over {len(days)} rows; both must be at least 1.")
    positive = np.asarray(labels) > 0
    day_codes = np.unique(days, return_inverse=True)[1]
    card_codes = np.unique(cards, return_inverse=True)[1]
    by_day = _daily(day_codes, card_codes, scores, positive, k)
    ideal = _daily(day_codes, card_codes, positive.astype(np.float64), positive, k)
    return CardPrecision(k, float(np.mean(by_day)), float(np.mean(ideal)), tuple(by_day))


def _daily(
    days: NDArray[np.intp],
    cards: NDArray[np.intp],
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    k: int,
) -> list[float]:
    count = int(cards.max()) + 1
    found = np.zeros(count, np.bool_)
    shares = []
    for day in range(int(days.max()) + 1):
        rows = np.flatnonzero((days == day) & ~found[cards])
        highest = np.full(count, -np.inf)
        np.maximum.at(highest, cards[rows], scores[rows])
        compromised = np.zeros(count, np.bool_)
        compromised[cards[rows[positive[rows]]]] = True
        present = np.unique(cards[rows])
        looked_at = present[np.argsort(-highest[present], kind="stable")[:k]]
        hits = looked_at[compromised[looked_at]]
        found[hits] = True
        shares.append(len(hits) / k)
    return shares
