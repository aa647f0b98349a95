"""Alerts on metrics: what is measured over the newest decisions, and when a metric counts as firing. Pure.

A metric that leaves its bound is *pending*; when it was out for long enough it is *firing*, and somebody is told; when it is back, it is
resolved. What is unknown (too few decisions) changes nothing. States are plain values, so that a restart goes on where the last run stood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Phase = Literal["ok", "pending", "firing"]
Kind = Literal["firing", "repeated", "resolved"]

SLOTS = 60
"""A window is cut into so many slots, and is right to one of them."""
SECOND_US = 1_000_000
FIRST_RETRY_US, LONGEST_RETRY_US = SECOND_US, 3600 * SECOND_US


class Counts(msgspec.Struct, array_like=True):
    """What is counted of the decisions in a slot."""

    decisions: int = 0
    alerts: int = 0
    degraded: int = 0
    late: int = 0
    scored: int = 0
    score_sum: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.decisions + other.decisions,
            self.alerts + other.alerts,
            self.degraded + other.degraded,
            self.late + other.late,
            self.scored + other.scored,
            self.score_sum + other.score_sum,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Decisions, shape [n] each: event times, scores (NaN: none), and whether each is an alert, degraded, late."""

    times_us: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    alerts: npt.NDArray[np.bool_]
    degraded: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.times_us)

    def counts(self, rows: npt.NDArray[np.bool_]) -> Counts:
        """Counts of some rows."""
        scores = self.scores[rows]
        known = scores[~np.isnan(scores)]
        alerts, degraded, late = (int(flag[rows].sum()) for flag in (self.alerts, self.degraded, self.late))
        return Counts(len(scores), alerts, degraded, late, len(known), float(known.sum()))


class Rolling(msgspec.Struct):
    """The newest stretch of event time of an endpoint's decisions, in slots.

    Examples
    --------
    >>> rolling, no = Rolling(window_us=600_000_000), np.zeros(2, np.bool_)
    >>> rolling.add(Rows(np.array([0, 1_000_000]), np.array([0.1, 0.9]), np.array([False, True]), no, no))
    >>> METRICS["alert_rate"](rolling, 5_000_000), METRICS["lag_s"](rolling, 5_000_000)
    (0.5, 4.0)
    """

    window_us: int
    newest_us: int | None = None
    slots: dict[int, Counts] = {}

    @property
    def slot_us(self) -> int:
        """Length of a slot."""
        return max(self.window_us // SLOTS, 1)

    def add(self, rows: Rows) -> None:
        """Count decisions, and forget what the window has left behind."""
        if not len(rows):
            return
        newest = int(rows.times_us.max())
        self.newest_us = newest if self.newest_us is None else max(newest, self.newest_us)
        oldest = (self.newest_us - self.window_us) // self.slot_us
        numbers = rows.times_us // self.slot_us
        for slot in np.unique(numbers[numbers > oldest]).tolist():
            self.slots[slot] = self.slots.get(slot, Counts()).plus(rows.counts(numbers == slot))
        for slot in [slot for slot in self.slots if slot <= oldest]:
            del self.slots[slot]

    def total(self) -> Counts:
        """Everything in the window."""
        total = Counts()
        for counts in self.slots.values():
            total = total.plus(counts)
        return total


def _share(name: str) -> Callable[[Rolling, int], float | None]:
    def share(rolling: Rolling, _now_us: int) -> float | None:
        total = rolling.total()
        return getattr(total, name) / total.decisions if total.decisions else None

    return share


def _mean_score(rolling: Rolling, _now_us: int) -> float | None:
    total = rolling.total()
    return total.score_sum / total.scored if total.scored else None


def _lag_s(rolling: Rolling, now_us: int) -> float | None:
    return None if rolling.newest_us is None else (now_us - rolling.newest_us) / SECOND_US


METRICS: dict[str, Callable[[Rolling, int], float | None]] = {
    "alert_rate": _share("alerts"),
    "degraded_rate": _share("degraded"),
    "late_rate": _share("late"),
    "mean_score": _mean_score,
    "lag_s": _lag_s,
}
"""Metrics of the stream: what each comes to at a time, None where it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a metric is out of bounds, for how long it must be, how often that is told again, and whether its end is."""

    above: float | None = None
    below: float | None = None
    for_us: int = 0
    repeat_us: int | None = None
    recover: bool = True

    def broken_by(self, value: float) -> bool:
        """Whether a value is out of bounds; the bound itself is not."""
        return (self.above is not None and value > self.above) or (
            self.below is not None and value < self.below
        )


class State(msgspec.Struct, frozen=True):
    """Where a metric stands.

    Attributes
    ----------
    phase
        ``ok``, ``pending`` (out of bounds, not for long enough yet) or ``firing``.
    since_us
        When it left its bounds; names the incident.
    told_us
        When somebody was told of it last; 0: not yet.
    told
        How often.
    value
        What the metric was when it was known last.
    """

    phase: Phase = "ok"
    since_us: int = 0
    told_us: int = 0
    told: int = 0
    value: float | None = None


def advance(
    state: State, rule: Rule, value: float | None, *, now_us: int, silenced: bool = False
) -> tuple[State, Kind | None]:
    """The state after a look at the metric, and what is to be told.

    While silenced nothing new is told; what is still firing when the silence ends is told then. An end is told where its beginning was.

    Examples
    --------
    >>> rule = Rule(above=0.05, for_us=60)
    >>> state, told = advance(State(), rule, 0.10, now_us=1_000)
    >>> state.phase, told
    ('pending', None)
    >>> state, told = advance(state, rule, 0.08, now_us=1_060)
    >>> state.phase, told
    ('firing', 'firing')
    >>> advance(state, rule, 0.01, now_us=1_100)[1]
    'resolved'
    """
    if value is None or value != value:
        return state, None
    if not rule.broken_by(value):
        return State(value=value), "resolved" if rule.recover and state.told else None
    since = now_us if state.phase == "ok" else state.since_us
    state = msgspec.structs.replace(state, since_us=since, value=value)
    if state.phase != "firing" and now_us - since < rule.for_us:
        return msgspec.structs.replace(state, phase="pending"), None
    due = not state.told or (rule.repeat_us is not None and now_us - state.told_us >= rule.repeat_us)
    state = msgspec.structs.replace(state, phase="firing")
    if silenced or not due:
        return state, None
    told: Kind = "repeated" if state.told else "firing"
    return msgspec.structs.replace(state, told_us=now_us, told=state.told + 1), told


def retry_after_us(attempts: int, *, chance: float) -> int:
    """How long to wait after so many failed attempts: doubled each time up to an hour, less up to half of it by `chance` (0 to 1).

    >>> [retry_after_us(n, chance=0.0) // SECOND_US for n in (1, 2, 3, 20)]
    [1, 2, 4, 3600]
    >>> retry_after_us(1, chance=1.0)
    500000
    """
    longest = min(FIRST_RETRY_US << min(attempts - 1, 20), LONGEST_RETRY_US)
    return int(longest * (1 - 0.5 * chance))
