"""One batch of operations on a view's state: the function that everything else in the kernel is part of.

A batch goes in two passes: first every row gets its key's slot in log order (keys are made and evicted there), then the
rows are worked through key by key, which keeps a key's state in the CPU's cache; keys do not see each other, so the
order among them changes nothing. A slot whose key is evicted in the first pass keeps its state until the second is over,
and no other key gets it before.

Where an array is too small the function returns what must grow, and goes on from there when called again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import types

from penstock.kernel.bits import behind, is_finite_bits, pointer, prefetch, stay_apart
from penstock.kernel.cells import FLOAT, NEVER, reset_record, room_for_cells
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.emit import emit, emit_empty, emit_since, kind_of_lane
from penstock.kernel.hashing import hash_bytes
from penstock.kernel.jit import (
    B1_2D,
    I8,
    I8_2D,
    READ_B1_2D,
    READ_I8,
    READ_I8_2D,
    READ_U1,
    U1,
    ByteArray,
    Word,
    entry,
    inlined,
    inner,
)
from penstock.kernel.keys import (
    BATCH,
    BUCKET_MASK,
    COUNT,
    ENTRY_WORDS,
    FOLLOWING,
    OLDEST,
    SEED,
    SLOTS,
    add,
    detach,
    find,
    has_room,
    release,
    touch,
)
from penstock.kernel.program import (
    AGGREGATES,
    ENDLESS_LATEST,
    HAS_SINCE,
    LANES,
    LATENESS,
    MAX_KEYS,
    R_BLOCK,
    R_FIRST,
    R_MASK,
    R_NEWEST,
    R_NEXT,
    R_REMEMBERED,
    R_SOUGHT,
    RECORD,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
    SPAN,
    W_OFFSET,
    W_SIZE,
    WINDOWS,
)
from penstock.kernel.rows import (
    DONE,
    EVICTED,
    NEEDS_ROWS,
    NEEDS_TABLE,
    PENDING,
    PHASE,
    PLANNED,
    POSITION,
    ROWS_HELD,
    STATES_ROOM,
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
from penstock.kernel.windows import clear_window, extend, leave_front, retract, seek

APPLY, LOOKUP, NO_KEY = 0, 1, 2
IN_ORDER, LATE, TOO_LATE = 0, 1, 2
NO_SLOT, NO_ROOM = -1, -2
BY_ROW, BY_KEY = 0, 1  # phases
KEYS_AHEAD, RECORDS_AHEAD, ROWS_AHEAD = 8, 8, 4
SLOT_SHIFT, ROW_MASK = 32, (1 << 32) - 1
PLAN_AT = 256  # word of the scratch array where the plan of a small batch begins
PLANNED_IN_SCRATCH = 32
SCRATCH_WORDS = PLAN_AT + 2 * PLANNED_IN_SCRATCH


class Batch(NamedTuple):
    """Where the arrays of a batch begin; see `ViewState.process`."""

    offsets: IntArray
    data: ByteArray
    times: IntArray
    lanes: IntArray
    valid: ByteArray
    ops: ByteArray
    bits: IntArray
    ok: ByteArray
    lateness: ByteArray


@inner
def resolve(k: Kernel, b: Batch, i: int, h: Word) -> int:
    """Return the slot of the key of row `i` with hash `h`, NO_SLOT if none, or NO_ROOM; makes and evicts keys."""
    op = b.ops[i]
    if op == NO_KEY:
        return NO_SLOT
    table, meta = k.table, k.meta
    start, stop = b.offsets[i], b.offsets[i + 1]
    slot = find(table, b.data, start, stop, h)
    if op == LOOKUP:
        return slot
    if slot >= 0:
        touch(table, slot)
        return slot
    if meta[COUNT] >= k.program[MAX_KEYS]:
        evict(k)
    if not has_room(table, stop - start) or (meta[SLOTS] + 1) * k.program[RECORD] > meta[STATES_ROOM]:
        return NO_ROOM
    slot = add(table, b.data, start, stop, h)
    reset_record(k, record_of(k, slot))
    return slot


@inner
def evict(k: Kernel) -> None:
    """Take out the key applied longest ago; its state waits for the end of the batch, as earlier rows may ask for it."""
    stay_apart()
    slot = k.meta[OLDEST]
    detach(k.table, slot)
    k.meta[EVICTED] += 1
    k.table.entries[slot * ENTRY_WORDS + FOLLOWING] = k.meta[PENDING]
    k.meta[PENDING] = slot


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
def write_row(k: Kernel, row: int, i: int, time: int, lanes: IntArray, valid: BoolArray) -> None:
    """Write row `i` of the input into the arena: floats that are not finite are null, -0.0 is 0.0."""
    mask = np.int64(0)
    for lane in range(k.program[LANES]):
        value = lanes[i * k.program[LANES] + lane]
        present = valid[i * k.program[LANES] + lane] != 0
        if kind_of_lane(k, lane) == FLOAT:
            present = present and is_finite_bits(value)
            if value == np.int64(-0x8000000000000000):
                value = np.int64(0)
        if present:
            mask |= np.int64(1) << lane
        k.rows[row + ROW_LANES + lane] = value if present else 0
    k.rows[row + ROW_TIME] = time
    k.rows[row + ROW_VALID] = mask


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
def work(k: Kernel, b: Batch, slot: int, i: int) -> int:
    """Do row `i` of the batch on a key and write its output; return DONE or what must grow before it is tried again."""
    op, time = b.ops[i], b.times[i]
    r = record_of(k, slot)
    status = seek_all(k, slot, r, time)
    if status == DONE and op == APPLY:
        status = room_to_insert(k, r)
    if status != DONE:
        return status
    if k.program[HAS_SINCE] != 0:
        emit_since(k, r, time, i, b.bits, b.ok)
    if op == LOOKUP:
        b.lateness[i] = 0
        emit(k, r, i, b.bits, b.ok)
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
    emit(k, r, i, b.bits, b.ok)
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
def prefetch_record(k: Kernel, slot: int) -> None:
    """Fetch a key's record, all of its cache lines."""
    r = record_of(k, slot)
    for word in range(0, k.program[RECORD], 8):
        prefetch(k.states, r + word)


