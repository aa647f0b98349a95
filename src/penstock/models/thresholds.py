"""Thresholds of least expected cost, chosen on a validation period before the end of training, within a budget of alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.manifest import json_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.costs import RowCosts

CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class ChosenThreshold:
    """A threshold, and what it rests on.

    Attributes
    ----------
    action, threshold
        What is taken from which score on.
    cost, idle_cost, until_cost
        On the validation period: at the threshold, of doing nothing, and at the policy's threshold until one is chosen.
    alerts_per_day, budget
        How often a score reached the threshold, on average over the days of validation, and how often it may.
    rows, positives
        Of the validation period, with labels.
    start_us, end_us
        The validation period.
    curve
        Threshold, cost and alerts a day, from the highest threshold down.
    """

    action: str
    threshold: float
    cost: float
    idle_cost: float
    until_cost: float
    alerts_per_day: float
    budget: float | None
    rows: int
    positives: int
    start_us: int
    end_us: int
    curve: tuple[tuple[float, float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        found: dict[str, Any] = json_value(asdict(self))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Rows on which thresholds are chosen: scores, labels (NaN: none, counts for the budget only), and what labels count for."""

    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]
    start_us: int
    end_us: int

    @property
    def days(self) -> float:
        """Its length."""
        return (self.end_us - self.start_us) / 86_400_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """An action whose threshold is to be chosen: costs of the rows, the budget, and the threshold until then."""

    action: str
    costs: RowCosts
    until: float
    alerts_per_day: float | None = None


def choose_thresholds(
    steps: Sequence[tuple[str, float]], wanted: Mapping[str, Wanted], rows: Validation
) -> dict[str, ChosenThreshold]:
    """The threshold of least cost for each wanted action; the gravest action first, and none above a graver one.

    Parameters
    ----------
    steps
        All actions and their thresholds, ascending; those that are not wanted are fixed.

    Raises
    ------
    ModelError
        When the rows have no positive or no negative.
    """
    truth = rows.labels > 0
    if not truth.any() or not (rows.labels == 0).any():
        raise ModelError(
            f"Thresholds: the validation period has {int(truth.sum()):,} positives among {len(truth):,} rows; both classes are "
            "needed to weigh costs. Train on a longer period, or write the threshold as a number."
        )
    found: dict[str, ChosenThreshold] = {}
    high = np.inf
    for place in range(len(steps) - 1, -1, -1):
        action, threshold = steps[place]
        if action in wanted:
            fixed_below = [t for a, t in steps[:place] if a not in wanted]
            low = max(fixed_below, default=-np.inf)
            found[action] = choose_threshold(wanted[action], rows, low=low, high=high)
            threshold = found[action].threshold
        high = threshold
    return found


def choose_threshold(
    wanted: Wanted, rows: Validation, *, low: float = -np.inf, high: float = np.inf
) -> ChosenThreshold:
    """The threshold in [low, high] whose cost is least and which keeps the budget; of equals the highest.

    Every way to part the rows by score is tried. A threshold stands half-way between the scores that it parts.
    """
    order = np.argsort(-rows.scores, kind="stable")
    scores = rows.scores[order]
    ends = np.concatenate([[0], np.flatnonzero(np.diff(scores)) + 1, [len(scores)]])  # alerts at each cut
    cuts = np.clip(_between(scores, ends), low, high)
    by_alerts = _costs_by_alerts(wanted.costs, rows, order)
    alerts = len(scores) - np.searchsorted(scores[::-1], cuts, side="left")  # a bound may part them elsewhere
    costs = by_alerts[alerts]
    per_day = alerts / rows.days
    allowed = (
        np.ones(len(cuts), np.bool_) if wanted.alerts_per_day is None else per_day <= wanted.alerts_per_day
    )
    if not allowed.any():  # the bound from below is above what the budget allows
        allowed[np.argmin(alerts)] = True
    best = int(np.argmin(np.where(allowed, costs, np.inf)))
    known = ~np.isnan(rows.labels)
    until = len(scores) - int(np.searchsorted(scores[::-1], wanted.until, side="left"))
    spread = np.searchsorted(
        -cuts, -np.linspace(cuts[0], cuts[-1], CURVE_POINTS)
    )  # evenly by threshold, not by rank
    shown = np.unique(np.append(np.minimum(spread, len(cuts) - 1), best))
    return ChosenThreshold(
        action=wanted.action,
        threshold=float(cuts[best]),
        cost=float(costs[best]),
        idle_cost=float(by_alerts[0]),
        until_cost=float(by_alerts[until]),
        alerts_per_day=float(per_day[best]),
        budget=wanted.alerts_per_day,
        rows=int(known.sum()),
        positives=int((rows.labels > 0).sum()),
        start_us=rows.start_us,
        end_us=rows.end_us,
        curve=tuple(zip(cuts[shown].tolist(), costs[shown].tolist(), per_day[shown].tolist(), strict=True)),
    )


def _costs_by_alerts(costs: RowCosts, rows: Validation, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cost when the first k rows in `order` raise alerts, for k from 0 to n. Rows without label cost nothing."""
    labels, weights = rows.labels[order], rows.weights[order]
    known, bad = ~np.isnan(labels), labels > 0
    when_acted = np.where(known, costs.alert + np.where(bad, 0.0, costs.false_alarm[order]), 0.0) * weights
    when_missed = np.where(bad, costs.missed[order], 0.0) * weights
    missed = np.concatenate([[0.0], np.cumsum(when_missed)])
    found: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(when_acted)]) + (missed[-1] - missed)
    return found


def _between(scores: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each cut of descending scores a number that parts them there: scores above it raise alerts, or are equal to it."""
    above = np.concatenate([[max(1.0, float(scores[0]))], scores[ends[1:] - 1]])
    below = np.concatenate([scores[ends[1:] - 1][:1], scores[ends[1:-1]], [min(0.0, float(scores[-1]))]])
    middle = (above + below) / 2
    found: NDArray[np.float64] = np.where(middle > below, middle, above)
    found[0] = middle[0] if middle[0] > scores[0] else np.nextafter(scores[0], np.inf)
    found[-1] = min(found[-1], scores[-1])
    return found
