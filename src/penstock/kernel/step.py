"""What is done with the rows of a key: the function that everything else in the kernel is part of.

Rows that come in order are taken several at a time (`runs.py`), all others one by one, here: look-ups, late rows, and rows
for which an array may be too small.
"""

from __future__ import annotations

from numba import types

from penstock.kernel.batch import (
    APPLY,
    LOOKUP,
    NO_KEY,
    PLAN_AT,
    PLANNED_IN_SCRATCH,
    ROW_MASK,
    SCRATCH_WORDS,
    Batch,
    batch_of,
    batches_of,
    place_of,
    spread,
)
from penstock.kernel.bits import behind, pointer, stay_apart
from penstock.kernel.cells import NEVER, room_for_cells
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.emit import emit, emit_since
from penstock.kernel.jit import (
    I8,
    READ_B1_2D,
    READ_I8,
    READ_I8_2D,
    READ_U1,
    U1,
    WRITE_B1_2D,
    WRITE_I8_2D,
    ByteArray,
    entry,
    inlined,
    inner,
)
from penstock.kernel.keys import release
from penstock.kernel.program import (
    AGGREGATES,
    ENDLESS_LATEST,
    HAS_SINCE,
    LATENESS,
    R_BLOCK,
    R_FIRST,
    R_MASK,
    R_NEWEST,
    R_NEXT,
    R_REMEMBERED,
    R_SOUGHT,
    SPAN,
    W_OFFSET,
    W_SIZE,
    WINDOWS,
)
from penstock.kernel.rows import (
    DONE,
    NEEDS_ROWS,
    ROWS_HELD,
    Kernel,
    close_gap,
    forget_until,
    free_block,
    kernel_at,
    make_room,
    open_gap,
    record_of,
    row_at,
    rows_until,
    size_class,
    time_of,
    window_at,
)
from penstock.kernel.runs import IN_ORDER, rows_in_order, take_rows, write_row
from penstock.kernel.windows import clear_window, extend, leave_front, retract, seek

__all__ = ["APPLY", "LOOKUP", "NO_KEY", "PLANNED_IN_SCRATCH", "SCRATCH_WORDS", "TOO_LATE", "run"]
LATE, TOO_LATE = 1, 2


@inner
def drop_state(k: Kernel, slot: int) -> None:
    """Free all that a detached slot holds."""
    stay_apart()
    r = record_of(k, slot)
    for w in range(k.program[WINDOWS]):
        clear_window(k, slot, r, w)
    k.meta[ROWS_HELD] -= k.states[r + R_NEXT] - k.states[r + R_FIRST]
    if k.states[r + R_MASK] >= 0:
        free_block(k, k.states[r + R_BLOCK], size_class(k.states[r + R_MASK]))
    release(k.table, slot)


@inlined
def seek_all(k: Kernel, slot: int, r: int, time: int) -> int:
    """Move all windows of a key to where a row or look-up at `time` sees them."""
    program, states = k.program, k.states
    newest = states[r + R_NEWEST]
    remembered = time
    if newest != NEVER and newest - program[LATENESS] > time:
        remembered = newest - program[LATENESS]
    forward = time >= states[r + R_SOUGHT] and remembered >= states[r + R_REMEMBERED]
    for w in range(program[WINDOWS]):
        at = window_at(k, w)
        upper = time + program[at + W_OFFSET]
        lower = remembered + program[at + W_OFFSET] - program[at + W_SIZE]
        status = seek(k, slot, r, w, min(lower, upper), upper, forward)
        if status != DONE:
            return status
    states[r + R_SOUGHT], states[r + R_REMEMBERED] = time, remembered
    return DONE


@inlined
def room_to_insert(k: Kernel, r: int) -> int:
    """Return DONE where a row can be inserted and enter its windows, else what must grow."""
    status = room_for_cells(k)
    if status != DONE:
        return status
    return DONE if make_room(k, r) else NEEDS_ROWS


@inlined
def extend_windows(k: Kernel, slot: int, r: int, number: int) -> int:
    """Let a row just inserted into its own windows: those without offset. Return 0; rows enter nothing else."""
    for w in range(k.program[WINDOWS]):
        if k.program[window_at(k, w) + W_OFFSET] == 0:
            extend(k, slot, r, w, number)
    return 0


