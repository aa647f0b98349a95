"""The step of the features: rows in log order in, feature rows out, state moved on. Pure and deterministic.

One batch goes through four steps:

1. `prepare`: each view's function turns its source's rows into keys, times and lanes;
2. the rows of a view - its own, and the look-ups of other streams' events - are put in log order;
3. the kernel applies and emits them (`ViewState.process`);
4. realtime views run on what was emitted, and everything is put in the order of the service.

Live events, replay, audit, backfill and training sets all come through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from penstock.core.errors import TransformError
from penstock.core.types import Bool, Field, Float64, Timestamp
from penstock.engine.transform import call_realtime, call_view
from penstock.engine.values import as_float
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, concat
from penstock.kernel.program import LaneKind
from penstock.kernel.hashing import encode_keys
from penstock.kernel.state import Op, Output, ViewState
from penstock.plan.nodes import Lookup, Plan, RealtimeNode, Selected, ServiceNode, ViewNode

FloatMatrix = npt.NDArray[np.float64]
LATE, TOO_LATE = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one source with their places in the log order.

    `positions` are ascending; rows of label sources count from the position at which label and event were both there.
    """

    columns: Columns
    positions: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class KernelRows:
    """Rows for one view's kernel, in log order."""

    keys: Text
    times: IntArray
    lanes: IntArray
    valid: BoolArray
    ops: npt.NDArray[np.uint8]
    positions: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """The feature rows of one service for the events of a batch.

    Attributes
    ----------
    values
        float64[n, F]: the model's inputs, NaN for null; text features are NaN here and stand in `texts`.
    texts
        The text features by output index.
    integers
        int64[n] and valid by output index, for Int features: exact beyond 2**53.
    lateness
        uint8[n]: 0 in order, 1 late, 2 too late for at least one of the event's own views.
    degraded
        bool[n]: a realtime view failed on the event, so its features are null.
    """

    values: FloatMatrix
    texts: Mapping[int, Text]
    integers: Mapping[int, Numeric]
    lateness: npt.NDArray[np.uint8]
    degraded: BoolArray

    def take(self, rows: IntArray) -> FeatureRows:
        """The rows at these indices, in that order."""
        return FeatureRows(
            self.values[rows],
            {i: text.take(rows) for i, text in self.texts.items()},
            {i: column.take(rows) for i, column in self.integers.items()},
            self.lateness[rows],
            self.degraded[rows],
        )


def concat_features(parts: Sequence[FeatureRows]) -> FeatureRows:
    """The rows of several batches of one service, one after another."""
    if len(parts) == 1:
        return parts[0]
    texts: dict[int, Text] = {i: _joined([p.texts[i] for p in parts]) for i in parts[0].texts}  # type: ignore[misc]
    integers: dict[int, Numeric] = {i: _joined([p.integers[i] for p in parts]) for i in parts[0].integers}  # type: ignore[misc]
    return FeatureRows(
        np.concatenate([p.values for p in parts]),
        texts,
        integers,
        np.concatenate([p.lateness for p in parts]),
        np.concatenate([p.degraded for p in parts]),
    )


def _joined(columns: Sequence[Column]) -> Column:
    return concat([Columns(len(column), {"column": column}) for column in columns])["column"]


