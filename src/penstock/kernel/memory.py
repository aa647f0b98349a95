"""The arrays of a view's state: how they begin, grow, shrink, and are written out and read back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import types

from penstock.kernel.batch import SCRATCH_WORDS
from penstock.kernel.cells import DISTINCT_WORDS, grow_distinct, reset_record
from penstock.kernel.columns import BoolArray, IntArray, Text
from penstock.kernel.extension import X_BASE_COUNT
from penstock.kernel.jit import (
    ANY_B1_2D,
    ANY_F8_2D,
    ANY_I8_2D,
    I8,
    I8_2D,
    READ_I8,
    READ_I8_2D,
    ByteArray,
    entry,
)
from penstock.kernel.keys import (
    ARENA_ROOM,
    ENTRY_ROOM,
    ENTRY_WORDS,
    FOLLOWING,
    LIVE,
    OLDEST,
    KeyTable,
    detach,
)
from penstock.kernel.pages import own_memory
from penstock.kernel.program import (
    CELLS,
    EXTENSION,
    LANES,
    POOL_WORDS,
    R_BLOCK,
    R_FIRST,
    R_MASK,
    R_NEWEST,
    R_NEXT,
    RECORD,
    STRIDE,
)
from penstock.kernel.rows import (
    ARENA_LIVE,
    ARENA_USED,
    DISTINCT_MASK,
    DISTINCT_USED,
    EVICTED,
    FREE_BLOCKS,
    META_WORDS,
    NEEDED,
    NEEDS_DISTINCT,
    NEEDS_ENTRIES,
    NEEDS_POOL,
    NEEDS_ROWS,
    PENDING,
    POOL_FREE,
    POOL_FREE_COUNT,
    ROWS_HELD,
    ROWS_ROOM,
    SIZE_CLASSES,
    STATES_ROOM,
    allocate_block,
    kernel_at,
    record_of,
    row_at,
)
from penstock.kernel.step import drop_state

_MINIMUM_ARENA = 1 << 12
_MINIMUM_DISTINCT = 1 << 8
_NO_END = 1 << 60

Arrays = tuple[
    IntArray, IntArray, IntArray, ByteArray, IntArray, IntArray, IntArray, IntArray, IntArray, IntArray
]


@dataclass(frozen=True, slots=True, eq=False)
class HeldBases:
    """What lifetime windows hold of forgotten rows: words a key, and values and wide sums of all keys."""

    words: IntArray
    values: IntArray
    wide: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a state holds, without how: the keys in order of use, and their rows one key after another.

    `rows` is int64[R, 2 + L]: time, mask of valid lanes, lanes.
    """

    keys: Text
    newest: IntArray
    counts: IntArray
    rows: IntArray
    evicted_keys: int
    bases: HeldBases | None = None


