"""Point-in-time features for a frame of events: the same plan and kernel as live, over history in order.

1. History rows of all sources are put in one order: by event time, at equal times labels and batch rows before events, then
   row order (``as_of="corrected"``), or as the log has them (``as_of="served"``).
2. An event that is part of the history takes what its own row emits. One that is not - a bare key and time - looks up,
   after everything that happened up to and including its time.
3. Features are appended to the events' own columns; every row and column is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InputError, PlanError
from penstock.core.records import LabelRecords
from penstock.core.types import Field, Timestamp
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.sources import EventSource, LabelSource, StreamSource
from penstock.definitions.views import FeatureReference, StreamFeatureView
from penstock.engine.admission import rows_equal
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.batch_history import asked_rows, asking_stream
from penstock.engine.feature_frame import FeatureFrame, append_features
from penstock.engine.features import FeatureState
from penstock.engine.frames import believed_columns, to_table
from penstock.engine.kernel_rows import Rows
from penstock.engine.labels import entering_rows, first_known, label_values, take_labels
from penstock.engine.replay import CHUNK_ROWS
from penstock.engine.times import row_times
from penstock.engine.view_states import whole_states
from penstock.kernel.columns import Column, Columns, IntArray, Text, multiples
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.plan.compile import Demand, compile_demands
from penstock.plan.nodes import Plan, SourceNode

if TYPE_CHECKING:
    import pyarrow as pa

HISTORY, SPINE = "history", "spine"
"""The services of a frame's plan: for events that are part of the history, and for those that are not."""


def driving_source(references: Sequence[FeatureReference]) -> StreamSource:
    """The stream whose events the features are for: that of the first view, or the one that its labels are of."""
    for source in _sources_of(references):
        if not isinstance(source, BatchSource):
            return source.of if isinstance(source, LabelSource) else source
    raise PlanError("features: none of them is of a stream; add a stream feature view to the service.")


def source_names(references: Sequence[FeatureReference]) -> set[str]:
    """The sources that the features come from, and the streams that their labels are of."""
    sources = list(_sources_of(references))
    return {s.name for s in sources} | {s.of.name for s in sources if isinstance(s, LabelSource)}


def batch_sources_of(references: Sequence[FeatureReference]) -> dict[str, BatchSource]:
    """The batch sources that the features come from, by name."""
    return {s.name: s for s in _sources_of(references) if isinstance(s, BatchSource)}


def _sources_of(references: Sequence[FeatureReference]) -> Iterable[EventSource]:
    for reference in references:
        if isinstance(reference.view, StreamFeatureView):
            yield reference.view.source
        else:
            nested = [s for s in reference.view.sources if isinstance(s, FeatureReference)]
            yield from _sources_of(nested)


def features_for_frame(
    references: Sequence[FeatureReference],
    events: Any,
    *,
    history: Mapping[str, Any] | None = None,
    timestamp_key: str | None = None,
) -> FeatureFrame:
    """Point-in-time features for `events` from `history`: ``{source: frame}``.

    Where `history` has no frame for the events' own stream and the events carry its columns, the events are its history.
    Frames are held to the sources' contracts. An event that a frame has twice counts once, as it does live.

    Raises
    ------
    InputError
        A column is missing or of another type, a value breaks the contract, one id has two contents, or there is no
        history to compute from.
    """
    table = to_table(events, owner="events")
    given = dict(history or {})
    names = source_names(references)
    is_bare = names == set(batch_sources_of(references))
    source = asking_stream(references, table, SPINE, timestamp_key) if is_bare else driving_source(references)
    if unknown := set(given) - names:
        raise InputError(
            f"history: {min(unknown)!r} is no source of these features; they come from {', '.join(sorted(names))}. "
            "Leave it out."
        )
    batch = _batch_tables(references, given)
    if is_bare:
        plan = compile_demands([Demand(SPINE, tuple(references), source)])
        spine = believed_columns(table, source.schema, owner="events")
        bare = _in_order(plan, {}, spine, [SPINE], batch)
        return append_features(table, plan.services[SPINE], bare[SPINE])
    events_are_history = source.name not in given
    if events_are_history:
        check_carries(table, source)
        given[source.name] = table
    plan = frame_plan(references, source, table, timestamp_key)
    distinct = {
        name: _history(
            plan.sources[name], frame, owner="events" if frame is table else f"history of {name!r}"
        )
        for name, frame in given.items()
        if name in plan.sources and name not in batch
    }
    rows = {name: columns for name, (columns, _) in distinct.items()}
    if events_are_history:
        made = _in_order(plan, rows, None, [HISTORY], batch)[HISTORY]
        place = distinct[source.name][1]
        return append_features(table, plan.services[HISTORY], made if place is None else _taken(made, place))
    return _match(plan, table, rows, source, batch)


