"""Columns as users' functions see them, and back: arrays, dicts, pandas and polars frames.

What a function sees depends on the schema alone, never on the data, so that one row and a million rows give the
same values: a required Int is int64, an optional Int or Bool float64 with NaN for null, a Float float64 with NaN for null,
a Timestamp datetime64[us] (NaT for null), a String an object array of str (None for null). The arrays are read-only,
since some are the event's own columns: what a function wrote into them would be written into the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.core.time import from_us, to_us
from penstock.core.types import DataType, Field
from penstock.kernel.columns import BoolArray, Column, Columns, Numeric, Text

Array = npt.NDArray[Any]

_INFINITE = (math.inf, -math.inf)
_F8 = np.dtype(np.float64)


class LazyArrays(Mapping[str, Array]):
    """A batch as a mapping of arrays; a column is turned into an array when it is asked for."""

    __slots__ = ("_arrays", "_columns", "_fields")

    def __init__(self, columns: Columns, fields: Mapping[str, Field]) -> None:
        self._columns = columns
        self._fields = fields
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = to_array(self._columns[name], self._fields[name])
        return array

    def origin(self, array: object, dtype: DataType) -> Column | None:
        """The column of type `dtype` that `array` was made from, if a function hands one back untouched."""
        for name, made in self._arrays.items():
            if made is array:
                return self._columns[name] if self._fields[name].dtype.name == dtype.name else None
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def to_array(column: Column, field: Field) -> Array:
    """`column` as an array for a mode numpy function: read-only, whether it is a copy or not."""
    array = _array(column, field).view()
    array.setflags(write=False)
    return array


def _array(column: Column, field: Field) -> Array:
    if isinstance(column, Text):
        out = np.empty(len(column), object)
        out[:] = column.to_strings()
        return out
    kind = field.dtype.kind
    values = column.values
    if kind == "time":
        times = values.astype("M8[us]")
        if column.valid is not None:
            times[~column.valid] = np.datetime64("NaT")
        return times
    if kind == "float" or field.optional:
        return as_float(column)
    return values


def as_float(column: Numeric) -> npt.NDArray[np.float64]:
    """A numeric column as float64, NaN where null; not a copy where it is that already."""
    if column.valid is None and column.values.dtype is _F8:
        return column.values  # type: ignore[return-value]
    values: npt.NDArray[np.float64] = column.values.astype(np.float64, copy=column.valid is not None)
    if column.valid is not None:
        values[~column.valid] = np.nan
    return values


def to_rows(columns: Columns, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The batch as Python dicts; timestamps are datetimes in UTC, null is None."""
    lists = [to_list(columns[f.name], f.dtype) for f in fields]
    names = [f.name for f in fields]
    return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def to_list(column: Column, dtype: DataType) -> list[Any]:
    """A column as Python values."""
    if isinstance(column, Text):
        return list(column.to_strings())
    values: list[Any] = column.values.tolist()
    if dtype.kind == "time":
        values = [from_us(v) for v in values]
    if dtype.kind == "float":
        values = [None if v != v else v for v in values]
    if column.valid is not None:
        values = [v if ok else None for v, ok in zip(values, column.valid.tolist(), strict=True)]
    return values


def from_values(values: Any, field: Field, *, owner: str) -> Column:
    """A column of type `field.dtype` from whatever a function returned for it: array, series or list.

    Each value becomes what it would become alone: only what loses nothing is allowed (1.0 as Int, 1 as Bool, an Int
    as Float), but for the rounding to the nearest float. Floats that are not finite are null, and so is a Float32 too
    large. Raises `InputError` where a value cannot be of the type.
    """
    try:
        array = _as_array(values)
        if array.ndim == 1:
            return _CONVERT[field.dtype.kind](array, field)
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(values).__name__ if not hasattr(values, "dtype") else values.dtype
        raise InputError(
            f"{owner}: column {field.name!r} holds {kind} values that are not {field.dtype} ({error}). "
            "Return values of the declared type."
        ) from error
    raise InputError(
        f"{owner}: column {field.name!r} has {array.ndim} dimensions; allowed is one value a row."
    )


def _as_array(values: Any) -> Array:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, pandas.NA or NaT."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"} or value != value


