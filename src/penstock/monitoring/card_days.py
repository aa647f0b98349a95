"""Card Precision at k by day, kept as labels arrive, in bounded memory.

Of each day the cards with the highest scores are kept: as many as can be looked at in all the days that are judged
together, since cards that were found leave, and no more can leave. Positive cards, which are rare, are all kept.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from penstock.models.ranking import CardPrecision, card_precision_at_k

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CardArray = npt.NDArray[np.uint64]


class CardDays:
    """The cards to look at, by day.

    Parameters
    ----------
    k
        How many cards can be looked at in a day.
    days
        Most days that are judged together.

    Examples
    --------
    >>> ranking = CardDays(k=1, days=7)
    >>> cards = np.array([7, 8, 7, 8, 9], np.uint64)
    >>> positive = np.array([True, False, True, False, True])
    >>> ranking.add(
    ...     np.array([1, 1, 2, 2, 2]), cards, scores=np.array([0.9, 0.2, 0.9, 0.5, 0.4]), positive=positive
    ... )
    >>> ranking.precision(1, 3).by_day
    (1.0, 0.0)
    """

    def __init__(self, *, k: int, days: int) -> None:
        self._k = k
        self._kept = k * days
        self._highest: dict[int, dict[int, float]] = {}
        self._positives: dict[int, Counter[int]] = {}

    def add(
        self, days: IntArray, cards: CardArray, *, scores: FloatArray, positive: npt.NDArray[np.bool_]
    ) -> None:
        """Count the first labels of decisions: day, card, score and label of each, shape [n]; NaN scores are left out."""
        known = ~np.isnan(scores)
        rows = zip(*(column[known].tolist() for column in (days, cards, scores)), strict=True)
        for day, card, score in rows:
            highest = self._highest.setdefault(day, {})
            if score > highest.get(card, -np.inf):
                highest[card] = score
        for day in np.unique(days[known]).tolist():
            if len(self._highest[day]) > 2 * self._kept:
                self._highest[day] = self._top(day)
        self._count(days, cards, known & positive, sign=1)

    def replace(
        self,
        days: IntArray,
        cards: CardArray,
        *,
        before: npt.NDArray[np.bool_],
        after: npt.NDArray[np.bool_],
    ) -> None:
        """Correct labels of decisions that had a score."""
        self._count(days, cards, before, sign=-1)
        self._count(days, cards, after, sign=1)

    def forget(self, before: int) -> None:
        """Drop the days before one."""
        for kept in (self._highest, self._positives):
            for day in [day for day in kept if day < before]:
                del kept[day]

    def precision(self, first: int, stop: int) -> CardPrecision | None:
        """Card Precision over the days from `first` up to `stop`; None where they hold no label."""
        days: list[int] = []
        cards: list[int] = []
        scores: list[float] = []
        for day in sorted(day for day in self._highest if first <= day < stop):
            top = self._top(day)
            rest = [card for card in self._positive_cards(day) if card not in top]
            days += [day] * (len(top) + len(rest))
            cards += [*top, *rest]
            scores += [*top.values(), *[-np.inf] * len(rest)]
        if not days:
            return None
        labels = [card in self._positives.get(day, ()) for day, card in zip(days, cards, strict=True)]
        return card_precision_at_k(
            np.array(days), np.array(cards, np.uint64), np.array(scores), np.array(labels), k=self._k
        )

    def _top(self, day: int) -> dict[int, float]:
        """The cards that may be looked at; of equal scores the smaller card first."""
        ranked = sorted(self._highest[day].items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[: self._kept])

    def _positive_cards(self, day: int) -> list[int]:
        return sorted(self._positives.get(day, ()))

    def _count(self, days: IntArray, cards: CardArray, chosen: npt.NDArray[np.bool_], *, sign: int) -> None:
        for day, card in zip(days[chosen].tolist(), cards[chosen].tolist(), strict=True):
            counts = self._positives.setdefault(day, Counter())
            counts[card] += sign
            if not counts[card]:
                del counts[card]
