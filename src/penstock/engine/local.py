"""The local engine: events in, durable decisions out, one transaction a micro-batch.

One micro-batch goes through these steps; only the last touches the disk:

1. contract and admission (`contract`, `admission`): what is new, repeated, refused;
2. positions: new rows continue the log, in the order in which they came (or by event time, if asked);
3. views' functions (`FeatureState.prepare`); an event on which one fails is refused;
4. labels find their events, and events the labels that waited for them (`labels`);
5. kernel and realtime views (`FeatureState.advance`), model, policy;
6. one commit: log, ids, decisions, labels, dead letters, counters, offsets.

While a commit is on its way to the disk the next micro-batch may be computed; nothing is answered before its own commit
is durable. If a commit fails, memory is ahead of the disk: the engine stops and is opened again from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from penstock.core.clock import Clock
from penstock.core.errors import StoreError, TransformError
from penstock.core.records import Commit, DeadLetter, DecisionBatch, EventIds, LabelRecords, LogBatch
from penstock.engine.admission import Admission, Admitted
from penstock.engine.assembly import FeatureRows
from penstock.engine.contract import Contract, Decoded
from penstock.engine.decisions import Decisions, Flag, choose_actions
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import KernelRows, Rows
from penstock.engine.labels import JoinedLabels, LabelJoin, NewEvents, entering_rows
from penstock.engine.lookup import RowReader
from penstock.engine.ports import EngineStore, EventIdIndex, Scorer
from penstock.kernel.columns import BoolArray, Columns, IntArray, concat
from penstock.plan.nodes import EndpointNode, Plan, SourceNode

Input = tuple[str, Decoded]

# As NumPy numbers: IntFlag arithmetic would cost microseconds an event.
_LATE, _TOO_LATE = np.uint8(Flag.LATE), np.uint8(Flag.TOO_LATE)
_DEGRADED, _NO_MODEL = np.uint8(Flag.DEGRADED), np.uint8(Flag.NO_MODEL)

_DONE: Future[None] = Future()
_DONE.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one input.

    Attributes
    ----------
    admitted
        New events, duplicates and refused rows.
    positions
        int64[n]: the log positions of the new events.
    decisions
        One a new event; None where no endpoint decides on the source.
    """

    admitted: Admitted
    positions: IntArray
    decisions: Decisions | None


@dataclass(frozen=True, slots=True, eq=False)
class Processed:
    """The outcomes of a micro-batch, one an input, and when they are durable.

    `counters` are what the micro-batch added to the store's totals; `labels` those joined to their events, new and
    corrected ones.
    """

    outcomes: tuple[Outcome, ...]
    committed: Future[None]
    counters: Mapping[str, int] = field(default_factory=dict)
    labels: LabelRecords | None = None

    def wait(self) -> Processed:
        """Return when everything is durable; raises `StoreError` where it could not be stored."""
        self.committed.result()
        return self


@dataclass(slots=True, eq=False)
class _Batch:
    """One micro-batch on its way through the steps."""

    now_us: int
    inputs: list[Admitted]
    positions: list[IntArray] = field(default_factory=list)
    prepared: dict[int, KernelRows] = field(default_factory=dict)
    labels: list[tuple[int, JoinedLabels]] = field(default_factory=list)
    rows: dict[str, Rows] = field(default_factory=dict)


