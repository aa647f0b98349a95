"""From what the kernels emitted to the rows of a service: realtime views, then all outputs in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import TransformError
from penstock.core.types import ArrayType, Field, Float64
from penstock.engine.arrays import Lists, concat_lists
from penstock.engine.frames import to_arrow
from penstock.engine.kernel_rows import FloatMatrix
from penstock.engine.row_wise import check_row_wise, needs_check
from penstock.engine.transform import Fields, Transformed, by_name, call_realtime
from penstock.engine.values import as_float, nulls
from penstock.engine.view_states import KeyedState
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, concat
from penstock.kernel.jit import unchecked
from penstock.kernel.memory import to_floats
from penstock.kernel.program import LaneKind
from penstock.kernel.state import Output, Taken
from penstock.plan.nodes import Plan, RealtimeNode, Selected, ServiceNode

if TYPE_CHECKING:
    import pyarrow as pa

_to_floats = unchecked(to_floats)  # the kernel's own outputs are of its types

_Places = IntArray | slice
_Arguments = Sequence[tuple[Columns, Fields]]


class FeatureRows:
    """The feature rows of one service for the events of a batch.

    Attributes
    ----------
    columns
        Features in their own types by output index: the texts; all of them where they were asked for exactly.
    lateness
        uint8[n]: 0 in order, 1 late, 2 too late for at least one of the event's own views.
    degraded
        bool[n]: a realtime view, or an aggregation of a user's, failed on the event, so its features are null.
    arrays
        The features of several values by output index; their `values` are NaN.
    """

    __slots__ = ("_values", "arrays", "columns", "degraded", "lateness")

    def __init__(
        self,
        values: FloatMatrix | None,
        columns: Mapping[int, Column],
        lateness: npt.NDArray[np.uint8],
        degraded: BoolArray,
        arrays: Mapping[int, Lists] | None = None,
    ) -> None:
        self._values = values
        self.columns = columns
        self.lateness = lateness
        self.degraded = degraded
        self.arrays = arrays or {}

    def __len__(self) -> int:
        return len(self.lateness)

    @property
    def values(self) -> FloatMatrix:
        """float64[n, F]: the model's inputs, NaN for null; text features are NaN here and stand in `columns`.

        Of exact features the matrix is made when it is asked for first: a frame takes their columns alone.
        """
        if self._values is None:
            self._values = np.full((len(self), len(self.columns) + len(self.arrays)), np.nan, order="F")
            for at, column in self.columns.items():
                if isinstance(column, Numeric):
                    self._values[:, at] = as_float(column)
        return self._values

    def take(self, rows: IntArray) -> FeatureRows:
        """The rows at these indices, in that order."""
        return FeatureRows(
            None if self._values is None else self._values[rows],
            {i: column.take(rows) for i, column in self.columns.items()},
            self.lateness[rows],
            self.degraded[rows],
            {i: lists.take(rows) for i, lists in self.arrays.items()},
        )


def concat_features(parts: Sequence[FeatureRows]) -> FeatureRows:
    """The rows of several batches of one service, one after another; all or none of them exact."""
    if len(parts) == 1:
        return parts[0]
    exact = any(p._values is None for p in parts)  # noqa: SLF001 - of the same class
    return FeatureRows(
        None if exact else np.concatenate([p.values for p in parts]),
        {i: _joined([p.columns[i] for p in parts]) for i in parts[0].columns},
        np.concatenate([p.lateness for p in parts]),
        np.concatenate([p.degraded for p in parts]),
        {i: concat_lists([p.arrays[i] for p in parts]) for i in parts[0].arrays},
    )


class _Emitted:
    """What the look-ups of a service emitted for a batch, as bits and, where asked for, as floats."""

    def __init__(self, outputs: Sequence[Output], kinds: Sequence[IntArray]) -> None:
        self.outputs = outputs
        self._kinds = kinds
        self._floats: list[FloatMatrix | None] = [None] * len(outputs)

    def floats(self, index: int) -> FloatMatrix:
        """All values of look-up `index` as float64[n, A], NaN for null."""
        values = self._floats[index]
        if values is None:
            values = self._floats[index] = np.empty(self.outputs[index].bits.shape)
            self.write(index, values)
        return values

    def has_floats(self, index: int) -> bool:
        """Whether somebody asked for the values of look-up `index` already."""
        return self._floats[index] is not None

    def write(self, index: int, values: FloatMatrix) -> None:
        """Write all values of look-up `index` into `values`."""
        output = self.outputs[index]
        _to_floats(output.bits, output.valid, self._kinds[index], values)


class LookedUp:
    """The features of a service for keys that were asked for: Python values or columns, made when they are wanted."""

    __slots__ = ("_columns", "_emitted", "_lists", "_service", "degraded", "length")

    def __init__(
        self,
        service: ServiceNode,
        length: int,
        emitted: Sequence[Output],
        columns: Mapping[int, Column],
        lists: Mapping[int, Lists],
    ) -> None:
        self.length = length
        self.degraded = False
        """Whether what was accepted is not known, or not all of it."""
        self._service = service
        self._emitted = emitted
        self._columns = columns
        self._lists = lists

    def column(self, at: int) -> Column:
        """Output `at` of the service, which is no array, as a column of its own type."""
        output = self._service.outputs[at]
        if at in self._columns:
            return self._columns[at]
        piece = self._emitted[output.index]
        bits = piece.bits[:, output.column]
        values = bits.view(np.float64) if output.dtype.kind == "float" else bits
        return Numeric(values, piece.valid[:, output.column])

    def to_arrow(self, at: int) -> pa.Array:
        """Output `at` as an Arrow array."""
        dtype = self._service.outputs[at].dtype
        if isinstance(dtype, ArrayType):
            return self._lists[at].to_arrow(dtype)
        return to_arrow(self.column(at), dtype)

    def rows(self) -> list[list[Any]]:
        """Python values, a list a row in the order of the service: None for null, microseconds for a Timestamp."""
        outputs = self._service.outputs
        floats = [piece.bits.view(np.float64).tolist() for piece in self._emitted]
        integers = [piece.bits.tolist() for piece in self._emitted]
        valid = [piece.valid.tolist() for piece in self._emitted]
        apart = {at: _values(column) for at, column in self._columns.items()}
        apart |= {at: lists.to_lists(outputs[at].dtype) for at, lists in self._lists.items()}  # type: ignore[arg-type]
        sources = [floats if output.dtype.kind == "float" else integers for output in outputs]
        found = [
            [
                apart[at][row]
                if at in apart
                else values[output.index][row][output.column]
                if valid[output.index][row][output.column]
                else None
                for at, (output, values) in enumerate(zip(outputs, sources, strict=True))
            ]
            for row in range(self.length)
        ]
        for at, output in enumerate(outputs):
            if output.dtype.kind == "bool":
                for one in found:
                    one[at] = None if one[at] is None else bool(one[at])
        return found


class Assembler:
    """Puts together the rows of one service; names, kinds and places are resolved once."""

    def __init__(self, plan: Plan, service: ServiceNode, states: Sequence[KeyedState]) -> None:
        self.service = service
        self._states = [states[lookup.view] for lookup in service.lookups]
        nodes = [plan.views[lookup.view] for lookup in service.lookups]
        self._kinds = [node.output_kinds for node in nodes]
        self._kind_arrays = [np.array(kinds, np.int64) for kinds in self._kinds]
        self._lane_of = [
            tuple(a.lane for a in node.aggregates for _ in range(node.width(a))) for node in nodes
        ]
        self._own = [i for i, lookup in enumerate(service.lookups) if lookup.own]
        self._calls = [_RealtimeCall(self, node) for node in service.realtime]
        self._moves = [
            _places(
                [o for o in service.outputs if _is_scalar(o) and o.index == i],
                service.outputs,
                len(self._kinds[i]),
            )
            for i in range(len(service.lookups))
        ]
        self._attributes = [
            (at, output.index, output.name.split(".", 1)[1])
            for at, output in enumerate(service.outputs)
            if output.kind == "realtime"
        ]
        self._texts = [
            (at, o) for at, o in enumerate(service.outputs) if _is_scalar(o) and o.dtype.kind == "text"
        ]
        self._arrays = [(at, o) for at, o in enumerate(service.outputs) if o.dtype.kind == "array"]

    def rows(self, columns: Columns, outputs: Sequence[Output], *, exact: bool) -> FeatureRows:
        """The rows for events with `columns`, for which the look-ups emitted `outputs`.

        `exact` gives every feature as a column of its own type, and floats for models only where they are asked for.
        """
        count = columns.length
        emitted = _Emitted(outputs, self._kind_arrays)
        degraded = np.zeros(count, np.bool_)
        for output in outputs:
            if output.failed is not None:
                degraded |= output.failed
        made = [call.run(columns, emitted, degraded) for call in self._calls]
        lateness = self._lateness(outputs, count)
        if exact:
            arrays = self._all_lists(outputs)
            return FeatureRows(None, self._columns(emitted, made), lateness, degraded, arrays)
        values = self._rows(emitted, count)
        texts = {at: self.typed(emitted, output) for at, output in self._texts} if self._texts else {}
        for at, call, name in self._attributes:
            column = made[call][name]
            if isinstance(column, Text):
                values[:, at] = np.nan
                texts[at] = column
            elif column.valid is None:
                values[:, at] = column.values
            else:
                values[:, at] = as_float(column)
        lists = self._all_lists(outputs) if self._arrays else None
        if lists is not None:
            values[:, list(lists)] = np.nan
        return FeatureRows(values, texts, lateness, degraded, lists)

    def rows_in_parts(self, columns: Columns, outputs: Sequence[Output], part_rows: int) -> list[FeatureRows]:
        """`rows` for many events, exactly; realtime views get `part_rows` at a time."""
        if not self._calls:
            return [self.rows(columns, outputs, exact=True)]
        parts = [
            np.arange(at, min(at + part_rows, columns.length)) for at in range(0, columns.length, part_rows)
        ]
        return [
            self.rows(columns.take(part), [output.take(part) for output in outputs], exact=True)
            for part in parts
        ]

    def looked_up(self, columns: Columns, outputs: Sequence[Output]) -> LookedUp:
        """`rows` for keys that were asked for by hand: nothing is made that is not read."""
        emitted = _Emitted(outputs, self._kind_arrays)
        made = [call.run(columns, emitted, np.zeros(columns.length, np.bool_)) for call in self._calls]
        texts: dict[int, Text] = {at: self.typed(emitted, output) for at, output in self._texts}  # type: ignore[misc]
        attributes = {at: _null_where_nan(made[call][name]) for at, call, name in self._attributes}
        return LookedUp(
            self.service, columns.length, outputs, {**texts, **attributes}, self._all_lists(outputs)
        )

    def _all_lists(self, outputs: Sequence[Output]) -> dict[int, Lists]:
        return {at: self._lists(outputs[output.index], output) for at, output in self._arrays}

    def _lists(self, piece: Output, output: Selected) -> Lists:
        """The values of an array, row by row."""
        apart = _apart(piece, output)
        if isinstance(apart, Lists):
            return apart
        places = slice(output.column, output.column + output.width)
        bits, valid = piece.bits[:, places], piece.valid[:, places]
        values = self._column(output, bits.ravel(), valid.ravel())
        return Lists.of_row(np.ones_like(valid) if output.is_series else valid, values)

    def typed(self, emitted: _Emitted, output: Selected) -> Column:
        """An aggregate's values as a column of its own type."""
        piece = emitted.outputs[output.index]
        apart = _apart(piece, output)
        if isinstance(apart, Numeric | Text):
            return apart
        return self._column(output, piece.bits[:, output.column], piece.valid[:, output.column])

    def _column(self, output: Selected, bits: IntArray, valid: BoolArray) -> Column:
        kind = self._kinds[output.index][output.column]
        if kind == LaneKind.CODE:
            lane = self._lane_of[output.index][output.column]
            return self._states[output.index].texts(lane, bits, valid)
        return Numeric(bits.view(np.float64) if kind == LaneKind.FLOAT else bits, valid)

    def _lateness(self, outputs: Sequence[Output], count: int) -> npt.NDArray[np.uint8]:
        if not self._own:
            return np.zeros(count, np.uint8)
        latest = outputs[self._own[0]].lateness
        for i in self._own[1:]:
            other = outputs[i].lateness
            if count > 1:
                latest = np.maximum(latest, other)
            elif count and other.item() > latest.item():  # the same, without arrays of one
                latest = other
        return latest

    def _rows(self, emitted: _Emitted, count: int) -> FloatMatrix:
        """The look-ups' values in their places, row after row, as models take them."""
        values = np.empty((count, len(self.service.outputs)))
        for i, (to, of) in enumerate(self._moves):
            if of is None and not emitted.has_floats(i):
                emitted.write(i, values[:, to])
            else:
                values[:, to] = emitted.floats(i)[:, slice(None) if of is None else of]
        return values

    def _columns(self, emitted: _Emitted, made: Sequence[Columns]) -> dict[int, Column]:
        """All outputs as columns of their own types, as frames take them; aggregates are not copied."""
        columns = {at: self.typed(emitted, o) for at, o in enumerate(self.service.outputs) if _is_scalar(o)}
        return columns | {at: _null_where_nan(made[call][name]) for at, call, name in self._attributes}


