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
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
from msgspec import structs

from penstock.core.errors import TransformError
from penstock.core.records import Commit, EventIds
from penstock.engine.admission import Admission, Admitted
from penstock.engine.alert_caps import AlertDays, capped
from penstock.engine.assembly import FeatureRows
from penstock.engine.contract import Decoded, Refused
from penstock.engine.decisions import Decisions, decide
from penstock.engine.effects import NO_CHANGES, LetterChanges, Outcome, commit_of, event_ids_of
from penstock.engine.features import FeatureState
from penstock.engine.given import with_given
from penstock.engine.kernel_rows import KernelRows, Rows
from penstock.engine.labels import JoinedLabels, LabelJoin, NewEvents, entering_rows
from penstock.engine.list_versions import ListVersions
from penstock.engine.lookup import RowReader
from penstock.engine.ports import EngineStore, EventIdIndex
from penstock.engine.routing import Route
from penstock.engine.times import row_times
from penstock.engine.unknown_fields import UnknownFields
from penstock.kernel.columns import BoolArray, Columns, IntArray, concat
from penstock.plan.nodes import Plan, SourceNode

Input = tuple[str, Decoded]
_NO_POSITIONS = np.zeros(0, np.int64)

_COUNTED = "keys_evicted", "labels_without_view", "batch_too_late", "labels_too_late"

Routes = Mapping[str, Callable[[], Route]]
"""By endpoint the route in force; asked once a micro-batch."""