def _without_missing(array: Array) -> tuple[list[Any], BoolArray | None]:
    """The numbers or times of an object array, 0 where one is missing or infinite, and which are there (None: all)."""
    given = array.tolist()
    missing = np.fromiter((_is_missing(v) or v in _INFINITE for v in given), np.bool_, len(given))
    if not missing.any():
        return given, None
    return [0 if gone else v for v, gone in zip(given, missing.tolist(), strict=True)], ~missing


def _floats(array: Array, field: Field) -> Numeric:
    if array.dtype == object:
        given, there = _without_missing(array)
        array = np.array([_number(v) for v in given], np.float64)
        if there is not None:
            array[~there] = np.nan
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{array.dtype} is not a number")
    values = array.astype(np.float64)
    if field.dtype.name == "Float32":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32).astype(np.float64)
    finite = np.isfinite(values)
    return Numeric(values) if finite.all() else Numeric(np.where(finite, values, 0.0), finite)


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):  # float() would read it
        raise TypeError("a text is not a number")
    return float(value)


def _integers(array: Array, field: Field) -> Numeric:
    numbers, valid = _whole_numbers(array)
    low, high = (-(2**31), 2**31 - 1) if field.dtype.name == "Int32" else (-(2**63), 2**63 - 1)
    if len(numbers) and (numbers.min() < low or numbers.max() > high):
        raise ValueError(f"a value is out of the range of {field.dtype}")
    return Numeric(numbers.astype(np.int64), valid)


def _whole_numbers(array: Array) -> tuple[Array, BoolArray | None]:
    if array.dtype == object:
        given, there = _without_missing(array)
        return np.array([_whole(v) for v in given], object), there
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        array = np.where(finite, array, 0.0)
        if (array != np.trunc(array)).any():
            raise ValueError("a value has a fraction")
        # As Python integers, since the largest int64 has no float.
        within = (np.abs(array) < 2.0**62).all()
        return array.astype(np.int64) if within else np.array([int(v) for v in array], object), (
            None if finite.all() else finite
        )
    if array.dtype.kind not in "iub":
        raise TypeError(f"{array.dtype} is not an integer")
    return array, None


def _whole(value: Any) -> int:
    if isinstance(value, str | bytes | datetime):
        raise TypeError(f"{type(value).__name__} is not an integer")
    whole = int(value)
    if whole != value:
        raise ValueError("a value has a fraction")
    return whole


def _booleans(array: Array, _: Field) -> Numeric:
    if array.dtype.kind == "b":
        return Numeric(array)
    numbers, valid = _whole_numbers(array)
    if ((numbers != 0) & (numbers != 1)).any():
        raise ValueError("a value is neither true nor false")
    return Numeric(numbers.astype(np.bool_), valid)


def _times(array: Array, field: Field) -> Numeric:
    if array.dtype.kind == "M":
        times = array.astype("M8[us]")
        missing = np.isnat(times)
        return Numeric(np.where(missing, 0, times.astype(np.int64)), ~missing if missing.any() else None)
    if array.dtype == object:
        given, valid = _without_missing(array)
        micros = [_microseconds(v) for v in given]
        return Numeric(np.array(micros, np.int64), valid)
    return _integers(array, field)


def _microseconds(value: Any) -> int:
    if isinstance(value, np.datetime64):
        return int(value.astype("M8[us]").astype(np.int64))
    return to_us(value) if isinstance(value, datetime) else _whole(value)


def _texts(array: Array, _: Field) -> Text:
    if array.dtype.kind not in "OUTf":  # of floats, NaN is null
        raise TypeError(f"{array.dtype} is not text")
    strings = [None if _is_missing(v) else v for v in array.tolist()]
    if any(s is not None and not isinstance(s, str) for s in strings):
        raise TypeError("a value is not a str")
    return Text.from_strings(strings)


_Convert = Callable[[Array, Field], Column]
_CONVERT: dict[str, _Convert] = {
    "float": _floats,
    "int": _integers,
    "bool": _booleans,
    "time": _times,
    "text": _texts,
}


def nulls(field: Field, count: int) -> Column:
    """A column of `field` in which every row is null."""
    absent = np.zeros(count, np.bool_)
    if field.dtype.kind == "text":
        return Text(np.zeros(count + 1, np.int64), np.zeros(0, np.uint8), absent)
    dtype = {"float": np.float64, "bool": np.bool_}.get(field.dtype.kind, np.int64)
    return Numeric(np.zeros(count, dtype), absent)
