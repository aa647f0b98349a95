"""Experiments: what the arms of an endpoint decided on the keys that each of them had, compared while it runs.

What an arm's policy decided counts, not what was done in the end: arms share one budget of alerts a day, and an arm whose alerts come later in
the day would be judged by what the others left over. So with what exploration let through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.metering import labelled_decisions
from penstock.engine.decisions import Flag
from penstock.engine.lookup import RowReader
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.monitoring.experiments import Difference, Ratio, compare, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engine.decisions import Decisions
    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import EndpointNode, Plan

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEAST_SHARE_ERROR = 0.001
"""A division of the keys less likely than this, if the weights were kept, means that something else divided them."""
_ERASED, _OVER_BUDGET = np.uint8(Flag.ERASED), np.uint8(Flag.OVER_BUDGET)
_MANY, _NOBODY = -2, -1


@dataclass(frozen=True, slots=True)
class Metric:
    """A ratio of counts of decisions; `counts` gives numerator and denominator from (alert, labelled, fraud) of each."""

    name: str
    more_is_better: bool | None
    counts: Callable[[BoolArray, BoolArray, BoolArray], tuple[BoolArray, BoolArray]]


METRICS = (
    Metric("alert_rate", None, lambda alert, labelled, fraud: (alert, np.ones_like(alert))),  # noqa: ARG005
    Metric("recall", True, lambda alert, labelled, fraud: (alert & fraud, fraud)),  # noqa: ARG005
    Metric("precision", True, lambda alert, labelled, fraud: (alert & fraud, alert & labelled)),
    Metric(
        "false_positive_rate",
        False,
        lambda alert, labelled, fraud: (alert & labelled & ~fraud, labelled & ~fraud),
    ),
    Metric("positive_rate", None, lambda alert, labelled, fraud: (fraud, labelled)),  # noqa: ARG005
)
"""Where neither direction is better, a difference is told as such: of positives there should be none."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What one arm decided: its keys and decisions, the versions in it, its ratios, and each against the first arm's.

    `over_budget` of its alerts were not raised, since the day had had as many as the policy allows; they count as alerts.
    """

    arm: str
    versions: tuple[str, ...]
    keys: int
    decisions: int
    labelled: int
    over_budget: int
    ratios: dict[str, Ratio]
    differences: dict[str, Difference]


@dataclass(frozen=True, slots=True)
class Experiment:
    """The arms of an endpoint side by side.

    Attributes
    ----------
    moved
        Keys that had several arms, because weights changed; they are left out.
    unkeyed
        Decisions on events without a key; they are left out.
    share_error
        How likely so uneven a division of keys is under the weights; None with one arm.
    """

    endpoint: str
    arms: tuple[ArmResult, ...]
    moved: int
    unkeyed: int
    share_error: float | None

    @property
    def suspicious(self) -> bool:
        """Whether the division of the keys does not fit the weights, so that no comparison should be trusted."""
        return self.share_error is not None and self.share_error < LEAST_SHARE_ERROR

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {**asdict(self), "suspicious": self.suspicious}


def experiment(
    store: LogReader,
    plan: Plan,
    endpoint: EndpointNode,
    *,
    weights: dict[str, float],
    start: int = 0,
    error: float = 0.05,
) -> Experiment:
    """Compare the arms of an endpoint over its decisions from log position `start` on.

    Parameters
    ----------
    weights
        The weights in force of the arms that have a version, against which the division of the keys is checked.
    error
        How often, at most, an interval of arms that are equal excludes no difference at any look.
    """
    tally = _Tally(store, plan, endpoint, start)
    names = [arm.name for arm in endpoint.arms if not arm.shadow]
    names += [name for name in tally.arms if name not in names]
    present = [name for name in names if name in tally.arms]
    ratios = {name: tally.ratios(name) for name in present}
    results = [
        ArmResult(
            name,
            tuple(sorted(tally.versions[name])),
            *tally.sizes(name),
            ratios[name],
            {
                metric.name: compare(
                    ratios[present[0]][metric.name],
                    ratios[name][metric.name],
                    error=error,
                    more_is_better=metric.more_is_better is not False,
                )
                for metric in METRICS
                if name != present[0]
            },
        )
        for name in present
    ]
    kept = {name: 0 for name in names if weights.get(name, 0.0) > 0} | {one.arm: one.keys for one in results}
    return Experiment(endpoint.name, tuple(results), tally.moved, tally.unkeyed, _share_error(kept, weights))


class _Tally:
    """Counts by key: which arm it had, and the sums behind each metric."""

    def __init__(self, store: LogReader, plan: Plan, endpoint: EndpointNode, start: int) -> None:
        self.arms: dict[str, int] = {}
        self.versions: dict[str, set[str]] = {}
        self.unkeyed = 0
        self._rows = RowReader(store, plan.sources)
        self._endpoint = endpoint
        self._keys = KeyTable()
        self._arm_of = np.zeros(0, np.int64)
        self._counts = np.zeros((0, 2 * len(METRICS) + 3))
        for positions, decisions, labels in labelled_decisions(store, endpoint.name):
            kept = (positions >= start) & ((decisions.flags & _ERASED) == 0)
            if kept.any():
                self._add(positions[kept], decisions.take(kept), labels[kept])

    @property
    def moved(self) -> int:
        return int((self._arm_of == _MANY).sum())

    def ratios(self, arm: str) -> dict[str, Ratio]:
        rows = self._counts[self._arm_of == self.arms[arm]]
        return {one.name: ratio(rows[:, 2 * i], rows[:, 2 * i + 1]) for i, one in enumerate(METRICS)}

    def sizes(self, arm: str) -> tuple[int, int, int, int]:
        """Keys, decisions, labelled ones, and alerts over the budget."""
        rows = self._counts[self._arm_of == self.arms[arm]]
        decisions, labelled, over = rows[:, -3:].sum(axis=0).astype(int).tolist()
        return len(rows), decisions, labelled, over

    def _add(self, positions: IntArray, decisions: Decisions, labels: FloatArray) -> None:
        for one in decisions.arms:
            self.arms.setdefault(one.arm, len(self.arms))
            self.versions.setdefault(one.arm, set()).add(one.version or "none")
        columns = self._rows.events(self._endpoint.source, positions)
        if self._endpoint.sticky:
            text = encode_keys([columns[name] for name in self._endpoint.sticky])
            keyed = np.ones(len(positions), np.bool_) if text.valid is None else text.valid
            self.unkeyed += int((~keyed).sum())
            rows = np.flatnonzero(keyed)
            keys = self._keys.assign(text.take(rows))
        else:  # one arm: every event is a key of its own
            rows = np.arange(len(positions))
            keys = len(self._arm_of) + rows
        self._grow(int(keys.max(initial=-1)) + 1)
        by = np.zeros(len(positions), np.uint8) if decisions.by is None else decisions.by
        codes = np.array([self.arms[one.arm] for one in decisions.arms])[by][rows]
        self._note_arms(keys, codes)
        over = (decisions.flags[rows] & _OVER_BUDGET) > 0
        self._count(keys, decisions.decided[rows] > 0, over, labels[rows])

    def _note_arms(self, keys: IntArray, codes: IntArray) -> None:
        low, high = np.full(len(self._arm_of), np.iinfo(np.int64).max), np.full(len(self._arm_of), -1)
        np.minimum.at(low, keys, codes)
        np.maximum.at(high, keys, codes)
        seen = high >= 0
        before = self._arm_of
        same = (low == high) & ((before == _NOBODY) | (before == low))
        self._arm_of = np.where(seen, np.where(same, low, _MANY), before)

    def _count(self, keys: IntArray, alert: BoolArray, over: BoolArray, labels: FloatArray) -> None:
        labelled = ~np.isnan(labels)
        fraud = labelled & (labels > 0)
        for i, metric in enumerate(METRICS):
            for j, part in enumerate(metric.counts(alert, labelled, fraud)):
                np.add.at(self._counts[:, 2 * i + j], keys, part)
        for column, counted in ((-3, np.ones_like(over)), (-2, labelled), (-1, over)):
            np.add.at(self._counts[:, column], keys, counted)

    def _grow(self, size: int) -> None:
        more = size - len(self._arm_of)
        if more > 0:
            self._arm_of = np.concatenate([self._arm_of, np.full(more, _NOBODY)])
            self._counts = np.concatenate([self._counts, np.zeros((more, self._counts.shape[1]))])


def _share_error(keys: dict[str, int], weights: dict[str, float]) -> float | None:
    """The chance of a division of keys at least as uneven as this (chi-square)."""
    from scipy.stats import chisquare

    arms = [name for name in keys if weights.get(name, 0.0) > 0]
    if len(arms) < 2:
        return None
    found = np.array([keys[name] for name in arms], np.float64)
    wanted = np.array([weights[name] for name in arms])
    return float(chisquare(found, wanted / wanted.sum() * found.sum()).pvalue)
