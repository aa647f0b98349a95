"""The oracle, part two: how one row goes through a view's function, in each of the four modes.

The function is called with the one row of the event at hand, so nothing can leak from one row to another. What a
column looks like depends on its type and on whether it may be null, never on the data:

============= ============= ====================== ================
mode          python        numpy, pandas          polars
============= ============= ====================== ================
Int           int           int64                  Int64
Bool          bool          bool                   Boolean
... or null   None          float64, NaN           null
Float         float or None float64, NaN           Float64 or null
Timestamp     datetime, UTC datetime64[us]; pandas Datetime, us,
              or None       with UTC; NaT          UTC, or null
String        str or None   object, None           String or null
============= ============= ====================== ================

A Field that is optional may be null, and so may any feature of another view. Modes numpy and polars offer a
column ``_row`` that a function which drops rows hands back; here, where there is one row, it says nothing new.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from penstock.core.errors import InputError
from penstock.core.time import from_us, to_us

if TYPE_CHECKING:
    from penstock.core.types import DataType, Field
    from penstock.testing.reference import Value

INT_RANGES = {"Int32": (-(2**31), 2**31 - 1), "Int64": (-(2**63), 2**63 - 1), "Bool": (0, 1)}
ROW = "_row"

Arguments = Sequence[tuple[Sequence["Field"], Mapping[str, "Value"]]]


def call_on_row(function: Callable[..., Any], mode: str, arguments: Arguments) -> dict[str, Any] | None:
    """What a view's function makes of one row; None where it drops the row.

    Parameters
    ----------
    function
        The view's function.
    mode
        ``"python"``, ``"numpy"``, ``"pandas"`` or ``"polars"``.
    arguments
        For each argument its columns and the row's values.
    """
    if mode == "python":
        returned = function(*[python_row(fields, row) for fields, row in arguments])
        return None if returned is None else dict(returned)
    dress, undress = _MODES[mode]
    with warnings_of_numpy_off():
        returned = function(*[dress(fields, row) for fields, row in arguments])
    return single_row(undress(returned), function)


def warnings_of_numpy_off() -> Any:
    """A division by zero in a view is an infinity, hence a null, and no warning."""
    import numpy as np

    return np.errstate(all="ignore")


def single_row(columns: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any] | None:
    """The only row of `columns`; None where there is none. A lone value stands for a column of it."""
    lengths = {len(column) for column in columns.values() if isinstance(column, list)}
    if lengths == {0}:
        return None
    if lengths <= {1}:
        return {name: column[0] if isinstance(column, list) else column for name, column in columns.items()}
    raise InputError(
        f"view function {function.__name__!r}: it made columns of {sorted(lengths)} rows out of one row; allowed "
        "is to keep the row or to drop it. Return columns of equal length, and no row twice."
    )


def python_row(fields: Sequence[Field], row: Mapping[str, Value]) -> dict[str, Any]:
    """The row as a dict; times are aware datetimes."""
    return {field.name: python_value(row.get(field.name), field.dtype) for field in fields}


def python_value(value: Value, dtype: DataType) -> Any:
    """A value as Python code likes it."""
    return from_us(value) if dtype.kind == "time" and isinstance(value, int) else value


class NumpyRow(dict[str, Any]):
    """Arrays of length one by column name; `ROW` may be asked for, but is not listed."""

    def __missing__(self, name: str) -> Any:
        import numpy as np

        if name == ROW:
            return np.zeros(1, "int64")
        raise KeyError(name)


def numpy_row(fields: Sequence[Field], row: Mapping[str, Value]) -> NumpyRow:
    """The row as a mapping of arrays of length one."""
    return NumpyRow({field.name: numpy_column(field, row.get(field.name)) for field in fields})


def numpy_column(field: Field, value: Value) -> Any:
    """One value as an array."""
    import numpy as np

    if field.dtype.kind == "text":
        return np.array([value], dtype=object)
    if field.dtype.kind == "time":
        return np.array(["NaT" if value is None else value], dtype="datetime64[us]")
    kind = "float" if field.optional else field.dtype.kind
    dtype = {"int": "int64", "float": "float64", "bool": "bool"}[kind]
    return np.array([math.nan if value is None else value], dtype=dtype)


def columns_of_numpy(returned: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as lists of Python values."""
    import numpy as np

    return {
        name: [scalar(value) for value in column] if np.ndim(column) else scalar(column)
        for name, column in returned.items()
    }


