"""The step of programs with an extension: the core's, with more kinds of windows and functions.

Rows, keys, cells and their windows are the core's own; `work_extended` puts them together with what stands beside them:
edges that move by tiles or not at all, values read before the asking row is in, ranks, and bases of lifetime windows.
"""

from __future__ import annotations

from penstock.kernel.bases import fold_until, free_bases, room_to_fold
from penstock.kernel.batch import (
    APPLY,
    LOOKUP,
    PLAN_AT,
    ROW_MASK,
    Batch,
    batch_of,
    batches_of,
    place_of,
    spread,
)
from penstock.kernel.bits import behind, pointer, stay_apart
from penstock.kernel.cells import NEVER
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.extended_emit import emit_extended
from penstock.kernel.extension import (
    X_WINDOWS,
    XW_HOLDS_ASKING,
    XW_INTERVAL,
    XW_LIFETIME,
    XW_WORDS,
)
from penstock.kernel.jit import ByteArray, entry, inner
from penstock.kernel.program import (
    AGGREGATES,
    EXTENSION,
    LATENESS,
    R_BLOCK,
    R_NEWEST,
    R_NEXT,
    R_REMEMBERED,
    R_SOUGHT,
    SPAN,
    W_OFFSET,
    W_SIZE,
    WINDOWS,
)
from penstock.kernel.queues import clear_queues, follow, room_for_queues
from penstock.kernel.ranks import count_ranks
from penstock.kernel.rows import (
    DONE,
    Kernel,
    close_gap,
    forget_until,
    kernel_at,
    open_gap,
    record_of,
    row_at,
    rows_until,
    window_at,
)
from penstock.kernel.runs import IN_ORDER, write_row
from penstock.kernel.step import LATE, RUN_TYPES, TOO_LATE, drop_state, room_to_insert
from penstock.kernel.windows import extend, retract, seek


@inner
def extended_window(k: Kernel, w: int) -> int:
    """Return where the extension's entry of a window begins in `program`."""
    e = k.program[EXTENSION]
    return e + k.program[e + X_WINDOWS] + w * XW_WORDS


@inner
def edges_of(k: Kernel, w: int, time: int, remembered: int) -> tuple[int, int]:
    """Return the edges (lower, upper) of window `w` as of a time: it holds the rows ``lower < time <= upper``."""
    at, x = window_at(k, w), extended_window(k, w)
    interval = k.program[x + XW_INTERVAL]
    upper = remembered if k.program[x + XW_LIFETIME] != 0 else time
    lower = remembered
    if interval != 0:
        upper = upper // interval * interval - 1
        lower = lower // interval * interval - 1
    if k.program[x + XW_LIFETIME] != 0:
        return NEVER, upper
    upper += k.program[at + W_OFFSET]
    lower += k.program[at + W_OFFSET] - k.program[at + W_SIZE]
    return min(lower, upper), upper


@inner
def seek_edges(k: Kernel, slot: int, r: int, time: int) -> int:
    """Move all windows of a key to where a row or look-up at `time` sees them; DONE or what must grow first."""
    program, states = k.program, k.states
    newest = states[r + R_NEWEST]
    remembered = time
    if newest != NEVER and newest - program[LATENESS] > time:
        remembered = newest - program[LATENESS]
    forward = time >= states[r + R_SOUGHT] and remembered >= states[r + R_REMEMBERED]
    for w in range(program[WINDOWS]):
        lower, upper = edges_of(k, w, time, remembered)
        status = seek(k, slot, r, w, lower, upper, forward)
        if status != DONE:
            return status
    states[r + R_SOUGHT], states[r + R_REMEMBERED] = time, remembered
    return DONE


@inner
def holds_asking(k: Kernel, w: int, code: int) -> bool:
    """Whether window `w` holds the row that asks; one that is too late is not in a lifetime."""
    x = extended_window(k, w)
    return k.program[x + XW_HOLDS_ASKING] != 0 and (code != TOO_LATE or k.program[x + XW_LIFETIME] == 0)


@inner
def put_in(k: Kernel, b: Batch, slot: int, r: int, number: int, i: int, code: int) -> None:
    """Insert row `i` of the batch and let it into its own windows."""
    if code != IN_ORDER:
        clear_queues(k, slot, r)
    open_gap(k, r, number)
    write_row(k, row_at(k, r, number), i, b.times[i], b.lanes, b.valid)
    count_ranks(k, r, number)
    for w in range(k.program[WINDOWS]):
        if holds_asking(k, w, code):
            extend(k, slot, r, w, number)