class _RealtimeCall:
    """One realtime view: where its arguments come from, and what to do when it fails."""

    def __init__(self, assembler: Assembler, node: RealtimeNode) -> None:
        self._assembler = assembler
        self._node = node
        self._owner = f"realtime feature view {node.name!r}"
        self._unchecked = needs_check(node.function, node.mode)
        # What is looked up for an argument; None: it is the request.
        self._arguments = [
            (
                None if argument and isinstance(argument[0], Field) else argument,
                by_name(item if isinstance(item, Field) else self._field(item) for item in argument),
            )
            for argument in node.arguments
        ]

    def run(self, columns: Columns, emitted: _Emitted, degraded: BoolArray) -> Columns:
        arguments = [
            (
                columns if argument is None else self._argument(argument, fields, columns.length, emitted),
                fields,
            )
            for argument, fields in self._arguments
        ]
        try:
            made = self._called(arguments)
            if self._unchecked and columns.length > 1:
                self._check(made, arguments)
        except TransformError:
            return self._row_by_row(arguments, degraded)
        return made

    def _called(self, arguments: _Arguments) -> Columns:
        node = self._node
        return call_realtime(node.function, node.mode, arguments, node.attributes, owner=self._owner)

    def _check(self, made: Columns, arguments: _Arguments) -> None:
        """Check on the first batch of several rows that the function looks at each alone."""

        def alone(at: IntArray) -> Transformed:
            return Transformed(
                self._called([(columns.take(at), fields) for columns, fields in arguments]), None
            )

        check_row_wise(Transformed(made, None), made.length, alone, owner=self._owner)
        self._unchecked = False

    def _as_numbers(self, item: Selected) -> bool:
        """Whether the function gets `item` as float64 with NaN for null: numbers in mode numpy."""
        return item.dtype.kind == "float" or (self._node.mode == "numpy" and item.dtype.kind != "text")

    def _field(self, item: Selected) -> Field:
        name = item.name.split(".", 1)[1]
        return Field(name, Float64 if self._as_numbers(item) else item.dtype, optional=True)

    def _argument(
        self,
        argument: Sequence[Field] | Sequence[Selected],
        fields: Fields,
        length: int,
        emitted: _Emitted,
    ) -> Columns:
        found: dict[str, Column] = {}
        for item, name in zip(argument, fields, strict=True):
            assert isinstance(item, Selected)
            if self._as_numbers(item):
                found[name] = Numeric(emitted.floats(item.index)[:, item.column])
            else:
                found[name] = self._assembler.typed(emitted, item)
        return Columns(length, found)

    def _row_by_row(self, arguments: _Arguments, degraded: BoolArray) -> Columns:
        """One bad row must not spoil a batch: call the function for each, null where it fails, and flag it."""
        made = []
        for i in range(len(degraded)):
            one = [(columns.take(np.array([i])), fields) for columns, fields in arguments]
            try:
                made.append(self._called(one))
            except TransformError:
                degraded[i] = True
                made.append(Columns(1, {field.name: nulls(field, 1) for field in self._node.attributes}))
        return concat(made)