class Stepped(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a step came to: an outcome for each input, and what its effects are made of."""

    outcomes: tuple[Outcome, ...]
    ids: EventIds | None
    labels: Sequence[tuple[int, JoinedLabels]]
    now_us: int
    offsets: Mapping[str, str]
    counters: Mapping[str, int]

    def effects(self, plan: Plan, changes: LetterChanges = NO_CHANGES) -> Commit:
        """The one transaction that makes the step durable, with what becomes of dead letters in it."""
        return commit_of(
            plan,
            self.outcomes,
            self.labels,
            ids=self.ids,
            now_us=self.now_us,
            offsets=self.offsets,
            counters=self.counters,
            changes=changes,
        )


@dataclass(slots=True, eq=False)
class _Batch:
    """One micro-batch on its way through the steps."""

    inputs: list[Admitted] = field(default_factory=list)
    positions: list[IntArray] = field(default_factory=list)
    prepared: dict[int, KernelRows] = field(default_factory=dict)
    labels: list[tuple[int, JoinedLabels]] = field(default_factory=list)
    rows: dict[str, Rows] = field(default_factory=dict)
    ids: EventIds | None = None

    def find(self, source: str) -> tuple[int, Admitted, IntArray] | None:
        """The input of `source`: its index, what was admitted, and where it stands."""
        for index, admitted in enumerate(self.inputs):
            if admitted.source.name == source:
                return index, admitted, self.positions[index]
        return None

    def new_events(self, source: str) -> NewEvents | None:
        """The new events of `source`, if there are any, with the hashes of their ids."""
        found = self.find(source)
        if found is None or found[1].hashes is None or not len(found[2]):
            return None
        return NewEvents(found[1].columns, found[2], found[1].hashes)


class Stepper:
    """Takes steps over a `FeatureState`; knows the length that the log will have."""

    def __init__(
        self,
        features: FeatureState,
        *,
        store: EngineStore,
        ids: EventIdIndex,
        rows: RowReader,
        routes: Routes,
        settle: Callable[[int], None],
        covered: Mapping[str, int] | None = None,
    ) -> None:
        self.features = features
        self.position = store.next_position
        self._plan = features.plan
        self._store = store
        self._ids = ids
        self._rows = rows
        self._deciding = {
            source: (endpoint, routes[endpoint.name], features.plan.services[endpoint.service].fingerprint)
            for source, endpoint in features.plan.endpoint_of.items()
        }
        counters = store.counters()
        self._unknown = UnknownFields(features.plan.sources, counters)
        self._lists = ListVersions(features.plan.sources, counters)
        self._alert_days = {
            one.name: AlertDays(one.name, counters)
            for one in features.plan.endpoints.values()
            if one.cap is not None
        }
        self._admission = Admission(ids, rows, seed=store.hash_seed, settle=settle, covered=covered)
        plan = features.plan
        self._seen = _totals(features)
        self._has_views = {name: any(view.source == name for view in plan.views) for name in plan.sources}
        # Only what somebody reads is computed: services that an endpoint decides with.
        self._services = [plan.services[n] for n in dict.fromkeys(e.service for e in plan.endpoints.values())]
        self._carried = plan.carried
        if self._carried is not None:
            self._services.append(self._carried)
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
        batch = _Batch()
        for source, decoded in inputs:
            self._admit(self._plan.sources[source], decoded, now_us if live else None, batch)
        if by_time and len(inputs) > 1:
            self._place_by_time(batch)
        self._enter(batch)
        self._join_labels(batch)
        features = self.features.advance(
            batch.rows,
            services=self._services,
            prepared=batch.prepared,
            exact=self._carried is not None,
            skip_failing=True,
        )
        if self._carried is not None:
            batch.inputs = [self._with_given(admitted, features) for admitted in batch.inputs]
        counted = self._counted()
        changes = self._lists.step(_by_source(batch), counted) if self._lists else {}
        outcomes = [
            Outcome(admitted, positions, self._decide(admitted, positions, features) if decide else None)
            for admitted, positions in zip(batch.inputs, batch.positions, strict=True)
        ]
        if self._lists or self._alert_days:
            outcomes = [self._beside(outcome, changes, counted) for outcome in outcomes]
        self._unknown.look(inputs, counted)
        return Stepped(tuple(outcomes), batch.ids, batch.labels, now_us, offsets, counted)

    def _counted(self) -> dict[str, int]:
        """What the state's own counters say since the last step."""
        before, self._seen = self._seen, _totals(self.features)
        if self._seen == before:
            return {}
        grown = zip(_COUNTED, self._seen, before, strict=True)
        return {name: now - then for name, now, then in grown if now != then}

    def _admit(self, source: SourceNode, decoded: Decoded, limit_us: int | None, batch: _Batch) -> None:
        """Admit one input, give its new rows the next positions and run its views' functions.

        An event on which one fails is refused, and the others are admitted anew: what repeats a refused event repeats
        nothing.
        """
        failed: list[Refused] = []
        while True:
            admitted = self._admission.admit(source, decoded, now_us=limit_us)
            positions = np.arange(self.position, self.position + admitted.columns.length)
            if source.label_of is not None or not len(positions):
                break
            prepared, errors = self._prepared(source.name, admitted.columns, positions)
            if not errors:
                batch.prepared.update(prepared)
                break
            rows = {int(admitted.rows[i]): detail for i, detail in errors.items()}
            failed += [Refused(row, "view_failed", why, decoded.original(row)) for row, why in rows.items()]
            decoded = decoded.without(rows)
        if failed:
            admitted = structs.replace(admitted, refused=(*admitted.refused, *failed))
        batch.inputs.append(admitted)
        batch.positions.append(positions)
        self.position += len(positions)

    def _prepared(
        self, source: str, columns: Columns, positions: IntArray
    ) -> tuple[dict[int, KernelRows], dict[int, str]]:
        try:
            return self.features.prepare(source, columns, positions), {}
        except TransformError:
            return self.features.prepare_each(source, columns, positions)

    def _place_by_time(self, batch: _Batch) -> None:
        """Give the new rows of several inputs their positions anew, by event time; at equal times events come last."""
        inputs, counts = batch.inputs, [len(positions) for positions in batch.positions]
        bounds = np.cumsum([0, *counts])
        # The running maximum keeps each input's own order, whatever its times.
        times = [np.maximum.accumulate(row_times(a.columns, a.source)) for a in inputs]
        events_last = [np.full(n, not a.source.comes_first) for n, a in zip(counts, inputs, strict=True)]
        order = np.lexsort((np.concatenate(events_last), np.concatenate(times)))
        positions = np.empty(bounds[-1], np.int64)
        positions[order] = self.position - bounds[-1] + np.arange(bounds[-1])
        batch.positions = [positions[a:b] for a, b in pairwise(bounds)]
        for i, rows in batch.prepared.items():
            found = batch.find(self._plan.views[i].source)
            assert found is not None
            batch.prepared[i] = rows.at(found[2])

    def _enter(self, batch: _Batch) -> None:
        """Note the new events and their ids."""
        for admitted, positions in zip(batch.inputs, batch.positions, strict=True):
            if admitted.source.label_of is None and len(positions):
                batch.rows[admitted.source.name] = Rows(admitted.columns, positions)
        batch.ids = event_ids_of(batch.inputs, batch.positions)
        if batch.ids is not None:
            self._ids.add(batch.ids.hashes, batch.ids.positions)

    def _join_labels(self, batch: _Batch) -> None:
        if not self._may_join(batch):
            return
        for name, join in self._joins.items():
            labels, events = batch.find(name), batch.new_events(join.of)
            if labels is None and (events is None or not join.awaits(events)):
                continue
            index, columns, positions = (
                (-1, None, _NO_POSITIONS) if labels is None else (labels[0], labels[1].columns, labels[2])
            )
            joined = join.join(columns, positions, events)
            if joined.counters or joined.payload is not None:
                batch.labels.append((index, joined))
            if joined.entering is not None and self._has_views[name]:
                batch.rows[name] = self._entering(name, joined, events)

    def _may_join(self, batch: _Batch) -> bool:
        """Whether there are labels in the batch, or some wait for events: mostly there are none."""
        return self._store.labels_wait or any(a.source.label_of is not None for a in batch.inputs)

    def _entering(self, name: str, joined: JoinedLabels, events: NewEvents | None) -> Rows:
        label = self._plan.sources[name]
        entering = joined.entering
        assert entering is not None
        wanted = entering.event_positions
        fresh = np.zeros(len(wanted), np.bool_) if events is None else wanted >= events.positions[0]
        names = [f.name for f in self._plan.sources[str(label.label_of)].fields]
        columns = labelled_events(self._rows, str(label.label_of), wanted, fresh, events).select(names)
        return entering_rows(entering, columns, label)

    def _with_given(self, admitted: Admitted, features: Mapping[str, FeatureRows]) -> Admitted:
        """The events with what this stage computed for them, as the log keeps them."""
        carried = self._carried
        if carried is None or carried.source != admitted.source.name or carried.name not in features:
            return admitted
        return structs.replace(
            admitted, columns=with_given(admitted.columns, carried, features[carried.name])
        )

    def _decide(
        self, admitted: Admitted, positions: IntArray, features: Mapping[str, FeatureRows]
    ) -> Decisions | None:
        deciding = self._deciding.get(admitted.source.name)
        if deciding is None or deciding[0].service not in features:
            return None
        endpoint, route, fingerprint = deciding
        return decide(
            endpoint, features[endpoint.service], route(), fingerprint, lambda: (admitted.columns, positions)
        )

    def _beside(self, outcome: Outcome, changes: Mapping[str, IntArray], counted: dict[str, int]) -> Outcome:
        """The outcome with what its decisions owe to the log as a whole: versions of lists, the budget of the day."""
        decisions, source = outcome.decisions, outcome.admitted.source
        if decisions is None or not len(decisions):
            return outcome
        endpoint = self._plan.endpoint_of[source.name]
        if endpoint.lists:
            versions = self._lists.at(outcome.positions, endpoint.lists, changes)
            decisions = structs.replace(decisions, lists=endpoint.lists, list_versions=versions)
        if endpoint.cap is not None:
            days = self._alert_days[endpoint.name]
            before = days.totals
            times = row_times(outcome.admitted.columns, source)
            decisions = capped(endpoint.cap, decisions, times, days)
            counted |= days.since(before)
        return structs.replace(outcome, decisions=decisions)


def _by_source(batch: _Batch) -> dict[str, IntArray]:
    """The positions of a micro-batch's new rows, by source."""
    pairs = zip(batch.inputs, batch.positions, strict=True)
    return {admitted.source.name: positions for admitted, positions in pairs}


def _totals(features: FeatureState) -> tuple[int, ...]:
    """What the state has counted so far, as `_COUNTED` names it."""
    return features.evicted_keys, features.skipped_rows, *features.too_late


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
