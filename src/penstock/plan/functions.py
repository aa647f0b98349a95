"""What a user's function is: its code in a stable form, and the columns that it reads."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from penstock.core.types import Field

_PLAIN = (bool, int, float, str, bytes, type(None), tuple, frozenset)


def function_code(function: Callable[..., Any] | None) -> str:
    """`function` in a form that changes only when its meaning may: no comments, layout or docstring.

    The values of plain module constants that it names are part of it.
    """
    if function is None:
        return ""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        code = function.__code__
        return f"bytecode {code.co_code.hex()} {code.co_consts!r} {code.co_names!r}"
    definition = tree.body[0]
    if isinstance(definition, ast.FunctionDef):
        definition.decorator_list = []
        if ast.get_docstring(definition) is not None:
            definition.body = definition.body[1:]
    return ast.dump(definition) + _constants(function)


def _constants(function: Callable[..., Any]) -> str:
    names = {**getattr(function, "__globals__", {}), **inspect.getclosurevars(function).nonlocals}
    used = sorted(set(function.__code__.co_names + function.__code__.co_freevars) & names.keys())
    return "".join(f" {name}={names[name]!r}" for name in used if isinstance(names[name], _PLAIN))


class _Recorder(Mapping[str, Any]):
    """Empty columns that remember which of them were asked for."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns
        self.asked: set[str] = set()
        self.all_asked = False

    def __getitem__(self, name: str) -> Any:
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
