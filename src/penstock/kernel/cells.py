"""What is kept for one lane in one window of one key, and how a row enters and leaves it.

Everything is exact and reversible: counts, integer sums (limbs.py) and counted distinct values. Minima and maxima
are the two-stack scheme (see windows.py); here only their back part grows. `last` is the number of the latest
valid row before the window's upper edge, whether or not it has left through the lower one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from penstock.kernel.bits import multiply_high, ordered, stay_apart
from penstock.kernel.columns import IntArray
from penstock.kernel.hashing import hash_words
from penstock.kernel.jit import inlined, inner
from penstock.kernel.keys import SEED
from penstock.kernel.limbs import (
    FRACTION,
    HIDDEN_BIT,
    NARROW_SHIFTS,
    add_narrow,
    add_shifted,
    fraction_and_exponent,
    is_narrow,
    narrow_shift,
)
from penstock.kernel.program import (
    C_COUNT,
    C_DISTINCT,
    C_EXTREMES,
    C_FLAGS,
    C_KIND,
    C_LANE,
    C_LAST,
    C_SQUARES,
    C_SUM,
    CELL_TABLE,
    CELL_WORDS,
    CELLS,
    KEEPS_DISTINCT,
    KEEPS_LAST,
    KEEPS_MAX,
    KEEPS_MIN,
    KEEPS_SQUARES,
    KEEPS_SUM,
    POOL_WORDS,
    R_MASK,
    R_NEWEST,
    R_REMEMBERED,
    R_SOUGHT,
    RECORD,
    ROW_LANES,
    ROW_VALID,
    SQUARES_WORDS,
    SUM_WORDS,
    W_BEGIN,
    W_END,
    WIDE_SQUARES_WORDS,
    WIDE_SUM_WORDS,
)
from penstock.kernel.rows import (
    DISTINCT_MASK,
    DISTINCT_USED,
    DONE,
    NEEDS_DISTINCT,
    NEEDS_POOL,
    POOL_FREE,
    POOL_FREE_COUNT,
    Kernel,
    window_at,
)

INT, FLOAT = 1, 0
NOT_YET = np.iinfo(np.int64).max
NEVER = np.iinfo(np.int64).min
DISTINCT_WORDS = 3
# Behind a cell's narrow sum: how many values of the window are wide, and the row of the pool that sums them.
WIDE_COUNT, WIDE_ROW = SUM_WORDS, SUM_WORDS + 1
# A cell's extremes.
MIDDLE, BACK_MIN, BACK_MAX = 0, 1, 2
UNUSABLE = -1


@inlined
def room_for_cells(k: Kernel) -> int:
    """Return DONE where a row can enter all windows without growing an array, else what must grow."""
    cells = k.program[CELLS]
    if 4 * (k.meta[DISTINCT_USED] + cells) > 3 * (k.meta[DISTINCT_MASK] + 1):
        return NEEDS_DISTINCT
    return NEEDS_POOL if k.meta[POOL_FREE_COUNT] < cells else DONE


class Cell(NamedTuple):
    """One cell of one key, looked up once for all rows that enter and leave it.

    `entry` is its place in the program, `count` and `sum` are places in `states`, `owner` is whose its distinct values are.
    """

    entry: int
    lane: int
    flags: int
    narrow: bool
    count: int
    sum: int
    owner: int


@inlined
def cell_of(k: Kernel, slot: int, r: int, cell: int) -> Cell:
    """Return a key's cell."""
    return cell_at(k, slot * k.program[CELLS] + cell + 1, r, k.program[CELL_TABLE] + cell * CELL_WORDS)


@inlined
def cell_at(k: Kernel, owner: int, r: int, c: int) -> Cell:
    """Return the cell with the entry at `c` of the key with record `r`."""
    program = k.program
    flags = program[c + C_FLAGS]
    return Cell(
        c,
        program[c + C_LANE],
        flags,
        program[c + C_KIND] != INT and flags & KEEPS_SQUARES == 0,
        r + program[c + C_COUNT],
        r + program[c + C_SUM],
        owner,
    )


@inlined
def enter(k: Kernel, slot: int, r: int, w: int, row: int, number: int, back: bool) -> None:
    """Let a row into the cells of window `w`, at the back or at the front. Needs `room_for_cells`."""
    at = window_at(k, w)
    for cell in range(k.program[at + W_BEGIN], k.program[at + W_END]):
        enter_cell(k, cell_of(k, slot, r, cell), r, row, number, back)


