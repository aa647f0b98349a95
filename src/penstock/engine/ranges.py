"""Features over a range of time: for each key the intervals in which they stay the same.

1. A key's features can only change when a row of it enters a window or leaves it: at its time plus, for each window, the
   distances to the window's two edges, or at the tile's beginning that follows. These points in time are put into the
   event-time order of the log, as rows that ask for features, beside the rows themselves.
2. The log is folded in that order. Of a key's answers that follow each other and are the same, to the last bit, the first
   begins the interval; the next other one ends it.

In memory are the windows' rows, and for each key its open interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import PlanError
from penstock.core.types import DataType, Field, Timestamp
from penstock.definitions.sources import StreamSource
from penstock.definitions.views import FeatureReference
from penstock.engine.admission import same_values
from penstock.engine.arrays import Lists
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.change_points import STEADY, VALID_FROM, VALID_TO, Edge, check_range, edges_of
from penstock.engine.feature_frame import append_features
from penstock.engine.feature_stream import FeatureStream, Shelves
from penstock.engine.features import FeatureState
from penstock.engine.frames import empty_table, table_columns, to_arrow, to_table
from penstock.engine.kernel_rows import Rows
from penstock.engine.ordered_log import Asking, rows_by_event_time
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.training_set import driving_source
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, offsets_of
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.kernel.program import Window
from penstock.kernel.state import Op
from penstock.plan.compile import Demand, compile_demands
from penstock.plan.nodes import Plan, ServiceNode

if TYPE_CHECKING:
    import pyarrow as pa

_RANGE = "range_of_time"
_KEY, _TIME = "key", "time"
_SLICE_ROWS = 1 << 14


def features_in_range(
    store: LogReader,
    references: Sequence[FeatureReference],
    *,
    start_us: int,
    end_us: int,
    entities: Any,
    shelves: Shelves,
    progress: Progress = no_progress,
) -> FeatureStream:
    """The intervals of ``[start_us, end_us)`` in which a key's features stay the same, in the order in which they end.

    Late and corrected events count as in their places. A key has rows from its first event on, also while all its windows
    are empty; the first may begin with the range.

    Parameters
    ----------
    entities
        A frame of join keys: only these. None: every key.

    Raises
    ------
    PlanError
        The features are not of one key, need a request, or change with time itself.
    """
    check_range(start_us, end_us, owner="get_features_in_range")
    plan, keys = _range_plan(references)
    service = plan.services[_RANGE]
    wanted = None if entities is None else _wanted_keys(entities, keys)
    schema = _schema(service, keys)

    def tables() -> Iterator[pa.Table]:
        points = _Points(plan, start_us, end_us, wanted)
        state, intervals = FeatureState(plan), _Intervals()
        with shelves() as shelf:
            ordered = rows_by_event_time(
                store,
                plan,
                stop=store.next_position,
                shelf=shelf,
                asking=Asking(_RANGE, points.rows),
                progress=progress,
            )
            for part in ordered:
                made = state.advance(part.rows, services=[service], exact=True)
                if service.name in made:
                    asked = part.rows[_RANGE].columns
                    slots, times = points.slots(asked), asked[_TIME].values.astype(np.int64)  # type: ignore[union-attr]
                    closed = intervals.add(_Run(slots, times, made[service.name]))
                    yield _table(closed, service, keys, points.table).select(schema.names)
            yield _table(intervals.finish(end_us), service, keys, points.table).select(schema.names)

    names = [output.name.replace(".", "__") for output in service.outputs]
    return FeatureStream(tables, schema, tuple(names))


class _Points:
    """Step 1: when a key's features can change, within the range."""

    def __init__(self, plan: Plan, start_us: int, end_us: int, wanted: Text | None) -> None:
        self.table = KeyTable()
        self._state = FeatureState(plan)  # for its views' functions alone
        self._plan = plan
        self._bounds = (start_us, end_us)
        self._only = None if wanted is None else KeyTable()
        if self._only is not None and wanted is not None:
            self._only.assign(wanted)
        self._edges = [_edges(view.program.windows) for view in plan.views]
        self._at_start = np.zeros(0, np.bool_)

    def rows(self, entering: Mapping[str, Rows]) -> Iterator[Rows]:
        """Rows that ask, for what enters."""
        for name, rows in entering.items():
            for first in range(0, rows.columns.length, _SLICE_ROWS):
                at = np.arange(first, min(first + _SLICE_ROWS, rows.columns.length))
                prepared = self._state.prepare(name, rows.columns.take(at), rows.positions[at])
                for view, made in prepared.items():
                    applied = np.flatnonzero(made.ops == Op.APPLY)
                    yield from self._asking(made.keys.take(applied), made.times[applied], self._edges[view])

    def slots(self, asked: Columns) -> IntArray:
        """The number of each row's key."""
        return self.table.find(asked[_KEY])  # type: ignore[arg-type]

    def _asking(self, keys: Text, times: IntArray, edges: Sequence[Edge]) -> Iterator[Rows]:
        if self._only is not None:
            kept = np.flatnonzero(self._only.find(keys) >= 0)
            keys, times = keys.take(kept), times[kept]
        slots = np.repeat(self.table.assign(keys), len(edges))
        start, end = self._bounds
        passed = [edge.passed(times) for edge in edges]
        points = np.maximum(np.stack(passed, axis=1).ravel(), start)
        slots, points = slots[points < end], points[points < end]
        slots, points = self._once(slots, points, start)
        if len(slots):
            columns: dict[str, Column] = {_KEY: self.table.keys(slots), _TIME: Numeric(points)}
            yield Rows(Columns(len(slots), columns), np.zeros(len(slots), np.int64))

    def _once(self, slots: IntArray, points: IntArray, start: int) -> tuple[IntArray, IntArray]:
        """Each (key, time) once; the beginning of the range once for all."""
        order = np.lexsort((points, slots))
        slots, points = slots[order], points[order]
        fresh = np.ones(len(slots), np.bool_)
        fresh[1:] = (slots[1:] != slots[:-1]) | (points[1:] != points[:-1])
        grown = np.zeros(self.table.slots, np.bool_)
        grown[: len(self._at_start)] = self._at_start
        self._at_start = grown
        fresh &= ~((points == start) & grown[slots])
        grown[slots[points == start]] = True
        return slots[fresh], points[fresh]


