"""Columns as users' functions see them, and back: arrays, dicts, pandas and polars frames.

What a function sees depends on the schema alone, never on the data, so that one row and a million rows give the
same values: a required Int is int64, an optional Int or Bool float64 with NaN for null, a Float float64 with NaN for null,
a Timestamp datetime64[us] (NaT for null), a String an object array of str (None for null).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.core.time import from_us, to_us
from penstock.core.types import DataType, Field
from penstock.kernel.columns import Column, Columns, Numeric, Text

Array = npt.NDArray[Any]


class LazyArrays(Mapping[str, Array]):
    """A batch as a mapping of arrays; a column is turned into an array when it is asked for."""

    __slots__ = ("_arrays", "_columns", "_fields")

    def __init__(self, columns: Columns, fields: Sequence[Field]) -> None:
        self._columns = columns
        self._fields = {f.name: f for f in fields}
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = to_array(self._columns[name], self._fields[name])
        return array

    def origin(self, array: object) -> Column | None:
        """The column that `array` was made from, if a function hands one back untouched."""
        for name, made in self._arrays.items():
            if made is array:
                return self._columns[name]
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def to_array(column: Column, field: Field) -> Array:
    """`column` as an array for a mode numpy function."""
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

    Raises `InputError` where a value cannot be of that type. Floats that are not finite are null.
    """
    array = _as_array(values)
    if array.ndim != 1:
        raise InputError(
            f"{owner}: column {field.name!r} has {array.ndim} dimensions; allowed is one value a row."
        )
    try:
        return _CONVERT[field.dtype.kind](array)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{owner}: column {field.name!r} holds {array.dtype} values that are not {field.dtype} ({error}). "
            "Return values of the declared type."
        ) from error


def _as_array(values: Any) -> Array:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _null_mask(array: Array) -> npt.NDArray[np.bool_]:
    return np.fromiter((v is None or v != v for v in array.tolist()), np.bool_, len(array))


def _valid_of(missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    return ~missing if missing.any() else None


def _floats(array: Array) -> Numeric:
    if array.dtype == object:
        array = np.array([np.nan if v is None else v for v in array.tolist()], np.float64)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{array.dtype} is not a number")
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    return Numeric(values) if finite.all() else Numeric(np.where(finite, values, 0.0), finite)


def _integers(array: Array) -> Numeric:
    if array.dtype.kind in "iub":
        return Numeric(array.astype(np.int64))
    if array.dtype == object:
        missing = _null_mask(array)
        values = np.array([0 if gone else v for v, gone in zip(array.tolist(), missing, strict=True)])
        if values.dtype.kind in "iub":
            return Numeric(values.astype(np.int64), _valid_of(missing))
        array = np.where(missing, np.nan, values.astype(np.float64))
    if array.dtype.kind != "f":
        raise TypeError(f"{array.dtype} is not an integer")
    finite = np.isfinite(array)
    values = np.where(finite, array, 0.0)
    if (values != np.trunc(values)).any() or (np.abs(values) >= 2.0**63).any():
        raise ValueError("a value has a fraction or is beyond 64 bits")
    return Numeric(values.astype(np.int64), None if finite.all() else finite)


def _booleans(array: Array) -> Numeric:
    if array.dtype.kind == "b":
        return Numeric(array)
    missing = _null_mask(array) if array.dtype == object else (array != array)
    values = np.array([False if gone else v for v, gone in zip(array.tolist(), missing, strict=True)])
    if len(values) and not np.isin(values.astype(np.float64), (0.0, 1.0)).all():
        raise ValueError("a value is neither true nor false")
    return Numeric(values.astype(np.bool_), _valid_of(missing))


def _times(array: Array) -> Numeric:
    if array.dtype.kind == "M":
        times = array.astype("M8[us]")
        return Numeric(times.astype(np.int64), _valid_of(np.isnat(times)))
    if array.dtype == object:
        missing = np.fromiter((v is None for v in array.tolist()), np.bool_, len(array))
        micros = [0 if v is None else v if isinstance(v, int) else to_us(v) for v in array.tolist()]
        return Numeric(np.array(micros, np.int64), _valid_of(missing))
    return _integers(array)


def _texts(array: Array) -> Text:
    if array.dtype.kind not in "OUT":
        raise TypeError(f"{array.dtype} is not text")
    strings = [None if v is None or v != v else v for v in array.tolist()]
    if any(s is not None and not isinstance(s, str) for s in strings):
        raise TypeError("a value is not a str")
    return Text.from_strings(strings)


_CONVERT: dict[str, Callable[[Array], Column]] = {
    "float": _floats,
    "int": _integers,
    "bool": _booleans,
    "time": _times,
    "text": _texts,
}
