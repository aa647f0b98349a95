"""The rows that a state holds, as they stand in its windows: read beside the kernel, after it has worked on a row or look-up.

The kernel alone says which rows a window holds; nothing here decides about order, lateness or edges.
"""

from __future__ import annotations

import numpy as np

from penstock.kernel.columns import BoolArray, IntArray, Text
from penstock.kernel.program import (
    R_BLOCK,
    R_MASK,
    R_NEXT,
    RECORD,
    RECORD_HEADER,
    ROW_LANES,
    ROW_VALID,
    STRIDE,
)
from penstock.kernel.state import ViewState


class HeldRows:
    """Reads a state's rows. A key's rows are numbered in row order, and keep their numbers until a late one comes between them."""

    __slots__ = ("_memory", "_record", "_stride")

    def __init__(self, state: ViewState) -> None:
        self._memory = state.memory
        self._record = int(self._memory.program[RECORD])
        self._stride = int(self._memory.program[STRIDE])

    def slots(self, keys: Text) -> list[int]:
        """Where each key is held; -1 where it is not."""
        found: list[int] = self._memory.table.find(keys).tolist()
        return found

    def following(self, slot: int) -> int:
        """The number that a key's next row gets; one that is new, or comes back, begins at 0."""
        return int(self._memory.states[slot * self._record + R_NEXT])

    def window(self, slot: int, window: int) -> tuple[int, int]:
        """The numbers ``[begin, end)`` of the rows in a window, as the key's latest row or look-up saw it."""
        at = slot * self._record + RECORD_HEADER + 2 * window
        begin, end = self._memory.states[at : at + 2].tolist()
        return begin, end

    def lane(self, slot: int, lane: int, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """The numbers of those rows of ``[begin, end)`` whose value is present, and the values' bits; both int64[m]."""
        states, rows, r = self._memory.states, self._memory.rows, slot * self._record
        numbers = np.arange(begin, end)
        at = states[r + R_BLOCK] + (numbers & states[r + R_MASK]) * self._stride
        present: BoolArray = (rows[at + ROW_VALID] >> lane) & 1 != 0
        return numbers[present], rows[at[present] + ROW_LANES + lane]