def _apart(piece: Output, output: Selected) -> Taken | None:
    """An output that was made beside the kernel and is not among its bits."""
    return None if piece.apart is None else piece.apart.get(output.column)


def _is_scalar(output: Selected) -> bool:
    """Whether an output is one value of a look-up."""
    return output.kind == "lookup" and output.dtype.kind != "array"


def _places(
    chosen: Sequence[Selected], outputs: Sequence[Selected], width: int
) -> tuple[_Places, _Places | None]:
    """Where a look-up's values go in a row, and which of its `width` columns they are (None: all, side by side)."""
    to = _run([outputs.index(output) for output in chosen])
    of = [output.column for output in chosen]
    return to, None if isinstance(to, slice) and of == list(range(width)) else _run(of)


def _run(places: Sequence[int]) -> _Places:
    """A slice where the places follow each other, since NumPy copies those several times as fast."""
    if not places or list(places) != list(range(places[0], places[0] + len(places))):
        return np.array(places, np.int64)
    return slice(places[0], places[0] + len(places))


def _values(column: Column) -> list[Any]:
    """The column's values for Python; None for null."""
    if isinstance(column, Text):
        return column.to_strings()
    values: list[Any] = column.values.tolist()
    if column.valid is None:
        return values
    return [value if there else None for value, there in zip(values, column.valid.tolist(), strict=True)]


def _null_where_nan(column: Column) -> Column:
    if isinstance(column, Text) or column.values.dtype.kind != "f":
        return column
    values = as_float(column)
    absent = np.isnan(values)
    return Numeric(np.where(absent, 0.0, values), ~absent) if absent.any() else Numeric(values)


def _joined(columns: Sequence[Column]) -> Column:
    return concat([Columns(len(column), {"column": column}) for column in columns])["column"]