@inner
def take_back(k: Kernel, slot: int, r: int, number: int) -> None:
    """Undo the insertion of a row that was too late."""
    stay_apart()
    for w in range(k.program[WINDOWS]):
        if k.program[window_at(k, w) + W_OFFSET] == 0:
            retract(k, slot, r, w, number)
    close_gap(k, r, number)


@inner
def forget_superseded(k: Kernel, slot: int, r: int) -> None:
    """Of the rows up to the horizon keep only those of the latest time: a profile without end has no other use for them."""
    stay_apart()
    behind_horizon = rows_until(k, r, k.states[r + R_NEWEST] - k.program[LATENESS])
    if behind_horizon - k.states[r + R_FIRST] < 2:
        return
    until = time_of(k, r, behind_horizon - 1) - 1
    for w in range(k.program[WINDOWS]):
        leave_front(k, slot, r, w, until)
    forget_until(k, r, until)


@inner
def work_on_row(k: Kernel, b: Batch, slot: int, i: int, place: int) -> int:
    """Do row `i` of the batch on a key and write its output; return DONE or what must grow before it is tried again."""
    op, time = b.ops[i], b.times[i]
    r = record_of(k, slot)
    status = seek_all(k, slot, r, time)
    if status == DONE and op == APPLY:
        status = room_to_insert(k, r)
    if status != DONE:
        return status
    if k.program[HAS_SINCE] != 0:
        emit_since(k, r, time, place, b.bits, b.ok, b.down, b.across)
    if op == LOOKUP:
        b.lateness[i] = 0
        emit(k, r, place, b.bits, b.ok, b.down, b.across)
        return DONE
    newest = k.states[r + R_NEWEST]
    code = IN_ORDER
    number = k.states[r + R_NEXT]
    if newest != NEVER and time < newest:
        code = LATE if time >= newest - k.program[LATENESS] else TOO_LATE
        number = rows_until(k, r, time)
    open_gap(k, r, number)
    write_row(k, row_at(k, r, number), i, time, b.lanes, b.valid)
    extend_windows(k, slot, r, number)
    emit(k, r, place, b.bits, b.ok, b.down, b.across)
    b.lateness[i] = code
    if code == TOO_LATE:
        take_back(k, slot, r, number)
    elif code == IN_ORDER:
        k.states[r + R_NEWEST] = time
        forget_until(k, r, time - k.program[LATENESS] - k.program[SPAN])
    if k.program[ENDLESS_LATEST] != 0 and code != TOO_LATE:
        forget_superseded(k, slot, r)
    return DONE


@inner
def work(k: Kernel, b: Batch, slot: int, plan: IntArray, j: int, stop: int) -> int:
    """Do rows of a key, which stand in the plan from `j` up to `stop`: how many, or the negative of what must grow first."""
    r = record_of(k, slot)
    rows = rows_in_order(k, b, r, plan, j, stop)
    if rows > 0:
        status = take_rows(k, b, slot, plan, j, rows)
        if status == DONE and k.program[ENDLESS_LATEST] != 0:
            forget_superseded(k, slot, r)
    else:
        rows = 1
        status = work_on_row(k, b, slot, plan[j] & ROW_MASK, place_of(b, plan[j], j))
    return rows if status == DONE else -status


do_batch = batches_of(work, drop_state)
RUN_TYPES = (
    types.int64,
    I8,
    *(READ_I8, READ_U1, READ_I8, READ_I8_2D, READ_B1_2D, READ_U1),
    *(WRITE_I8_2D, WRITE_B1_2D, U1, I8),
)


@entry(*RUN_TYPES)
def run(
    frame: IntArray,
    offsets: IntArray,
    data: ByteArray,
    times: IntArray,
    lanes: IntArray,
    valid: BoolArray,
    ops: ByteArray,
    bits: IntArray,
    ok: BoolArray,
    lateness: ByteArray,
    space: IntArray,
) -> int:
    """Work on a batch from `meta[POSITION]` on; return DONE, or what must grow before it is called again.

    `frame` holds the addresses of the state's arrays: taking over ten arrays costs as much as an event's work.
    `bits` and `ok` are of the same layout, row by row or column by column; `space` has `workspace_words`.
    """
    k = kernel_at(frame)
    b = batch_of(k, offsets, data, times, lanes, valid, ops, bits, ok, lateness, space)
    n = len(times)
    plan = behind(k.scratch, PLAN_AT) if b.direct else pointer(space)
    status = do_batch(k, b, n, plan)
    if status == DONE and not b.direct:
        spread(b, n, plan, bits, ok, k.program[AGGREGATES])
    return status
