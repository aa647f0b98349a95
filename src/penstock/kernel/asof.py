"""Which rows of a history anybody sees, where only the latest row of a key counts: one pass over rows in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import types

from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.jit import B1, I8, READ_I8, entry


class TimedKeys(NamedTuple):
    """Rows or questions: their keys as small numbers, -1 for none, and their times; int64[n] each."""

    slots: IntArray
    times: IntArray


@entry(types.int64, READ_I8, READ_I8, types.int64, READ_I8, READ_I8, types.int64, I8, B1)
def _mark_seen(
    row_slots: IntArray,
    row_times: IntArray,
    base: int,
    ask_slots: IntArray,
    ask_times: IntArray,
    ask: int,
    latest: IntArray,
    seen: BoolArray,
) -> int:
    """Answer the questions from `ask` on that are older than the last of some rows; return which is next."""
    for row in range(len(row_slots)):
        while ask < len(ask_slots) and ask_times[ask] < row_times[row]:
            if ask_slots[ask] >= 0 and latest[ask_slots[ask]] >= 0:
                seen[latest[ask_slots[ask]]] = True
            ask += 1
        if row_slots[row] >= 0:
            latest[row_slots[row]] = base + row
    return ask


def seen_rows(parts: Sequence[TimedKeys], asked: TimedKeys, *, slots: int) -> list[BoolArray]:
    """Return which rows are, for some question, the latest of its key up to and including its time, bool[n] for each part.

    Parameters
    ----------
    parts
        The rows, in parts that follow each other; the keys are below `slots`.
    asked
        The questions.

    Examples
    --------
    >>> rows = TimedKeys(np.array([0, 1, 0, 0]), np.array([1, 2, 5, 7]))
    >>> (seen,) = seen_rows([rows], TimedKeys(np.array([0, 1]), np.array([6, 1])), slots=2)
    >>> seen.tolist()
    [False, False, True, False]
    """
    bounds = np.cumsum([0, *(len(part.slots) for part in parts)])
    if not _in_order(parts):
        whole = TimedKeys(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        order = np.argsort(whole.times, kind="stable")
        seen = np.empty(len(order), np.bool_)
        seen[order] = _seen_in_order([_taken(whole, order)], asked, slots)
    else:
        seen = _seen_in_order(parts, asked, slots)
    return [seen[begin:end] for begin, end in pairwise(bounds.tolist())]


def _seen_in_order(parts: Sequence[TimedKeys], asked: TimedKeys, slots: int) -> BoolArray:
    asking = _taken(asked, np.argsort(asked.times, kind="stable"))
    seen = np.zeros(sum(len(part.slots) for part in parts), np.bool_)
    latest = np.full(slots, -1)
    base = ask = 0
    for part in parts:
        ask = _mark_seen(*part, base, *asking, ask, latest, seen)
        base += len(part.slots)
    left = asking.slots[ask:]
    found = latest[left[left >= 0]]
    seen[found[found >= 0]] = True
    return seen


def _in_order(parts: Sequence[TimedKeys]) -> bool:
    """Whether the rows are in the order of time."""
    ends = [(int(part.times[0]), int(part.times[-1])) for part in parts if len(part.times)]
    return all(one[1] <= other[0] for one, other in pairwise(ends)) and all(
        (part.times[1:] >= part.times[:-1]).all() for part in parts
    )


def _taken(rows: TimedKeys, order: IntArray) -> TimedKeys:
    return TimedKeys(rows.slots[order], rows.times[order])