def _batch_tables(references: Sequence[FeatureReference], given: Mapping[str, Any]) -> dict[str, pa.Table]:
    """The history of each batch source as it was given; which rows of it are needed turns out later."""
    sources = batch_sources_of(references)
    for name, source in sources.items():
        if name not in given:
            raise InputError(
                f"history: features come from the batch source {name!r}, and there is no history of it. Give "
                f'history={{"{name}": frame}} with the columns {", ".join(f.name for f in source.schema)}.'
            )
    return {name: to_table(given[name], owner=f"history of {name!r}") for name in sources}


def _history(source: SourceNode, frame: Any, *, owner: str) -> tuple[Columns, IntArray | None]:
    """The events or labels of `frame`, each event once, and for each row of it which one it is (None: the same)."""
    columns = believed_columns(to_table(frame, owner=owner), source.fields, owner=owner)
    if source.id_field is None or source.label_of is not None:
        return columns, None
    first = _first_rows(columns[source.id_field])
    again = np.flatnonzero(first != np.arange(columns.length))
    if not len(again):
        return columns, None
    differs = ~rows_equal(columns.take(again), columns.take(first[again]), source.fields)
    if differs.any():
        raise InputError(_conflict(int(again[differs][0]), first, columns, source, owner=owner))
    kept = np.flatnonzero(first == np.arange(columns.length))
    place = np.searchsorted(kept, first)
    return columns.take(kept), place


def _conflict(row: int, first: IntArray, columns: Columns, source: SourceNode, *, owner: str) -> str:
    ids = columns[str(source.id_field)].take(np.array([row]))
    (event_id,) = ids.to_strings() if isinstance(ids, Text) else ids.values.tolist()
    return (
        f"{owner}: row {row} has the id {event_id!r} of row {first[row]} and other values; allowed is the same event "
        "again. Keep one of them, or give the correction an id of its own."
    )


def _first_rows(ids: Column) -> IntArray:
    """For each row the first row with its id."""
    slots = KeyTable().assign(encode_keys([ids]))
    return _first_row_of(slots)[slots]


def _first_row_of(slots: IntArray) -> IntArray:
    """For each slot the first row that has it."""
    row_of = np.full(int(slots.max(initial=-1)) + 1, -1)
    row_of[slots[::-1]] = np.arange(len(slots))[::-1]
    return row_of