@inlined
def enter_cell(k: Kernel, cell: Cell, r: int, row: int, number: int, back: bool) -> None:
    """Let a row into one cell."""
    if (k.rows[row + ROW_VALID] >> cell.lane) & 1 == 0:
        return
    value = k.rows[row + ROW_LANES + cell.lane]
    k.states[cell.count] += 1
    if cell.flags & KEEPS_SUM:
        add_value(k, cell, r, value, False)
    if cell.flags & (KEEPS_MIN | KEEPS_MAX | KEEPS_LAST | KEEPS_DISTINCT):
        note_value(k, cell.owner, r, cell.entry, value, number, back)


@inner
def note_value(k: Kernel, owner: int, r: int, c: int, value: int, number: int, back: bool) -> None:
    """Let the value of a row that enters into a cell's extremes, last and distinct values."""
    stay_apart()
    program, states = k.program, k.states
    flags = program[c + C_FLAGS]
    if back and flags & (KEEPS_MIN | KEEPS_MAX):
        e = r + program[c + C_EXTREMES]
        order = value if program[c + C_KIND] == INT else ordered(value)
        states[e + BACK_MIN] = min(states[e + BACK_MIN], order)
        states[e + BACK_MAX] = max(states[e + BACK_MAX], order)
    if back and flags & KEEPS_LAST:
        states[r + program[c + C_LAST]] = number
    if flags & KEEPS_DISTINCT:
        states[r + program[c + C_DISTINCT]] += add_distinct(k, owner, value)


@inlined
def leave(k: Kernel, slot: int, r: int, w: int, row: int) -> None:
    """Let a row out of the cells of window `w`. Extremes and last are repaired by the caller."""
    at = window_at(k, w)
    for cell in range(k.program[at + W_BEGIN], k.program[at + W_END]):
        leave_cell(k, cell_of(k, slot, r, cell), r, row)


@inlined
def leave_cell(k: Kernel, cell: Cell, r: int, row: int) -> None:
    """Let a row out of one cell."""
    if (k.rows[row + ROW_VALID] >> cell.lane) & 1 == 0:
        return
    value = k.rows[row + ROW_LANES + cell.lane]
    k.states[cell.count] -= 1
    if cell.flags & KEEPS_SUM:
        add_value(k, cell, r, value, True)
    if cell.flags & KEEPS_DISTINCT:
        k.states[r + k.program[cell.entry + C_DISTINCT]] -= drop_distinct(k, cell.owner, value)


@inlined
def add_value(k: Kernel, cell: Cell, r: int, value: int, removing: bool) -> None:
    """Add a value to a cell's sums, or take it away."""
    shift = narrow_shift(value)
    if cell.narrow and 0 <= shift < NARROW_SHIFTS:
        size = (np.uint64(value) & FRACTION) | HIDDEN_BIT
        add_narrow(k.states, cell.sum, size, shift, (value < 0) != removing)
    elif value != 0:
        add_any_value(k, r, cell.entry, value, removing)


@inner
def add_any_value(k: Kernel, r: int, c: int, value: int, removing: bool) -> None:
    """`add_value` where it is not a normal float of middling size, or squares are kept, too."""
    stay_apart()
    program, states = k.program, k.states
    negative = (value < 0) != removing
    shift = 0
    if program[c + C_KIND] == INT:
        size = np.uint64(-value if value < 0 else value)
    else:
        size, exponent = fraction_and_exponent(value)
        if not is_narrow(size, exponent):
            add_wide(k, r, c, size, exponent - 1, negative, removing)
            return
        shift = narrow_shift(value)
        if shift < 0:
            size = size >> np.uint64(-shift)
            shift = 0
    add_narrow(states, r + program[c + C_SUM], size, shift, negative)
    if program[c + C_FLAGS] & KEEPS_SQUARES:
        at = r + program[c + C_SQUARES]
        high = multiply_high(size, size)
        add_shifted(states, at, SQUARES_WORDS, size * size, high, 2 * shift, removing)