@entry(types.void, I8, I8, I8, I8, I8, I8)
def _compact(
    meta: IntArray, entries: IntArray, program: IntArray, states: IntArray, rows: IntArray, target: IntArray
) -> None:
    """Copy the blocks of all keys into `target`, one behind the other, and forget the free ones."""
    used = 0
    for slot in range(len(entries) // ENTRY_WORDS):
        r = slot * program[RECORD]
        if entries[slot * ENTRY_WORDS + LIVE] == 0 or states[r + R_MASK] < 0:
            continue
        size = (states[r + R_MASK] + 1) * program[STRIDE]
        start = states[r + R_BLOCK]
        for i in range(size):
            target[used + i] = rows[start + i]
        states[r + R_BLOCK] = used
        used += size
    meta[ARENA_USED] = used
    meta[ARENA_LIVE] = used
    for size in range(SIZE_CLASSES):
        meta[FREE_BLOCKS + size] = -1


@entry(types.void, I8, I8, types.int64, types.int64)
def _rehash_distinct(source: IntArray, target: IntArray, mask: int, seed: int) -> None:
    grow_distinct(source, target, mask, seed)


@entry(types.void, I8, types.int64)
def drop_key(
    frame: IntArray,
    slot: int,
) -> None:
    """Drop a key and free all that it holds."""
    k = kernel_at(frame)
    detach(k.table, slot)
    drop_state(k, slot)


@entry(types.void, I8, I8, I8, I8, I8_2D)
def _export(
    frame: IntArray,
    slots: IntArray,
    newest: IntArray,
    counts: IntArray,
    out: IntArray,
) -> None:
    k = kernel_at(frame)
    states, rows = k.states, k.rows
    slot = k.meta[OLDEST]
    at = 0
    i = 0
    while slot >= 0:
        r = record_of(k, slot)
        slots[i] = slot
        newest[i] = states[r + R_NEWEST]
        counts[i] = states[r + R_NEXT] - states[r + R_FIRST]
        for number in range(states[r + R_FIRST], states[r + R_NEXT]):
            row = row_at(k, r, number)
            for j in range(out.shape[1]):
                out[at, j] = rows[row + j]
            at += 1
        i += 1
        slot = k.table.entries[slot * ENTRY_WORDS + FOLLOWING]


@entry(types.void, I8, READ_I8, READ_I8, READ_I8_2D)
def _load(
    frame: IntArray,
    newest: IntArray,
    counts: IntArray,
    source: IntArray,
) -> None:
    """Give slots 0, 1, … their rows; all windows stand before the first row and fill when they are sought."""
    k = kernel_at(frame)
    states, rows = k.states, k.rows
    at = 0
    for slot in range(len(newest)):
        r = record_of(k, slot)
        reset_record(k, r)
        states[r + R_NEWEST] = newest[slot]
        size = 0
        while (1 << size) < counts[slot]:
            size += 1
        states[r + R_BLOCK] = allocate_block(k, size)
        states[r + R_MASK] = (1 << size) - 1
        states[r + R_NEXT] = counts[slot]
        for number in range(counts[slot]):
            row = row_at(k, r, number)
            for j in range(source.shape[1]):
                rows[row + j] = source[at, j]
            at += 1
    k.meta[ROWS_HELD] = at


@entry(types.void, ANY_I8_2D, ANY_B1_2D, READ_I8, ANY_F8_2D)
def to_floats(bits: IntArray, valid: BoolArray, kinds: IntArray, out: npt.NDArray[np.float64]) -> None:
    """Write outputs as floats: null is NaN, integers and codes are converted."""
    for i in range(bits.shape[0]):
        for a in range(bits.shape[1]):
            if not valid[i, a]:
                out[i, a] = np.nan
            elif kinds[a] == 0:
                out[i, a] = np.int64(bits[i, a]).view(np.float64)
            else:
                out[i, a] = float(bits[i, a])


class Memory:
    """The arrays of one state, and what to do when one is too small or too large.

    `frame` are the addresses of `arrays`, int64[10]; both are made anew when an array is replaced.
    """

    __slots__ = ("arrays", "distinct", "frame", "pool", "program", "rows", "scratch", "states", "table")

    def __init__(self, program: IntArray, *, seed: int) -> None:
        self.program = program
        self.table = KeyTable(seed=seed, meta_words=META_WORDS)
        self.states = np.zeros(self._slots() * program[RECORD], np.int64)
        self.rows = np.empty(_MINIMUM_ARENA, np.int64)
        self.scratch = np.zeros(SCRATCH_WORDS, np.int64)
        self.distinct = np.zeros(DISTINCT_WORDS * _MINIMUM_DISTINCT, np.int64)
        self.pool = np.zeros(0, np.int64)
        meta = self.table.meta
        meta[PENDING] = -1
        meta[POOL_FREE] = -1
        meta[FREE_BLOCKS:] = -1
        meta[DISTINCT_MASK] = _MINIMUM_DISTINCT - 1
        self._gather()

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        arrays = (self.states, self.rows, self.scratch, self.distinct, self.pool, self.program)
        return self.table.nbytes + sum(a.nbytes for a in arrays)

    def grow(self, status: int, offsets: IntArray) -> None:
        """Make the array larger that `run` found too small."""
        meta = self.table.meta
        if status == NEEDS_ROWS:
            self._compact(int(meta[ARENA_LIVE] + meta[NEEDED]))
        elif status == NEEDS_DISTINCT:
            self._resize_distinct()
        elif status == NEEDS_ENTRIES:
            self._resize_distinct(more=int(meta[NEEDED]))
        elif status == NEEDS_POOL:
            self._grow_pool()
        else:
            self.table.grow(int(np.diff(offsets).max()))
            missing = self._slots() * int(self.program[RECORD]) - len(self.states)
            if missing > 0:
                self.states = np.concatenate([self.states, np.zeros(missing, np.int64)])
        self._gather()

    def shrink(self) -> None:
        """Give memory back that three quarters idle."""
        meta = self.table.meta
        if len(self.rows) > _MINIMUM_ARENA and 4 * meta[ARENA_LIVE] < len(self.rows):
            self._compact(int(meta[ARENA_LIVE]))
        entries = len(self.distinct) // DISTINCT_WORDS
        if entries > _MINIMUM_DISTINCT and 16 * meta[DISTINCT_USED] < entries:
            self._resize_distinct()
        pool_rows = len(self.pool) // int(self.program[POOL_WORDS])
        if pool_rows > 16 * int(self.program[CELLS]) and meta[POOL_FREE_COUNT] == pool_rows:
            self.pool = self.pool[:0]
            meta[POOL_FREE], meta[POOL_FREE_COUNT] = -1, 0
        self._gather()

    def export(self) -> Held:
        """Return what is held."""
        keys, rows = len(self.table), int(self.table.meta[ROWS_HELD])
        slots, newest, counts = (np.empty(keys, np.int64) for _ in range(3))
        width = 2 + int(self.program[LANES])
        out = own_memory(rows * width, np.int64).reshape(rows, width)
        _export(self.frame, slots, newest, counts, out)
        evicted = int(self.table.meta[EVICTED])
        return Held(self.table.keys(slots), newest, counts, out, evicted, self.bases_of(slots))

    def bases_of(self, slots: IntArray) -> HeldBases | None:
        """What lifetime windows hold of these keys' forgotten rows; None in programs without an extension."""
        if not self.program[EXTENSION]:
            return None
        from penstock.kernel.extended_memory import save_bases

        return HeldBases(*save_bases(self.frame, self.program, slots))

    def load(self, held: Held) -> None:
        """Fill an empty state."""
        self.table.assign(held.keys)
        self.states = np.zeros(self._slots() * int(self.program[RECORD]), np.int64)
        blocks = 1 << np.ceil(np.log2(np.maximum(held.counts, 1))).astype(np.int64)
        self.rows = own_memory(
            max(2 * int(blocks.sum()) * int(self.program[STRIDE]), _MINIMUM_ARENA), np.int64
        )
        self._gather()
        _load(self.frame, held.newest, held.counts, held.rows)
        if held.bases is not None:
            self._load_bases(held.bases)
        self.table.meta[EVICTED] = held.evicted_keys

    def drop_key(self, slot: int) -> None:
        """Drop a key and free all that it holds."""
        if self.program[EXTENSION]:
            from penstock.kernel.extended_memory import drop_extended_key

            drop_extended_key(self.frame, slot)
        else:
            drop_key(self.frame, slot)

    def _slots(self) -> int:
        return len(self.table.entries) // ENTRY_WORDS

    def _gather(self) -> None:
        table = self.table
        self.arrays: Arrays = (
            *(table.meta, table.buckets, table.entries, table.arena),
            *(self.program, self.states, self.rows, self.distinct, self.pool, self.scratch),
        )
        self.frame = np.array([array.ctypes.data for array in self.arrays], np.int64)
        meta = table.meta
        meta[ENTRY_ROOM], meta[ARENA_ROOM] = len(table.entries), len(table.arena)
        meta[ROWS_ROOM], meta[STATES_ROOM] = len(self.rows), len(self.states)

    def _compact(self, needed: int) -> None:
        target = own_memory(max(2 * needed, _MINIMUM_ARENA), np.int64)
        _compact(self.table.meta, self.table.entries, self.program, self.states, self.rows, target)
        self.rows = target

    def _load_bases(self, held: HeldBases) -> None:
        from penstock.kernel.extended_memory import load_bases, saved_distinct, saved_wide

        bases = int(self.program[self.program[EXTENSION] + X_BASE_COUNT])
        self._resize_distinct(more=3 * saved_distinct(bases, held.words))
        while self.table.meta[POOL_FREE_COUNT] < saved_wide(bases, held.words):
            self._grow_pool()
        self._gather()
        load_bases(self.frame, len(self.table), held.words, held.values, held.wide)

    def _resize_distinct(self, *, more: int = 0) -> None:
        used = int(self.table.meta[DISTINCT_USED] + self.program[CELLS])
        wanted = max(4 * (used + more), _MINIMUM_DISTINCT)
        size = 1 << (wanted - 1).bit_length()
        target = own_memory(DISTINCT_WORDS * size, np.int64)
        _rehash_distinct(self.distinct, target, size - 1, int(self.table.meta[0]))
        self.distinct = target
        self.table.meta[DISTINCT_MASK] = size - 1

    def _grow_pool(self) -> None:
        words = int(self.program[POOL_WORDS])
        meta = self.table.meta
        old = len(self.pool)
        self.pool = np.concatenate(
            [self.pool, np.zeros(max(old, 4 * int(self.program[CELLS]) * words), np.int64)]
        )
        starts = np.arange(old, len(self.pool), words)
        self.pool[starts[:-1]] = starts[1:]
        self.pool[starts[-1]] = meta[POOL_FREE]
        meta[POOL_FREE] = starts[0]
        meta[POOL_FREE_COUNT] += len(starts)
