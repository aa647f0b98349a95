"""A batch's passes: which key each row has, the rows key by key, the outputs back in the rows' order.

First every row gets its key's slot in log order: keys are made and evicted there. Then the rows are worked through key
by key, a key's in their order, which keeps its state in the CPU's cache; keys do not see each other, so the order among
them changes nothing. A slot whose key is evicted in the first pass keeps its state until the second is over, and no
other key gets it before. Outputs are written as they come, column by column, and at the end put where their rows are;
small batches write them there at once.

Where an array is too small the passes return what must grow, and go on from there when called again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from penstock.kernel.bits import as_bytes, behind, pointer, prefetch, stay_apart
from penstock.kernel.cells import reset_record
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.emit import emit_empty
from penstock.kernel.hashing import hash_bytes
from penstock.kernel.jit import ByteArray, Word, inlined, inner
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
    link_chain,
    link_front,
    touch,
    unlink,
)
from penstock.kernel.program import (
    AGGREGATES,
    LANES,
    MAX_KEYS,
    R_FIRST,
    R_NEXT,
    RECORD,
    STRIDE,
)
from penstock.kernel.rows import (
    DONE,
    EVICTED,
    NEEDS_TABLE,
    PENDING,
    PHASE,
    PLANNED,
    POSITION,
    STATES_ROOM,
    TOUCHED_LATER,
    Kernel,
    record_of,
    row_at,
)

APPLY, LOOKUP, NO_KEY = 0, 1, 2
NO_SLOT, NO_ROOM = -1, -2
BY_ROW, BY_KEY = 0, 1  # phases
KEYS_AHEAD, ENTRIES_AHEAD, INPUTS_AHEAD = 8, 4, 12
ROWS_AHEAD, ROWS_FETCHED = 8, 128
SLOT_SHIFT, ROW_MASK = 32, (1 << 32) - 1
PLAN_AT = 256  # word of the scratch array where the plan of a small batch begins
PLANNED_IN_SCRATCH = 32
# Where in it `totals` keeps, for a run of rows, a window's edges and the running totals of what passes them.
RUN_ROWS, TOTALS, TOTAL_WORDS = 64, 256, 4
LO_AT = PLAN_AT + 2 * PLANNED_IN_SCRATCH
HI_AT = LO_AT + RUN_ROWS
LEFT_AT = HI_AT + RUN_ROWS
ENTERED_AT = LEFT_AT + TOTAL_WORDS * (TOTALS + 1)
SCRATCH_WORDS = ENTERED_AT + TOTAL_WORDS * (TOTALS + 1)


class Batch(NamedTuple):
    """Where the arrays of a batch begin; see `ViewState.process`.

    Output `a` of the row at place p lies at ``p * down + a * across`` of `bits` and `ok`. A row's place is its own where
    outputs go straight to the caller (`direct`), else its place in the plan.
    """

    offsets: IntArray
    data: ByteArray
    times: IntArray
    lanes: IntArray
    valid: ByteArray
    ops: ByteArray
    bits: IntArray
    ok: ByteArray
    lateness: ByteArray
    down: int
    across: int
    direct: bool


def workspace_words(rows: int, outputs: int) -> int:
    """Return how many words `run` needs for a batch besides the batch: none for a small one."""
    if rows <= PLANNED_IN_SCRATCH:
        return 0
    return (2 + outputs) * rows + (outputs * rows + 7) // 8


@inlined
def place_of(b: Batch, planned: int, j: int) -> int:
    """Return where the outputs go of the row that stands in the plan's place j as `planned`."""
    return planned & ROW_MASK if b.direct else j


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
        if meta[TOUCHED_LATER] == 0:
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
def find_keys(k: Kernel, b: Batch, n: int, slots: IntArray) -> bool:
    """First pass, from POSITION on: write the slot of each row's key; False where there is no room for a new key.

    The hash of a row some way ahead waits in the second half of the plan, while the bucket it names, and then the entry
    that stands there, are fetched.
    """
    meta, table = k.meta, k.table
    if meta[POSITION] == 0:
        # Who was used last matters to eviction alone: where the batch cannot bring any, its end is early enough.
        meta[TOUCHED_LATER] = np.int64(meta[COUNT] + n <= k.program[MAX_KEYS])
    hashes = behind(slots, n)
    hashed = meta[POSITION]
    for i in range(meta[POSITION], n):
        meta[POSITION] = i
        while hashed < n and hashed <= i + KEYS_AHEAD:
            h = hash_bytes(b.data, b.offsets[hashed], b.offsets[hashed + 1], meta[SEED])
            hashes[hashed] = np.int64(h)
            prefetch(table.buckets, 2 * (np.int64(h) & meta[BUCKET_MASK]))
            hashed += 1
        if i + ENTRIES_AHEAD < hashed:
            bucket = 2 * (hashes[i + ENTRIES_AHEAD] & meta[BUCKET_MASK])
            prefetch(table.entries, max(table.buckets[bucket + 1] - 1, 0) * ENTRY_WORDS)
        slot = resolve(k, b, i, np.uint64(hashes[i]))
        if slot == NO_ROOM:
            return False
        slots[i] = slot
        if slot >= 0:
            table.entries[slot * ENTRY_WORDS + BATCH] += 1
    return True


