"""The guard's second look: once labels had their time, the new champion is held against the version before on its own decisions.

Both score the vectors that were served; the version before is loaded beside the engine. Whether the new one ranks worse is judged
as at the gate, by a paired bootstrap. It runs in the process beside the run, on a reader of the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.guard_log import note, verdict_on
from penstock.app.guard_service import came_back, take_out
from penstock.app.measuring import monitor_of, scored_batches
from penstock.app.retraining_data import newest_time
from penstock.core.time import to_us
from penstock.models.bootstrap import Difference, mean_difference, precision_difference
from penstock.models.loading import load_model
from penstock.monitoring.watch import Alarm

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.definitions.endpoints import Endpoint
    from penstock.definitions.project import Project
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.plan.nodes import Plan
    from penstock.stores.audit_log import AuditLog
    from penstock.stores.reader import ProjectReader

LABELS = "labels"
LOOKS = 3
"""At `Guard.min_positives` positives whose labels had their time, at twice and at four times as many."""
LEAST_NEW_ROWS = 1_000
RESAMPLES = 4_000
STEP_ROWS = 200_000


@dataclass(slots=True)
class _Watch:
    """How far the decisions of a version were read, and how many looks were made."""

    start: int
    looks: int = 0
    read_at: int = 0


class LabelGuard:
    """Holds new champions against those before them.

    Parameters
    ----------
    project, plan, store, registry, audit
        Whose endpoints they are, the log, and where versions and verdicts are kept.
    """

    def __init__(
        self, project: Project, plan: Plan, store: ProjectReader, *, registry: ModelRegistry, audit: AuditLog
    ) -> None:
        self._project, self._plan, self._store = project, plan, store
        self._registry, self._audit = registry, audit
        self._watches: dict[str, _Watch] = {}

    def look(self) -> list[str]:
        """Look at each endpoint with a guard; what could not be done."""
        return [problem for one in self._project.endpoints.values() if (problem := self._look(one))]

    def _look(self, endpoint: Endpoint) -> str:
        pair = is_to_be_judged(endpoint, self._registry, self._audit)
        end = self._store.next_position
        if pair is None:
            return ""
        live, before = pair
        watch = self._watches.get(live.label)
        if watch is None:
            watch = _Watch(self._position_at(_promoted_us(self._registry, live)))
            self._watches[live.label] = watch
        if end - watch.read_at < LEAST_NEW_ROWS:
            return ""
        watch.read_at = end
        rows = self._rows(endpoint, live, before, watch.start)
        return self._judge(endpoint, live, before, rows, watch)

    def _judge(
        self, endpoint: Endpoint, live: ModelVersion, before: ModelVersion, rows: _Rows, watch: _Watch
    ) -> str:
        guard, binary = endpoint.guard, endpoint.model.task == "binary"
        assert guard is not None, "only endpoints with a guard are looked at"
        positives = int(np.count_nonzero(rows.labels > 0)) if binary else len(rows.labels)
        if positives < guard.min_positives * 2**watch.looks:
            return ""
        while watch.looks < LOOKS and positives >= guard.min_positives * 2**watch.looks:
            watch.looks += 1
        gained = rows.gain(binary=binary, confidence=1 - 2 * guard.false_alarms / LOOKS)
        numbers: dict[str, Any] = {"positives": positives, "difference": gained.value, "upper": gained.upper}
        margin = endpoint.model.gate.average_precision_margin if binary else 0.0
        if gained.upper < 0 and gained.value < -margin:
            what = "average precision" if binary else "mean absolute error, with its sign turned,"
            text = f"{what} against {before.label} over {len(rows.labels):,} events with labels: {gained}"
            self._watches.pop(live.label)
            arm = self._plan.endpoints[endpoint.name].arms[0].name
            return take_out(
                self._plan.endpoints[endpoint.name],
                arm,
                live,
                Alarm(LABELS, text, numbers),
                registry=self._registry,
                audit=self._audit,
                what=LABELS,
            )
        if watch.looks == LOOKS:
            self._watches.pop(live.label)
            reason = f"against {before.label} over {positives:,} positives: {gained}"
            note(
                self._audit,
                endpoint.name,
                "passed",
                version=live.label,
                what=LABELS,
                numbers=numbers,
                reason=reason,
            )
        return ""

    def _rows(self, endpoint: Endpoint, live: ModelVersion, before: ModelVersion, start: int) -> _Rows:
        """What the new version decided, of events whose labels had their time, with the scores of both."""
        monitor = monitor_of(self._project, endpoint.name)
        newest = newest_time(self._store, self._plan, endpoint.model, stop=self._store.next_position)
        mature_us = (0 if newest is None else newest) - to_us(monitor.delay)
        model = load_model(before.folder, digest=before.digest, version=before.label)
        wanted = self._plan.services[endpoint.model.features.name].fingerprint
        labels, ours, theirs = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        for scored, known, decisions in scored_batches(self._store, self._plan, monitor, start=start):
            columns = self._plan.columns_of(endpoint.name, logged=decisions.service, wanted=wanted)
            rows = np.flatnonzero(
                (scored.times_us <= mature_us)
                & decisions.of_version(live.label)
                & ~np.isnan(known)
                & ~np.isnan(scored.scores)
            )
            if columns is None or not len(rows):
                continue
            vectors = np.ascontiguousarray(decisions.vectors[rows][:, list(columns)])
            labels.append(known[rows])
            ours.append(scored.scores[rows])
            theirs.append(model.score(vectors))
        return _Rows(np.concatenate(labels), np.concatenate(ours), np.concatenate(theirs))

    def _position_at(self, time_us: int) -> int:
        """The log's length at a time of the clock, at most; by bisection over when rows were accepted."""
        low, high = 0, self._store.next_position
        while high - low > STEP_ROWS // 100:
            middle = (low + high) // 2
            batch = next(iter(self._store.read_log(middle, min(middle + STEP_ROWS, high))), None)
            if batch is None or batch.ingest_time_us >= time_us:
                high = middle
            else:
                low = middle
        return low


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Labels, and the scores of the new version and of the one before."""

    labels: npt.NDArray[np.float64]
    ours: npt.NDArray[np.float64]
    theirs: npt.NDArray[np.float64]

    def gain(self, *, binary: bool, confidence: float) -> Difference:
        """By how much the new version is better, as an interval."""
        drawing: Any = {"confidence": confidence, "resamples": RESAMPLES, "rng": np.random.default_rng(0)}
        if binary:
            return precision_difference(self.labels > 0, self.ours, self.theirs, **drawing)
        errors = np.abs(self.theirs - self.labels) - np.abs(self.ours - self.labels)
        return mean_difference(errors, **drawing)


def is_to_be_judged(
    endpoint: Endpoint, registry: ModelRegistry, audit: AuditLog
) -> tuple[ModelVersion, ModelVersion] | None:
    """The champion that its labels are still to say something of, and the version before it."""
    if endpoint.guard is None or not endpoint.guard.min_positives or endpoint.model.learning is not None:
        return None
    versions = registry.versions(endpoint.model.name)
    live = next((v for v in versions if v.stage == "Production"), None)
    before = next((v for v in versions if "previous" in v.aliases), None)
    if live is None or before is None or came_back(registry, live):
        return None
    known = verdict_on(audit, endpoint.name, live.label, what=LABELS)
    return (live, before) if known is None else None


def _promoted_us(registry: ModelRegistry, version: ModelVersion) -> int:
    moves = [
        row.time_us
        for row in registry.history(version.name)
        if row.version == version.version and row.stage == "Production"
    ]
    return moves[-1] if moves else 0