def _edges(windows: Sequence[Window]) -> list[Edge]:
    """The edges of all windows at which something changes."""
    entering = {edges_of(window)[0] for window in windows}
    leaving = {edges_of(window)[1] for window in windows if not window.lifetime}
    return sorted({Edge(0, 0)} | entering | leaving)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Features of keys, each from a time on."""

    slots: IntArray
    since: IntArray
    features: FeatureRows

    def take(self, rows: IntArray) -> _Run:
        return _Run(self.slots[rows], self.since[rows], self.features.take(rows))

    def join(self, other: _Run) -> _Run:
        return _Run(
            np.concatenate([self.slots, other.slots]),
            np.concatenate([self.since, other.since]),
            concat_features([self.features, other.features]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Closed:
    """Intervals that have ended."""

    run: _Run
    until: IntArray


class _Intervals:
    """Step 2."""

    def __init__(self) -> None:
        self._open: _Run | None = None

    def add(self, run: _Run) -> _Closed:
        """Go on with answers that are later than all before; the intervals that they end."""
        kept = None
        if self._open is not None:
            touched = np.isin(self._open.slots, run.slots)
            kept = self._open.take(np.flatnonzero(~touched))
            run = self._open.take(np.flatnonzero(touched)).join(run)
        run = run.take(np.lexsort((run.since, run.slots)))
        starts = run.take(np.flatnonzero(_begins(run)))
        followed = np.zeros(len(starts.slots), np.bool_)
        followed[:-1] = starts.slots[1:] == starts.slots[:-1]
        ending = np.flatnonzero(followed)
        last = starts.take(np.flatnonzero(~followed))
        self._open = last if kept is None else kept.join(last)
        until = starts.since[ending + 1]
        order = np.lexsort((starts.slots[ending], until))
        return _Closed(starts.take(ending[order]), until[order])

    def finish(self, end_us: int) -> _Closed | None:
        """The intervals that end with the range, by key; None where there were none at all."""
        if self._open is None:
            return None
        run = self._open.take(np.argsort(self._open.slots))
        return _Closed(run, np.full(len(run.slots), end_us))


def _begins(run: _Run) -> BoolArray:
    """Which answers are a key's first, or differ from the one before."""
    begins = np.ones(len(run.slots), np.bool_)
    after, before = slice(1, None), slice(0, max(len(run.slots) - 1, 0))
    same = run.slots[1:] == run.slots[:-1]
    for column in run.features.columns.values():
        same &= same_values(_bits(column.take(after)), _bits(column.take(before)))
    rows = np.arange(len(run.slots))
    for lists in run.features.arrays.values():
        same &= _same_lists(lists.take(rows[1:]), lists.take(rows[:-1]))
    begins[1:] = ~same
    return begins


def _bits(column: Column) -> Column:
    """The column with its floats as their bits, which tell 0.0 from -0.0."""
    if isinstance(column, Text) or column.values.dtype.kind != "f":
        return column
    return Numeric(column.values.astype(np.float64).view(np.int64), column.valid)


def _same_lists(left: Lists, right: Lists) -> BoolArray:
    """Which rows hold the same lists."""
    lengths = np.diff(left.offsets)
    same: BoolArray = lengths == np.diff(right.offsets)
    rows = np.flatnonzero(same)
    values = [_bits(lists.take(rows).values) for lists in (left, right)]
    same[np.repeat(rows, lengths[rows])[~same_values(*values)]] = False
    return same