@inner
def sort_by_key(k: Kernel, b: Batch, n: int, plan: IntArray) -> int:
    """Write (slot, row) of all rows behind the n slots of `plan`, key by key; return how many have a slot.

    Keys come in order of appearance, a key's rows in theirs, rows without a slot at the end: they get the values of empty
    windows. The pair is one word: see `SLOT_SHIFT`.
    """
    entries = k.table.entries
    used, without = 0, n
    for i in range(n):
        slot = plan[i]
        if slot >= 0:
            e = slot * ENTRY_WORDS + BATCH
            if entries[e] > 0:
                used += entries[e]
                entries[e] = entries[e] - used - 1  # -1 - start
            plan[n - 1 - entries[e]] = (slot << SLOT_SHIFT) | i
            entries[e] -= 1
        else:
            without -= 1
            plan[n + without] = i
            b.lateness[i] = 0
            emit_empty(k, place_of(b, i, without), b.bits, b.ok, b.down, b.across)
    if k.meta[TOUCHED_LATER] != 0:
        touch_latest(k, b, n, plan)
    for i in range(n):
        if plan[i] >= 0:
            entries[plan[i] * ENTRY_WORDS + BATCH] = 0
    return used


@inner
def touch_latest(k: Kernel, b: Batch, n: int, slots: IntArray) -> None:
    """Put the keys of the batch at the end of the order of use, in the order of their last rows."""
    head, tail = NO_SLOT, NO_SLOT
    for i in range(n - 1, -1, -1):
        slot = slots[i]
        if slot < 0 or b.ops[i] != APPLY:
            continue
        e = slot * ENTRY_WORDS + BATCH
        if k.table.entries[e] == 0:
            continue
        k.table.entries[e] = 0
        unlink(k.table, slot)
        link_front(k.table, slot, head)
        head = slot
        if tail < 0:
            tail = slot
    if head >= 0:
        link_chain(k.table, head, tail)


@inner
def prefetch_record(k: Kernel, slot: int) -> None:
    """Fetch a key's record, all of its cache lines."""
    r = record_of(k, slot)
    for word in range(0, k.program[RECORD], 8):
        prefetch(k.states, r + word)


@inner
def prefetch_rows(k: Kernel, slot: int) -> None:
    """Fetch a key's rows, if they are few, and where the next ones go; its record should be there already."""
    r = record_of(k, slot)
    first, following = k.states[r + R_FIRST], k.states[r + R_NEXT] + ROWS_AHEAD
    for number in range(max(first, following - ROWS_FETCHED), following, max(8 // k.program[STRIDE], 1)):
        prefetch(k.rows, row_at(k, r, number))


@inner
def prefetch_input(k: Kernel, b: Batch, i: int) -> None:
    """Fetch row `i` of the batch's columns: by key, rows are not met in their order."""
    prefetch(b.times, i)
    prefetch(b.lanes, i * k.program[LANES])
    prefetch(b.valid, i * k.program[LANES])


@inlined
def group_end(plan: IntArray, j: int, planned: int) -> int:
    """Return where in the plan the rows of the key at `j` end."""
    slot = plan[j] >> SLOT_SHIFT
    while j < planned and plan[j] >> SLOT_SHIFT == slot:
        j += 1
    return j


@inner
def spread(b: Batch, n: int, plan: IntArray, bits: IntArray, ok: BoolArray, outputs: int) -> None:
    """Put outputs that lie in the plan's order where their rows are; `plan` is overwritten."""
    pairs = behind(plan, n)
    for j in range(n):
        plan[pairs[j] & ROW_MASK] = j
    for a in range(outputs):
        for i in range(n):
            bits[i, a] = b.bits[a * n + plan[i]]
        for i in range(n):
            ok[i, a] = b.ok[a * n + plan[i]] != 0


def batches_of(work: Callable[..., int], drop: Callable[..., None]) -> Callable[..., int]:
    """Return the function that does a batch.

    `work` does rows of one key: the planned ones from a place on, as many as it likes. It returns how many, or the negative
    of what must grow first. `drop` frees a key's state.
    """

    @inner
    def work_through(k: Kernel, b: Batch, plan: IntArray) -> int:
        """Second pass, from POSITION on: do the planned rows key by key, fetching what the next keys need."""
        meta = k.meta
        planned = meta[PLANNED]
        j = meta[POSITION]
        if j >= planned:
            return DONE
        stop = group_end(plan, j, planned)
        while j < planned:
            following = stop
            if stop < planned:
                prefetch_rows(k, plan[stop] >> SLOT_SHIFT)
                following = group_end(plan, stop, planned)
                if following < planned:
                    prefetch_record(k, plan[following] >> SLOT_SHIFT)
            while j < stop:
                done = work(k, b, plan[j] >> SLOT_SHIFT, plan, j, stop)
                if done < 0:
                    meta[POSITION] = j
                    return -done
                j += done
            stop = following
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
            meta[PLANNED] = sort_by_key(k, b, n, plan)
            meta[PHASE] = BY_KEY
            meta[POSITION] = 0
        status = work_through(k, b, behind(plan, n))
        if status == DONE:
            finish(k)
        return status

    return go


@inlined
def batch_of(
    k: Kernel,
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
) -> Batch:
    """Return where the arrays of a batch begin, and where its outputs go: behind the plan, or straight to the caller."""
    n = len(times)
    direct = n <= PLANNED_IN_SCRATCH
    to = pointer(bits) if direct else behind(pointer(plan), 2 * n)
    flags = pointer(ok) if direct else as_bytes(behind(pointer(plan), (2 + k.program[AGGREGATES]) * n))
    return Batch(
        pointer(offsets),
        pointer(data),
        pointer(times),
        pointer(lanes),
        pointer(valid),
        pointer(ops),
        to,
        flags,
        pointer(lateness),
        bits.strides[0] >> 3 if direct else 1,
        bits.strides[1] >> 3 if direct else n,
        direct,
    )
