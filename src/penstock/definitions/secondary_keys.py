"""Aggregates by entity and by a secondary key: a read by entity gives lists, one of the secondary keys and one a feature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import format_duration, to_us
from penstock.core.types import Array, DataType, Field, check_name
from penstock.definitions.aggregate_functions import KEYS, LATEST
from penstock.definitions.aggregates import SLIDING, Aggregate
from penstock.definitions.windows import TimeWindowSeries, Window

KEY_KINDS = frozenset({"int", "text", "bool"})


class OfSecondaryKey(Aggregate):
    """An aggregate of a view with a secondary key: a list of its values, one for each secondary key with rows in its window."""

    __slots__ = ()

    def __init__(self, aggregate: Aggregate) -> None:
        for name in Aggregate.__slots__:
            object.__setattr__(self, name, getattr(aggregate, name))

    @property
    def dtype(self) -> DataType:
        """The type of the feature."""
        return Array(self.function.gives(self.input_column.dtype))


class SecondaryKeys(OfSecondaryKey):
    """The secondary keys that have rows in a window, ascending; no function that users name."""

    __slots__ = ()

    def __init__(self, column: Field, aggregate: Aggregate, interval: timedelta | None) -> None:
        super().__init__(aggregate)
        parts = [column.name, "keys", aggregate.time_window.label]
        parts += [] if aggregate.include_current else ["excluding_current"]
        if aggregate.interval != (interval or SLIDING):
            parts.append(format_duration(to_us(aggregate.interval)) if aggregate.interval else "continuous")
        for name, value in (
            ("input_column", Field(column.name, column.dtype)),
            ("function", KEYS),
            ("where", None),
            ("name", "_".join(parts)),
        ):
            object.__setattr__(self, name, value)


def secondary_key_of(key: object, columns: Sequence[Field], *, owner: str) -> Field | None:
    """The column of a view's `aggregation_secondary_key`; `columns` are the source's, which tell the type of a name."""
    types = {field.name: field.dtype for field in columns}
    if key is None:
        return None
    if isinstance(key, str) and key in types:
        key = Field(check_name(key, what=f"{owner}, aggregation_secondary_key"), types[key])
    if isinstance(key, Field) and key.dtype.kind in KEY_KINDS:
        return key
    raise DefinitionError(
        f"{owner}: aggregation_secondary_key is {key!r}; allowed is a column of type Int32, Int64, String or Bool: the name of a "
        'column of the source, or a Field where the view\'s function makes it. Write for example Field("shop_id", Int64).'
    )


def by_secondary_key(
    aggregates: Sequence[Aggregate], key: Field, interval: timedelta | None, *, owner: str
) -> tuple[Aggregate, ...]:
    """The features of a view with a secondary key: `aggregates` as lists, with the keys of each of their windows before them."""
    features: list[Aggregate] = []
    seen: set[tuple[Window, timedelta, bool]] = set()
    for aggregate in aggregates:
        _check(aggregate, owner=owner)
        window = (aggregate.time_window, aggregate.interval, aggregate.include_current)
        if window not in seen:
            seen.add(window)
            features.append(SecondaryKeys(key, aggregate, interval))
        features.append(OfSecondaryKey(aggregate))
    return tuple(features)


def _check(aggregate: Aggregate, *, owner: str) -> None:
    if aggregate.function == LATEST:
        raise DefinitionError(
            f"{owner}: attribute {aggregate.name!r} is one of the key's latest row; allowed with an aggregation_secondary_key are "
            "Aggregate objects. Make an entity of both keys, or leave out the secondary key."
        )
    if isinstance(aggregate.time_window, TimeWindowSeries) or aggregate.function.traits.gives == "array":
        raise DefinitionError(
            f"{owner}: {aggregate.name!r} has several values, and a secondary key would make a list of lists of them; allowed are "
            'functions of one value over one window. Write last(1) as "last", and a TimeWindow for each window of a series.'
        )
