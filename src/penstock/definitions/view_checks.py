"""Checks that feature views share when they are built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import TypeVar

from penstock.core.errors import DefinitionError
from penstock.core.types import DataType
from penstock.definitions.entities import members_of
from penstock.definitions.sources import LabelSource, StreamSource

MODES = ("numpy", "python", "pandas", "polars")
T = TypeVar("T")


def check_source(
    source: object, *, owner: str, kinds: tuple[type, ...] = (StreamSource, LabelSource)
) -> None:
    """Raise unless `source` is of one of the `kinds`."""
    if not isinstance(source, kinds):
        allowed = " and ".join(kind.__name__ for kind in kinds)
        raise DefinitionError(f"{owner}: source is {source!r}; allowed are {allowed}. Give one.")


def checked_max_keys(count: object, *, owner: str) -> int:
    """`count`, if it can bound the keys that a view holds."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DefinitionError(f"{owner}: max_keys is {count!r}; allowed is a whole number of at least 1.")
    return count


def check_no_arrays(features: Mapping[str, DataType], *, owner: str, taker: str) -> None:
    """Raise where a feature is an array; `taker` is what cannot take one."""
    for name, dtype in features.items():
        if dtype.kind == "array":
            raise DefinitionError(
                f"{owner}: feature {name!r} is of type {dtype}; allowed for {taker} are features of one value. Select "
                'others, as in view[["a", "b"]], or use lag(1), lag(2), ... in its place.'
            )


def check_mode(mode: object, *, owner: str) -> None:
    """Raise unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise DefinitionError(f"{owner}: mode is {mode!r}; allowed are {', '.join(MODES)}. Choose one.")


def at_least_one(
    items: Sequence[T], kind: type[T], *, owner: str, argument: str, example: str
) -> tuple[T, ...]:
    """`items` as a tuple of `kind`, of which there is at least one."""
    members = members_of(items, kind, owner=owner, argument=argument, example=example)
    if not members:
        raise DefinitionError(
            f"{owner}: {argument} is empty; allowed is at least one {kind.__name__}. Write for example {example}."
        )
    return members


def check_distinct(names: Sequence[str], *, owner: str, called: str) -> None:
    """Raise where a name occurs twice; `called` is what the names are of."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DefinitionError(
            f"{owner}: two {called} are named {repeated[0]!r}; allowed is each name once. Remove one, or give it "
            "another name."
        )


def check_function(function: object, count: int, *, owner: str) -> None:
    """Raise unless `function` is None, or is written in Python and takes `count` arguments."""
    if function is None:
        return
    if not callable(function) or not _is_written_in_python(function):
        raise DefinitionError(
            f"{owner}: function is {function!r}; allowed is a function that is written in Python, a partial of one, or "
            "an object that can be called. Write one with def."
        )
    try:
        signature = _signature(function)
    except ValueError as error:
        raise DefinitionError(
            f"{owner}: {error}; allowed are arguments that the function inside takes. Correct the partial's."
        ) from error
    try:
        signature.bind(*range(count))
    except TypeError as error:
        raise DefinitionError(
            f"{owner}: the function takes {len(signature.parameters)} arguments, {signature}, but there are {count} "
            "sources; allowed is one argument a source, in order. Add or remove arguments."
        ) from error


def name_of(function: object, *, owner: str) -> str:
    """What a view without `name` is called: as its function."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise DefinitionError(
            f"{owner}: its function is {function!r}, which has no name, and the view has none either; allowed is a name "
            'for each view. Give it one: name="spending".'
        )
    return name


def description_of(function: object) -> str:
    """The docstring of a function; an object without a name has none but its class's."""
    return (function.__doc__ or "").strip() if hasattr(function, "__name__") else ""


def _is_written_in_python(function: object) -> bool:
    """Whether it is code that a fingerprint can follow: not a type, a built-in or a ufunc."""
    if isinstance(function, partial):
        return _is_written_in_python(function.func)
    if isinstance(function, type):
        return False
    wrapped = getattr(function, "__wrapped__", None)  # of a cached or jitted function
    codes = (function, type(function).__call__, wrapped)
    return any(isinstance(code, FunctionType) for code in codes) or (
        isinstance(function, MethodType) and _is_written_in_python(function.__func__)
    )


def _signature(function: Callable[..., object]) -> inspect.Signature:
    """The arguments of `function` itself, where Python knows them, else of what it wraps."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return inspect.signature(function)
