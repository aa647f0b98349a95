"""The states of a plan's views: the kernel's own, and around it what is made beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from penstock.kernel.columns import BoolArray, IntArray, Text
from penstock.kernel.jit import ByteArray
from penstock.kernel.program import Program
from penstock.kernel.state import Output, StateStats, ViewState
from penstock.plan.nodes import ViewNode

if TYPE_CHECKING:
    from penstock.engine.folds import LoneValues


Batch = tuple[Text, IntArray, IntArray, BoolArray, ByteArray]
"""Keys, times, lanes, valid and ops, as `process` takes them."""
Work = Callable[[Text, IntArray, IntArray, BoolArray, ByteArray], Output]
"""`process`, or `process_more`."""


class Exported(Protocol):
    """What keys held at one moment."""

    def blobs(self) -> list[bytes | None]:
        """Bytes for each key; None where it was not held."""
        ...


class KeyedState(Protocol):
    """What the engine asks of a view's state; see `ViewState`."""

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        ...

    @property
    def evicted_keys(self) -> int:
        """How many keys have left because `max_keys` were held."""
        ...

    @property
    def stats(self) -> StateStats:
        """How much is held now."""
        ...

    def process(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """Work on rows in log order and return their features."""
        ...

    def process_more(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """`process` of more rows of the same batch."""
        ...

    def intern(self, lane: int, values: Text) -> IntArray:
        """The codes of texts for a lane of text."""
        ...

    def texts(self, lane: int, codes: IntArray, valid: BoolArray | None = None) -> Text:
        """The texts of codes."""
        ...

    def keys(self) -> Text:
        """The keys that are held."""
        ...

    def newest(self, keys: Text) -> IntArray:
        """The time of each key's newest row."""
        ...

    def snapshot(self) -> bytes:
        """The state as bytes: equal states give equal bytes."""
        ...

    def export(self, keys: Text) -> Exported:
        """What these keys hold now, each given once."""
        ...

    def load(self, blobs: Sequence[bytes]) -> None:
        """Hold what the keys of these blobs held when they were exported, and nothing else."""
        ...


def new_state(view: ViewNode) -> KeyedState:
    """The empty state of a view."""
    return _around(view, ViewState(view.program))


def whole_states(views: Sequence[ViewNode]) -> list[KeyedState]:
    """States for rows that are all there are, and come at once: quicker, and nothing is kept of them."""
    from penstock.kernel.whole import WholeHistory

    threads = max((os.cpu_count() or 1) // max(len(views), 1), 1)
    return [
        new_state(view)
        if view.folds or view.secondary is not None
        else WholeHistory(view.program, threads=threads)
        for view in views
    ]


def restored_state(view: ViewNode, data: bytes) -> KeyedState:
    """The state of a snapshot; raises `SnapshotError` where it is damaged or of another view.

    A snapshot holds what the kernel holds: all that stands beside it follows from that.
    """
    return _around(view, ViewState.restore(view.program, data))


def lone_values(view: ViewNode, state: KeyedState) -> LoneValues | None:
    """What tries each value alone that a class of a user's is to take; None where there is no such class."""
    if not any(fold.may_fail for fold in view.folds):
        return None
    from penstock.engine.folds import LoneValues

    return LoneValues(view, state.texts)


def _around(view: ViewNode, kernel: ViewState) -> KeyedState:
    state: KeyedState = kernel
    if view.folds:
        from penstock.engine.folds import FoldState

        state = FoldState(view, kernel)
    if view.secondary is not None:
        from penstock.engine.secondary_keys import SecondaryState

        state = SecondaryState(view, state)
    return state
