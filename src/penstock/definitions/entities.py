"""Entities: the things that features describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from penstock.core.errors import DefinitionError
from penstock.core.types import Field, check_name
from penstock.definitions.tags import Tags, tags_of

T = TypeVar("T")
_KEY_KINDS = {"int", "text", "bool"}


@dataclass(frozen=True, slots=True, init=False)
class Entity:
    """What a feature describes: a card, a merchant, a device.

    Parameters
    ----------
    name
        The entity's name.
    join_keys
        The columns that identify it, in the order in which keys are given.

    Examples
    --------
    >>> from penstock.types import Field, String
    >>> Entity(name="user", join_keys=[Field("user_id", String)]).key_names
    ('user_id',)
    """

    name: str
    join_keys: tuple[Field, ...]
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        join_keys: Sequence[Field],
        *,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"Entity {check_name(name, what='Entity')!r}"
        keys = fields_of(join_keys, owner=what, argument="join_keys")
        if not keys:
            raise DefinitionError(
                f"Entity {name!r}: join_keys is []; allowed is at least one Field. Name the columns that identify it."
            )
        for key in keys:
            if key.dtype.kind not in _KEY_KINDS:
                raise DefinitionError(
                    f"Entity {name!r}: join key {key.name!r} has type {key.dtype}; allowed are Int32, Int64, "
                    "String and Bool, whose equality is exact. Use one of these."
                )
        for attribute, value in (
            ("name", name),
            ("join_keys", keys),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        ):
            object.__setattr__(self, attribute, value)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The join keys' column names."""
        return tuple(key.name for key in self.join_keys)


def fields_of(fields: Sequence[Field], *, owner: str, argument: str) -> tuple[Field, ...]:
    """`fields` as a tuple, checked to be distinct `Field` objects."""
    members = members_of(
        fields, Field, owner=owner, argument=argument, example=f'{argument}=[Field("user_id", String)]'
    )
    names = [field.name for field in members]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DefinitionError(
            f"{owner}: {argument} names {', '.join(repeated)} twice; allowed is once. Remove one."
        )
    return members


def members_of(
    items: Sequence[T], kind: type[T] | tuple[type[T], ...], *, owner: str, argument: str, example: str
) -> tuple[T, ...]:
    """`items` as a tuple, checked to be a list of `kind`; `example` shows how to write one."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    allowed = (
        f"allowed is a list of {' or '.join(k.__name__ for k in kinds)} objects. Write for example {example}."
    )
    if not isinstance(items, list | tuple):
        raise DefinitionError(f"{owner}: {argument} is {items!r}; {allowed}")
    for item in items:
        if not isinstance(item, kinds):
            raise DefinitionError(f"{owner}: {argument} holds {item!r}; {allowed}")
    return tuple(items)