def _range_plan(references: Sequence[FeatureReference]) -> tuple[Plan, tuple[Field, ...]]:
    """A plan in which rows of a key and a time ask for the features; and the columns of the key."""
    stream = driving_source(references)
    by_event = compile_demands([Demand(_RANGE, tuple(references), stream)])
    keys = _common_key(by_event)
    asking = StreamSource(
        _RANGE,
        stream.stream_config,
        schema=[*keys, Field(_time_name(keys), Timestamp)],
        timestamp_field=_time_name(keys),
    )
    plan = compile_demands([Demand(_RANGE, tuple(references), asking)])
    for view in plan.views:
        for aggregate in view.aggregates:
            if aggregate.function.partition("(")[0] not in STEADY:
                raise PlanError(
                    f"get_features_in_range: feature {view.name}.{aggregate.name} is a {aggregate.function}, which changes "
                    "with time itself and has no interval. Leave it out: view[[...]] selects features."
                )
    # A key comes encoded, as the views' own rows have it, in one column whatever its type.
    service = plan.services[_RANGE]
    lookups = tuple(replace(lookup, key_columns=(_KEY,)) for lookup in service.lookups)
    source = replace(plan.sources[_RANGE], time_field=_TIME)
    return (
        replace(
            plan,
            sources={**plan.sources, _RANGE: source},
            services={_RANGE: replace(service, lookups=lookups)},
        ),
        keys,
    )


def _time_name(keys: Sequence[Field]) -> str:
    return _TIME if _TIME not in {key.name for key in keys} else f"{_TIME}_of_row"


def _common_key(plan: Plan) -> tuple[Field, ...]:
    service = plan.services[_RANGE]
    if service.request_columns:
        raise PlanError(
            f"get_features_in_range: the features need {', '.join(service.request_columns)} of a request or event, which a "
            "range of time does not have. Leave those realtime views out."
        )
    found = {lookup.key_columns: plan.views[lookup.view].keys for lookup in service.lookups}
    if len(found) != 1:
        listed = " and ".join("(" + ", ".join(columns) + ")" for columns in found)
        raise PlanError(
            f"get_features_in_range: the features are of the keys {listed}; a row of a range has one key. Ask for the views "
            "one by one."
        )
    ((names, keys),) = found.items()
    return tuple(Field(name, key.dtype) for name, key in zip(names, keys, strict=True))


def _wanted_keys(entities: Any, keys: Sequence[Field]) -> Text:
    columns = table_columns(to_table(entities, owner="entities"), keys, owner="entities")
    return encode_keys([columns[key.name] for key in keys])


def _schema(service: ServiceNode, keys: Sequence[Field]) -> pa.Schema:
    columns = [(key.name, key.dtype) for key in keys]
    columns += [(output.name.replace(".", "__"), output.dtype) for output in service.outputs]
    return empty_table([*columns, (VALID_FROM, Timestamp), (VALID_TO, Timestamp)]).schema


def _table(closed: _Closed | None, service: ServiceNode, keys: Sequence[Field], table: KeyTable) -> pa.Table:
    import pyarrow as pa

    if closed is None:
        return _schema(service, keys).empty_table()
    run = closed.run
    decoded = decode_keys(table.keys(run.slots), [key.dtype for key in keys])
    columns = {key.name: to_arrow(one, key.dtype) for key, one in zip(keys, decoded, strict=True)}
    columns[VALID_FROM] = to_arrow(Numeric(run.since), Timestamp)
    columns[VALID_TO] = to_arrow(Numeric(closed.until), Timestamp)
    return append_features(pa.table(columns), service, [run.features]).to_arrow()


def decode_keys(keys: Text, dtypes: Sequence[DataType]) -> list[Column]:
    """The columns of which `encode_keys` made `keys`.

    >>> from penstock.core.types import Int64, String
    >>> encoded = encode_keys([Text.from_strings(["a", "bcd"]), Numeric(np.array([7, -1]))])
    >>> text, number = decode_keys(encoded, [String, Int64])
    >>> text.to_strings(), number.values.tolist()
    (['a', 'bcd'], [7, -1])
    """
    if len(dtypes) == 1 and dtypes[0].kind == "text":
        return [keys]
    at = keys.offsets[:-1].copy()
    columns: list[Column] = []
    for dtype in dtypes:
        if dtype.kind == "text":
            sizes = _numbers(keys.data, at, np.dtype("<i4")).astype(np.int64)
            at += 4
            columns.append(_texts(keys.data, at, sizes))
            at += sizes
        else:
            kind = np.dtype("?") if dtype.kind == "bool" else np.dtype("<i8")
            columns.append(Numeric(_numbers(keys.data, at, kind)))
            at += kind.itemsize
    return columns


def _numbers(data: Any, at: IntArray, kind: np.dtype[Any]) -> Any:
    gathered = data[at[:, None] + np.arange(kind.itemsize)]
    return np.ascontiguousarray(gathered).view(kind).ravel()


def _texts(data: Any, at: IntArray, sizes: IntArray) -> Text:
    offsets = offsets_of(sizes)
    gather = np.repeat(at - offsets[:-1], sizes) + np.arange(offsets[-1])
    return Text(offsets, data[gather])
