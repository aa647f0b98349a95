"""Sums whose terms halve every half-life, exact within blocks of time.

Time is cut into blocks of BLOCK half-lives. A row's term is its value times ``2**((t - end of block) / half_life)``, rounded once; the
terms of a block are summed exactly. A question at t adds, from the newest block to the oldest, the block's rounded sum times
``2**((end of block - t) / half_life)``; where that is below the least normal number, it and all older ones count nothing.

The sum of a block, laid out as a cell's, stands in columns of its last row in the window, whether that has a value or not;
LINK there is the last row of the block before.
"""

from __future__ import annotations

from penstock.kernel import elementary
from penstock.kernel.bits import bits_of, float_of
from penstock.kernel.cells import INT, WIDE_COUNT, WIDE_ROW, add_value, cell_at
from penstock.kernel.emit import rounded_sum
from penstock.kernel.extension import (
    DECAY_COLUMNS,
    DECAYED_COUNTS,
    Q_HI,
    Q_LO,
    X_TERM_CELL,
    XQ_COLUMN,
    XQ_KIND,
    XQ_PARAMETER,
    XQ_RECORD,
)
from penstock.kernel.jit import inner
from penstock.kernel.limbs import UNIT
from penstock.kernel.program import C_KIND, C_LANE, EXTENSION, ROW_LANES, ROW_TIME, ROW_VALID
from penstock.kernel.rows import POOL_FREE, POOL_FREE_COUNT, Kernel, row_at, time_of

BLOCK = 32
LINK = DECAY_COLUMNS - 1
NO_LINK = -1

exp2 = inner(elementary.exp2)


@inner
def summing_rows(k: Kernel) -> Kernel:
    """Return the kernel with the rows in place of the records, for sums that lie in columns."""
    return Kernel(k.table, k.meta, k.program, k.rows, k.rows, k.distinct, k.pool, k.scratch)


@inner
def end_of_block(k: Kernel, q: int, time: int) -> int:
    """Return when the block of a time ends."""
    length = BLOCK * k.program[q + XQ_PARAMETER]
    return (time // length + 1) * length


@inner
def add_term(k: Kernel, q: int, c: int, row: int, at: int, removing: bool) -> None:
    """Add the term of a row to the sum at `at` of `rows`, or take it away."""
    lane = k.program[c + C_LANE]
    if (k.rows[row + ROW_VALID] >> lane) & 1 == 0:
        return
    time, bits = k.rows[row + ROW_TIME], k.rows[row + ROW_LANES + lane]
    term = exp2(float(time - end_of_block(k, q, time)) / float(k.program[q + XQ_PARAMETER]))
    if k.program[q + XQ_KIND] != DECAYED_COUNTS:
        term *= float(bits) if k.program[c + C_KIND] == INT else float_of(bits)
    e = k.program[EXTENSION]
    sums = summing_rows(k)
    add_value(sums, cell_at(sums, 0, at, e + k.program[e + X_TERM_CELL]), at, bits_of(term), removing)


@inner
def push_decayed(k: Kernel, r: int, q: int, c: int, number: int) -> None:
    """Let a row in: it takes over the sum of its block, or begins one."""
    x, column = r + k.program[q + XQ_RECORD], k.program[q + XQ_COLUMN]
    row = row_at(k, r, number)
    for i in range(DECAY_COLUMNS):
        k.rows[row + column + i] = 0
    k.rows[row + column + LINK] = NO_LINK
    if k.states[x + Q_HI] > k.states[x + Q_LO]:
        before = row_at(k, r, number - 1)
        k.rows[row + column + LINK] = number - 1
        times = k.rows[before + ROW_TIME], k.rows[row + ROW_TIME]
        if end_of_block(k, q, times[0]) == end_of_block(k, q, times[1]):
            for i in range(DECAY_COLUMNS):
                k.rows[row + column + i] = k.rows[before + column + i]
    add_term(k, q, c, row, row + column, False)


@inner
def pop_decayed(k: Kernel, r: int, q: int, c: int, number: int) -> None:
    """Let a row out of the sum of its block."""
    end = end_of_block(k, q, time_of(k, r, number))
    low, high = number, k.states[r + k.program[q + XQ_RECORD] + Q_HI] - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if time_of(k, r, middle) < end:
            low = middle
        else:
            high = middle - 1
    at = row_at(k, r, low) + k.program[q + XQ_COLUMN]
    if low == number:
        release_sum(k, at)
    else:
        add_term(k, q, c, row_at(k, r, number), at, True)


@inner
def release_sum(k: Kernel, at: int) -> None:
    """Give back the wide words of a sum that is not needed any more."""
    if k.rows[at + WIDE_COUNT] != 0:
        row = k.rows[at + WIDE_ROW]
        k.pool[row] = k.meta[POOL_FREE]
        k.meta[POOL_FREE] = row
        k.meta[POOL_FREE_COUNT] += 1


@inner
def release_decayed(k: Kernel, r: int, q: int) -> None:
    """Give back the wide words of all blocks."""
    x, column = r + k.program[q + XQ_RECORD], k.program[q + XQ_COLUMN]
    number = k.states[x + Q_HI] - 1
    while number >= k.states[x + Q_LO]:
        at = row_at(k, r, number) + column
        release_sum(k, at)
        number = k.rows[at + LINK]


@inner
def decayed(k: Kernel, r: int, q: int, time: int) -> float:
    """Return the decayed sum of the window as of a time."""
    x, column = r + k.program[q + XQ_RECORD], k.program[q + XQ_COLUMN]
    half_life = float(k.program[q + XQ_PARAMETER])
    total = 0.0
    number = k.states[x + Q_HI] - 1
    while number >= k.states[x + Q_LO]:
        weight = exp2(float(end_of_block(k, q, time_of(k, r, number)) - time) / half_life)
        if weight == 0.0:
            break
        at = row_at(k, r, number) + column
        total += float_of(rounded_sum(summing_rows(k), at, UNIT)) * weight
        number = k.rows[at + LINK]
    return total
