"""The oracle, part four: views with a secondary key.

1. Each pair of a key and a secondary key has rows of its own, as if the view's entities had one key more (`ReferenceView`).
2. A row whose secondary key is null enters nothing. Any other is applied to its pair.
3. The answer puts the secondary keys of the row's key side by side, ascending: of each window those that have rows in it, whatever their
   values. Of the row's own pair it is what that row saw on entering; the others are looked up as of its time.

Of texts, ascending is by code points.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from penstock.definitions.aggregates import Aggregate
from penstock.definitions.secondary_keys import SecondaryKeys
from penstock.testing.reference import Feature, Lateness, ReferenceView, Result, Value

if TYPE_CHECKING:
    from penstock.core.types import Field

Answers = dict[Hashable, dict[str, Feature]]
"""What each secondary key's pair is answered."""


class ReferenceSecondaryView:
    """The windowed features of one view with a secondary key, for all keys; see `ReferenceView`."""

    def __init__(
        self,
        aggregates: Sequence[Aggregate],
        secondary: Field,
        allowed_lateness_us: int = 0,
        *,
        max_keys: int | None = None,
    ) -> None:
        self.aggregates = tuple(aggregates)
        self.secondary = secondary
        plain = [a for a in self.aggregates if not isinstance(a, SecondaryKeys)]
        counts = [row_count(a, secondary) for a in self.aggregates]
        self._pairs = ReferenceView([*plain, *counts], allowed_lateness_us, max_keys=max_keys)
        self._known: dict[Hashable, set[Hashable]] = {}

    def apply(self, key: Hashable, time_us: int, row: Mapping[str, Value]) -> Result:
        """The features of `row` as of its own time; its pair keeps it unless it is too late."""
        own = row.get(self.secondary.name)
        if own is None:
            return Result(self.lookup(key, time_us), Lateness.IN_ORDER)
        entered = self._pairs.apply((key, own), time_us, row)
        self._known.setdefault(key, set()).add(own)
        answers = self._looked_up(key, time_us) | {own: entered.features}
        return Result(self._listed(answers), entered.lateness)

    def lookup(self, key: Hashable, time_us: int) -> dict[str, Feature]:
        """The features of `key` as of a time; changes nothing."""
        return self._listed(self._looked_up(key, time_us))

    def empty(self) -> dict[str, Feature]:
        """The features where nothing is known."""
        return self._listed({})

    def _looked_up(self, key: Hashable, time_us: int) -> Answers:
        return {one: self._pairs.lookup((key, one), time_us) for one in self._known.get(key, ())}

    def _listed(self, answers: Answers) -> dict[str, Feature]:
        listed: dict[str, Feature] = {}
        for aggregate in self.aggregates:
            here = [one for one in sorted(answers) if answers[one][count_name(aggregate)]]  # type: ignore[type-var]
            if isinstance(aggregate, SecondaryKeys):
                listed[aggregate.name] = [*here]  # type: ignore[list-item]
            else:
                listed[aggregate.name] = [answers[one][aggregate.name] for one in here]  # type: ignore[misc]
        return listed


def row_count(aggregate: Aggregate, secondary: Field) -> Aggregate:
    """How many rows the window of an aggregate holds: the secondary key is never null."""
    return Aggregate(
        secondary,
        "count",
        time_window=aggregate.time_window,
        name=count_name(aggregate),
        include_current=aggregate.include_current,
        aggregation_interval=aggregate.interval,
    )


def count_name(aggregate: Aggregate) -> str:
    """What the count of an aggregate's rows is called."""
    return f"rows_of_{aggregate.name}"
