"""Checks that feature views share when they are built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from penstock.core.errors import DefinitionError
from penstock.definitions.entities import members_of
from penstock.definitions.sources import LabelSource, StreamSource

MODES = ("numpy", "python", "pandas", "polars")
T = TypeVar("T")


def check_source(source: object, *, owner: str) -> None:
    """Raise unless `source` is a stream or label source."""
    if not isinstance(source, StreamSource | LabelSource):
        raise DefinitionError(
            f"{owner}: source is {source!r}; allowed are StreamSource and LabelSource. Give one."
        )


def checked_max_keys(count: object, *, owner: str) -> int:
    """`count`, if it can bound the keys that a view holds."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DefinitionError(f"{owner}: max_keys is {count!r}; allowed is a whole number of at least 1.")
    return count


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
    """Raise unless `function` is None or takes `count` arguments."""
    if function is None:
        return
    if not callable(function):
        raise DefinitionError(
            f"{owner}: function is {function!r}; allowed is a function. Write one with def."
        )
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 0x04 or hasattr(function, "__self__"):  # built-ins, *args, methods
        return
    required = code.co_argcount - len(getattr(function, "__defaults__", None) or ())
    if not required <= count <= code.co_argcount:
        raise DefinitionError(
            f"{owner}: the function takes {code.co_argcount} arguments, but there are {count} sources; "
            "allowed is one argument a source, in order. Add or remove arguments."
        )