class LocalEngine:
    """Runs a plan over a store. Not for several threads at once.

    Parameters
    ----------
    plan, store, ids, clock
        What to run, where it becomes durable, the index of event ids, the time.
    features
        The state at `store.next_position`; see `penstock.engine.recovery`.
    scorers
        The model in production, by endpoint; called once a micro-batch, so that it may be swapped at any time.
    live
        Whether events ahead of the clock are refused.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        store: EngineStore,
        ids: EventIdIndex,
        clock: Clock,
        features: FeatureState,
        scorers: Mapping[str, Callable[[], Scorer | None]],
        live: bool = True,
    ) -> None:
        self.plan = plan
        self.features = features
        self._store = store
        self._ids = ids
        self._clock = clock
        self._scorers = scorers
        self._live = live
        self._contracts = {name: Contract(source) for name, source in plan.sources.items()}
        self._next = store.next_position
        self._writer = ThreadPoolExecutor(1, "penstock-commit")
        self._inflight: tuple[int, Future[None]] = (self._next, _DONE)
        self._labels_inflight = False
        self._failed: BaseException | None = None
        self.rows = RowReader(store)
        self._admission = Admission(ids, self.rows, seed=store.hash_seed, settle=self._settle)
        # Only what somebody reads is computed: services that an endpoint decides with.
        self._services = [
            plan.services[name] for name in dict.fromkeys(e.service for e in plan.endpoints.values())
        ]
        self._joins = {
            name: LabelJoin(store, ids, self._admission, label=source, of=plan.sources[str(source.label_of)])
            for name, source in plan.sources.items()
            if source.label_of is not None
        }

    @property
    def position(self) -> int:
        """The length of the log once everything under way is committed."""
        return self._next

    def decode(self, source: str, events: bytes | Sequence[Mapping[str, Any]]) -> Decoded:
        """Decode and check events of `source`: NDJSON bytes or dicts."""
        contract = self._contracts[source]
        return contract.decode_json(events) if isinstance(events, bytes) else contract.decode_dicts(events)

    def process(
        self,
        inputs: Sequence[Input],
        *,
        by_time: bool = False,
        decide: bool = True,
        offsets: Mapping[str, str] | None = None,
        overlap: bool = True,
    ) -> Processed:
        """Process one micro-batch.

        Parameters
        ----------
        inputs
            ``(source, decoded events)``; each source at most once.
        by_time
            Interleave the inputs by event time instead of taking one after another; at equal times labels come first.
        decide
            Whether endpoints decide on the events. Without, they are history, loaded before the first decision: logged,
            counted as such, and part of the features of later events.
        offsets
            Where the sources' readers go on; committed with the batch.
        overlap
            Whether to return while the commit is on its way to the disk, so that the next micro-batch can be computed;
            without it, everything is durable on return.
        """
        self._check_running()
        if self._labels_inflight or any(self._is_label(source) for source, _ in inputs):
            self.flush()
        batch = self._admit(inputs)
        self._place(batch, by_time=by_time)
        self._join_labels(batch)
        features = self.features.advance(batch.rows, services=self._services, prepared=batch.prepared)
        outcomes = tuple(
            Outcome(admitted, positions, self._decide(admitted.source, features) if decide else None)
            for admitted, positions in zip(batch.inputs, batch.positions, strict=True)
        )
        commit = self._commit_of(batch, outcomes, offsets or {})
        committed = self._submit(commit, with_labels=bool(batch.labels), overlap=overlap)
        return Processed(outcomes, committed, commit.counters, commit.labels)

    def flush(self) -> None:
        """Wait until everything under way is durable."""
        self._inflight[1].result()

    def close(self) -> None:
        """Finish what is under way; nothing can be processed afterwards."""
        self._writer.shutdown(wait=True)
        self._failed = self._failed or StoreError("engine: it is closed. Open the project again.")

    def _check_running(self) -> None:
        if self._failed is not None:
            raise StoreError(
                f"engine: it stopped after an error ({self._failed}). Mend the cause and open the project again; what was "
                "acknowledged is safe, and state is recovered from the log."
            ) from self._failed

    def _is_label(self, source: str) -> bool:
        return self.plan.sources[source].label_of is not None

    def _settle(self, position: int) -> None:
        if position >= self._inflight[0]:
            self.flush()

    def _admit(self, inputs: Sequence[Input]) -> _Batch:
        now = self._clock.now_us()
        limit = now if self._live else None
        admitted = [
            self._admission.admit(self.plan.sources[source], decoded, now_us=limit)
            for source, decoded in inputs
        ]
        return _Batch(now, admitted)

    def _place(self, batch: _Batch, *, by_time: bool) -> None:
        """Give the new rows their positions and run the views' functions, refusing events on which one fails."""
        for i, admitted in enumerate(batch.inputs):
            if not self._is_label(admitted.source.name):
                batch.inputs[i] = self._prepare(admitted, batch)
        starts = self._positions(batch.inputs, by_time=by_time)
        batch.positions = starts
        self._next += sum(len(positions) for positions in starts)
        for admitted, positions in zip(batch.inputs, starts, strict=True):
            if admitted.hashes is not None and len(positions):
                self._ids.add(admitted.hashes, positions)
            if not self._is_label(admitted.source.name) and len(positions):
                batch.rows[admitted.source.name] = Rows(admitted.columns, positions)
                for i, view in enumerate(self.plan.views):
                    if view.source == admitted.source.name:
                        batch.prepared[i] = batch.prepared[i].at(positions)

    def _prepare(self, admitted: Admitted, batch: _Batch) -> Admitted:
        name = admitted.source.name
        while admitted.columns.length:
            placeholder = np.zeros(admitted.columns.length, np.int64)
            try:
                batch.prepared |= self.features.prepare(name, admitted.columns, placeholder)
            except TransformError as error:
                failed = self._failing(admitted)
                if not failed:
                    failed = [(i, str(error)) for i in range(admitted.columns.length)]
                admitted = admitted.without(failed, "view_failed")
            else:
                return admitted
        return admitted

    def _failing(self, admitted: Admitted) -> list[tuple[int, str]]:
        """The events on which a view's function fails, each called on its own."""
        failed = []
        for i in range(admitted.columns.length):
            one = admitted.columns.take(np.array([i]))
            try:
                self.features.prepare(admitted.source.name, one, np.zeros(1, np.int64))
            except TransformError as error:
                failed.append((i, str(error)))
        return failed

    def _positions(self, inputs: Sequence[Admitted], *, by_time: bool) -> list[IntArray]:
        if len(inputs) == 1:
            return [np.arange(self._next, self._next + inputs[0].columns.length)]
        counts = [admitted.columns.length for admitted in inputs]
        bounds = np.cumsum([0, *counts])
        positions = self._next + np.arange(bounds[-1])
        if by_time:
            # The running maximum keeps each input's own order, whatever its times.
            times = [np.maximum.accumulate(a.columns[a.source.time_field].values) for a in inputs]  # type: ignore[union-attr]
            labels_first = [
                np.full(n, a.source.label_of is None) for n, a in zip(counts, inputs, strict=True)
            ]
            order = np.lexsort((np.concatenate(labels_first), np.concatenate(times)))
            positions = np.empty_like(positions)
            positions[order] = self._next + np.arange(bounds[-1])
        return [positions[a:b] for a, b in pairwise(bounds)]

    def _join_labels(self, batch: _Batch) -> None:
        for name, join in self._joins.items():
            index = next((i for i, a in enumerate(batch.inputs) if a.source.name == name), None)
            events = self._new_events(batch, str(self.plan.sources[name].label_of))
            labels = None if index is None else batch.inputs[index].columns
            positions = np.zeros(0, np.int64) if index is None else batch.positions[index]
            joined = join.join(labels, positions, events)
            if joined.counters or joined.payload is not None:
                batch.labels.append((-1 if index is None else index, joined))
            if joined.entering is not None and self._has_views(name):
                batch.rows[name] = self._entering(name, joined, events)

    def _has_views(self, source: str) -> bool:
        return any(view.source == source for view in self.plan.views)

    def _new_events(self, batch: _Batch, source: str) -> NewEvents | None:
        for admitted, positions in zip(batch.inputs, batch.positions, strict=True):
            if admitted.source.name == source and admitted.hashes is not None and len(positions):
                return NewEvents(admitted.columns, positions, admitted.hashes)
        return None

    def _entering(self, name: str, joined: JoinedLabels, events: NewEvents | None) -> Rows:
        label = self.plan.sources[name]
        entering = joined.entering
        assert entering is not None
        wanted = entering.event_positions
        fresh = np.zeros(len(wanted), np.bool_) if events is None else wanted >= events.positions[0]
        names = [f.name for f in self.plan.sources[str(label.label_of)].fields]
        columns = labelled_events(self.rows, str(label.label_of), wanted, fresh, events).select(names)
        return entering_rows(entering, columns, label)

    def _decide(self, source: SourceNode, features: Mapping[str, FeatureRows]) -> Decisions | None:
        endpoint = self.plan.endpoint_of.get(source.name)
        if endpoint is None or endpoint.service not in features:
            return None
        return decide(
            endpoint, features[endpoint.service], self._scorers[endpoint.name](), self._service(endpoint)
        )

    def _service(self, endpoint: EndpointNode) -> str:
        return self.plan.services[endpoint.service].fingerprint

    def _commit_of(self, batch: _Batch, outcomes: Sequence[Outcome], offsets: Mapping[str, str]) -> Commit:
        log, decided, letters = [], [], []
        counters: dict[str, int] = {}
        payloads = {index: joined.payload for index, joined in batch.labels if joined.payload is not None}
        for i, outcome in enumerate(outcomes):
            admitted = outcome.admitted
            if len(outcome.positions):
                payload = payloads.get(i, admitted.columns).to_bytes()
                log.append(
                    LogBatch(
                        admitted.source.name, outcome.positions, ingest_time_us=batch.now_us, payload=payload
                    )
                )
            if outcome.decisions is not None:
                name = self.plan.endpoint_of[admitted.source.name].name
                decided.append(DecisionBatch(name, outcome.positions, payload=outcome.decisions.to_bytes()))
            letters += _dead_letters(admitted, batch.now_us)
            _count(counters, outcome)
        joined = [j for _, j in batch.labels]
        for one in joined:
            for name, count in one.counters.items():
                counters[name] = counters.get(name, 0) + count
        return Commit(
            log=log,
            ids=_event_ids(outcomes),
            decisions=decided,
            labels=next((j.records for j in joined if j.records is not None), None),
            pending_added=[p for j in joined for p in j.pending_added],
            pending_resolved=[p for j in joined for p in j.pending_resolved],
            dead_letters=letters,
            counters=counters,
            offsets=offsets,
        )

    def _submit(self, commit: Commit, *, with_labels: bool, overlap: bool) -> Future[None]:
        self.flush()
        if not overlap:
            self._write(commit)
            self._inflight = (self._next, _DONE)
            self._labels_inflight = False
            return _DONE
        start = self._next - sum(len(batch.positions) for batch in commit.log)
        future = self._writer.submit(self._write, commit)
        self._inflight = (start, future)
        self._labels_inflight = with_labels
        return future

    def _write(self, commit: Commit) -> None:
        try:
            self._store.commit(commit)
        except BaseException as error:
            self._failed = error
            raise
        self._store.tidy()


