"""Rows of one key that come in order, several at a time: cell by cell, so that what a cell is, is looked up once.

The rows are written first. Then each cell goes through them alone, with its window's edges: for each row it lets in what came
before, lets out what is too old, lets the row itself in, and writes its outputs. Nothing can be too small on the way: what is not
sure to find room is no run (`rows_in_order`), and is done row by row instead.
"""

from __future__ import annotations

import numpy as np

from penstock.kernel.batch import (
    APPLY,
    HI_AT,
    INPUTS_AHEAD,
    LO_AT,
    ROW_MASK,
    RUN_ROWS,
    Batch,
    place_of,
    prefetch_input,
)
from penstock.kernel.bits import is_finite_bits, stay_apart
from penstock.kernel.cells import FLOAT, Cell, cell_of, enter_cell, leave_cell
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.emit import TIME_SINCE_LAST, kind_of_lane, since_last, value_of
from penstock.kernel.jit import inlined, inner
from penstock.kernel.program import (
    C_BEGIN,
    C_END,
    CELLS,
    KEEPS_DISTINCT,
    KEEPS_LAST,
    KEEPS_MAX,
    KEEPS_MIN,
    KEEPS_SUM,
    LANES,
    LATENESS,
    O_FUNCTION,
    O_OUTPUT,
    OUTPUT_TABLE,
    OUTPUT_WORDS,
    R_BLOCK,
    R_FIRST,
    R_MASK,
    R_NEWEST,
    R_NEXT,
    R_REMEMBERED,
    R_SOUGHT,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
    SPAN,
    STRIDE,
    W_BEGIN,
    W_END,
    W_FLAGS,
    W_OFFSET,
    W_SIZE,
    WINDOWS,
)
from penstock.kernel.rows import (
    DISTINCT_MASK,
    DISTINCT_USED,
    DONE,
    NEEDS_ROWS,
    POOL_FREE_COUNT,
    ROWS_HELD,
    Kernel,
    forget_until,
    make_room_for,
    record_of,
    row_at,
    window_at,
)
from penstock.kernel.totals import find_edges, find_totals, set_totals
from penstock.kernel.windows import repair_cell

IN_ORDER = 0
FEW_ROWS = 4  # from here on, running totals pay


@inlined
def rows_in_order(k: Kernel, b: Batch, r: int, plan: IntArray, j: int, stop: int) -> int:
    """Return how many planned rows from `j` on are applied in order and sure to find room in what holds values."""
    states = k.states
    newest = max(states[r + R_NEWEST], states[r + R_SOUGHT], states[r + R_REMEMBERED])
    end = min(stop, j + RUN_ROWS)
    rows = 0
    while j + rows < end:
        i = plan[j + rows] & ROW_MASK
        if b.ops[i] != APPLY or b.times[i] < newest:
            break
        newest = b.times[i]
        rows += 1
    room = k.states[r + R_MASK] + 1 - (states[r + R_NEXT] - states[r + R_FIRST])
    if rows > room >= 8:
        rows = room  # rows leave before the next run: the block may be large enough for all
    return rows if is_sure_of_room(k, r, rows) else 0


@inner
def is_sure_of_room(k: Kernel, r: int, rows: int) -> bool:
    """Whether so many rows more can enter all windows without growing the pool or the table of distinct values."""
    if k.meta[POOL_FREE_COUNT] < k.program[CELLS]:
        return False
    entering = 0
    for w in range(k.program[WINDOWS]):
        at = window_at(k, w)
        if k.program[at + W_FLAGS] & KEEPS_DISTINCT:
            behind = k.states[r + R_NEXT] - k.states[r + RECORD_HEADER + 2 * w + 1]
            entering += (behind + rows) * (k.program[at + W_END] - k.program[at + W_BEGIN])
    return 4 * (k.meta[DISTINCT_USED] + entering) <= 3 * (k.meta[DISTINCT_MASK] + 1)


@inner
def take_rows(k: Kernel, b: Batch, slot: int, plan: IntArray, j: int, rows: int) -> int:
    """Apply planned rows from `j` on, which are in order, and write their outputs; return DONE or what must grow first."""
    r = record_of(k, slot)
    states = k.states
    if not make_room_for(k, r, rows):
        return NEEDS_ROWS
    first = states[r + R_NEXT]
    newest = write_rows(k, b, r, plan, j, rows)
    for w in range(k.program[WINDOWS]):
        move_window(k, b, slot, r, w, plan, j, first, rows)
    states[r + R_NEWEST] = states[r + R_SOUGHT] = states[r + R_REMEMBERED] = newest
    forget_until(k, r, newest - k.program[LATENESS] - k.program[SPAN])
    return DONE


@inlined
def write_rows(k: Kernel, b: Batch, r: int, plan: IntArray, j: int, rows: int) -> int:
    """Write planned rows behind the key's last; return the time of the latest."""
    first = k.states[r + R_NEXT]
    time = np.int64(0)
    for x in range(rows):
        prefetch_input(k, b, plan[j + x + INPUTS_AHEAD] & ROW_MASK)
        i = plan[j + x] & ROW_MASK
        time = b.times[i]
        write_row(k, row_at(k, r, first + x), i, time, b.lanes, b.valid)
        b.lateness[i] = IN_ORDER
    k.states[r + R_NEXT] = first + rows
    k.meta[ROWS_HELD] += rows
    return time