class FeatureState:
    """The state of all of a plan's views: a deterministic fold of the log."""

    def __init__(self, plan: Plan, *, views: Sequence[ViewState] | None = None) -> None:
        self.plan = plan
        self.views = [ViewState(view.program) for view in plan.views] if views is None else list(views)

    def prepare(self, source: str, columns: Columns, positions: IntArray) -> dict[int, KernelRows]:
        """Run the functions of all views over `source`: what each view's kernel gets.

        Changes no window; raises `TransformError` where a function fails.
        """
        return {
            i: self._prepare_view(i, view, Rows(columns, positions))
            for i, view in enumerate(self.plan.views)
            if view.source == source
        }

    def advance(
        self,
        batch: Mapping[str, Rows],
        *,
        services: Sequence[ServiceNode],
        prepared: Mapping[int, KernelRows] | None = None,
    ) -> dict[str, FeatureRows]:
        """Move the state over `batch` and return the rows of `services` whose source is in it.

        `prepared` may hold what `prepare` made of some of the sources already.
        """
        ready = dict(prepared or {})
        for i, view in enumerate(self.plan.views):
            if view.source in batch and i not in ready:
                ready[i] = self._prepare_view(i, view, batch[view.source])
        wanted = [service for service in services if service.source in batch]
        emitted: dict[tuple[str, int], Output] = {}
        for i in range(len(self.views)):
            self._run_view(i, ready.get(i), batch, wanted, emitted)
        return {service.name: self._assemble(service, batch[service.source], emitted) for service in wanted}

    def _prepare_view(self, index: int, view: ViewNode, rows: Rows) -> KernelRows:
        wanted = [*view.keys, Field(view.time_field, Timestamp), *_lane_fields(view)]
        distinct = list({f.name: f for f in wanted}.values())
        owner = f"stream feature view {view.name!r}"
        made = call_view(view.function, view.mode, rows.columns, view.columns, distinct, owner=owner)
        columns = made.columns
        times = columns[view.time_field]
        assert isinstance(times, Numeric)  # noqa: S101 - a Timestamp column
        lanes, valid = self._lanes(index, view, columns)
        keys, present = _keys(columns, [key.name for key in view.keys])
        if times.valid is not None:
            present = times.valid if present is None else present & times.valid
        ops = np.zeros(columns.length, np.uint8)
        if present is not None:
            ops[~present] = Op.NONE
        out = KernelRows(keys, times.values.astype(np.int64, copy=False), lanes, valid, ops, rows.positions)
        return out if made.rows is None else _with_dropped(out, made.rows, view, rows)

    def _lanes(self, index: int, view: ViewNode, columns: Columns) -> tuple[IntArray, BoolArray]:
        lanes = np.empty((columns.length, len(view.lanes)), np.int64)
        valid = np.ones((columns.length, len(view.lanes)), np.bool_)
        for j, lane in enumerate(view.lanes):
            column = columns[lane.column]
            if isinstance(column, Text):
                lanes[:, j] = self.views[index].intern(j, column)
            elif view.program.lanes[j] == LaneKind.FLOAT:
                lanes[:, j] = column.values.astype(np.float64, copy=False).view(np.int64)
            else:
                lanes[:, j] = column.values
            if column.valid is not None:
                valid[:, j] &= column.valid
            if lane.where is not None:
                valid[:, j] &= _is_true(columns[lane.where])
        return lanes, valid

    def _run_view(
        self,
        index: int,
        own: KernelRows | None,
        batch: Mapping[str, Rows],
        services: Sequence[ServiceNode],
        emitted: dict[tuple[str, int], Output],
    ) -> None:
        """Steps 2 and 3 for one view; what services asked for lands in `emitted` by (service, look-up)."""
        owners = []
        parts: list[tuple[tuple[str, int], KernelRows]] = []
        for service in services:
            for j, lookup in enumerate(service.lookups):
                if lookup.view != index:
                    continue
                if lookup.own:
                    owners.append((service.name, j))
                else:
                    parts.append(((service.name, j), self._asking(lookup, service, batch[service.source])))
        if own is None and not parts:
            return
        if not parts:
            output = self._process(index, own)  # type: ignore[arg-type]
            emitted.update(dict.fromkeys(owners, output))
            return
        self._run_mixed(index, own, owners, parts, emitted)

    def _run_mixed(
        self,
        index: int,
        own: KernelRows | None,
        owners: Sequence[tuple[str, int]],
        parts: Sequence[tuple[tuple[str, int], KernelRows]],
        emitted: dict[tuple[str, int], Output],
    ) -> None:
        """Merge a view's own rows and look-ups by position; a look-up precedes a label that counts from its event."""
        rows = [part for _, part in parts]
        applies_first = bool(owners) or self._is_stream(index)
        if own is not None:
            rows = [own, *rows] if applies_first else [*rows, own]
        phases = np.concatenate([np.full(len(part.times), i) for i, part in enumerate(rows)])
        merged = _concat_rows(rows)
        order = np.lexsort((phases, merged.positions))
        output = self._process(index, _take_rows(merged, order))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        starts = np.concatenate([[0], np.cumsum([len(part.times) for part in rows])])
        for i, part in enumerate(rows):
            if part is own and not owners:
                continue
            piece = _take_output(output, back[starts[i] : starts[i + 1]])
            targets = owners if part is own else [parts[i - (own is not None and applies_first)][0]]
            emitted.update(dict.fromkeys(targets, piece))

    def _is_stream(self, index: int) -> bool:
        return self.plan.sources[self.plan.views[index].source].label_of is None

    def _asking(self, lookup: Lookup, service: ServiceNode, rows: Rows) -> KernelRows:
        view = self.plan.views[lookup.view]
        keys, present = _keys(rows.columns, lookup.key_columns)
        times = rows.columns[self.plan.sources[service.source].time_field]
        assert isinstance(times, Numeric)  # noqa: S101 - a Timestamp column
        count = rows.columns.length
        ops = np.full(count, Op.LOOKUP, np.uint8)
        if present is not None:
            ops[~present] = Op.NONE
        lanes = np.zeros((count, len(view.lanes)), np.int64)
        return KernelRows(keys, times.values.astype(np.int64), lanes, lanes.astype(np.bool_), ops, rows.positions)

    def _process(self, index: int, rows: KernelRows) -> Output:
        return self.views[index].process(rows.keys, rows.times, rows.lanes, rows.valid, rows.ops)

    def _assemble(
        self, service: ServiceNode, rows: Rows, emitted: Mapping[tuple[str, int], Output]
    ) -> FeatureRows:
        """Step 4: realtime views, then all outputs in the order of the service."""
        count = rows.columns.length
        pieces = [emitted[service.name, j] for j in range(len(service.lookups))]
        floats = [_floats(piece, self._kinds(lookup)) for piece, lookup in zip(pieces, service.lookups, strict=True)]
        degraded = np.zeros(count, np.bool_)
        attributes = [self._realtime(node, rows, pieces, floats, service, degraded) for node in service.realtime]
        values = np.empty((count, len(service.outputs)))
        texts: dict[int, Text] = {}
        integers: dict[int, Numeric] = {}
        for at, output in enumerate(service.outputs):
            if output.kind == "lookup":
                values[:, at] = floats[output.index][:, output.column]
                column = self._typed(service.lookups[output.index], pieces[output.index], output)
            else:
                column = attributes[output.index][output.name.split(".", 1)[1]]
                values[:, at] = np.nan if isinstance(column, Text) else as_float(column)
            if isinstance(column, Text):
                texts[at] = column
            elif column is not None and column.values.dtype.kind == "i":
                integers[at] = column
        own = [p.lateness for p, lookup in zip(pieces, service.lookups, strict=True) if lookup.own]
        lateness = np.maximum.reduce(own) if own else np.zeros(count, np.uint8)
        return FeatureRows(values, texts, integers, lateness, degraded)

    def _kinds(self, lookup: Lookup) -> tuple[LaneKind, ...]:
        return self.plan.views[lookup.view].program.output_kinds

    def _typed(self, lookup: Lookup, piece: Output, output: Selected) -> Column | None:
        """An aggregate's values as a column of its own type; None for floats, which `values` holds exactly."""
        kind = self._kinds(lookup)[output.column]
        if kind == LaneKind.FLOAT:
            return None
        bits, valid = piece.bits[:, output.column], piece.valid[:, output.column]
        if kind == LaneKind.INT:
            return Numeric(bits, valid)
        lane = self.plan.views[lookup.view].aggregates[output.column].lane
        return self.views[lookup.view].texts(lane, bits, valid)

    def _realtime(
        self,
        node: RealtimeNode,
        rows: Rows,
        pieces: Sequence[Output],
        floats: Sequence[FloatMatrix],
        service: ServiceNode,
        degraded: BoolArray,
    ) -> Columns:
        arguments = [
            self._argument(node.mode, argument, rows, pieces, floats, service) for argument in node.arguments
        ]
        owner = f"realtime feature view {node.name!r}"
        try:
            return call_realtime(node.function, node.mode, arguments, node.attributes, owner=owner)
        except TransformError:
            return _row_by_row(node, arguments, degraded, owner)

    def _argument(
        self,
        mode: str,
        argument: Sequence[Field] | Sequence[Selected],
        rows: Rows,
        pieces: Sequence[Output],
        floats: Sequence[FloatMatrix],
        service: ServiceNode,
    ) -> tuple[Columns, Sequence[Field]]:
        columns: dict[str, Column] = {}
        fields: list[Field] = []
        for item in argument:
            if isinstance(item, Field):
                columns[item.name] = rows.columns[item.name]
                fields.append(item)
                continue
            name = item.name.split(".", 1)[1]
            typed = self._typed(service.lookups[item.index], pieces[item.index], item)
            as_number = typed is None or (mode == "numpy" and isinstance(typed, Numeric))
            columns[name] = Numeric(floats[item.index][:, item.column]) if as_number else typed  # type: ignore[assignment]
            fields.append(Field(name, Float64 if as_number else item.dtype, optional=True))
        return Columns(rows.columns.length, columns), fields


