"""Calling users' functions in their mode, on a batch of any size, and checking what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from threading import local
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError, MissingDependencyError, PenstockError, TransformError
from penstock.core.types import Field
from penstock.engine.values import LazyArrays, from_values, to_list, to_rows
from penstock.kernel.columns import Column, Columns

ROW = "_row"
"""Hidden column of row numbers, which a function that drops rows hands back (modes numpy and polars).

In mode pandas it is the name of the frame's index.
"""

Rows = npt.NDArray[np.int64]
Fields = Mapping[str, Field]
"""Fields by name: see `by_name`."""


class Transformed(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a view's function made of a batch: columns, and for each of their rows the row that it came from."""

    columns: Columns
    rows: Rows | None


def by_name(fields: Iterable[Field]) -> Fields:
    """The `fields` that a function is given."""
    return {field.name: field for field in fields}


def call_view(
    function: Callable[..., Any] | None,
    mode: str,
    columns: Columns,
    fields: Fields,
    wanted: Sequence[Field],
    *,
    owner: str,
) -> Transformed:
    """Run a view's function over `columns`, of which it is given `fields`.

    Returns
    -------
    Transformed
        The `wanted` columns; `rows` is None when no row was dropped.
    """
    if function is None:
        return Transformed(columns.select(f.name for f in wanted), None)
    returned, rows, given = _call(function, mode, [(columns, fields)], owner)
    try:
        length = _length(returned, columns.length, rows, owner)
        if length != columns.length and rows is None:
            raise InputError(
                f"{owner}: the function returned {length} rows for {columns.length}. To drop rows, hand back the column "
                f'"{ROW}" of the input, filtered like the others, so that Penstock knows which rows are left.'
            )
        found = {f.name: _wanted(returned, f, length, owner, given) for f in wanted}
        return Transformed(Columns(length, found), _checked_rows(rows, columns.length, owner))
    except _OF_NO_USE as error:
        raise _transform_error(error, owner) from error


def call_realtime(
    function: Callable[..., Any],
    mode: str,
    arguments: Sequence[tuple[Columns, Fields]],
    wanted: Sequence[Field],
    *,
    owner: str,
) -> Columns:
    """Run a realtime view's function: one argument a source, one value a row for each attribute.

    Raises `TransformError` where the function fails, drops a row, or returns what `wanted` does not allow.
    """
    length = arguments[0][0].length
    returned, _, given = _call(function, mode, arguments, owner)
    found: dict[str, Column] = {}
    try:
        for field in wanted:
            found[field.name] = _wanted(returned, field, length, owner, given)
        return Columns(length, found)
    except _OF_NO_USE as error:
        raise _transform_error(error, owner) from error


# What a function returned may be wrong in any way; whoever calls it must be able to refuse the event.
_OF_NO_USE = (InputError, TypeError, ValueError, OverflowError)


def _transform_error(error: Exception, owner: str) -> TransformError:
    if isinstance(error, InputError):
        return TransformError(str(error))
    return TransformError(
        f"{owner}: the function returned values of no use ({error}); allowed is one value a row for each "
        "column. Correct the function."
    )


def _wanted(returned: Mapping[str, Any], field: Field, length: int, owner: str, given: _Given) -> Column:
    if field.name not in returned:
        raise InputError(
            f"{owner}: the function did not return column {field.name!r}; it returned "
            f"{', '.join(map(str, returned)) or 'nothing'}. Return it, or take it out of the definition."
        )
    values = returned[field.name]
    column = None
    for arrays in given:
        # The column itself, where its array comes back as it was given and as the same type: nothing is to be converted.
        column = arrays.origin(values, field.dtype) if column is None else column
    if column is None:
        column = from_values(np.full(length, values) if np.ndim(values) == 0 else values, field, owner=owner)
    if len(column) != length:
        raise InputError(
            f"{owner}: column {field.name!r} has {len(column)} values for {length} rows; allowed is one a row."
        )
    return column