def decide(endpoint: EndpointNode, features: FeatureRows, scorer: Scorer | None, service: str) -> Decisions:
    """Score feature rows and choose actions. Pure."""
    vectors = features.values
    flags = features.lateness.copy()  # 1 and 2 are Flag.LATE and Flag.TOO_LATE
    if features.degraded.any():
        flags[features.degraded] |= _DEGRADED
    if scorer is None:
        scores = np.full(len(vectors), np.nan)
        flags |= _NO_MODEL
    else:
        scores = scorer.score(vectors)
        unknown = np.isnan(scores)
        if unknown.any():
            flags[unknown] |= _DEGRADED
    return Decisions(
        model="" if scorer is None else scorer.version,
        service=service,
        actions=endpoint.actions,
        scores=scores,
        taken=choose_actions(scores, endpoint.thresholds),
        flags=flags,
        vectors=vectors,
    )


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


def _event_ids(outcomes: Sequence[Outcome]) -> EventIds | None:
    parts = [
        (o.admitted.hashes, o.positions)
        for o in outcomes
        if o.admitted.hashes is not None and len(o.positions)
    ]
    if not parts:
        return None
    if len(parts) == 1:
        return EventIds(*parts[0])
    hashes = np.concatenate([h for h, _ in parts])
    positions = np.concatenate([p for _, p in parts])
    order = np.argsort(positions)
    return EventIds(hashes[order], positions[order])