def _row_by_row(
    node: RealtimeNode,
    arguments: Sequence[tuple[Columns, Sequence[Field]]],
    degraded: BoolArray,
    owner: str,
) -> Columns:
    """One bad row must not spoil a batch: call the function for each, null where it fails, and flag it."""
    made = []
    for i in range(len(degraded)):
        one = [(columns.take(np.array([i])), fields) for columns, fields in arguments]
        try:
            made.append(call_realtime(node.function, node.mode, one, node.attributes, owner=owner))
        except TransformError:
            degraded[i] = True
            made.append(_nulls(node.attributes))
    return concat(made)


def _nulls(attributes: Sequence[Field]) -> Columns:
    absent = np.zeros(1, np.bool_)
    columns: dict[str, Column] = {}
    for f in attributes:
        if f.dtype.kind == "text":
            columns[f.name] = Text.from_strings([None])
        else:
            dtype = {"float": np.float64, "bool": np.bool_}.get(f.dtype.kind, np.int64)
            columns[f.name] = Numeric(np.zeros(1, dtype), absent)
    return Columns(1, columns)


def _lane_fields(view: ViewNode) -> list[Field]:
    fields = [Field(lane.column, lane.dtype) for lane in view.lanes]
    return fields + [Field(lane.where, Bool) for lane in view.lanes if lane.where]