def _length(returned: Mapping[str, Any], rows_in: int, rows: Any, owner: str) -> int:
    if rows is not None:
        return len(rows)
    lengths = {len(values) for values in returned.values() if np.ndim(values)}
    if len(lengths) > 1:
        raise InputError(f"{owner}: the function returned columns of different lengths: {sorted(lengths)}.")
    return lengths.pop() if lengths else rows_in


def _checked_rows(rows: Any, length: int, owner: str) -> Rows | None:
    if rows is None:
        return None
    kept = np.asarray(rows, np.int64)
    if len(kept) and (kept[0] < 0 or kept[-1] >= length or (np.diff(kept) <= 0).any()):
        raise InputError(f"{owner}: the function added, repeated or reordered rows; it may only drop some.")
    return None if len(kept) == length else kept


_Arguments = Sequence[tuple[Columns, Fields]]
_Given = Sequence[LazyArrays]
_Returned = tuple[Mapping[str, Any], Any, _Given]
"""The columns, their row numbers where rows may be missing, and the arrays that a function may hand back as they are."""


def _call(function: Callable[..., Any], mode: str, arguments: _Arguments, owner: str) -> _Returned:
    try:
        return _CALLS[mode](function, arguments, owner)
    except PenstockError as error:
        raise TransformError(str(error)) from error
    except Exception as error:  # a user's function may raise anything
        raise TransformError(
            f"{owner}: the function failed with {type(error).__name__}: {error}.{_advice(error)}"
        ) from error


def _advice(error: Exception) -> str:
    """What to do where a function wrote into its arguments, which belong to other views and to the log as well."""
    if not isinstance(error, ValueError) or "read-only" not in str(error):
        return ""
    return ' Arguments may not be changed in place; copy it first, like amount = columns["amount"].copy().'


class _Quiet(local):
    """A context of each thread in which NumPy warns of nothing; entering one costs a tenth of `np.errstate`."""

    def __init__(self) -> None:
        self.context = copy_context()
        self.context.run(np.seterr, all="ignore")


_QUIET = _Quiet()


def _call_numpy(function: Callable[..., Any], arguments: _Arguments, owner: str) -> _Returned:
    given = [_ArraysWithRow(columns, fields) for columns, fields in arguments]
    returned = _QUIET.context.run(function, *given)
    if type(returned) is not dict and not isinstance(returned, Mapping):
        raise InputError(
            f"{owner}: the function returned {type(returned).__name__}; mode numpy allows a mapping of column names to "
            'arrays, like {"amount": columns["amount"]}.'
        )
    if isinstance(returned, _ArraysWithRow):
        returned = {name: returned[name] for name in returned}
    return returned, returned.get(ROW), given


class _ArraysWithRow(LazyArrays):
    """Arrays by column name; `ROW` can be asked for, but is not listed."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        return np.arange(self._columns.length) if name == ROW else LazyArrays.__getitem__(self, name)


def _call_python(function: Callable[..., Any], arguments: _Arguments, owner: str) -> _Returned:
    rows_of = [to_rows(columns, tuple(fields.values())) for columns, fields in arguments]
    results = [function(*row) for row in zip(*rows_of, strict=True)]
    kept = [i for i, result in enumerate(results) if result is not None]
    for i in kept:
        if not isinstance(results[i], Mapping):
            raise InputError(
                f"{owner}: the function returned {results[i]!r}; mode python allows a dict of the columns, or None to "
                "drop the row."
            )
    # A column counts as returned where every row has it: a row alone must fail or pass as it does among others.
    names = [name for name in results[kept[0]] if all(name in results[i] for i in kept)] if kept else []
    returned = {name: [results[i][name] for i in kept] for name in names}
    if not kept:
        returned = _Anything()
    return returned, kept if len(kept) < len(results) else None, ()


class _Anything(dict[str, list[Any]]):
    """Every column, with no rows: what a function that dropped all rows returned."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> list[Any]:
        return []