@inlined
def write_row(k: Kernel, row: int, i: int, time: int, lanes: IntArray, valid: BoolArray) -> None:
    """Write row `i` of the input into the arena."""
    mask = np.int64(0)
    for lane in range(k.program[LANES]):
        value = lanes[i * k.program[LANES] + lane]
        value, present = entering(
            value, valid[i * k.program[LANES] + lane] != 0, kind_of_lane(k, lane) == FLOAT
        )
        mask |= np.int64(present) << lane
        k.rows[row + ROW_LANES + lane] = value
    k.rows[row + ROW_TIME] = time
    k.rows[row + ROW_VALID] = mask


@inlined
def entering(value: int, present: bool, is_float: bool) -> tuple[int, bool]:
    """Return a value as it enters, and whether it is one: floats that are not finite are null, -0.0 is 0.0."""
    if is_float:
        present = present and is_finite_bits(value)
        if value == np.int64(-0x8000000000000000):
            value = np.int64(0)
    return (value if present else np.int64(0)), present


@inlined
def move_window(
    k: Kernel, b: Batch, slot: int, r: int, w: int, plan: IntArray, j: int, first: int, rows: int
) -> None:
    """Move a window over rows of its key from number `first` on, once for each of its cells."""
    at = window_at(k, w)
    edges = r + RECORD_HEADER + 2 * w
    lo, hi = k.states[edges], k.states[edges + 1]
    has_edges = rows >= FEW_ROWS and find_edges(k, r, w, first, rows)
    for number in range(k.program[at + W_BEGIN], k.program[at + W_END]):
        k.states[edges], k.states[edges + 1] = lo, hi
        cell = cell_of(k, slot, r, number)
        if has_edges and cell.flags | KEEPS_SUM == KEEPS_SUM and find_totals(k, cell, r, w, rows):
            move_summing_cell(k, b, cell, r, w, plan, j, rows)
        else:
            move_cell(k, b, cell, r, w, plan, j, first, rows)


@inlined
def move_summing_cell(
    k: Kernel, b: Batch, cell: Cell, r: int, w: int, plan: IntArray, j: int, rows: int
) -> None:
    """`move_cell` of a cell that keeps nothing but count and sum, whose totals are found."""
    edges = r + RECORD_HEADER + 2 * w
    lo, hi = k.states[edges], k.states[edges + 1]
    for x in range(rows):
        set_totals(k, cell, lo, hi, x)
        k.states[edges], k.states[edges + 1] = k.scratch[LO_AT + x], k.scratch[HI_AT + x]
        emit_of(k, b, r, cell.entry, place_of(b, plan[j + x], j + x))


@inlined
def move_cell(
    k: Kernel, b: Batch, cell: Cell, r: int, w: int, plan: IntArray, j: int, first: int, rows: int
) -> None:
    """Move one cell over rows of its key: what `seek`, `extend` and `emit` do for all cells and one row."""
    states, arena = k.states, k.rows
    at = window_at(k, w)
    size, offset = k.program[at + W_SIZE], k.program[at + W_OFFSET]
    block, mask, stride = states[r + R_BLOCK], states[r + R_MASK], k.program[STRIDE]
    edges = r + RECORD_HEADER + 2 * w
    lo, hi = states[edges], states[edges + 1]
    for number in range(first, first + rows):
        row = block + (number & mask) * stride
        time = arena[row + ROW_TIME]
        while hi < number:
            other = block + (hi & mask) * stride
            if arena[other + ROW_TIME] > time + offset:
                break
            enter_cell(k, cell, r, other, hi, True)
            hi += 1
        while lo < hi:
            other = block + (lo & mask) * stride
            if arena[other + ROW_TIME] > time + offset - size:
                break
            leave_cell(k, cell, r, other)
            lo += 1
        states[edges] = lo
        if cell.flags & (KEEPS_MIN | KEEPS_MAX):
            repair_cell(k, r, cell.entry, lo, hi)
        place = place_of(b, plan[j + number - first], j + number - first)
        if cell.flags & KEEPS_LAST:
            emit_since_of(k, b, r, cell.entry, time, place)
        if offset == 0:
            enter_cell(k, cell, r, row, number, True)
            hi = number + 1
        states[edges + 1] = hi
        emit_of(k, b, r, cell.entry, place)


@inner
def emit_since_of(k: Kernel, b: Batch, r: int, c: int, time: int, place: int) -> None:
    """`emit_since` of one cell."""
    stay_apart()
    for q in range(k.program[c + C_BEGIN], k.program[c + C_END]):
        o = k.program[OUTPUT_TABLE] + q * OUTPUT_WORDS
        if k.program[o + O_FUNCTION] == TIME_SINCE_LAST:
            to = place * b.down + k.program[o + O_OUTPUT] * b.across
            b.bits[to], b.ok[to] = since_last(k, r, c, time)


@inlined
def emit_of(k: Kernel, b: Batch, r: int, c: int, place: int) -> None:
    """`emit` of one cell."""
    for q in range(k.program[c + C_BEGIN], k.program[c + C_END]):
        o = k.program[OUTPUT_TABLE] + q * OUTPUT_WORDS
        function = k.program[o + O_FUNCTION]
        if function == TIME_SINCE_LAST:
            continue
        to = place * b.down + k.program[o + O_OUTPUT] * b.across
        value, valid = value_of(k, r, c, function)
        b.bits[to] = value if valid else 0
        b.ok[to] = valid