def pandas_row(fields: Sequence[Field], row: Mapping[str, Value]) -> Any:
    """The row as a pandas frame of one row; times are in UTC."""
    import pandas as pd

    frame = pd.DataFrame(dict(numpy_row(fields, row)))
    for field in fields:
        if field.dtype.kind == "time":
            frame[field.name] = frame[field.name].dt.tz_localize("UTC")
    return frame


def columns_of_pandas(returned: Any) -> dict[str, Any]:
    """A pandas frame as lists of Python values."""
    return {str(name): [scalar(value) for value in returned[name]] for name in returned.columns}


def polars_row(fields: Sequence[Field], row: Mapping[str, Value]) -> Any:
    """The row as a polars frame of one row."""
    import polars as pl

    kinds = {
        "int": pl.Int64(),
        "float": pl.Float64(),
        "bool": pl.Boolean(),
        "text": pl.String(),
        "time": pl.Datetime("us", "UTC"),
    }
    columns = {f.name: [python_value(row.get(f.name), f.dtype)] for f in fields}
    schema = {f.name: kinds[f.dtype.kind] for f in fields}
    return pl.DataFrame({**columns, ROW: [0]}, schema={**schema, ROW: pl.Int64()})


def columns_of_polars(returned: Any) -> dict[str, Any]:
    """A polars frame as lists of Python values."""
    return {series.name: series.to_list() for series in returned}


_MODES: dict[str, tuple[Callable[..., Any], Callable[..., dict[str, Any]]]] = {
    "numpy": (numpy_row, columns_of_numpy),
    "pandas": (pandas_row, columns_of_pandas),
    "polars": (polars_row, columns_of_polars),
}


def scalar(value: Any) -> Any:
    """One value of NumPy or pandas as a Python value; times as microseconds, missing ones as None."""
    import numpy as np

    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else int(value.astype("datetime64[us]").astype("int64"))
    if isinstance(value, np.generic):
        return value.item()
    return None if is_missing(value) else value


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, pandas.NA or NaT."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"} or value != value


def cast(value: Any, dtype: DataType) -> Value:
    """A value as the given type; None where it is missing or not finite.

    Only what loses nothing is allowed (1.0 as Int, 1 as Bool, an Int as Float, a datetime as Timestamp), but for the
    rounding to the nearest float; a Float32 too large is None. Anything else raises `InputError`.
    """
    if is_missing(value):
        return None
    if isinstance(value, datetime):
        value = to_us(value) if dtype.kind == "time" else refuse(value, dtype)
    if not isinstance(value, str if dtype.kind == "text" else bool | int | float):
        return refuse(value, dtype)
    return value if isinstance(value, str) else cast_number(value, dtype)


def cast_number(value: float, dtype: DataType) -> Value:
    """A number as the given type of numbers; None where it is not finite."""
    if not math.isfinite(value):
        return None
    if dtype.kind == "float":
        return cast_float(value, dtype)
    return bool(cast_int(value, dtype)) if dtype.kind == "bool" else cast_int(value, dtype)


def cast_int(value: float, dtype: DataType) -> int:
    """A whole number of the type's range."""
    low, high = INT_RANGES.get(dtype.name, INT_RANGES["Int64"])
    whole = int(value)
    return whole if whole == value and low <= whole <= high else refuse(value, dtype)


def cast_float(value: float, dtype: DataType) -> float | None:
    """The nearest float of the type; None where it is too large."""
    try:
        wide = float(value)
        return wide if dtype.name == "Float64" else float(struct.unpack("<f", struct.pack("<f", wide))[0])
    except OverflowError:
        return None


def refuse(value: object, dtype: DataType) -> NoReturn:
    """Raise because `value` is not of the type."""
    raise InputError(
        f"a value of type {dtype} was promised, but {value!r} of type {type(value).__name__} was found; allowed are "
        f"values that {dtype} holds without loss. Correct the column's type, or convert it in the view's function."
    )
