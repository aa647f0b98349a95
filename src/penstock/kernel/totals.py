"""Counts and sums over a run of rows of one key, from running totals.

Going row by row, how many rows leave a window is another number each time: a CPU guesses it wrong about once a row and window,
which costs more than the sums. Here each of three loops has one known length. First the window's edges for every row of the
run; then the running totals of all rows that leave, and of all that enter, over the run; then each row's count and sum, which is what
had entered by then less what had left. Sums are exact integers, so they are the same whichever way they are made.
"""

from __future__ import annotations

import numpy as np

from penstock.kernel.batch import ENTERED_AT, HI_AT, LEFT_AT, LO_AT, TOTAL_WORDS, TOTALS
from penstock.kernel.bits import add_three_words, stay_apart, subtract_three_words
from penstock.kernel.cells import INT, Cell
from penstock.kernel.columns import IntArray
from penstock.kernel.jit import inlined, inner
from penstock.kernel.limbs import (
    FRACTION,
    HIDDEN_BIT,
    NARROW_SHIFTS,
    add_narrow_to,
    narrow_shift,
)
from penstock.kernel.program import (
    C_KIND,
    KEEPS_SUM,
    R_BLOCK,
    R_MASK,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
    STRIDE,
    SUM_WORDS,
    W_OFFSET,
    W_SIZE,
)
from penstock.kernel.rows import Kernel, row_at, window_at

AT_ONCE = 4  # rows looked at together for whether they have passed an edge


@inlined
def rows_passed(k: Kernel, block: int, mask: int, number: int, end: int, time: int) -> int:
    """Return the number of the first row from `number` up to `end` that is later than `time`; without branches if near."""
    stride = k.program[STRIDE]
    while True:
        passed = 0
        for ahead in range(AT_ONCE):
            at = k.rows[block + ((number + ahead) & mask) * stride + ROW_TIME]
            passed += np.int64(at <= time) & np.int64(number + ahead < end)
        number += passed
        if passed < AT_ONCE:
            return number


@inner
def find_edges(k: Kernel, r: int, w: int, first: int, rows: int) -> bool:
    """Write the edges of a window for each of its key's rows from `first` on; False where too many rows pass them."""
    stay_apart()
    states, scratch = k.states, k.scratch
    at = window_at(k, w)
    size, offset = k.program[at + W_SIZE], k.program[at + W_OFFSET]
    block, mask = states[r + R_BLOCK], states[r + R_MASK]
    lo, hi = states[r + RECORD_HEADER + 2 * w], states[r + RECORD_HEADER + 2 * w + 1]
    last_lo, last_hi = lo + TOTALS, hi + TOTALS
    for x in range(rows):
        upper = k.rows[row_at(k, r, first + x) + ROW_TIME] + offset
        hi = first + x + 1 if offset == 0 else rows_passed(k, block, mask, hi, first + x, upper)
        lo = rows_passed(k, block, mask, lo, hi, upper - size)
        scratch[LO_AT + x], scratch[HI_AT + x] = lo, hi
    return lo <= last_lo and hi <= last_hi


@inlined
def running_totals(k: Kernel, cell: Cell, r: int, begin: int, end: int, to: int) -> bool:
    """Add the rows from `begin` up to `end` to the total at `to` of the scratch words, writing each total behind the last.

    False where a value does not fit the narrow sums.
    """
    scratch = k.scratch
    is_float = k.program[cell.entry + C_KIND] != INT
    for number in range(begin, end):
        row = row_at(k, r, number)
        value = k.rows[row + ROW_LANES + cell.lane]
        following = to + TOTAL_WORDS
        scratch[following + SUM_WORDS] = scratch[to + SUM_WORDS] + (
            (k.rows[row + ROW_VALID] >> cell.lane) & 1
        )
        if cell.flags & KEEPS_SUM and not add_to_total(scratch, to, following, value, is_float):
            return False
        to = following
    return True


@inlined
def add_to_total(totals: IntArray, source: int, target: int, value: int, is_float: bool) -> bool:
    """Write the total at `source` and a value at `target`; False, and nothing, where the value does not fit the narrow sums."""
    if is_float and value != 0:
        shift = narrow_shift(value)
        if not 0 <= shift < NARROW_SHIFTS:
            return False
        size = (np.uint64(value) & FRACTION) | HIDDEN_BIT
        add_narrow_to(totals, source, target, size, shift, value < 0)
    else:
        sign = np.uint64(value >> 63)
        add_three_words(totals, source, target, np.uint64(value), sign, sign, False)
    return True


@inner
def find_totals(k: Kernel, cell: Cell, r: int, w: int, rows: int) -> bool:
    """Write the running totals of what leaves and of what enters a cell over a run; False where a value is too wide."""
    stay_apart()
    states, scratch = k.states, k.scratch
    edges = r + RECORD_HEADER + 2 * w
    for j in range(SUM_WORDS):
        scratch[LEFT_AT + j] = 0
        scratch[ENTERED_AT + j] = states[cell.sum + j]
    scratch[LEFT_AT + SUM_WORDS] = 0
    scratch[ENTERED_AT + SUM_WORDS] = states[cell.count]
    if not running_totals(k, cell, r, states[edges], scratch[LO_AT + rows - 1], LEFT_AT):
        return False
    return running_totals(k, cell, r, states[edges + 1], scratch[HI_AT + rows - 1], ENTERED_AT)


@inlined
def set_totals(k: Kernel, cell: Cell, lo: int, hi: int, x: int) -> None:
    """Make a cell hold what it holds for row `x` of the run, at whose beginning the window's edges were `lo` and `hi`."""
    states, scratch = k.states, k.scratch
    entered = ENTERED_AT + TOTAL_WORDS * (scratch[HI_AT + x] - hi)
    left = LEFT_AT + TOTAL_WORDS * (scratch[LO_AT + x] - lo)
    states[cell.count] = scratch[entered + SUM_WORDS] - scratch[left + SUM_WORDS]
    if cell.flags & KEEPS_SUM:
        subtract_three_words(states, cell.sum, scratch, entered, left)
