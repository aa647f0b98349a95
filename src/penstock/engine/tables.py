"""Arrow tables (Parquet, frames) to columns, with the verdicts that the same rows would get as JSON.

A column is taken in bulk where its Arrow type holds values of the field's type. ISO 8601 texts for a Timestamp are read
one by one. Any other type is wrong for every row that has a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.core.types import Field
from penstock.engine.cells import read_times
from penstock.engine.checks import at, column_of, utf8_column
from penstock.engine.verdicts import Problems
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text

_INT32 = np.iinfo(np.int32)
_INT64 = np.iinfo(np.int64)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True, slots=True, eq=False)
class _Values:
    """An Arrow array, which of its rows have a value (None: all), and the field that they should fit."""

    array: Any
    valid: BoolArray | None
    field: Field
    problems: Problems

    def note(self, bad: BoolArray, reason: str, found: Callable[[int], str]) -> None:
        for row in np.flatnonzero(bad).tolist():
            self.problems.setdefault(row, (reason, f"{found(row)} - {at(self.field)}"))

    def to_numpy(self) -> Any:
        """The values; those of rows without one are whatever stands there."""
        array = self.array
        if self.valid is not None:
            array = array.fill_null(pa.scalar(False if pa.types.is_boolean(array.type) else 0, array.type))
        return array.to_numpy(zero_copy_only=False)


def columns_of(table: pa.Table, fields: Sequence[Field], problems: Problems) -> Columns:
    """The columns of `fields`; of columns with the same name the last counts."""
    found: dict[str, Column] = {}
    for field in fields:
        indices = table.schema.get_all_field_indices(field.name)
        if indices:
            found[field.name] = _column(table.column(indices[-1]), field, problems)
        else:
            found[field.name] = _absent(table.num_rows, field, problems)
    return Columns(table.num_rows, found)


def _absent(length: int, field: Field, problems: Problems) -> Column:
    if not field.optional:
        for row in range(length):
            problems.setdefault(row, ("missing_field", f"there is no column {field.name!r}"))
    return column_of([None] * length, field, problems)


def _column(chunks: pa.ChunkedArray, field: Field, problems: Problems) -> Column:
    array = _one_array(chunks)
    valid = np.asarray(array.is_valid()) if array.null_count else None
    values = _Values(array, valid, field, problems)
    if valid is not None and not field.optional:
        values.note(~valid, "null_field", lambda _: "null found")
    column = _READ[field.dtype.kind](values)
    if column is not None:
        return column
    bad = np.ones(len(array), np.bool_) if valid is None else valid
    values.note(bad, "wrong_type", lambda _: f"Expected {field.dtype}, got {array.type}")
    return column_of([None] * len(array), field, problems)


def _one_array(chunks: pa.ChunkedArray) -> Any:
    if pa.types.is_dictionary(chunks.type):
        chunks = chunks.cast(chunks.type.value_type)
    array = chunks.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], chunks.type)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _texts(values: _Values) -> Column | None:
    if not _is_text(values.array.type):
        return None
    binary = _as_binary(values.array)
    if values.valid is not None:
        binary = binary.fill_null(b"")
    _, offsets_buffer, data_buffer = binary.buffers()
    if not len(binary):
        return Text(np.zeros(1, np.int64), np.zeros(0, np.uint8))
    offsets = np.frombuffer(offsets_buffer, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    data = np.zeros(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    # A copy, so that a few rows do not keep the buffer of a whole row group alive.
    data = data[offsets[0] : offsets[-1]].copy()
    return utf8_column(offsets - offsets[0], data, values.valid, field=values.field, problems=values.problems)


def _floats(values: _Values) -> Column | None:
    kind = values.array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        return None
    numbers = _Values(
        values.array.cast(pa.float64(), safe=False), values.valid, values.field, values.problems
    )
    return Numeric(numbers.to_numpy(), values.valid)


def _integers(values: _Values) -> Column | None:
    if not pa.types.is_integer(values.array.type):
        return None
    numbers = values.to_numpy()
    bounds = _INT32 if values.field.dtype.name == "Int32" else _INT64
    # Python's integers compare exactly with every NumPy integer type.
    bad = (
        (numbers > bounds.max)
        if numbers.dtype.kind == "u"
        else (numbers < bounds.min) | (numbers > bounds.max)
    )
    if bad.any():
        values.note(bad, "number_out_of_range", lambda row: f"{numbers[row]} found")
    return Numeric(numbers.astype(np.int64), values.valid)


def _booleans(values: _Values) -> Column | None:
    return Numeric(values.to_numpy(), values.valid) if pa.types.is_boolean(values.array.type) else None


def _times(values: _Values) -> Column | None:
    kind = values.array.type
    if pa.types.is_timestamp(kind):
        whole = _Values(values.array.cast(pa.int64()), values.valid, values.field, values.problems)
        return Numeric(_microseconds(whole.to_numpy(), kind.unit), values.valid)
    if _is_text(kind):
        cells = [
            None if text is None else text.decode(errors="replace")
            for text in _as_binary(values.array).to_pylist()
        ]
        times = read_times(cells, values.field, values.problems, digits=False)
        return column_of(times, values.field, values.problems)
    return _integers(values)


def _microseconds(times: IntArray, unit: str) -> IntArray:
    """Times in `unit` as microseconds; nanoseconds are rounded, as they are where an ISO 8601 text gives them."""
    if unit == "ns":
        return times // 1000 + (times % 1000 >= 500)
    factor = _MICROSECONDS[unit]
    bound = _INT64.max // factor
    return np.clip(times, -bound, bound) * factor  # what is clipped is out of range by far


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
    )
    return any(test(kind) for test in tests)


def _as_binary(array: Any) -> Any:
    """Texts as bytes, which need not be UTF-8."""
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.binary_view())
    return array.cast(pa.large_binary())


_READ: dict[str, Callable[[_Values], Column | None]] = {
    "text": _texts,
    "float": _floats,
    "int": _integers,
    "bool": _booleans,
    "time": _times,
}
