"""Events as people have them in Python, as JSON: dicts, lists of them, frames, arrays, NDJSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from penstock.core.errors import InputError

Rows = Mapping[str, Any] | Iterable[Mapping[str, Any]] | bytes | Any
"""One event; or several, as a list of dicts, a frame (pandas, polars), an Arrow table, a structured array, or NDJSON."""


def rows_of(events: Rows) -> list[bytes]:
    """Several events as lines of JSON.

    In a frame what is missing (NaN, NaT, NA) is null; in a dict NaN is NaN, which no source takes.

    >>> rows_of([{"amount": 1.5}, {"amount": None}])
    [b'{"amount": 1.5}', b'{"amount": null}']
    """
    if isinstance(events, bytes):
        return [line for line in events.split(b"\n") if line.strip()]
    if hasattr(events, "to_pylist"):  # Arrow
        return [as_json(row) for row in events.to_pylist()]
    if hasattr(events, "to_dicts"):  # polars
        return [as_json(row) for row in events.to_dicts()]
    if hasattr(events, "to_dict") and hasattr(events, "columns"):  # pandas
        return [as_json(_without_missing(row)) for row in events.to_dict("records")]
    names = getattr(getattr(events, "dtype", None), "names", None)
    if names is not None:  # NumPy
        array: Any = events
        return [as_json(dict(zip(names, row, strict=True))) for row in array.tolist()]
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise InputError(
            f"events: {type(events).__name__} found; allowed are a dict, a list of dicts, a frame, an Arrow table, a structured array, "
            "or NDJSON as bytes."
        )
    return [as_json(row) for row in events]


def as_json(value: Any) -> bytes:
    """A value as JSON, with times as ISO 8601 and NumPy's numbers as numbers; NaN stays NaN, so that the server refuses it."""
    try:
        return json.dumps(value, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"events: a value has no form in JSON ({error}). Give numbers, texts, booleans or times."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if type(value).__module__ == "numpy":
        if value.dtype.kind == "M":
            return str(value.astype("M8[us]"))
        return value.tolist()
    raise TypeError(f"{type(value).__name__} found")


def _without_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): None if _is_missing(value) else value for name, value in row.items()}


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    return type(value).__name__ in {"NaTType", "NAType"}
