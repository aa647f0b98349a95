"""Which rows of a history anybody sees, where only the latest row of a key counts: one pass over rows in the order of time."""

from __future__ import annotations

import numpy as np
from numba import types

from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.jit import B1, I8, READ_I8, entry


@entry(types.void, READ_I8, READ_I8, READ_I8, READ_I8, I8, B1)
def _mark_seen(
    row_slots: IntArray,
    row_times: IntArray,
    ask_slots: IntArray,
    ask_times: IntArray,
    latest: IntArray,
    seen: BoolArray,
) -> None:
    row = 0
    for ask in range(len(ask_slots)):
        while row < len(row_slots) and row_times[row] <= ask_times[ask]:
            if row_slots[row] >= 0:
                latest[row_slots[row]] = row
            row += 1
        if ask_slots[ask] >= 0 and latest[ask_slots[ask]] >= 0:
            seen[latest[ask_slots[ask]]] = True


def seen_rows(
    row_slots: IntArray, row_times: IntArray, ask_slots: IntArray, ask_times: IntArray, *, slots: int
) -> BoolArray:
    """Return which rows are, for some question, the latest of its key up to and including its time, bool[n].

    Parameters
    ----------
    row_slots, row_times
        The rows' keys as numbers below `slots`, -1 for rows that do not count, and their times, int64[n].
    ask_slots, ask_times
        The same of the questions, int64[m].

    Examples
    --------
    >>> keys, times = np.array([0, 1, 0, 0]), np.array([1, 2, 5, 7])
    >>> seen_rows(keys, times, np.array([0, 1]), np.array([6, 1]), slots=2).tolist()
    [False, False, True, False]
    """
    in_time = _order(row_times)
    asking = np.argsort(ask_times, kind="stable")
    seen = np.zeros(len(row_slots), np.bool_)
    latest = np.full(slots, -1)
    _mark_seen(
        *((row_slots, row_times) if in_time is None else (row_slots[in_time], row_times[in_time])),
        ask_slots[asking],
        ask_times[asking],
        latest,
        seen,
    )
    if in_time is None:
        return seen
    found = np.empty_like(seen)
    found[in_time] = seen
    return found


def _order(times: IntArray) -> IntArray | None:
    """The order of time, equal times as they stand; None where it is that already."""
    if (times[1:] >= times[:-1]).all():
        return None
    return np.argsort(times, kind="stable")