def _keys(columns: Columns, names: Sequence[str]) -> tuple[Text, BoolArray | None]:
    """Encoded keys, and which rows have one (None: all)."""
    parts = [columns[name] for name in names]
    present = None
    for part in parts:
        if part.valid is not None:
            present = part.valid if present is None else present & part.valid
    return encode_keys(parts), present


def _is_true(column: Column) -> BoolArray:
    assert isinstance(column, Numeric)  # noqa: S101 - a Bool column
    values: BoolArray = column.values.astype(np.bool_)
    return values if column.valid is None else values & column.valid


def _with_dropped(kept: KernelRows, at: IntArray, view: ViewNode, rows: Rows) -> KernelRows:
    """Rows that the function dropped do not enter the view; they look up what the key had before."""
    count = rows.columns.length
    lanes = np.zeros((count, kept.lanes.shape[1]), np.int64)
    valid = np.zeros(lanes.shape, np.bool_)
    lanes[at], valid[at] = kept.lanes, kept.valid
    dropped = np.setdiff1d(np.arange(count), at)
    ops = np.full(count, Op.NONE, np.uint8)
    times = np.zeros(count, np.int64)
    ops[at], times[at] = kept.ops, kept.times
    names = [key.name for key in view.keys]
    if all(name in rows.columns for name in names) and view.time_field in rows.columns:
        own_keys, present = _keys(rows.columns, names)
        ops[dropped] = Op.LOOKUP if present is None else np.where(present[dropped], Op.LOOKUP, Op.NONE)
        own_times = rows.columns[view.time_field]
        times[dropped] = own_times.values[dropped]  # type: ignore[union-attr]
        dropped_keys = own_keys.take(dropped)
    else:
        dropped_keys = kept.keys.take(np.zeros(0, np.int64)) if len(kept.keys) else kept.keys
        dropped_keys = Text(np.zeros(len(dropped) + 1, np.int64), dropped_keys.data[:0])
    both = _concat_keys([kept.keys, dropped_keys])
    place = np.empty(count, np.int64)
    place[np.concatenate([at, dropped])] = np.arange(count)
    return KernelRows(both.take(place), times, lanes, valid, ops, rows.positions)


def _concat_keys(parts: Sequence[Text]) -> Text:
    bare = [Columns(len(part), {"key": replace(part, valid=None)}) for part in parts]
    joined = concat(bare)["key"]
    assert isinstance(joined, Text)  # noqa: S101
    return joined


def _concat_rows(parts: Sequence[KernelRows]) -> KernelRows:
    return KernelRows(
        _concat_keys([part.keys for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.lanes for part in parts]),
        np.concatenate([part.valid for part in parts]),
        np.concatenate([part.ops for part in parts]),
        np.concatenate([part.positions for part in parts]),
    )


def _take_rows(rows: KernelRows, order: IntArray) -> KernelRows:
    return KernelRows(
        rows.keys.take(order),
        rows.times[order],
        rows.lanes[order],
        rows.valid[order],
        rows.ops[order],
        rows.positions[order],
    )


def _take_output(output: Output, order: IntArray) -> Output:
    return Output(output.bits[order], output.valid[order], output.lateness[order])


def _floats(piece: Output, kinds: Sequence[LaneKind]) -> FloatMatrix:
    """All of a look-up's values as float64, NaN for null."""
    values = piece.bits.view(np.float64).copy()
    for j, kind in enumerate(kinds):
        if kind != LaneKind.FLOAT:
            values[:, j] = piece.bits[:, j] if kind == LaneKind.INT else np.nan
    values[~piece.valid] = np.nan
    return values
