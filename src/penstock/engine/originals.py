"""What a dead letter keeps of an event that did not come as bytes: a JSON rendering, whatever the event holds."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from datetime import MINYEAR, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def as_json(event: object) -> bytes:
    """`event` as JSON where it can be, else as Python shows it, abridged; never fails.

    NaN and lone surrogates stay visible; values without a JSON form become texts.

    >>> as_json({"amount": float("nan"), "at": datetime(2025, 1, 1)})
    b'{"amount":NaN,"at":"2025-01-01T00:00:00"}'
    """
    if isinstance(event, Mapping) and not isinstance(event, dict):
        event = dict(event)
    try:
        text = json.dumps(event, default=_shown, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        text = _abridged(event)
    return text.encode(errors="backslashreplace")


def _shown(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, np.generic):
        return str(value)
    return _abridged(value)


def _abridged(value: object) -> str:
    try:
        return reprlib.repr(value)
    except (ValueError, RecursionError):  # an int too long to print, a __repr__ that does not end
        return object.__repr__(value)


def plain_values(event: Any) -> Any:
    """`event` with NumPy scalars and pandas timestamps as Python's own values; `event` itself where it has none."""
    if not isinstance(event, Mapping):
        return event
    plain = {name: _plain(value) for name, value in event.items()}
    return event if all(plain[name] is value for name, value in event.items()) else plain


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return value.astype("M8[us]").item()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime) and type(value) is not datetime:
        if not value.year >= MINYEAR:  # pandas' NaT is a datetime whose year is NaN
            return None
        return datetime.combine(value.date(), value.timetz())
    return value


def row_as_json(table: pa.Table, row: int) -> bytes:
    """Row `row` of `table` as JSON."""
    return as_json({name: _cell(table.column(i), row) for i, name in enumerate(table.column_names)})


def _cell(column: pa.ChunkedArray, row: int) -> object:
    import pyarrow as pa

    scalar = column[row]
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if pa.types.is_nested(scalar.type):
            return str(scalar.type)
        return scalar.cast(pa.large_binary()).as_py()
    except (ValueError, OverflowError, pa.ArrowException):  # a time that no datetime can hold
        return scalar.value if pa.types.is_temporal(scalar.type) else str(scalar.type)