@inner
def take_out(k: Kernel, slot: int, r: int, number: int) -> None:
    """Undo `put_in` of a row that was too late."""
    stay_apart()
    clear_queues(k, slot, r)
    for w in range(k.program[WINDOWS]):
        if holds_asking(k, w, TOO_LATE):
            retract(k, slot, r, w, number)
    close_gap(k, r, number)
    count_ranks(k, r, number)


@inner
def lateness_of(k: Kernel, r: int, time: int) -> int:
    """Return how a row at `time` stands to the newest row of its key."""
    newest = k.states[r + R_NEWEST]
    if newest == NEVER or time >= newest:
        return IN_ORDER
    return LATE if time >= newest - k.program[LATENESS] else TOO_LATE


@inner
def room_to_put_in(k: Kernel, slot: int, r: int, time: int) -> int:
    """Return DONE where a row can be put in and what it makes forgotten folded, else what must grow."""
    block = k.states[r + R_BLOCK]
    status = room_to_insert(k, r)
    if k.states[r + R_BLOCK] != block:
        clear_queues(k, slot, r)
    if status == DONE and lateness_of(k, r, time) == IN_ORDER:
        status = room_to_fold(k, r, time - k.program[LATENESS] - k.program[SPAN])
    return status


@inner
def make_ready(k: Kernel, slot: int, r: int, op: int, time: int) -> int:
    """Move windows and queues to where an operation sees them, with room for what it does; DONE or what must grow."""
    status = seek_edges(k, slot, r, time)
    if status == DONE and op == APPLY:
        status = room_to_put_in(k, slot, r, time)
    if status == DONE:
        status = follow(k, slot, r)
    if status == DONE and op == APPLY:
        status = room_for_queues(k)
    return status


@inner
def forget(k: Kernel, slot: int, r: int, time: int) -> None:
    """Drop a key's rows up to `time`, folded into its bases."""
    block = k.states[r + R_BLOCK]
    fold_until(k, slot, r, time)
    forget_until(k, r, time)
    if k.states[r + R_BLOCK] != block:
        clear_queues(k, slot, r)


@inner
def work_extended(k: Kernel, b: Batch, slot: int, plan: IntArray, j: int, _stop: int) -> int:
    """Do the row that stands in the plan at `j` on its key, as `step.work` does; always one."""
    i, place = plan[j] & ROW_MASK, place_of(b, plan[j], j)
    op, time = b.ops[i], b.times[i]
    r = record_of(k, slot)
    status = make_ready(k, slot, r, op, time)
    if status != DONE:
        return -status
    code = IN_ORDER if op == LOOKUP else lateness_of(k, r, time)
    emit_extended(k, b, r, time, place, True, code == TOO_LATE)
    b.lateness[i] = code
    if op == LOOKUP:
        emit_extended(k, b, r, time, place, False, False)
        return 1
    number = k.states[r + R_NEXT] if code == IN_ORDER else rows_until(k, r, time)
    put_in(k, b, slot, r, number, i, code)
    follow(k, slot, r)
    emit_extended(k, b, r, time, place, False, code == TOO_LATE)
    if code == TOO_LATE:
        take_out(k, slot, r, number)
    elif code == IN_ORDER:
        k.states[r + R_NEWEST] = time
        forget(k, slot, r, time - k.program[LATENESS] - k.program[SPAN])
    return 1


@inner
def drop_extended(k: Kernel, slot: int) -> None:
    """Free all that a detached slot holds."""
    clear_queues(k, slot, record_of(k, slot))
    drop_state(k, slot)
    free_bases(k, slot, record_of(k, slot))


do_batch = batches_of(work_extended, drop_extended)


@entry(*RUN_TYPES)
def run_extended(
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
    """Work on a batch, as `step.run` does."""
    k = kernel_at(frame)
    b = batch_of(k, offsets, data, times, lanes, valid, ops, bits, ok, lateness, space)
    n = len(times)
    plan = behind(k.scratch, PLAN_AT) if b.direct else pointer(space)
    status = do_batch(k, b, n, plan)
    if status == DONE and not b.direct:
        spread(b, n, plan, bits, ok, k.program[AGGREGATES])
    return status