@inner
def prefetch_batch(k: Kernel, b: Batch, i: int) -> None:
    """Fetch row `i` of the batch's columns, and where its outputs go: by key, rows are not met in their order."""
    lanes, outputs = k.program[LANES], k.program[AGGREGATES]
    prefetch(b.times, i)
    prefetch(b.lanes, i * lanes)
    prefetch(b.valid, i * lanes)
    prefetch(b.ok, i * outputs)
    for word in range(0, outputs + 8, 8):
        prefetch(b.bits, i * outputs + min(word, outputs - 1))


@inner
def prefetch_rows(k: Kernel, slot: int) -> None:
    """Fetch the rows at the edges of a key's windows; its record should be there already."""
    r = record_of(k, slot)
    prefetch(k.rows, row_at(k, r, k.states[r + R_NEXT]))
    prefetch(k.rows, row_at(k, r, k.states[r + R_FIRST]))
    for w in range(k.program[WINDOWS]):
        prefetch(k.rows, row_at(k, r, k.states[r + RECORD_HEADER + 2 * w]))


@inner
def sort_by_key(k: Kernel, n: int, plan: IntArray) -> int:
    """Write (slot, row) of the rows that have a slot behind the n slots of `plan`, key by key; return how many.

    Keys come in order of appearance, a key's rows in theirs. The pair is one word: see `SLOT_SHIFT`.
    """
    entries = k.table.entries
    for i in range(n):
        if plan[i] >= 0:
            entries[plan[i] * ENTRY_WORDS + BATCH] += 1
    used = 0
    for i in range(n):
        if plan[i] >= 0:
            e = plan[i] * ENTRY_WORDS + BATCH
            if entries[e] > 0:
                used += entries[e]
                entries[e] = entries[e] - used - 1  # -1 - start
            plan[n - 1 - entries[e]] = (plan[i] << SLOT_SHIFT) | i
            entries[e] -= 1
    for i in range(n):
        if plan[i] >= 0:
            entries[plan[i] * ENTRY_WORDS + BATCH] = 0
    return used