def _dead_letters(admitted: Admitted, now_us: int) -> list[DeadLetter]:
    return [
        DeadLetter(
            source=admitted.source.name,
            received_us=now_us,
            reason=refused.reason,
            detail=refused.detail,
            payload=refused.payload,
        )
        for refused in admitted.refused
    ]


def _count(counters: dict[str, int], outcome: Outcome) -> None:
    """Add one input to the counters: received = scored (or logged) + duplicate + rejected."""
    admitted = outcome.admitted
    if admitted.source.label_of is not None:
        _add(counters, "labels_rejected", len(admitted.refused))
        _add(counters, "labels_received", len(admitted.refused))
        return
    new = len(outcome.positions)
    duplicates = len(admitted.duplicates) + len(admitted.repeats)
    if admitted.received != new + duplicates + len(admitted.refused):
        raise StoreError(
            f"engine: {admitted.received} events of {admitted.source.name!r} came in, but {new} were accepted, "
            f"{duplicates} repeated and {len(admitted.refused)} refused. This is a defect of Penstock; please report it."
        )
    _add(counters, "received", admitted.received)
    _add(counters, "logged" if outcome.decisions is None else "scored", new)
    _add(counters, "duplicate", duplicates)
    _add(counters, "rejected", len(admitted.refused))
    if outcome.decisions is not None and new:
        flags = outcome.decisions.flags
        if flags.any():
            _add(counters, "late", int(((flags & _LATE) > 0).sum()))
            _add(counters, "too_late", int(((flags & _TOO_LATE) > 0).sum()))
        taken = np.bincount(outcome.decisions.taken).tolist()
        for action, count in zip(outcome.decisions.actions, taken, strict=False):
            _add(counters, f"action.{action}", count)


def _add(counters: dict[str, int], name: str, count: int) -> None:
    if count:
        counters[name] = counters.get(name, 0) + count
