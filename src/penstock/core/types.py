"""Data types of fields, features and features' inputs."""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from functools import cache

from penstock.core.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class DataType:
    """A column's type.

    `kind` groups types that are stored alike: ``"int"``, ``"float"``, ``"bool"``, ``"text"``, ``"time"``; ``"array"``.
    """

    name: str
    kind: str

    def __repr__(self) -> str:
        return self.name


Int32 = DataType("Int32", "int")
Int64 = DataType("Int64", "int")
Float32 = DataType("Float32", "float")
Float64 = DataType("Float64", "float")
String = DataType("String", "text")
Bool = DataType("Bool", "bool")
Timestamp = DataType("Timestamp", "time")


@dataclass(frozen=True, slots=True, repr=False)
class ArrayType(DataType):
    """A feature of several values of one type, the earliest first; made by `Array`."""

    elem: DataType


@cache
def Array(elem: DataType) -> ArrayType:  # noqa: N802 - it is used as a type
    """The type of a list of `elem`.

    >>> Array(Float64), Array(Float64) is Array(Float64)
    (Array(Float64), True)
    """
    given: object = elem
    if not isinstance(given, DataType) or isinstance(given, ArrayType):
        allowed = ", ".join(TYPES_BY_NAME)
        raise DefinitionError(
            f"Array: elem is {elem!r}; allowed are {allowed} of penstock.types. Write for example Array(Float64)."
        )
    return ArrayType(f"Array({elem})", "array", elem)


ALL_TYPES: tuple[DataType, ...] = (Int32, Int64, Float32, Float64, String, Bool, Timestamp)
TYPES_BY_NAME: dict[str, DataType] = {t.name: t for t in ALL_TYPES}


@dataclass(frozen=True, slots=True)
class Field:
    """A named, typed column.

    Parameters
    ----------
    name
        A Python identifier; double underscores are reserved for ``view__feature`` columns.
    dtype
        One of the types of `penstock.types`.
    optional
        Whether an event may leave the column out or null.

    Examples
    --------
    >>> Field("amount", Float64)
    Field(name='amount', dtype=Float64, optional=False)
    """

    name: str
    dtype: DataType
    optional: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, what="Field")
        dtype: object = self.dtype
        if not isinstance(dtype, DataType) or isinstance(dtype, ArrayType):
            allowed = ", ".join(TYPES_BY_NAME)
            raise DefinitionError(
                f"Field {self.name!r}: dtype is {dtype!r}; allowed are {allowed} of penstock.types. "
                f'Write for example Field("{self.name}", Float64).'
            )


def check_name(name: object, *, what: str) -> str:
    """Return `name` when it may name an object of kind `what`, else raise `DefinitionError`."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise DefinitionError(
            f"{what}: name is {name!r}; allowed are Python identifiers (letters, digits, underscore, "
            "not starting with a digit). Choose such a name."
        )
    if "__" in name or name.startswith("_"):
        raise DefinitionError(
            f"{what} {name!r}: allowed are names that neither start with an underscore nor hold a double "
            "one, which joins view and feature in offline columns. Rename it."
        )
    return name
