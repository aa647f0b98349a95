"""From what the kernels emitted to the rows of a service: realtime views, then all outputs in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.core.errors import TransformError
from penstock.core.types import Field, Float64
from penstock.engine.kernel_rows import FloatMatrix
from penstock.engine.row_wise import check_row_wise, needs_check
from penstock.engine.transform import Transformed, call_realtime
from penstock.engine.values import as_float, nulls
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, concat
from penstock.kernel.memory import to_floats
from penstock.kernel.program import LaneKind
from penstock.kernel.state import Output, ViewState
from penstock.plan.nodes import Plan, RealtimeNode, Selected, ServiceNode

_Places = IntArray | slice
_Arguments = Sequence[tuple[Columns, Sequence[Field]]]


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
        Int features by output index, exact beyond 2**53; only where asked for.
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
            output = self.outputs[index]
            values = self._floats[index] = np.empty(output.bits.shape)
            to_floats(output.bits, output.valid, self._kinds[index], values)
        return values


class Assembler:
    """Puts together the rows of one service; names, kinds and places are resolved once."""

    def __init__(self, plan: Plan, service: ServiceNode, states: Sequence[ViewState]) -> None:
        self.service = service
        self._states = [states[lookup.view] for lookup in service.lookups]
        nodes = [plan.views[lookup.view] for lookup in service.lookups]
        self._kinds = [node.program.output_kinds for node in nodes]
        self._kind_arrays = [np.array(kinds, np.int64) for kinds in self._kinds]
        self._lane_of = [tuple(aggregate.lane for aggregate in node.aggregates) for node in nodes]
        self._own = [i for i, lookup in enumerate(service.lookups) if lookup.own]
        self._calls = [_RealtimeCall(self, node) for node in service.realtime]
        self._moves = [
            _places([o for o in service.outputs if o.kind == "lookup" and o.index == i], service.outputs)
            for i in range(len(service.lookups))
        ]
        self._attributes = [
            (at, output.index, output.name.split(".", 1)[1])
            for at, output in enumerate(service.outputs)
            if output.kind == "realtime"
        ]
        self._texts = [
            (at, o) for at, o in enumerate(service.outputs) if o.kind == "lookup" and o.dtype.kind == "text"
        ]
        self._integers = [
            (at, o)
            for at, o in enumerate(service.outputs)
            if o.kind == "lookup" and self._kinds[o.index][o.column] == LaneKind.INT
        ]

    def rows(self, columns: Columns, outputs: Sequence[Output], *, exact: bool) -> FeatureRows:
        """The rows for events with `columns`, for which the look-ups emitted `outputs`.

        `exact` also gives integers as such.
        """
        count = columns.length
        emitted = _Emitted(outputs, self._kind_arrays)
        degraded = np.zeros(count, np.bool_)
        made = [call.run(columns, emitted, degraded) for call in self._calls]
        values = self._columns(emitted, count) if exact else self._rows(emitted, count)
        texts = {at: self.typed(emitted, output) for at, output in self._texts} if self._texts else {}
        integers = {at: self.typed(emitted, output) for at, output in self._integers} if exact else {}
        for at, call, name in self._attributes:
            column = made[call][name]
            if isinstance(column, Text):
                values[:, at] = np.nan
                texts[at] = column
                continue
            values[:, at] = as_float(column)
            if exact and column.values.dtype.kind == "i":
                integers[at] = column
        return FeatureRows(values, texts, integers, self._lateness(outputs, count), degraded)  # type: ignore[arg-type]

    def typed(self, emitted: _Emitted, output: Selected) -> Column:
        """An aggregate's values as a column of its own type."""
        piece, kind = emitted.outputs[output.index], self._kinds[output.index][output.column]
        bits, valid = piece.bits[:, output.column], piece.valid[:, output.column]
        if kind == LaneKind.CODE:
            lane = self._lane_of[output.index][output.column]
            return self._states[output.index].texts(lane, bits, valid)
        return Numeric(bits.view(np.float64) if kind == LaneKind.FLOAT else bits, valid)

    def _lateness(self, outputs: Sequence[Output], count: int) -> npt.NDArray[np.uint8]:
        if len(self._own) == 1:
            return outputs[self._own[0]].lateness
        if not self._own:
            return np.zeros(count, np.uint8)
        latest = outputs[self._own[0]].lateness
        for i in self._own[1:]:
            latest = np.maximum(latest, outputs[i].lateness)
        return latest

    def _rows(self, emitted: _Emitted, count: int) -> FloatMatrix:
        """The look-ups' values in their places, row after row, as models take them."""
        values = np.empty((count, len(self.service.outputs)))
        for i, (to, of) in enumerate(self._moves):
            values[:, to] = emitted.floats(i)[:, of]
        return values

    def _columns(self, emitted: _Emitted, count: int) -> FloatMatrix:
        """The same values column after column, as frames take them."""
        values = np.empty((count, len(self.service.outputs)), order="F")
        for at, output in enumerate(self.service.outputs):
            if output.dtype.kind == "text":
                values[:, at] = np.nan
            elif output.kind == "lookup":
                column = self.typed(emitted, output)
                values[:, at] = column.values  # type: ignore[union-attr]
                if not column.valid.all():  # type: ignore[union-attr]
                    values[~column.valid, at] = np.nan  # type: ignore[operator]
        return values


class _RealtimeCall:
    """One realtime view: where its arguments come from, and what to do when it fails."""

    def __init__(self, assembler: Assembler, node: RealtimeNode) -> None:
        self._assembler = assembler
        self._node = node
        self._owner = f"realtime feature view {node.name!r}"
        self._unchecked = needs_check(node.function, node.mode)
        self._fields = [
            tuple(item if isinstance(item, Field) else self._field(item) for item in argument)
            for argument in node.arguments
        ]

    def run(self, columns: Columns, emitted: _Emitted, degraded: BoolArray) -> Columns:
        node = self._node
        arguments = [
            (self._argument(argument, fields, columns, emitted), fields)
            for argument, fields in zip(node.arguments, self._fields, strict=True)
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
        fields: Sequence[Field],
        columns: Columns,
        emitted: _Emitted,
    ) -> Columns:
        found: dict[str, Column] = {}
        for item, field in zip(argument, fields, strict=True):
            if isinstance(item, Field):
                found[item.name] = columns[item.name]
                continue
            assert isinstance(item, Selected)
            if self._as_numbers(item):
                found[field.name] = Numeric(emitted.floats(item.index)[:, item.column])
            else:
                found[field.name] = self._assembler.typed(emitted, item)
        return Columns(columns.length, found)

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


def _places(chosen: Sequence[Selected], outputs: Sequence[Selected]) -> tuple[_Places, _Places]:
    """Where a look-up's values go in a row, and which of its columns they are."""
    return _run([outputs.index(output) for output in chosen]), _run([output.column for output in chosen])


def _run(places: Sequence[int]) -> _Places:
    """A slice where the places follow each other, since NumPy copies those several times as fast."""
    if not places or list(places) != list(range(places[0], places[0] + len(places))):
        return np.array(places, np.int64)
    return slice(places[0], places[0] + len(places))


def _joined(columns: Sequence[Column]) -> Column:
    return concat([Columns(len(column), {"column": column}) for column in columns])["column"]
