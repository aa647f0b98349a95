"""Several ways to decide on the same events, side by side: alerts, hits, money, what would change. Pure.

Everything is a sum over blocks of events, so memory does not grow with the period. A label counts for its weight (one, but for
explored events); what has no label yet is pending and counts neither way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.time import DAY_US
from penstock.models.costs import RowCosts
from penstock.models.manifest import json_value
from penstock.monitoring.prequential import BINS, bin_of, curves_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NEGATIVE, POSITIVE, PENDING = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Events, and what is known of them.

    Attributes
    ----------
    days
        int64[n]: UTC days since 1970.
    state
        int64[n]: `NEGATIVE`, `POSITIVE` or `PENDING`.
    weights
        float64[n]: what each label counts for.
    costs
        What each costs; None where no costs are given.
    """

    days: IntArray
    state: IntArray
    weights: FloatArray
    costs: RowCosts | None

    @staticmethod
    def of(
        times_us: IntArray,
        labels: FloatArray,
        weights: FloatArray | None = None,
        costs: RowCosts | None = None,
    ) -> Block:
        """Events at `times_us` with `labels` (NaN: none yet)."""
        state = np.where(np.isnan(labels), PENDING, labels > 0).astype(np.int64)
        return Block(times_us // DAY_US, state, np.ones(len(labels)) if weights is None else weights, costs)

    def __len__(self) -> int:
        return len(self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one way to decide came to; None where a ratio is 0 / 0, or no costs are given.

    Attributes
    ----------
    decided, alerts, pending, pending_alerts
        Events; those with another action than the default; those without label; alerts among them.
    alerts_per_day, most_alerts
        On average and on the worst day.
    actions
        How often each action was taken.
    precision, recall, false_positive_rate
        Of all alerts, over events with labels.
    by_action
        Precision of each action.
    cost, idle_cost
        Of the decisions on events with labels, and of doing nothing.
    latency_ms, features_ms
        The 99th percentile of the processor time that the model takes for one event, and its features; None where no model scored, and
        where the features are those of every side. Of all sides in turns, over the same events.
    """

    name: str
    decided: int
    alerts: int
    pending: int
    pending_alerts: int
    alerts_per_day: float
    most_alerts: int
    actions: dict[str, int]
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    by_action: dict[str, float | None]
    average_precision: float | None
    cost: float | None
    idle_cost: float | None
    latency_ms: float | None = None
    features_ms: float | None = None
    over_budget: int = 0
    """Decisions that would have been alerts, had the day's budget not been used up."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        found: dict[str, Any] = json_value({name: getattr(self, name) for name in self.__slots__})
        return found


class Tally:
    """Counts one way to decide.

    Parameters
    ----------
    name
        What it is called.
    default
        The action that is no alert.

    Examples
    --------
    >>> block = Block.of(np.zeros(3, np.int64), np.array([0.0, 1.0, np.nan]))
    >>> tally = Tally("now", "approve")
    >>> tally.add(block, np.array([1, 1, 0]), np.array([0.6, 0.9, 0.1]), ("approve", "block"))
    >>> found = tally.summary()
    >>> found.alerts, found.pending, found.precision, found.recall
    (2, 1, 0.5, 1.0)
    """

    def __init__(self, name: str, default: str) -> None:
        self.name, self.default = name, default
        self.latency_ms: float | None = None
        self.features_ms: float | None = None
        self.over_budget = 0
        self._counts: dict[str, FloatArray] = {}
        """By action: events by state."""
        self._weighted: dict[str, FloatArray] = {}
        self._scored = np.zeros((2, BINS))
        self._days: dict[int, FloatArray] = {}
        """By day: events, alerts, cost."""
        self._idle = 0.0
        self._priced = False

    def add(
        self, block: Block, taken: npt.NDArray[Any], scores: FloatArray, actions: tuple[str, ...]
    ) -> None:
        """Count decisions on a block: codes into `actions`, and scores (NaN: none)."""
        cells = taken * np.int64(3) + block.state
        size = 3 * len(actions)
        counts = np.bincount(cells, minlength=size).reshape(-1, 3)
        weighted = np.bincount(cells, block.weights, minlength=size).reshape(-1, 3)
        for code, action in enumerate(actions):
            if counts[code].any():
                self._counts[action] = self._counts.get(action, 0) + counts[code]
                self._weighted[action] = self._weighted.get(action, 0) + weighted[code]
        acted = np.array([action != self.default for action in actions])[taken]
        known = np.flatnonzero((block.state != PENDING) & ~np.isnan(scores))
        where = bin_of(scores[known]) + BINS * block.state[known]
        self._scored += np.bincount(where, block.weights[known], minlength=2 * BINS).reshape(2, BINS)
        self._add_days(block, acted, self._costs(block, acted))

    def _costs(self, block: Block, acted: BoolArray) -> FloatArray:
        """The cost of each decision whose label is known."""
        if block.costs is None:
            return np.zeros(len(block))
        self._priced = True
        bad, costs = block.state == POSITIVE, block.costs
        self._idle += float((costs.missed * block.weights)[bad].sum())
        when_acted = np.where(bad, costs.alert, costs.alert + costs.false_alarm)
        found = np.where(acted, when_acted, np.where(bad, costs.missed, 0.0)) * block.weights
        found[block.state == PENDING] = 0.0
        return found

    def _add_days(self, block: Block, acted: BoolArray, costs: FloatArray) -> None:
        first = int(block.days.min())
        places = block.days - first
        if int(places.max()) > len(block):  # far apart: by those that there are
            days, places = np.unique(block.days, return_inverse=True)
        else:
            days = np.arange(first, first + int(places.max()) + 1)
        sums = [np.bincount(places, w, minlength=len(days)) for w in (None, acted.astype(np.float64), costs)]
        for day, found in zip(days.tolist(), np.column_stack(sums), strict=True):
            if found[0]:
                self._days[day] = self._days.get(day, 0) + found

    def by_day(self) -> dict[int, tuple[int, int, float]]:
        """By UTC day since 1970, ascending: events, alerts, and the cost of those whose labels are known."""
        return {d: (int(v[0]), int(v[1]), float(v[2])) for d, v in sorted(self._days.items())}

    def summary(self) -> Summary:
        """The figures so far."""
        none = np.zeros(3)
        alerts = [action for action in self._counts if action != self.default]
        events = sum(self._counts.values(), none)
        acted = sum((self._counts[action] for action in alerts), none)
        by_label = sum((self._weighted[action] for action in alerts), none)
        labelled = sum(self._weighted.values(), none)
        days = self.by_day()
        _, recall, precision = curves_of(self._scored)
        steps = np.diff(recall, prepend=0.0)
        return Summary(
            name=self.name,
            decided=int(events.sum()),
            alerts=int(acted.sum()),
            pending=int(events[PENDING]),
            pending_alerts=int(acted[PENDING]),
            alerts_per_day=float(acted.sum()) / max(len(days), 1),
            most_alerts=max((found[1] for found in days.values()), default=0),
            actions={action: int(found.sum()) for action, found in sorted(self._counts.items())},
            precision=_ratio(by_label[POSITIVE], by_label[NEGATIVE] + by_label[POSITIVE]),
            recall=_ratio(by_label[POSITIVE], labelled[POSITIVE]),
            false_positive_rate=_ratio(by_label[NEGATIVE], labelled[NEGATIVE]),
            by_action={
                a: _ratio(w[POSITIVE], w[NEGATIVE] + w[POSITIVE]) for a in alerts for w in [self._weighted[a]]
            },
            average_precision=float(steps @ precision) if len(recall) else None,
            cost=sum(found[2] for found in days.values()) if self._priced else None,
            idle_cost=self._idle if self._priced else None,
            latency_ms=self.latency_ms,
            features_ms=self.features_ms,
            over_budget=self.over_budget,
        )


class Changes:
    """How often one action became another.

    Examples
    --------
    >>> changes = Changes()
    >>> changes.add(np.array([0, 1, 1]), ("approve", "block"), np.array([0, 0, 1]), ("approve", "block"))
    >>> changes.counts, changes.changed
    ({('approve', 'approve'): 1, ('block', 'approve'): 1, ('block', 'block'): 1}, 1)
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def add(
        self,
        before: npt.NDArray[Any],
        names_before: tuple[str, ...],
        after: npt.NDArray[Any],
        names_after: tuple[str, ...],
    ) -> None:
        """Count the codes of actions of the same events."""
        width = len(names_after)
        cells = np.bincount(before * np.int64(width) + after, minlength=len(names_before) * width)
        for cell in np.flatnonzero(cells).tolist():
            pair = names_before[cell // width], names_after[cell % width]
            self.counts[pair] = self.counts.get(pair, 0) + int(cells[cell])

    @property
    def changed(self) -> int:
        """How many decisions would differ."""
        return sum(count for (before, after), count in self.counts.items() if before != after)


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