def _call_pandas(function: Callable[..., Any], arguments: _Arguments, owner: str) -> _Returned:
    pandas = _library("pandas", owner)
    frames = [
        pandas.DataFrame(
            _pandas_columns(pandas, columns, fields), index=pandas.RangeIndex(columns.length, name=ROW)
        )
        for columns, fields in arguments
    ]
    for frame, (_, fields) in zip(frames, arguments, strict=True):
        for f in fields.values():
            if f.dtype.kind == "time":
                frame[f.name] = frame[f.name].dt.tz_localize("UTC")
    returned = function(*frames)
    if not isinstance(returned, pandas.DataFrame):
        raise InputError(
            f"{owner}: the function returned {type(returned).__name__}; mode pandas allows a DataFrame."
        )
    if returned.index.name != ROW:
        raise InputError(
            f"{owner}: the function returned a frame with another index than its input's, which is named {ROW!r} and tells "
            "which rows are left; allowed is to drop some. Keep the index: leave out reset_index, or give a new frame "
            "index=frame.index."
        )
    rows = None if len(returned) == len(frames[0]) else returned.index.to_numpy()
    if rows is None and not returned.index.equals(frames[0].index):
        raise InputError(f"{owner}: the function reordered or repeated rows; it may only drop some.")
    return {name: _pandas_values(returned[name]) for name in returned.columns}, rows, ()


def _pandas_columns(pandas: Any, columns: Columns, fields: Fields) -> dict[str, Any]:
    arrays: dict[str, Any] = dict(_ArraysWithRow(columns, fields).items())
    # pandas 3 would take texts for its str type only where there is a text among them: the type must not depend on the data.
    dtype = "str" if int(pandas.__version__.split(".")[0]) >= 3 else object
    return {
        f.name: pandas.Series(arrays[f.name], dtype=dtype) if f.dtype.kind == "text" else arrays[f.name]
        for f in fields.values()
    }


def _pandas_values(series: Any) -> Any:
    if getattr(series.dtype, "tz", None) is not None:
        return series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if series.dtype.kind in "OT" or str(series.dtype) in {"str", "string"}:
        return series.astype(object).where(series.notna(), None).to_numpy()
    return series.to_numpy(na_value=None) if series.dtype.kind not in "fiubM" else series.to_numpy()


def _call_polars(function: Callable[..., Any], arguments: _Arguments, owner: str) -> _Returned:
    polars = _library("polars", owner)
    frames = []
    for columns, fields in arguments:
        series = [_polars_series(polars, f, columns[f.name]) for f in fields.values()]
        frames.append(
            polars.DataFrame(series).with_columns(polars.Series(ROW, range(columns.length), polars.Int64))
        )
    returned = function(*frames)
    if not isinstance(returned, polars.DataFrame):
        raise InputError(
            f"{owner}: the function returned {type(returned).__name__}; mode polars allows a DataFrame."
        )
    rows = returned[ROW].to_numpy() if ROW in returned.columns else None
    return {name: _polars_values(returned[name]) for name in returned.columns}, rows, ()


def _polars_series(polars: Any, field: Field, column: Column) -> Any:
    types = {
        "int": polars.Int64,
        "float": polars.Float64,
        "bool": polars.Boolean,
        "text": polars.String,
        "time": polars.Datetime("us", "UTC"),
    }
    return polars.Series(field.name, to_list(column, field.dtype), types[field.dtype.kind])


def _polars_values(series: Any) -> Any:
    if series.dtype.is_temporal():
        return series.dt.timestamp("us").to_list()
    if series.null_count() or series.dtype == _library("polars", "").String:
        return series.to_list()
    return series.to_numpy()


_CALLS: dict[str, Callable[[Callable[..., Any], _Arguments, str], _Returned]] = {
    "numpy": _call_numpy,
    "python": _call_python,
    "pandas": _call_pandas,
    "polars": _call_polars,
}


def _library(name: str, owner: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{owner}: mode {name!r} needs {name}, which is not installed. Run: pip install 'penstock[{name}]'."
        ) from error