@inner
def add_wide(k: Kernel, r: int, c: int, size: int, shift: int, negative: bool, removing: bool) -> None:
    """Add a value to the cell's wide sums, or take it away; they have a row of the pool while they are needed."""
    stay_apart()
    program, states, pool = k.program, k.states, k.pool
    s = r + program[c + C_SUM]
    if states[s + WIDE_COUNT] == 0:
        states[s + WIDE_ROW] = take_pool_row(k)
    at = states[s + WIDE_ROW]
    add_shifted(pool, at, WIDE_SUM_WORDS, size, np.uint64(0), shift, negative)
    if program[c + C_FLAGS] & KEEPS_SQUARES:
        high = multiply_high(size, size)
        add_shifted(pool, at + WIDE_SUM_WORDS, WIDE_SQUARES_WORDS, size * size, high, 2 * shift, removing)
    states[s + WIDE_COUNT] += -1 if removing else 1
    if states[s + WIDE_COUNT] == 0:
        pool[at] = k.meta[POOL_FREE]
        k.meta[POOL_FREE] = at
        k.meta[POOL_FREE_COUNT] += 1


@inner
def take_pool_row(k: Kernel) -> int:
    """Return where a zeroed row of the pool begins."""
    at = k.meta[POOL_FREE]
    k.meta[POOL_FREE] = k.pool[at]
    k.meta[POOL_FREE_COUNT] -= 1
    for i in range(k.program[POOL_WORDS]):
        k.pool[at + i] = 0
    return at


@inner
def find_distinct(k: Kernel, owner: int, value: int) -> int:
    """Return where the counter of (owner, value) is, or where it would be."""
    mask = k.meta[DISTINCT_MASK]
    i = np.int64(hash_words(owner, value, k.meta[SEED])) & mask
    while True:
        d = DISTINCT_WORDS * i
        if k.distinct[d] == 0 or (k.distinct[d] == owner and k.distinct[d + 1] == value):
            return i
        i = (i + 1) & mask


@inner
def add_distinct(k: Kernel, owner: int, value: int) -> int:
    """Count a value of an owner once more; return 1 where it is new."""
    stay_apart()
    d = DISTINCT_WORDS * find_distinct(k, owner, value)
    if k.distinct[d] != 0:
        k.distinct[d + 2] += 1
        return 0
    k.distinct[d] = owner
    k.distinct[d + 1] = value
    k.distinct[d + 2] = 1
    k.meta[DISTINCT_USED] += 1
    return 1


@inner
def drop_distinct(k: Kernel, owner: int, value: int) -> int:
    """Count a value of an owner once less; return 1 where it is gone (its entry is deleted by backward shift)."""
    stay_apart()
    distinct, mask = k.distinct, k.meta[DISTINCT_MASK]
    hole = find_distinct(k, owner, value)
    distinct[DISTINCT_WORDS * hole + 2] -= 1
    if distinct[DISTINCT_WORDS * hole + 2] > 0:
        return 0
    k.meta[DISTINCT_USED] -= 1
    i = (hole + 1) & mask
    while distinct[DISTINCT_WORDS * i] != 0:
        d = DISTINCT_WORDS * i
        home = np.int64(hash_words(distinct[d], distinct[d + 1], k.meta[SEED])) & mask
        if ((i - home) & mask) >= ((i - hole) & mask):
            for j in range(DISTINCT_WORDS):
                distinct[DISTINCT_WORDS * hole + j] = distinct[d + j]
            hole = i
        i = (i + 1) & mask
    distinct[DISTINCT_WORDS * hole] = 0
    return 1


@inner
def reset_record(k: Kernel, r: int) -> None:
    """Make a key's record that of a key without rows."""
    stay_apart()
    program, states = k.program, k.states
    for i in range(program[RECORD]):
        states[r + i] = 0
    states[r + R_NEWEST] = NEVER
    states[r + R_SOUGHT] = states[r + R_REMEMBERED] = NEVER
    states[r + R_MASK] = -1
    for cell in range(program[CELLS]):
        c = program[CELL_TABLE] + cell * CELL_WORDS
        flags = program[c + C_FLAGS]
        if flags & (KEEPS_MIN | KEEPS_MAX):
            e = r + program[c + C_EXTREMES]
            states[e + BACK_MIN] = NOT_YET
            states[e + BACK_MAX] = NEVER
        if flags & KEEPS_LAST:
            states[r + program[c + C_LAST]] = -1


@inner
def grow_distinct(source: IntArray, target: IntArray, mask: int, seed: int) -> None:
    """Enter all counters of one table into another, empty one."""
    for i in range(len(source) // DISTINCT_WORDS):
        d = DISTINCT_WORDS * i
        if source[d] == 0:
            continue
        j = np.int64(hash_words(source[d], source[d + 1], seed)) & mask
        while target[DISTINCT_WORDS * j] != 0:
            j = (j + 1) & mask
        for n in range(DISTINCT_WORDS):
            target[DISTINCT_WORDS * j + n] = source[d + n]
