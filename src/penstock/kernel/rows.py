"""Where the rows of all keys live: one arena of power-of-two blocks, one block a key, used as a ring.

A key's rows are numbered; row number n lies at ``n & mask`` of the key's block, so rows may leave at the front and
enter at the back without moving. Blocks double when full and halve when a quarter is used; freed blocks wait in a
list of their size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from penstock.kernel.bits import bytes_at, leading_zeros, stay_apart, words_at
from penstock.kernel.columns import IntArray
from penstock.kernel.jit import inlined, inner
from penstock.kernel.keys import Table
from penstock.kernel.program import (
    R_BLOCK,
    R_FIRST,
    R_MASK,
    R_NEXT,
    RECORD,
    ROW_TIME,
    STRIDE,
    WINDOW_TABLE,
    WINDOW_WORDS,
)

# Words of the state's `meta`, behind those of the key table.
POSITION, PHASE, ARENA_USED, ARENA_LIVE, NEEDED, DISTINCT_MASK, DISTINCT_USED = range(16, 23)
POOL_FREE, POOL_FREE_COUNT, EVICTED, PENDING, ROWS_HELD, PLANNED = range(23, 29)
ROWS_ROOM, STATES_ROOM, TOUCHED_LATER = 29, 30, 31
FREE_BLOCKS = 32  # one list of free blocks a size class
SIZE_CLASSES = 48
META_WORDS = FREE_BLOCKS + SIZE_CLASSES
# What a step that could not finish needs before it is tried again.
DONE, NEEDS_TABLE, NEEDS_ROWS, NEEDS_DISTINCT, NEEDS_POOL, NEEDS_ENTRIES = range(6)


class Kernel(NamedTuple):
    """Where all arrays of a view's state begin, as inner functions take them."""

    table: Table
    meta: IntArray
    program: IntArray
    states: IntArray
    rows: IntArray
    distinct: IntArray
    pool: IntArray
    scratch: IntArray


@inner
def kernel_at(frame: IntArray) -> Kernel:
    """Return the addresses of a state's arrays from a list of them; see `Memory.frame`."""
    return Kernel(
        Table(words_at(frame[0]), words_at(frame[1]), words_at(frame[2]), bytes_at(frame[3])),
        words_at(frame[0]),
        words_at(frame[4]),
        words_at(frame[5]),
        words_at(frame[6]),
        words_at(frame[7]),
        words_at(frame[8]),
        words_at(frame[9]),
    )


@inlined
def record_of(k: Kernel, slot: int) -> int:
    """Return where the record of a slot begins in `states`."""
    return slot * k.program[RECORD]


@inlined
def window_at(k: Kernel, w: int) -> int:
    """Return where the entry of a window begins in `program`."""
    return k.program[WINDOW_TABLE] + w * WINDOW_WORDS


@inlined
def row_at(k: Kernel, r: int, number: int) -> int:
    """Return where row `number` of the key with record `r` begins in `rows`."""
    return k.states[r + R_BLOCK] + (number & k.states[r + R_MASK]) * k.program[STRIDE]


@inlined
def time_of(k: Kernel, r: int, number: int) -> int:
    """Return the time of a row."""
    return k.rows[row_at(k, r, number) + ROW_TIME]


@inner
def size_class(mask: int) -> int:
    """Return the binary logarithm of a block's capacity."""
    return 64 - leading_zeros(np.uint64(mask))


@inner
def allocate_block(k: Kernel, size: int) -> int:
    """Return a block of ``2**size`` rows, or -1 where the arena has no room."""
    meta = k.meta
    words = k.program[STRIDE] << size
    at = meta[FREE_BLOCKS + size]
    if at >= 0:
        meta[FREE_BLOCKS + size] = k.rows[at]
    else:
        at = meta[ARENA_USED]
        if at + words > meta[ROWS_ROOM]:
            meta[NEEDED] = words
            return -1
        meta[ARENA_USED] += words
    meta[ARENA_LIVE] += words
    return at


@inner
def free_block(k: Kernel, at: int, size: int) -> None:
    """Give a block back."""
    k.rows[at] = k.meta[FREE_BLOCKS + size]
    k.meta[FREE_BLOCKS + size] = at
    k.meta[ARENA_LIVE] -= k.program[STRIDE] << size


@inner
def resize_block(k: Kernel, r: int, size: int) -> bool:
    """Move a key's rows into a block of ``2**size`` rows; False where the arena has no room."""
    stay_apart()
    at = allocate_block(k, size)
    if at < 0:
        return False
    states, stride = k.states, k.program[STRIDE]
    old_mask = states[r + R_MASK]
    mask = (1 << size) - 1
    for number in range(states[r + R_FIRST], states[r + R_NEXT]):
        source = row_at(k, r, number)
        target = at + (number & mask) * stride
        for j in range(stride):
            k.rows[target + j] = k.rows[source + j]
    if old_mask >= 0:
        free_block(k, states[r + R_BLOCK], size_class(old_mask))
    states[r + R_BLOCK] = at
    states[r + R_MASK] = mask
    return True


@inner
def make_room(k: Kernel, r: int) -> bool:
    """Make sure that a key's block has room for one more row; False where the arena has none."""
    mask = k.states[r + R_MASK]
    if k.states[r + R_NEXT] - k.states[r + R_FIRST] <= mask:
        return True
    return resize_block(k, r, size_class(mask) + 1 if mask >= 0 else 0)


@inner
def make_room_for(k: Kernel, r: int, rows: int) -> bool:
    """`make_room` for several rows at once."""
    needed = k.states[r + R_NEXT] - k.states[r + R_FIRST] + rows
    if needed <= k.states[r + R_MASK] + 1:
        return True
    return resize_block(k, r, size_class(needed - 1))


@inner
def rows_until(k: Kernel, r: int, time: int) -> int:
    """Return the number of the first row of a key that is later than `time` (binary search)."""
    stay_apart()
    low, high = k.states[r + R_FIRST], k.states[r + R_NEXT]
    while low < high:
        middle = (low + high) >> 1
        if time_of(k, r, middle) <= time:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def copy_row(k: Kernel, r: int, source: int, target: int) -> None:
    """Copy one row of a key over another."""
    a, b = row_at(k, r, source), row_at(k, r, target)
    for j in range(k.program[STRIDE]):
        k.rows[b + j] = k.rows[a + j]


@inner
def open_gap(k: Kernel, r: int, number: int) -> None:
    """Move the rows from `number` on back by one. Needs `make_room`."""
    for i in range(k.states[r + R_NEXT], number, -1):
        copy_row(k, r, i - 1, i)
    k.states[r + R_NEXT] += 1
    k.meta[ROWS_HELD] += 1


@inner
def close_gap(k: Kernel, r: int, number: int) -> None:
    """Remove row `number`, moving the later ones forward by one."""
    for i in range(number, k.states[r + R_NEXT] - 1):
        copy_row(k, r, i + 1, i)
    k.states[r + R_NEXT] -= 1
    k.meta[ROWS_HELD] -= 1


@inner
def forget_until(k: Kernel, r: int, time: int) -> None:
    """Drop a key's rows up to `time`, and half of its block where a quarter suffices."""
    states = k.states
    first, following = states[r + R_FIRST], states[r + R_NEXT]
    start = first
    while first < following and time_of(k, r, first) <= time:
        first += 1
    if first == start:
        return
    states[r + R_FIRST] = first
    k.meta[ROWS_HELD] -= first - start
    capacity = states[r + R_MASK] + 1
    if capacity >= 4 and 4 * (following - first) <= capacity:
        resize_block(k, r, size_class(max(2 * (following - first), 2) - 1))