def _match(
    plan: Plan,
    table: pa.Table,
    rows: dict[str, Columns],
    source: StreamSource,
    batch: Mapping[str, pa.Table],
) -> FeatureFrame:
    """Features for `table`, whose rows may or may not be in the history of their stream."""
    id_field = source.event_id_field
    node = plan.sources.get(SPINE)
    fields = [f for f in source.schema if f.name == id_field and id_field in table.column_names]
    spine = believed_columns(table, fields if node is None else node.fields, owner="events")
    found = np.full(table.num_rows, -1)
    if id_field is not None and id_field in spine:
        found = positions_of_ids(rows[source.name][id_field], spine[id_field])
    bare = np.flatnonzero(found < 0)
    if len(bare) and node is None:
        raise InputError(cannot_look_up(int(bare[0]), plan, table, source))
    wanted = [HISTORY] * bool((found >= 0).any()) + [SPINE] * bool(len(bare))
    asking = spine.take(bare) if len(bare) else None
    made = _in_order(plan, rows, asking, wanted or [HISTORY], batch)
    service = plan.services[HISTORY]
    if not len(bare):
        return append_features(table, service, _taken(made[HISTORY], found))
    if len(bare) == len(found):
        return append_features(table, plan.services[SPINE], made[SPINE])
    at = found.copy()
    at[bare] = sum(map(len, made[HISTORY])) + np.arange(len(bare))
    return append_features(table, service, _taken([*made[HISTORY], *made[SPINE]], at))


def cannot_look_up(row: int, plan: Plan, table: pa.Table, source: StreamSource) -> str:
    """Why a row that is not in the history has no features either, and what to do."""
    service = plan.services[HISTORY]
    keys = [key for lookup in service.lookups for key in lookup.key_columns]
    needed = dict.fromkeys([source.time_field, *keys, *service.request_columns])
    missing = ", ".join(repr(name) for name in needed if name not in table.column_names)
    by_id = (
        f"Give it in history={{{source.name!r}: frame}} under its {source.event_id_field!r}"
        if source.event_id_field is not None
        else f"Give {source.name!r} an event_id_field, so that events are found in history"
    )
    return (
        f"events: row {row} is not in the history of {source.name!r}, and cannot be looked up either: the events have "
        f"no column {missing or 'for each of its keys'}. {by_id}, or add the columns."
    )


def check_carries(table: pa.Table, source: StreamSource) -> None:
    """Raise `InputError` unless `table` has the columns of `source`, so that events can be their own history."""
    missing = [f.name for f in source.schema if f.name not in table.column_names and not f.optional]
    if missing:
        raise InputError(
            f"events: there is no history of {source.name!r}, and the events lack its column {missing[0]!r}, so they "
            f'cannot be their own history. Give history={{"{source.name}": frame}}, or the missing columns.'
        )


def frame_plan(
    references: Sequence[FeatureReference], source: StreamSource, table: pa.Table, timestamp_key: str | None
) -> Plan:
    """A plan with the service once for events of the stream and once for bare rows."""
    demands = [Demand(HISTORY, tuple(references), source)]
    time = timestamp_key or source.time_field
    fields = [f for f in source.schema if f.name in table.column_names and f.name != time]
    if time in table.column_names:
        spine = StreamSource(
            SPINE,
            source.stream_config,
            schema=[*fields, Field(time, Timestamp)],
            timestamp_field=time,
        )
        try:
            return compile_demands([*demands, Demand(SPINE, tuple(references), spine)])
        except PlanError:
            found_by_id = source.event_id_field in table.column_names
            if source.name != SPINE and (found_by_id or _carries(table, source)):
                return compile_demands(demands)
            raise
    if not _carries(table, source):
        raise InputError(
            f"events: the time of each row is needed in column {time!r}; there are {', '.join(table.column_names)}. "
            "Name another column with timestamp_key=."
        )
    return compile_demands(demands)


def _carries(table: pa.Table, source: StreamSource) -> bool:
    return all(f.name in table.column_names or f.optional for f in source.schema)


