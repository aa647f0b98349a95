"""The stored decisions of a detector of anomalies as series, to be judged as a whole: NAB scores need the order of time.

An alarm is what was decided: by the action that the score meant then, under the policy and the version of then. Only where that is not
stored (a rule decided, or the policy has got the action since) it is the score against the version's threshold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.models.evaluation_anomaly import (
    AlarmReport,
    AnomalyReport,
    Series,
    alarms_of,
    evaluate_anomalies,
)
from penstock.monitoring.board import ALL, Board, Group, Scored, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.definitions.monitors import Monitor
    from penstock.engine.decisions import Decisions

BoolArray = npt.NDArray[np.bool_]


class _Part(NamedTuple):
    """Decisions with a score, n of them."""

    series: Series
    limits: npt.NDArray[np.float64]
    """float64[n, actions]: the thresholds of each decision's version."""
    reached: BoolArray
    """bool[n, actions]: whether each was an alarm."""
    groups: dict[str, npt.NDArray[np.int64]]
    """By dimension the value of each, as an index into `AnomalyRows._values`."""


class AnomalyRows:
    """Decisions of a detector, to be added in log order, and reported of by group and window.

    Memory: about 50 bytes a decision, and 8 for each segment.

    Parameters
    ----------
    monitor
        What is watched.
    board
        Counts the same decisions, before they come here: its groups and windows are those that can be asked for.
    thresholds
        Of the actions, where decisions come without those of their version.
    """

    def __init__(self, monitor: Monitor, board: Board, *, thresholds: Sequence[float]) -> None:
        self._actions = [action for action, _ in monitor.endpoint.policy.actions]
        self._thresholds, self._profile = np.array(thresholds, np.float64), monitor.nab_profile
        self._board = board
        self._parts: list[_Part] = []
        self._values: dict[str, int] = {}

    def add(self, scored: Scored, labels: npt.NDArray[np.float64], decisions: Decisions) -> None:
        """Take decisions with their labels (NaN: none), shape [n] each."""
        rows = np.flatnonzero(~np.isnan(scored.scores))
        scored, labels, decisions = scored.take(rows), labels[rows], decisions.take(rows)
        limits = scored.limits
        if limits is None:
            limits = np.broadcast_to(self._thresholds, (len(rows), len(self._thresholds)))
        cards = np.zeros(len(rows), np.uint64) if scored.cards is None else scored.cards
        groups = {}
        for dimension, coded in scored.groups.items():
            told = [self._value(self._board.told_apart(dimension, name)) for name in coded.names]
            groups[dimension] = np.array(told, np.int64)[coded.codes]
        self._parts.append(
            _Part(
                Series(scored.times_us, scored.scores, labels, cards),
                limits,
                alarms_by_decision(decisions, self._actions, limits),
                groups,
            )
        )

    def report(self) -> AnomalyReport | None:
        """What all decisions came to; None where none has a score."""
        whole = self._whole()
        if not len(whole.series.scores):
            return None
        return replace(evaluate_anomalies(whole.series), alarms=self.alarms())

    def alarms(self, group: Group = ALL, window: Window | None = None) -> tuple[AlarmReport, ...]:
        """What each action came to, of a group's decisions in a window (None: all); empty where there are none."""
        whole = self._whole()
        chosen = np.ones(len(whole.series.scores), np.bool_)
        if group != ALL:
            codes = whole.groups.get(group.dimension)
            chosen &= False if codes is None else codes == self._values.get(group.value, -1)
        if window is not None:
            times = whole.series.times_us
            chosen &= (times >= window.start_us) & (times < window.end_us)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            return ()
        series, limits, reached = whole.series.take(rows), whole.limits[rows], whole.reached[rows]
        ordered = sorted(range(len(self._actions)), key=lambda i: float(self._thresholds[i]))
        return tuple(
            alarms_of(
                series,
                reached[:, i],
                action=self._actions[i],
                threshold=float(limits[:, i].min()),
                highest=_above(limits[:, i]),
                nab_profile=self._profile,
            )
            for i in ordered
        )

    def with_alarms(self, group: Group, windows: Iterable[Window]) -> tuple[Window, ...]:
        """The windows of a group with what alarms in them came to."""
        return tuple(replace(window, alarms=self.alarms(group, window)) for window in windows)

    def _value(self, value: str) -> int:
        return self._values.setdefault(value, len(self._values))

    def _whole(self) -> _Part:
        """All decisions as one part, in which they stay."""
        if len(self._parts) != 1:
            self._parts = [_joined(self._parts, len(self._actions))]
        return self._parts[0]


def alarms_by_decision(
    decisions: Decisions, actions: Sequence[str], limits: npt.NDArray[np.float64]
) -> BoolArray:
    """Whether each decision meant an action or a graver one, bool[n, actions].

    Parameters
    ----------
    decisions
        As stored, n of them.
    actions
        Actions that scores can mean, as the policy has them now.
    limits
        float64[n, actions]: thresholds for decisions that do not say what their score meant.
    """
    meant = decisions.taken if decisions.meant is None else np.maximum(decisions.taken, decisions.meant)
    by_score = np.ones(len(decisions), np.bool_) if decisions.fired is None else decisions.fired == 0
    found: BoolArray = decisions.scores[:, None] >= limits
    for i, action in enumerate(actions):
        if action in decisions.actions:
            # Codes ascend with thresholds; those that only rules take come last, so that no score reaches them.
            code = decisions.actions.index(action)
            found[:, i] = np.where(by_score, meant >= code, found[:, i])
    return found


def _joined(parts: Sequence[_Part], actions: int) -> _Part:
    if not parts:
        nothing = np.zeros(0)
        series = Series(np.zeros(0, np.int64), nothing, nothing, np.zeros(0, np.uint64))
        return _Part(series, np.zeros((0, actions)), np.zeros((0, actions), np.bool_), {})
    dimensions = {dimension for part in parts for dimension in part.groups}
    return _Part(
        Series(
            np.concatenate([part.series.times_us for part in parts]),
            np.concatenate([part.series.scores for part in parts]),
            np.concatenate([part.series.labels for part in parts]),
            np.concatenate([part.series.entities for part in parts]),
        ),
        np.concatenate([part.limits for part in parts]),
        np.concatenate([part.reached for part in parts]),
        {dimension: np.concatenate([_codes(part, dimension) for part in parts]) for dimension in dimensions},
    )


def _codes(part: _Part, dimension: str) -> npt.NDArray[np.int64]:
    """A part's values of a dimension; -1 where its decisions have none."""
    return part.groups.get(dimension, np.full(len(part.series.scores), -1, np.int64))


def _above(limits: npt.NDArray[np.float64]) -> float | None:
    low, high = float(limits.min()), float(limits.max())
    return high if high > low else None
