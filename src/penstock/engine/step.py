"""One step of the engine: a micro-batch in, outcomes and effects out, state moved on.

1. admission: what is new, repeated, refused;
2. positions: new rows continue the log, in the order in which they came (or by event time, if asked);
3. views' functions (`FeatureState.prepare`); an event on which one fails is refused;
4. labels find their events, and events the labels that waited for them (`labels`);
5. kernel and realtime views (`FeatureState.advance`), model, policy;
6. the effects: one `Commit`.

A step writes nothing. It reads what is committed (duplicates, labels' events) and is otherwise a function of the state, the
batch and the time it is given; whoever calls it commits its effects, or throws the state away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from penstock.core.errors import TransformError
from penstock.core.records import Commit
from penstock.engine.admission import Admission, Admitted
from penstock.engine.assembly import FeatureRows
from penstock.engine.contract import Decoded, Refused
from penstock.engine.decisions import Decisions, decide
from penstock.engine.effects import Outcome, commit_of, event_ids_of
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import KernelRows, Rows
from penstock.engine.labels import JoinedLabels, LabelJoin, NewEvents, entering_rows
from penstock.engine.lookup import RowReader
from penstock.engine.ports import EngineStore, EventIdIndex, Scorer
from penstock.engine.times import row_times
from penstock.kernel.columns import BoolArray, Columns, IntArray, concat
from penstock.plan.nodes import EndpointNode, Plan, SourceNode

Input = tuple[str, Decoded]
Scorers = Mapping[str, Callable[[], Scorer | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Stepped:
    """What a step came to: an outcome for each input, and what its effects are made of."""

    outcomes: tuple[Outcome, ...]
    labels: Sequence[tuple[int, JoinedLabels]]
    now_us: int
    offsets: Mapping[str, str]
    counters: Mapping[str, int]

    def effects(self, plan: Plan) -> Commit:
        """The one transaction that makes the step durable."""
        return commit_of(
            plan,
            self.outcomes,
            self.labels,
            now_us=self.now_us,
            offsets=self.offsets,
            counters=self.counters,
        )


@dataclass(slots=True, eq=False)
class _Batch:
    """One micro-batch on its way through the steps."""

    inputs: list[Admitted]
    positions: list[IntArray] = field(default_factory=list)
    prepared: dict[int, KernelRows] = field(default_factory=dict)
    labels: list[tuple[int, JoinedLabels]] = field(default_factory=list)
    rows: dict[str, Rows] = field(default_factory=dict)


class Stepper:
    """Takes steps over a `FeatureState`; knows the length that the log will have."""

    def __init__(
        self,
        features: FeatureState,
        *,
        store: EngineStore,
        ids: EventIdIndex,
        rows: RowReader,
        scorers: Scorers,
        settle: Callable[[int], None],
    ) -> None:
        self.features = features
        self.position = store.next_position
        self._plan = features.plan
        self._ids = ids
        self._rows = rows
        self._scorers = scorers
        self._admission = Admission(ids, rows, seed=store.hash_seed, settle=settle)
        self.covered = self._admission.covered
        plan = features.plan
        # Only what somebody reads is computed: services that an endpoint decides with.
        self._services = [plan.services[n] for n in dict.fromkeys(e.service for e in plan.endpoints.values())]
        self._joins = {
            name: LabelJoin(store, ids, self._admission, label=source, of=plan.sources[str(source.label_of)])
            for name, source in plan.sources.items()
            if source.label_of is not None
        }

    def step(
        self,
        inputs: Sequence[Input],
        *,
        now_us: int,
        live: bool,
        by_time: bool,
        decide: bool,
        offsets: Mapping[str, str],
    ) -> Stepped:
        """Take one step; see `LocalEngine.process` for the parameters."""
        batch = self._admit(inputs, now_us if live else None)
        self._place(batch, by_time=by_time)
        self._join_labels(batch)
        evicted = self.features.evicted_keys
        skipped = self.features.skipped_rows
        too_late = self.features.too_late_rows
        features = self.features.advance(
            batch.rows, services=self._services, prepared=batch.prepared, skip_failing=True
        )
        outcomes = tuple(
            Outcome(admitted, positions, self._decide(admitted.source, features) if decide else None)
            for admitted, positions in zip(batch.inputs, batch.positions, strict=True)
        )
        counters = {
            "keys_evicted": self.features.evicted_keys - evicted,
            "labels_without_view": self.features.skipped_rows - skipped,
            "batch_too_late": self.features.too_late_rows - too_late,
        }
        counted = {name: count for name, count in counters.items() if count}
        return Stepped(outcomes, batch.labels, now_us, offsets, counted)

    def _admit(self, inputs: Sequence[Input], limit_us: int | None) -> _Batch:
        batch = _Batch([])
        for source, decoded in inputs:
            batch.inputs.append(self._admit_one(self._plan.sources[source], decoded, limit_us, batch))
        return batch

    def _admit_one(
        self, source: SourceNode, decoded: Decoded, limit_us: int | None, batch: _Batch
    ) -> Admitted:
        """Admit one input and run its views' functions.

        An event on which one fails is refused, and the others are admitted anew: what repeats a refused event repeats
        nothing.
        """
        failed: list[Refused] = []
        while True:
            admitted = self._admission.admit(source, decoded, now_us=limit_us)
            if source.label_of is not None or not admitted.columns.length:
                break
            prepared, errors = self._prepared(source.name, admitted.columns)
            if not errors:
                batch.prepared |= prepared
                break
            rows = {int(admitted.rows[i]): detail for i, detail in errors.items()}
            failed += [Refused(row, "view_failed", why, decoded.original(row)) for row, why in rows.items()]
            decoded = decoded.without(rows)
        return replace(admitted, refused=(*admitted.refused, *failed)) if failed else admitted

    def _prepared(self, source: str, columns: Columns) -> tuple[dict[int, KernelRows], dict[int, str]]:
        try:
            return self.features.prepare(source, columns, np.zeros(columns.length, np.int64)), {}
        except TransformError:
            return self.features.prepare_each(source, columns)

    def _place(self, batch: _Batch, *, by_time: bool) -> None:
        """Give the new rows their positions."""
        batch.positions = self._positions(batch.inputs, by_time=by_time)
        self.position += sum(len(positions) for positions in batch.positions)
        for admitted, positions in zip(batch.inputs, batch.positions, strict=True):
            if not self._is_label(admitted.source.name) and len(positions):
                batch.rows[admitted.source.name] = Rows(admitted.columns, positions)
                for i, view in enumerate(self._plan.views):
                    if view.source == admitted.source.name:
                        batch.prepared[i] = batch.prepared[i].at(positions)
        ids = event_ids_of(batch.inputs, batch.positions)
        if ids is not None:
            self._ids.add(ids.hashes, ids.positions)

    def _positions(self, inputs: Sequence[Admitted], *, by_time: bool) -> list[IntArray]:
        if len(inputs) == 1:
            return [np.arange(self.position, self.position + inputs[0].columns.length)]
        counts = [admitted.columns.length for admitted in inputs]
        bounds = np.cumsum([0, *counts])
        positions = self.position + np.arange(bounds[-1])
        if by_time:
            # The running maximum keeps each input's own order, whatever its times.
            times = [np.maximum.accumulate(row_times(a.columns, a.source)) for a in inputs]
            events_last = [np.full(n, not a.source.comes_first) for n, a in zip(counts, inputs, strict=True)]
            order = np.lexsort((np.concatenate(events_last), np.concatenate(times)))
            positions = np.empty_like(positions)
            positions[order] = self.position + np.arange(bounds[-1])
        return [positions[a:b] for a, b in pairwise(bounds)]

    def _join_labels(self, batch: _Batch) -> None:
        for name, join in self._joins.items():
            index = next((i for i, a in enumerate(batch.inputs) if a.source.name == name), None)
            events = self._new_events(batch, str(self._plan.sources[name].label_of))
            labels = None if index is None else batch.inputs[index].columns
            positions = np.zeros(0, np.int64) if index is None else batch.positions[index]
            joined = join.join(labels, positions, events)
            if joined.counters or joined.payload is not None:
                batch.labels.append((-1 if index is None else index, joined))
            if joined.entering is not None and self._has_views(name):
                batch.rows[name] = self._entering(name, joined, events)

    def _is_label(self, source: str) -> bool:
        return self._plan.sources[source].label_of is not None

    def _has_views(self, source: str) -> bool:
        return any(view.source == source for view in self._plan.views)

    def _new_events(self, batch: _Batch, source: str) -> NewEvents | None:
        for admitted, positions in zip(batch.inputs, batch.positions, strict=True):
            if admitted.source.name == source and admitted.hashes is not None and len(positions):
                return NewEvents(admitted.columns, positions, admitted.hashes)
        return None

    def _entering(self, name: str, joined: JoinedLabels, events: NewEvents | None) -> Rows:
        label = self._plan.sources[name]
        entering = joined.entering
        assert entering is not None
        wanted = entering.event_positions
        fresh = np.zeros(len(wanted), np.bool_) if events is None else wanted >= events.positions[0]
        names = [f.name for f in self._plan.sources[str(label.label_of)].fields]
        columns = labelled_events(self._rows, str(label.label_of), wanted, fresh, events).select(names)
        return entering_rows(entering, columns, label)

    def _decide(self, source: SourceNode, features: Mapping[str, FeatureRows]) -> Decisions | None:
        endpoint = self._plan.endpoint_of.get(source.name)
        if endpoint is None or endpoint.service not in features:
            return None
        return decide(
            endpoint, features[endpoint.service], self._scorers[endpoint.name](), self._service(endpoint)
        )

    def _service(self, endpoint: EndpointNode) -> str:
        return self._plan.services[endpoint.service].fingerprint


def labelled_events(
    rows: RowReader, source: str, wanted: IntArray, fresh: BoolArray, events: NewEvents | None
) -> Columns:
    """The columns of the labelled events at `wanted`: those of this batch from memory, the others from the log."""
    if events is None or not fresh.any():
        return rows.events(source, wanted)
    at = np.searchsorted(events.positions, wanted[fresh])
    new = events.columns.take(at)
    if fresh.all():
        return new
    old = rows.events(source, wanted[~fresh])
    place = np.empty(len(wanted), np.int64)
    place[np.concatenate([np.flatnonzero(fresh), np.flatnonzero(~fresh)])] = np.arange(len(wanted))
    return concat([new, old.select(new.columns)]).take(place)