def _in_order(
    plan: Plan,
    rows: Mapping[str, Columns],
    spine: Columns | None,
    services: Sequence[str],
    batch: Mapping[str, pa.Table],
) -> dict[str, list[FeatureRows]]:
    """Compute `services` with all rows in event-time order; results, in parts, are in the rows' own order."""
    streams = [name for name, node in plan.sources.items() if node.label_of is None and name in rows]
    blocks: dict[str, Columns] = {}
    for name, node in plan.sources.items():
        if node.label_of is not None and any(view.source == name for view in plan.views):
            blocks[name] = _labelled(plan, node, rows)
    blocks |= {name: rows[name] for name in streams}
    if spine is not None:
        blocks[SPINE] = spine
    blocks |= {name: asked_rows(plan, plan.sources[name], t, blocks, services) for name, t in batch.items()}
    order_of = _positions(plan, blocks)
    placed = {name: _sorted(blocks[name], order_of[name]) for name in blocks}
    wanted = [plan.services[name] for name in services]
    batch = {name: in_order for name, (in_order, _) in placed.items() if in_order.columns.length}
    state = FeatureState(plan, views=whole_states(plan.views))
    parts = state.advance_whole(batch, services=wanted, part_rows=CHUNK_ROWS)
    return {s.name: _back(parts.get(s.name, []), placed[s.source][1]) for s in wanted}


def _sorted(columns: Columns, positions: IntArray) -> tuple[Rows, IntArray]:
    if (positions[1:] > positions[:-1]).all():
        return Rows(columns, positions), np.zeros(0, np.int64)
    order = np.argsort(positions)
    return Rows(columns.take(order), positions[order]), order


def _back(parts: list[FeatureRows], order: IntArray) -> list[FeatureRows]:
    """The parts in the order in which their events were given; `order` is empty where it is that already."""
    if not len(order):
        return parts
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return _taken(parts, back)


def _taken(parts: Sequence[FeatureRows], rows: IntArray) -> list[FeatureRows]:
    """The rows at these indices, counted over all parts."""
    return [concat_features(parts).take(rows)] if len(rows) else []


def _labelled(plan: Plan, label: SourceNode, rows: Mapping[str, Columns]) -> Columns:
    """The rows of a label view: each event's first known label, with the event's columns."""
    stream = plan.sources[str(label.label_of)]
    if label.name not in rows:
        raise InputError(
            f"history: features come from the labels {label.name!r}, and there is no history of them. Give "
            f'history={{"{label.name}": frame}} with the columns {", ".join(f.name for f in label.fields)}.'
        )
    labels, events = rows[label.name], rows[stream.name]
    found = positions_of_ids(events[str(stream.id_field)], labels[str(label.id_field)])
    known = labels[label.time_field].values  # type: ignore[union-attr]
    records = LabelRecords(
        event_positions=found,
        label_positions=np.arange(labels.length),
        values=label_values(labels, label),
        known_at_us=known.astype(np.int64),
    )
    entering = first_known(take_labels(records, found >= 0))
    # In the order of the labels alone: where an event lies in its frame plays no part in event-time order.
    placed = replace(entering, event_positions=np.zeros(len(entering), np.int64))
    return entering_rows(placed, events.take(entering.event_positions), label).columns


def _positions(plan: Plan, blocks: Mapping[str, Columns]) -> dict[str, IntArray]:
    """A place in one order for every row: event time, then labels and batch rows before events before bare rows, then row order."""
    times, ranks = [], []
    for name, columns in blocks.items():
        node = plan.sources[name]
        times.append(row_times(columns, node))
        rank = 2 if name == SPINE else int(not node.comes_first)
        ranks.append(np.full(columns.length, rank, np.int8))
    if len(times) == 1 and (times[0][1:] >= times[0][:-1]).all():
        return {next(iter(blocks)): multiples(len(times[0]), 1)}
    order = np.lexsort((np.concatenate(ranks), np.concatenate(times)))
    positions = np.empty(len(order), np.int64)
    positions[order] = np.arange(len(order))
    bounds = np.cumsum([0, *map(len, times)])
    return {name: positions[a:b] for name, a, b in zip(blocks, bounds[:-1], bounds[1:], strict=True)}


def positions_of_ids(known: Column, wanted: Column) -> IntArray:
    """For each id of `wanted` the row of `known` that has it, or -1."""
    table = KeyTable()
    row_of = _first_row_of(table.assign(encode_keys([known])))
    found = table.find(encode_keys([wanted]))
    return np.where(found >= 0, row_of[found], -1)
