"""Arrow, pandas and polars frames and lists of dicts, to columns and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.types import ArrayType, DataType, Field
from penstock.engine.checks import checked, column_of, in_nfc
from penstock.engine.verdicts import REASONS, Problems
from penstock.kernel.columns import Column, Columns, Numeric, Text

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW_TYPES = {
    "Int32": "int32",
    "Int64": "int64",
    "Float32": "float32",
    "Float64": "float64",
    "Bool": "bool",
    "String": "large_string",
    "Timestamp": "timestamp[us]",
}


def to_table(frame: Any, *, owner: str) -> pa.Table:
    """`frame` as a pyarrow Table: a Table, RecordBatch, pandas or polars frame, dict of columns, or list of dicts."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    if type(frame).__module__.split(".")[0] == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    if isinstance(frame, Mapping):
        return pa.table(dict(frame))
    if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
        return pa.Table.from_pylist([dict(row) for row in frame])
    raise InputError(
        f"{owner}: a {type(frame).__name__} was given; allowed are pyarrow Tables, pandas and polars frames, dicts of "
        "columns and lists of dicts."
    )


def table_columns(table: pa.Table, fields: Sequence[Field], *, owner: str) -> Columns:
    """The columns of `fields` from `table`, cast to their types; raises `InputError` where one is missing or differs."""
    found: dict[str, Column] = {}
    for field in fields:
        if field.name not in table.column_names:
            raise InputError(
                f"{owner}: column {field.name!r} ({field.dtype}) is missing; there are {', '.join(table.column_names)}."
            )
        found[field.name] = arrow_column(table.column(field.name), field, owner=owner)
    return Columns(table.num_rows, found)


def believed_columns(
    table: pa.Table,
    fields: Sequence[Field],
    *,
    owner: str,
    numbers: np.ndarray[Any, np.dtype[np.int64]] | range | None = None,
) -> Columns:
    """As `table_columns`, held to the contract of live events; an optional column may be left out.

    `numbers` are what the rows are called in errors, where they are some of a larger table.
    """
    there = [field for field in fields if field.name in table.column_names or not field.optional]
    columns = table_columns(table, there, owner=owner)
    for field in there:
        columns = columns.with_columns({field.name: _believed(columns, field, owner, numbers)})
    absent = [field for field in fields if field not in there]
    return columns.with_columns({f.name: column_of([None] * table.num_rows, f, {}) for f in absent})


def _believed(
    columns: Columns, field: Field, owner: str, numbers: np.ndarray[Any, np.dtype[np.int64]] | range | None
) -> Column:
    problems: Problems = {}
    valid = columns[field.name].valid
    if valid is not None and not field.optional and not valid.all():
        problems[int(np.argmin(valid))] = ("null_field", "null found")
    column = checked(columns, [field], problems)[field.name]
    if problems:
        row, (reason, detail) = min(problems.items())
        row = row if numbers is None else int(numbers[row])
        raise InputError(
            f"{owner}: column {field.name!r}, row {row}: {reason} ({detail.partition(' - at ')[0]}): {REASONS[reason]}. "
            "Live events like it are refused; correct the value, or leave the row out."
        )
    return column


def arrow_column(values: pa.ChunkedArray, field: Field, *, owner: str) -> Column:
    """An Arrow column as ours."""
    import pyarrow as pa

    wanted = pa.type_for_alias(_ARROW_TYPES[field.dtype.name])
    try:
        array = _cast(_one_array(values, pa), wanted, pa)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{owner}: column {field.name!r} holds {values.type} values that are not {field.dtype} ({error})."
        ) from error
    except pa.ArrowNotImplementedError as error:
        raise InputError(
            f"{owner}: column {field.name!r} is {values.type}, which cannot become {field.dtype}."
        ) from error
    if field.dtype.kind != "text":
        return _numeric(array, pa)
    try:
        return in_nfc(_text(array, pa))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{owner}: column {field.name!r} holds bytes that are not UTF-8 ({error.reason})."
        ) from error


