"""Shadow arms against those that decided, on the same events: what `penstock experiment` and `penstock metrics` show of them.

Both scored each of these events before its label was known, so nothing is scored anew. Events whose label is not known count for the
share of decisions that would differ, and for nothing else. Intervals are of the paired bootstrap of the gates.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.metering import labelled_decisions
from penstock.app.scored import Describer
from penstock.app.version_thresholds import VersionThresholds
from penstock.engine.decisions import Flag
from penstock.engine.lookup import RowReader
from penstock.models.bootstrap import Difference, mean_difference, precision_difference, ranking_difference
from penstock.models.costs import RowCosts, row_costs
from penstock.stores.shadows import ShadowStore

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.definitions.monitors import Monitor
    from penstock.definitions.policies import CostMatrix
    from penstock.engine.decisions import Decisions
    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.models.registry import ModelRegistry
    from penstock.monitoring.board import Scored
    from penstock.plan.nodes import Plan

FloatArray = npt.NDArray[np.float64]

LEAST_POSITIVES, LEAST_ROWS = 30, 100
"""With fewer labelled positives, or rows of a regression, no interval is said."""
_CONFIDENCE, _RESAMPLES = 0.95, 1_000
_ERASED = np.uint8(Flag.ERASED)


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """A version in a shadow arm against what decided on the same events.

    Attributes
    ----------
    arm, version
        What looked on.
    events, labelled, positives, pending
        Events that both scored; those of them with a label, and with a positive one; and without.
    differ
        The share of events on which its score means another action than that of the arm that decided, each by its own thresholds.
        Where a rule decided, they do not differ. None without events.
    average_precision, roc_auc
        The shadow's less the deciding arms'; None while there are too few labels.
    cost
        Likewise the cost of an event, each acting from its own lowest threshold on; below zero it is the cheaper one. None without
        costs.
    error
        Of a regression: likewise the mean absolute error.
    """

    arm: str
    version: str
    events: int
    labelled: int
    positives: int
    pending: int
    differ: float | None
    average_precision: Difference | None
    roc_auc: Difference | None
    cost: Difference | None
    error: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def compare_shadows(
    store: LogReader, plan: Plan, monitor: Monitor, *, registry: ModelRegistry, shadows: Path, start: int = 0
) -> tuple[ShadowComparison, ...]:
    """Each version that was in a shadow arm of an endpoint, over events from log position `start` on.

    Parameters
    ----------
    shadows
        The file of shadow scores (`penstock.app.runtime.shadow_path`); where there is none, nothing looked on.
    """
    endpoint = plan.endpoints[monitor.endpoint.name]
    arms = [arm.name for arm in endpoint.arms if arm.shadow]
    if not arms or not shadows.exists():
        return ()
    with closing(ShadowStore(shadows)) as kept:
        scored = {
            (arm, version): found
            for arm in arms
            for version, found in _by_version(kept, endpoint.name, arm, start).items()
        }
    thresholds = VersionThresholds(endpoint, registry)
    pairs = [_Pairs(thresholds, key, *found) for key, found in scored.items()]
    policy, regression = monitor.endpoint.policy, monitor.endpoint.model.task == "regression"
    describe, rows = Describer(plan, monitor), RowReader(store, plan.sources)
    for positions, decisions, labels in labelled_decisions(store, endpoint.name):
        fine = (positions >= start) & ((decisions.flags & _ERASED) == 0) & ~np.isnan(decisions.scores)
        at = np.flatnonzero(fine & _seen(positions, pairs))
        if len(at):
            kept_positions, own, events = describe.part(rows, positions[at], decisions.take(at))
            for one in pairs:
                one.add(kept_positions, own, events, labels=labels[at], costs=policy.costs)
    return tuple(one.compared(regression=regression, priced=policy.costs is not None) for one in pairs)


def _by_version(
    kept: ShadowStore, endpoint: str, arm: str, start: int
) -> dict[str, tuple[IntArray, FloatArray]]:
    """Positions, ascending, and scores by registered version; of an event that was scored twice the first."""
    parts: dict[str, list[tuple[IntArray, FloatArray]]] = {}
    for batch in kept.read(endpoint, arm, start=start):
        parts.setdefault(batch.version.partition("+")[0], []).append((batch.positions, batch.scores))
    found = {}
    for version, batches in parts.items():
        positions, first = np.unique(np.concatenate([p for p, _ in batches]), return_index=True)
        scores = np.concatenate([s for _, s in batches])[first]
        known = ~np.isnan(scores)
        found[version] = (positions[known], scores[known])
    return found


def _seen(positions: IntArray, pairs: list[_Pairs]) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(positions), np.bool_)
    for one in pairs:
        found |= np.isin(positions, one.positions)
    return found


class _Pairs:
    """The scores of a shadow's version and of the arms that decided, on the events that both scored."""

    def __init__(
        self, thresholds: VersionThresholds, of: tuple[str, str], positions: IntArray, scores: FloatArray
    ) -> None:
        self.positions = positions
        self._arm, self._version = of
        self._scores, self._thresholds = scores, thresholds
        self._events = self._differing = 0
        self._labelled: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = []

    def add(
        self,
        positions: IntArray,
        decisions: Decisions,
        events: Scored,
        *,
        labels: FloatArray,
        costs: CostMatrix | None,
    ) -> None:
        """Take up decisions, of which this version has scored some."""
        there = np.flatnonzero(np.isin(positions, self.positions))
        if not len(there):
            return
        ours, theirs = (
            self._scores[np.searchsorted(self.positions, positions[there])],
            decisions.scores[there],
        )
        own = np.array(self._thresholds.of(self._version))
        limits = self._thresholds.by_row(decisions)
        their_limits = np.broadcast_to(own, (len(there), len(own))) if limits is None else limits[there]
        our_steps, their_steps = ours[:, None] >= own, theirs[:, None] >= their_limits
        by_score = True if decisions.fired is None else decisions.fired[there] == 0
        self._events += len(there)
        self._differing += int(((our_steps.sum(axis=1) != their_steps.sum(axis=1)) & by_score).sum())
        known = np.flatnonzero(~np.isnan(labels[there]))
        extra = np.zeros(len(known))
        if costs is not None:
            priced = _priced(costs, events.take(there[known]))
            truth = labels[there[known]] > 0
            ours_cost, theirs_cost = (
                priced.each(np.logical_or.reduce(steps[known], axis=1), truth)
                for steps in (our_steps, their_steps)
            )
            extra = ours_cost - theirs_cost
        self._labelled.append((labels[there[known]], ours[known], theirs[known], extra))

    def compared(self, *, regression: bool, priced: bool) -> ShadowComparison:
        """What is known of both by now."""
        labels, ours, theirs, extra = (
            np.concatenate([np.zeros(0), *(part[i] for part in self._labelled)]) for i in range(4)
        )
        truth, rows = labels > 0, len(labels)
        positives = 0 if regression else int(truth.sum())
        both = not regression and min(positives, rows - positives) >= LEAST_POSITIVES
        errors = np.abs(ours - labels) - np.abs(theirs - labels)
        return ShadowComparison(
            arm=self._arm,
            version=self._version,
            events=self._events,
            labelled=rows,
            positives=positives,
            pending=self._events - rows,
            differ=self._differing / self._events if self._events else None,
            average_precision=precision_difference(truth, ours, theirs, **_drawing()) if both else None,
            roc_auc=ranking_difference(truth, ours, theirs, **_drawing()) if both else None,
            cost=mean_difference(extra, **_drawing()) if both and priced else None,
            error=mean_difference(errors, **_drawing()) if regression and rows >= LEAST_ROWS else None,
        )


def _priced(costs: CostMatrix, events: Scored) -> RowCosts:
    named = ((costs.false_negative, events.amounts), (costs.false_positive, events.alarm_amounts))
    columns = {name: amounts for name, amounts in named if isinstance(name, str) and amounts is not None}
    return row_costs(costs, columns, len(events.scores))


def _drawing() -> dict[str, Any]:
    return {"confidence": _CONFIDENCE, "resamples": _RESAMPLES, "rng": np.random.default_rng(0)}
