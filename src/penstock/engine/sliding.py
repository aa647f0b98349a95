"""A fold that goes along with its window: what a `UserAggregation` with `remove` or `merge` is asked, instead of all anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from penstock.definitions.user_aggregations import UserAggregation

Numbered = Iterable[tuple[int, Any]]
"""Values with the numbers of their rows, ascending."""


class Removing:
    """One state: values enter at its end and are removed at its front."""

    __slots__ = ("_aggregation", "_held", "_state")

    def __init__(self, aggregation: UserAggregation) -> None:
        self._aggregation = aggregation
        self._state = aggregation.init()
        self._held: deque[tuple[int, Any]] = deque()

    def move(self, begin: int, entering: Numbered) -> Any:
        """Let rows before `begin` leave and others enter; the state."""
        while self._held and self._held[0][0] < begin:
            self._state = self._aggregation.remove(self._state, self._held.popleft()[1])
        for number, value in entering:
            self._state = self._aggregation.add(self._state, value)
            self._held.append((number, value))
        return self._state


class Merging:
    """Two stacks: of the front, for each row the fold of it and of those behind it; of the back, the fold of all.

    When the front is used up, the back becomes the front: each row is merged once for that.
    """

    __slots__ = ("_aggregation", "_back", "_entered", "_front")

    def __init__(self, aggregation: UserAggregation) -> None:
        self._aggregation = aggregation
        self._front: list[tuple[int, Any]] = []  # the earliest row last
        self._entered: list[tuple[int, Any]] = []
        self._back = aggregation.init()

    def move(self, begin: int, entering: Numbered) -> Any:
        """Let rows before `begin` leave and others enter; the state."""
        while self._front and self._front[-1][0] < begin:
            self._front.pop()
        if not self._front and self._entered and self._entered[0][0] < begin:
            self._turn(begin)
        for number, value in entering:
            self._back = self._aggregation.add(self._back, value)
            self._entered.append((number, value))
        return self._aggregation.merge(self._front[-1][1], self._back) if self._front else self._back

    def _turn(self, begin: int) -> None:
        """Make the rows of the back that are still in the window the front."""
        kept = [entered for entered in self._entered if entered[0] >= begin]
        state = None
        for number, value in reversed(kept):
            alone = self._aggregation.fold([value])
            state = alone if state is None else self._aggregation.merge(alone, state)
            self._front.append((number, state))
        self._entered = []
        self._back = self._aggregation.init()


Sliding = Removing | Merging


def sliding(aggregation: UserAggregation) -> Sliding | None:
    """What follows a window for an aggregation; None where it promised nothing, and is folded anew each time."""
    if aggregation.has("remove"):
        return Removing(aggregation)
    return Merging(aggregation) if aggregation.has("merge") else None