def _one_array(values: pa.ChunkedArray | pa.Array, pa: Any) -> pa.Array:
    """The values in one piece; a copy only where they come in several."""
    if isinstance(values, pa.Array):
        return values
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def _cast(array: pa.Array, wanted: pa.DataType, pa: Any) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(wanted):
        return _as_microseconds(array, wanted, pa)
    if pa.types.is_floating(wanted) and not pa.types.is_boolean(array.type):
        # Rounded to the nearest float of the type, as the contract rounds what arrives live.
        return array.cast(pa.float64(), safe=False).cast(wanted, safe=False).cast(pa.float64())
    if pa.types.is_string(array.type) and pa.types.is_large_string(wanted):
        return array  # our offsets are made of either kind's
    cast = array.cast(wanted)
    return cast.cast(pa.int64()) if pa.types.is_integer(wanted) else cast


def _as_microseconds(array: pa.Array, wanted: pa.DataType, pa: Any) -> pa.Array:
    if not pa.types.is_timestamp(array.type):
        is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
        if pa.types.is_date(array.type) or is_text:
            array = array.cast(wanted)
        return array.cast(pa.int64())
    if array.type.unit == "ns":
        # Rounded as the contract does; a time zone only says how the instant is shown.
        import pyarrow.compute as pc

        array = pc.round_temporal(array.cast(pa.timestamp("ns")), unit="microsecond")
    return array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.int64())


def _valid(array: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    return np.asarray(array.is_valid()) if array.null_count else None


def _numeric(array: pa.Array, pa: Any) -> Numeric:
    valid = _valid(array)
    if valid is not None:
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        absent = np.isnan(values)
        if absent.any():  # pandas has NaN where others have null
            values = np.where(absent, 0.0, values)
            valid = ~absent if valid is None else valid & ~absent
    return Numeric(values, valid)


def _text(array: pa.Array, pa: Any) -> Text:
    valid = _valid(array)
    if valid is not None:
        array = array.fill_null("")
    _, offsets_buffer, data_buffer = array.buffers()
    held = np.int32 if array.type == pa.string() else np.int64
    offsets = np.frombuffer(offsets_buffer, held)[array.offset : array.offset + len(array) + 1].astype(
        np.int64
    )
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    if len(offsets) == 0:
        return Text(np.zeros(1, np.int64), data[:0], valid)
    if offsets[0] == 0:
        return Text(offsets, data[: offsets[-1]], valid)
    return Text(offsets - offsets[0], data[offsets[0] : offsets[-1]], valid)


def to_chunks(parts: Sequence[Column], dtype: DataType) -> pa.ChunkedArray:
    """The parts of a column, one after another, as one Arrow column; no part is copied that `to_arrow` does not copy."""
    import pyarrow as pa

    return pa.chunked_array([to_arrow(part, dtype) for part in parts], arrow_type(dtype))


def to_arrow(column: Column, dtype: DataType) -> pa.Array:
    """Our column as an Arrow array of `dtype`; numbers are not copied where their memory is in order."""
    import pyarrow as pa

    valid = None if column.valid is None or column.valid.all() else column.valid
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    nulls = 0 if valid is None else int(len(valid) - np.count_nonzero(valid))
    if isinstance(column, Text):
        offsets, data = np.ascontiguousarray(column.offsets), np.ascontiguousarray(column.data)
        buffers = [mask, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), len(column), buffers, nulls).cast(pa.string())
    if dtype.kind == "bool":
        return pa.array(column.values.astype(np.bool_), mask=None if valid is None else ~valid)
    kind, stored = (np.float64, pa.float64()) if dtype.kind == "float" else (np.int64, pa.int64())
    values = np.ascontiguousarray(column.values, kind)
    array = pa.Array.from_buffers(stored, len(values), [mask, pa.py_buffer(values)], nulls)
    wanted = arrow_type(dtype)
    return array if stored == wanted else array.cast(wanted)


def arrow_type(dtype: DataType) -> pa.DataType:
    """The Arrow type of the columns that we give."""
    import pyarrow as pa

    if isinstance(dtype, ArrayType):
        return pa.list_(arrow_type(dtype.elem))
    if dtype.kind == "time":
        return pa.timestamp("us", "UTC")
    return pa.string() if dtype.kind == "text" else pa.type_for_alias(_ARROW_TYPES[dtype.name])


def empty_table(columns: Sequence[tuple[str, DataType]]) -> pa.Table:
    """A table of these names and types without rows."""
    import pyarrow as pa

    return pa.schema([(name, arrow_type(dtype)) for name, dtype in columns]).empty_table()
