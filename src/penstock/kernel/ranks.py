"""The n-th valid row of a window, by binary search in a column that counts the valid rows before each row."""

from __future__ import annotations

from penstock.kernel.extension import X_RANKS
from penstock.kernel.jit import inner
from penstock.kernel.program import (
    C_LANE,
    C_WINDOW,
    EXTENSION,
    LANES,
    R_FIRST,
    R_NEXT,
    RECORD_HEADER,
    ROW_VALID,
)
from penstock.kernel.rows import Kernel, row_at


@inner
def rank_column(k: Kernel, lane: int) -> int:
    """Return the column with the ranks of a lane; 0 where it has none."""
    e = k.program[EXTENSION]
    return k.program[e + k.program[e + X_RANKS] + lane]


@inner
def count_ranks(k: Kernel, r: int, number: int) -> None:
    """Make the ranks of the rows from `number` on anew."""
    for lane in range(k.program[LANES]):
        column = rank_column(k, lane)
        if column == 0:
            continue
        rank = 0
        if number > k.states[r + R_FIRST]:
            before = row_at(k, r, number - 1)
            rank = k.rows[before + column] + ((k.rows[before + ROW_VALID] >> lane) & 1)
        for n in range(number, k.states[r + R_NEXT]):
            row = row_at(k, r, n)
            k.rows[row + column] = rank
            rank += (k.rows[row + ROW_VALID] >> lane) & 1


@inner
def valid_row(k: Kernel, r: int, c: int, index: int) -> int:
    """Return the number of the valid row with `index` valid rows before it in the window; it must be there."""
    column = rank_column(k, k.program[c + C_LANE])
    edges = r + RECORD_HEADER + 2 * k.program[c + C_WINDOW]
    low, high = k.states[edges], k.states[edges + 1] - 1
    wanted = k.rows[row_at(k, r, low) + column] + index
    while low < high:
        middle = (low + high + 1) >> 1
        if k.rows[row_at(k, r, middle) + column] <= wanted:
            low = middle
        else:
            high = middle - 1
    return low