@inner
def find_keys(k: Kernel, b: Batch, n: int, slots: IntArray) -> bool:
    """First pass, from POSITION on: write the slot of each row's key; False where there is no room for a new key.

    The hash of a row some way ahead waits in the second half of the plan, while the bucket it names is fetched.
    """
    meta = k.meta
    hashes = behind(slots, n)
    hashed = meta[POSITION]
    for i in range(meta[POSITION], n):
        meta[POSITION] = i
        while hashed < n and hashed <= i + KEYS_AHEAD:
            h = hash_bytes(b.data, b.offsets[hashed], b.offsets[hashed + 1], meta[SEED])
            hashes[hashed] = np.int64(h)
            prefetch(k.table.buckets, 2 * (np.int64(h) & meta[BUCKET_MASK]))
            hashed += 1
        slot = resolve(k, b, i, np.uint64(hashes[i]))
        if slot == NO_ROOM:
            return False
        if slot == NO_SLOT:
            emit_empty(k, i, b.bits, b.ok)
            b.lateness[i] = 0
        slots[i] = slot
    return True


def batches_of(work: Callable[..., int], drop: Callable[..., None]) -> Callable[..., int]:
    """Return the function that does a batch, given what works on a row and what frees a key's state."""

    @inner
    def work_through(k: Kernel, b: Batch, plan: IntArray) -> int:
        """Second pass, from POSITION on: do the planned rows, fetching what the coming ones need."""
        meta = k.meta
        planned = meta[PLANNED]
        for j in range(meta[POSITION], planned):
            meta[POSITION] = j
            if j + RECORDS_AHEAD < planned:
                ahead = plan[j + RECORDS_AHEAD]
                prefetch_record(k, ahead >> SLOT_SHIFT)
                prefetch_batch(k, b, ahead & ROW_MASK)
            if j + ROWS_AHEAD < planned:
                prefetch_rows(k, plan[j + ROWS_AHEAD] >> SLOT_SHIFT)
            status = work(k, b, plan[j] >> SLOT_SHIFT, plan[j] & ROW_MASK)
            if status != DONE:
                return status
        return DONE

    @inner
    def finish(k: Kernel) -> None:
        """End a batch: free what was evicted in it."""
        meta = k.meta
        while meta[PENDING] >= 0:
            slot = meta[PENDING]
            meta[PENDING] = k.table.entries[slot * ENTRY_WORDS + FOLLOWING]
            drop(k, slot)
        meta[POSITION] = 0
        meta[PHASE] = BY_ROW

    @inner
    def go(k: Kernel, b: Batch, n: int, plan: IntArray) -> int:
        meta = k.meta
        if meta[PHASE] == BY_ROW:
            if not find_keys(k, b, n, plan):
                return NEEDS_TABLE
            meta[PLANNED] = sort_by_key(k, n, plan)
            meta[PHASE] = BY_KEY
            meta[POSITION] = 0
        status = work_through(k, b, behind(plan, n))
        if status == DONE:
            finish(k)
        return status

    return go


@inlined
def batch_of(
    offsets: IntArray,
    data: ByteArray,
    times: IntArray,
    lanes: IntArray,
    valid: BoolArray,
    ops: ByteArray,
    bits: IntArray,
    ok: BoolArray,
    lateness: ByteArray,
) -> Batch:
    """Return where the arrays of a batch begin."""
    return Batch(
        pointer(offsets),
        pointer(data),
        pointer(times),
        pointer(lanes),
        pointer(valid),
        pointer(ops),
        pointer(bits),
        pointer(ok),
        pointer(lateness),
    )


do_batch = batches_of(work, drop_state)
RUN_TYPES = (
    types.int64,
    I8,
    *(READ_I8, READ_U1, READ_I8, READ_I8_2D, READ_B1_2D, READ_U1),
    *(I8_2D, B1_2D, U1, I8),
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
    plan: IntArray,
) -> int:
    """Work on a batch from `meta[POSITION]` on; return DONE, or what must grow before it is called again.

    `frame` holds the addresses of the state's arrays: taking over ten arrays costs as much as an event's work.
    `plan` has room for two numbers a row; it may be empty up to PLANNED_IN_SCRATCH rows.
    """
    k = kernel_at(frame)
    b = batch_of(offsets, data, times, lanes, valid, ops, bits, ok, lateness)
    n = len(times)
    order = behind(k.scratch, PLAN_AT) if n <= PLANNED_IN_SCRATCH else pointer(plan)
    return do_batch(k, b, n, order)
