"""Where the features of one decision come from: the rows behind each value, found in the log, and the value again.

1. The event's own row says for each look-up of its service which key is asked, as of which time.
2. The log before the event is folded through the kernel, as ever, for the value; on the way the rows of those keys are
   gathered, as the views' functions made them.
3. Of the gathered rows those that were applied (none that came too late), lie in the aggregate's window and are not
   null are what it was computed from.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from penstock.core.errors import NotFoundError
from penstock.core.records import EventIds
from penstock.core.types import Field
from penstock.definitions.aggregate_functions import LATEST
from penstock.engine.admission import id_seed
from penstock.engine.assembly import FeatureRows
from penstock.engine.checks import FIRST_US
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.features import FeatureState
from penstock.engine.gathering import Entered, Value, Watched, gather, plain
from penstock.engine.kernel_rows import Rows
from penstock.engine.lookup import ERASED, RowReader
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import replay
from penstock.engine.values import to_list
from penstock.kernel.columns import Column, Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.kernel.program import Program
from penstock.kernel.spec import Window
from penstock.plan.nodes import EndpointNode, Plan, Selected, SourceNode


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Behind:
    """The rows that a windowed feature was computed from, in log order, and its window ``(from_us, to_us]``."""

    view: str
    source: str
    function: str
    column: str
    where: str | None
    from_us: int
    to_us: int
    positions: IntArray
    times_us: IntArray
    ids: Sequence[Any]
    values: Sequence[Value]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Traced:
    """A feature of a decision.

    `served` is what the model saw (None too where there was no decision), `recomputed` what the log gives now. Of a
    windowed feature `behind` says what is behind it; of a realtime feature `inputs` are its function's arguments.
    `is_output` is False for a value that only feeds a realtime feature.
    """

    name: str
    served: Value
    recomputed: Value
    same: bool | None
    behind: Behind | None = None
    inputs: Mapping[str, Value] = field(default_factory=dict)
    is_output: bool = True


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Provenance:
    """One event's decision, and where its features come from; `notes` say why something cannot be compared."""

    source: str
    position: int
    event_id: Value
    time_us: int
    ingest_time_us: int
    event: Mapping[str, Value]
    endpoint: EndpointNode
    decision: Decisions | None
    flags: tuple[str, ...]
    features: tuple[Traced, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> int:
        """How many values are not the ones that were served."""
        return sum(one.same is False for one in self.features)


class IdReader(LogReader, Protocol):
    """A log that also gives its events' ids, hashed."""

    def event_ids(self, start: int = 0) -> Iterator[EventIds]:
        """Hashes of the event ids of rows at positions ≥ `start`, a commit at a time."""


def find_event(
    store: IdReader,
    source: SourceNode,
    event_id: str,
    *,
    candidates: Callable[[int], IntArray] | None = None,
) -> int | None:
    """The log position of the event of `source` with this id, by its hash; None where there is none.

    `candidates` gives the positions that may have the hash, from an index; without one all hashes are read.
    """
    if (
        source.id_field is None or source.label_of is not None
    ):  # a label has its event's id, and none of its own
        return _assigned(store, source, event_id)
    dtype = next(f.dtype for f in source.fields if f.name == source.id_field)
    column: Column = Text.from_strings([event_id])
    if dtype.kind != "text":
        if not event_id.removeprefix("-").isdigit():
            return None
        column = Numeric(np.array([int(event_id)], np.int64))
    wanted = hash_text(encode_keys([column]), id_seed(store.hash_seed, source.name))[0]
    reader = RowReader(store, {source.name: source})
    for position in _with_hash(store, int(wanted), candidates):
        rows = reader.events_if_all(source.name, np.array([position]))
        if rows is not None and str(to_list(rows[source.id_field], dtype)[0]) == event_id:
            return position
    return None


def _with_hash(store: IdReader, wanted: int, candidates: Callable[[int], IntArray] | None) -> Iterator[int]:
    if candidates is not None:
        yield from dict.fromkeys(candidates(wanted).tolist())
        return
    for ids in store.event_ids():
        yield from ids.positions[ids.hashes == wanted].tolist()


def _assigned(store: LogReader, source: SourceNode, event_id: str) -> int | None:
    """The position in an id that the log assigned: ``source:position``."""
    name, _, text = event_id.rpartition(":")
    if name != source.name or not (text.isascii() and text.isdigit()) or int(text) >= store.next_position:
        return None
    position = int(text)
    return position if RowReader(store, {}).sources_at(np.array([position])).get(position) == name else None


def provenance(
    store: LogReader, plan: Plan, endpoint: EndpointNode, position: int, *, progress: Progress = no_progress
) -> Provenance:
    """Where the features of the decision of `endpoint` at `position` come from; folds the log up to there.

    Raises
    ------
    NotFoundError
        The event at `position` was forgotten.
    """
    source, service = plan.sources[endpoint.source], plan.services[endpoint.service]
    reader = RowReader(store, plan.sources)
    at = np.array([position])
    event = reader.events(source.name, at)
    if ERASED in event:
        if event[ERASED].values[0]:  # type: ignore[union-attr]
            raise NotFoundError(
                f"event at position {position}: it was forgotten; nothing of it is left to explain."
            )
        event = event.select([f.name for f in source.fields])
    extended, added = _with_inputs(plan, endpoint)
    scratch = FeatureState(plan)
    watched = [Watched.of(plan, source, lookup, scratch, Rows(event, at)) for lookup in service.lookups]
    state = FeatureState(extended)
    for stop in (position, position + 1):
        start = 0 if stop == position else position
        chosen = [] if stop == position else [extended.services[service.name]]
        for replayed in replay(store, state, start=start, stop=stop, services=chosen):
            gather(plan, scratch, watched, replayed.chunk.rows)
            progress(replayed.chunk.stop, position + 1)
    found = replayed.features[service.name]
    decision = next((d for _, d in reader.decisions(endpoint.name, at)), None)
    names = [f.name for f in source.fields]
    notes = _incomparable(plan, endpoint, decision)
    comparable = not notes
    if state.evicted_keys:
        notes.append(
            "views were full, and keys have left them: what is listed may have been forgotten before"
        )
    (batch,) = (b for b in store.log_batches_at(at) if b.source == source.name)
    return Provenance(
        source=source.name,
        position=position,
        event_id=None if source.id_field is None else _first(event[source.id_field], source, source.id_field),
        time_us=int(event[source.time_field].values[0]),  # type: ignore[union-attr]
        ingest_time_us=batch.ingest_time_us,
        event={name: _first(event[name], source, name) for name in names},
        endpoint=endpoint,
        decision=decision,
        flags=()
        if decision is None
        else tuple(f.name.lower() for f in Flag if f & int(decision.flags[0]) and f.name),
        features=tuple(
            _traces(
                extended,
                endpoint,
                added=added,
                watched=watched,
                found=found,
                event=event,
                decision=decision,
                comparable=comparable,
            )
        ),
        notes=tuple(notes),
    )


def _with_inputs(plan: Plan, endpoint: EndpointNode) -> tuple[Plan, tuple[Selected, ...]]:
    """The plan with a service that also gives what realtime views take from look-ups; and those values."""
    service = plan.services[endpoint.service]
    have = {(o.index, o.column) for o in service.outputs if o.kind == "lookup"}
    extra: dict[tuple[int, int], Selected] = {}
    for node in service.realtime:
        for argument in node.arguments:
            for one in argument:
                if isinstance(one, Selected) and (one.index, one.column) not in have:
                    extra[one.index, one.column] = one
    added = tuple(extra.values())
    wide = replace(service, outputs=service.outputs + added)
    return replace(plan, services={service.name: wide}), added


def _incomparable(plan: Plan, endpoint: EndpointNode, decision: Decisions | None) -> list[str]:
    """Why values cannot be compared with those that were served."""
    notes = []
    if decision is None:
        notes.append("no decision: the event was loaded as history")
    else:
        if decision.service != plan.services[endpoint.service].fingerprint:
            notes.append("it was served by other definitions than the present ones")
        if int(decision.flags[0]) & (Flag.ERASED | Flag.UNVERIFIABLE):
            notes.append("an event that its features had seen was forgotten")
    return notes


def _traces(
    plan: Plan,
    endpoint: EndpointNode,
    *,
    added: Sequence[Selected],
    watched: Sequence[Watched],
    found: FeatureRows,
    event: Columns,
    decision: Decisions | None,
    comparable: bool,
) -> list[Traced]:
    service = plan.services[endpoint.service]
    outputs = len(service.outputs) - len(added)
    values = {(o.kind, o.index, o.column): _value(found, i) for i, o in enumerate(service.outputs)}
    traces = []
    for i, output in enumerate(service.outputs):
        again = values[output.kind, output.index, output.column]
        served = None if decision is None or i >= outputs else _finite(float(decision.vectors[0, i]))
        traces.append(
            Traced(
                name=output.name,
                served=served,
                recomputed=again,
                same=_same(served, again) if comparable and i < outputs else None,
                behind=_behind(plan, output, watched[output.index]) if output.kind == "lookup" else None,
                inputs=_inputs(plan, endpoint, output, values, event) if output.kind == "realtime" else {},
                is_output=i < outputs,
            )
        )
    return traces


def _edges(window: Window, start_us: int, time_us: int) -> tuple[int, int]:
    """The times (from, to] of a window's rows, from `start_us` at the lower edge and `time_us` at the upper."""
    tiles = window.interval_us
    if tiles:  # up to the beginning of the tile that the time is in
        start_us, time_us = start_us - start_us % tiles - 1, time_us - time_us % tiles - 1
    low = FIRST_US if window.lifetime else start_us + window.offset_us - window.size_us
    return low, time_us + window.offset_us


def _behind(plan: Plan, output: Selected, watched: Watched) -> Behind:
    view = plan.views[watched.lookup.view]
    node = view.aggregate_at(output.column)
    lane, windows = view.lanes[node.lane], [view.program.windows[window] for window in node.windows]
    lateness = view.program.allowed_lateness_us
    rows = watched.applied(lateness)
    start = watched.time_us if rows.newest is None else max(watched.time_us, rows.newest - lateness)
    edges = [_edges(window, start, watched.time_us) for window in windows]
    low, high = min(low for low, _ in edges), max(high for _, high in edges)
    inside = (rows.times > low) & (rows.times <= high)
    if watched.lookup.own:
        asking = rows.positions == watched.last
        inside = inside | asking if any(w.holds_asking for w in windows) else inside & ~asking
    used = np.flatnonzero(rows.kept & inside).tolist()
    if node.function == LATEST.name:  # one row says it all, a null too
        used = _latest(view.program, rows, used)
    else:
        used = [i for i in used if watched.lanes[i][node.lane] is not None]
    return Behind(
        view=view.name,
        source=view.source,
        function=node.function,
        column=lane.column,
        where=lane.where,
        from_us=max(low, FIRST_US),
        to_us=high,
        positions=rows.positions[used],
        times_us=rows.times[used],
        ids=[watched.ids[i] for i in used],
        values=[watched.lanes[i][node.lane] for i in used],
    )


def _latest(program: Program, rows: Entered, used: Sequence[int]) -> list[int]:
    """The latest of the rows `used`; none where a profile without end has forgotten them all by now."""
    if program.keeps_newest_only and rows.newest is not None:
        passed = rows.times[rows.kept & (rows.times <= rows.newest - program.allowed_lateness_us)]
        used = [i for i in used if rows.times[i] >= passed.max(initial=FIRST_US)]
    return sorted(used, key=lambda i: int(rows.times[i]))[-1:]


def _inputs(
    plan: Plan,
    endpoint: EndpointNode,
    output: Selected,
    values: Mapping[tuple[str, int, int], Value],
    event: Columns,
) -> dict[str, Value]:
    source = plan.sources[endpoint.source]
    found: dict[str, Value] = {}
    for argument in plan.services[endpoint.service].realtime[output.index].arguments:
        for one in argument:
            if isinstance(one, Field):
                found[one.name] = _first(event[one.name], source, one.name)
            else:
                found[one.name] = values[one.kind, one.index, one.column]
    return found


def _value(found: FeatureRows, index: int) -> Value:
    column = found.columns.get(index)
    return column.to_strings()[0] if isinstance(column, Text) else _finite(float(found.values[0, index]))


def _same(served: Value, again: Value) -> bool:
    """Whether both are the same float64, or null; the model sees a text as null."""
    if served is None or not isinstance(again, float):
        return served is None and not isinstance(again, float)
    return struct.pack("d", served) == struct.pack("d", again)


def _finite(value: float) -> float | None:
    return None if value != value else value


def _first(column: Column, source: SourceNode, name: str) -> Value:
    dtype = next(f.dtype for f in source.fields if f.name == name)
    value = to_list(column, dtype)[0]
    return plain(value)
