"""What a user's function is: a digest of its meaning, and the columns that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from penstock.core.types import Field
from penstock.plan.canonical import canonical_digest


def function_code(function: Callable[..., Any] | None) -> str:
    """A digest of `function` that changes only when its meaning may: see `penstock.plan.canonical`.

    Comments, layout, docstrings, annotations and the function's own name are no part of it; functions and data that it
    uses are.
    """
    return "" if function is None else canonical_digest(function)


class _Recorder(Mapping[str, Any]):
    """Empty columns that remember which of them were asked for; row numbers, too, can be asked for, and are no column."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns
        self.asked: set[str] = set()
        self.all_asked = False

    def __getitem__(self, name: str) -> Any:
        if name == "_row":
            return np.empty(0, np.int64)
        column = self._columns[name]
        self.asked.add(name)
        return column

    def __iter__(self) -> Iterator[str]:
        self.all_asked = True
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def columns_read(
    function: Callable[..., Any] | None, mode: str, fields: tuple[Field, ...]
) -> tuple[str, ...]:
    """The columns that a mode numpy `function` reads, found by calling it on zero rows.

    All of them where that cannot be told: another mode, a function that walks over all columns or refuses zero rows.
    """
    everything = tuple(f.name for f in fields)
    if function is None or mode != "numpy":
        return everything
    recorder = _Recorder({f.name: empty_column(f) for f in fields})
    try:
        with np.errstate(all="ignore"):
            function(recorder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return everything
    if recorder.all_asked:
        return everything
    return tuple(name for name in everything if name in recorder.asked)


def empty_column(field: Field) -> np.ndarray[Any, Any]:
    """Zero rows of a column as mode numpy functions see it."""
    dtypes = {"text": "O", "time": "M8[us]", "bool": "?", "int": "i8", "float": "f8"}
    nullable_int = field.optional and field.dtype.kind in {"int", "bool"}
    return np.empty(0, "f8" if nullable_int else dtypes[field.dtype.kind])
