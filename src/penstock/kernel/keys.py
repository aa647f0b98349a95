"""A hash table from key bytes to small integers (slots), with the order in which keys were last used.

Open addressing over (hash, slot) pairs with linear probing and backward-shift deletion; key bytes lie in one arena
and are compared exactly. Freed slots are used again. A doubly linked list through the entries keeps the order of
last use. Everything is flat arrays, so that jitted code of other modules works on it directly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from penstock.kernel.bits import pointer, stay_apart
from penstock.kernel.columns import BoolArray, IntArray, Text, offsets_of
from penstock.kernel.hashing import hash_bytes, same_bytes, signed
from penstock.kernel.jit import I8, READ_I8, READ_U1, U1, ByteArray, Word, entry, inner

# Words of `meta`.
(
    SEED,
    BUCKET_MASK,
    COUNT,
    SLOTS,
    FREE,
    OLDEST,
    LATEST,
    BYTES,
    LIVE_BYTES,
    ENTRY_ROOM,
    ARENA_ROOM,
    TABLE_META,
) = range(12)
# Words of a slot's entry. BATCH is free for the user of the table.
HASH, START, SIZE, PREVIOUS, FOLLOWING, LIVE, BATCH, ENTRY_WORDS = 0, 1, 2, 3, 4, 5, 6, 8
NONE, FULL = -1, -2
_MINIMUM = 16


class Table(NamedTuple):
    """Where the arrays of a key table begin, as inner functions take them."""

    meta: IntArray
    buckets: IntArray
    entries: IntArray
    arena: ByteArray


@inner
def table_of(meta: IntArray, buckets: IntArray, entries: IntArray, arena: ByteArray) -> Table:
    """Return the addresses of a table's arrays, and note their lengths."""
    meta[ENTRY_ROOM] = len(entries)
    meta[ARENA_ROOM] = len(arena)
    return Table(pointer(meta), pointer(buckets), pointer(entries), pointer(arena))


@inner
def find(table: Table, data: ByteArray, start: int, stop: int, h: Word) -> int:
    """Return the slot of the key ``data[start:stop]`` with hash `h`, or NONE."""
    mask = table.meta[BUCKET_MASK]
    i = np.int64(h) & mask
    size = stop - start
    while True:
        slot = table.buckets[2 * i + 1] - 1
        if slot < 0:
            return NONE
        if table.buckets[2 * i] == np.int64(h):
            e = slot * ENTRY_WORDS
            at = table.entries[e + START]
            if table.entries[e + SIZE] == size and same_bytes(table.arena, at, data, start, size):
                return slot
        i = (i + 1) & mask


@inner
def has_room(table: Table, size: int) -> bool:
    """Whether one more key of `size` bytes fits without growing an array."""
    meta = table.meta
    if 2 * (meta[COUNT] + 1) > meta[BUCKET_MASK] + 1 or meta[BYTES] + size > meta[ARENA_ROOM]:
        return False
    return meta[FREE] >= 0 or (meta[SLOTS] + 1) * ENTRY_WORDS <= meta[ENTRY_ROOM]


@inner
def link_latest(table: Table, slot: int) -> None:
    """Put a slot that is not in the order of use at its end."""
    entries, meta = table.entries, table.meta
    last = meta[LATEST]
    entries[slot * ENTRY_WORDS + PREVIOUS] = last
    entries[slot * ENTRY_WORDS + FOLLOWING] = NONE
    if last >= 0:
        entries[last * ENTRY_WORDS + FOLLOWING] = slot
    else:
        meta[OLDEST] = slot
    meta[LATEST] = slot


@inner
def unlink(table: Table, slot: int) -> None:
    """Take a slot out of the order of use."""
    entries, meta = table.entries, table.meta
    before = entries[slot * ENTRY_WORDS + PREVIOUS]
    after = entries[slot * ENTRY_WORDS + FOLLOWING]
    if before >= 0:
        entries[before * ENTRY_WORDS + FOLLOWING] = after
    else:
        meta[OLDEST] = after
    if after >= 0:
        entries[after * ENTRY_WORDS + PREVIOUS] = before
    else:
        meta[LATEST] = before


@inner
def touch(table: Table, slot: int) -> None:
    """Make a slot the one used latest."""
    if table.meta[LATEST] != slot:
        unlink(table, slot)
        link_latest(table, slot)


@inner
def link_front(table: Table, slot: int, head: int) -> None:
    """Put a slot that is not in the order of use before the first of a chain of such slots (NONE: there is none yet)."""
    entries = table.entries
    entries[slot * ENTRY_WORDS + FOLLOWING] = head
    if head >= 0:
        entries[head * ENTRY_WORDS + PREVIOUS] = slot


@inner
def link_chain(table: Table, head: int, tail: int) -> None:
    """Put a chain of slots at the end of the order of use."""
    entries, meta = table.entries, table.meta
    last = meta[LATEST]
    entries[head * ENTRY_WORDS + PREVIOUS] = last
    if last >= 0:
        entries[last * ENTRY_WORDS + FOLLOWING] = head
    else:
        meta[OLDEST] = head
    meta[LATEST] = tail


@inner
def add(table: Table, data: ByteArray, start: int, stop: int, h: Word) -> int:
    """Add a key that is not there, as the one used latest, and return its slot. Needs `has_room`."""
    stay_apart()
    meta, entries = table.meta, table.entries
    slot = meta[FREE]
    if slot >= 0:
        meta[FREE] = entries[slot * ENTRY_WORDS + FOLLOWING]
    else:
        slot = meta[SLOTS]
        meta[SLOTS] += 1
    e = slot * ENTRY_WORDS
    size = stop - start
    at = meta[BYTES]
    for i in range(size):
        table.arena[at + i] = data[start + i]
    meta[BYTES] += size
    meta[LIVE_BYTES] += size
    meta[COUNT] += 1
    entries[e + HASH], entries[e + START], entries[e + SIZE] = np.int64(h), at, size
    entries[e + LIVE], entries[e + BATCH] = 1, 0
    link_latest(table, slot)
    put_bucket(table, slot, np.int64(h))
    return slot


@inner
def put_bucket(table: Table, slot: int, h: int) -> None:
    """Enter (hash, slot) into the first free bucket."""
    mask = table.meta[BUCKET_MASK]
    i = h & mask
    while table.buckets[2 * i + 1] != 0:
        i = (i + 1) & mask
    table.buckets[2 * i] = h
    table.buckets[2 * i + 1] = slot + 1


@inner
def detach(table: Table, slot: int) -> None:
    """Make a key unfindable and take it out of the order of use; its slot is not free for others yet."""
    stay_apart()
    buckets, mask = table.buckets, table.meta[BUCKET_MASK]
    hole = table.entries[slot * ENTRY_WORDS + HASH] & mask
    while buckets[2 * hole + 1] != slot + 1:
        hole = (hole + 1) & mask
    i = (hole + 1) & mask
    while buckets[2 * i + 1] != 0:
        home = buckets[2 * i] & mask
        # Move the pair into the hole unless its home lies cyclically behind the hole.
        if ((i - home) & mask) >= ((i - hole) & mask):
            buckets[2 * hole] = buckets[2 * i]
            buckets[2 * hole + 1] = buckets[2 * i + 1]
            hole = i
        i = (i + 1) & mask
    buckets[2 * hole + 1] = 0
    unlink(table, slot)
    table.meta[COUNT] -= 1
    table.meta[LIVE_BYTES] -= table.entries[slot * ENTRY_WORDS + SIZE]


@inner
def release(table: Table, slot: int) -> None:
    """Free a detached slot for other keys."""
    e = slot * ENTRY_WORDS
    table.entries[e + LIVE] = 0
    table.entries[e + FOLLOWING] = table.meta[FREE]
    table.meta[FREE] = slot


_ARRAYS = (I8, I8, I8, U1)


@entry(types.int64, *_ARRAYS, READ_I8, READ_U1, types.int64, types.int64, I8)
def _look_up(
    meta: IntArray,
    buckets: IntArray,
    entries: IntArray,
    arena: ByteArray,
    offsets: IntArray,
    data: ByteArray,
    begin: int,
    adding: int,
    out: IntArray,
) -> int:
    """Look rows up from `begin` on, adding unknown keys if asked; return the row that found no room."""
    table = table_of(meta, buckets, entries, arena)
    text = pointer(data)
    for i in range(begin, len(out)):
        start, stop = offsets[i], offsets[i + 1]
        h = hash_bytes(text, start, stop, meta[SEED])
        slot = find(table, text, start, stop, h)
        if adding != 0:
            if slot < 0:
                if not has_room(table, stop - start):
                    return i
                slot = add(table, text, start, stop, h)
            else:
                touch(table, slot)
        out[i] = slot
    return len(out)


@entry(types.void, *_ARRAYS, types.int64)
def _remove(meta: IntArray, buckets: IntArray, entries: IntArray, arena: ByteArray, slot: int) -> None:
    table = table_of(meta, buckets, entries, arena)
    detach(table, slot)
    release(table, slot)


@entry(types.void, *_ARRAYS)
def _fill_buckets(meta: IntArray, buckets: IntArray, entries: IntArray, arena: ByteArray) -> None:
    table = table_of(meta, buckets, entries, arena)
    slot = meta[OLDEST]
    while slot >= 0:
        put_bucket(table, slot, entries[slot * ENTRY_WORDS + HASH])
        slot = entries[slot * ENTRY_WORDS + FOLLOWING]


@entry(types.void, I8, I8, U1, U1)
def _pack_arena(meta: IntArray, entries: IntArray, arena: ByteArray, packed: ByteArray) -> None:
    """Copy the bytes of live entries into a new arena; detached but unreleased ones are live."""
    at = 0
    for slot in range(meta[SLOTS]):
        e = slot * ENTRY_WORDS
        if entries[e + LIVE] == 0:
            continue
        start, size = entries[e + START], entries[e + SIZE]
        for i in range(size):
            packed[at + i] = arena[start + i]
        entries[e + START] = at
        at += size
    meta[BYTES] = at


class KeyTable:
    """Numbers for keys: equal bytes, equal slot.

    Parameters
    ----------
    seed
        Seed of the hashes; slots do not depend on it.

    Examples
    --------
    >>> table = KeyTable(seed=1)
    >>> table.assign(Text.from_strings(["a", "b", "a"])).tolist()
    [0, 1, 0]
    >>> table.find(Text.from_strings(["b", "c"])).tolist()
    [1, -1]
    """

    __slots__ = ("arena", "buckets", "entries", "meta")

    def __init__(self, *, seed: int = 0, meta_words: int = TABLE_META) -> None:
        self.meta = np.zeros(meta_words, np.int64)
        self.meta[[FREE, OLDEST, LATEST]] = NONE
        self.meta[SEED] = signed(seed)
        self.entries = np.zeros(_MINIMUM * ENTRY_WORDS, np.int64)
        self.arena = np.zeros(_MINIMUM * 16, np.uint8)
        self.buckets = np.zeros(0, np.int64)
        self._rebuild_buckets()

    def __len__(self) -> int:
        return int(self.meta[COUNT])

    @property
    def slots(self) -> int:
        """The number of slots ever in use at once: slots are below it."""
        return int(self.meta[SLOTS])

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.meta.nbytes + self.buckets.nbytes + self.entries.nbytes + self.arena.nbytes

    def find(self, keys: Text) -> IntArray:
        """Return the slot of each key, int64[n], -1 where it is unknown."""
        out = np.empty(len(keys), np.int64)
        _look_up(*self._arrays(), keys.offsets, keys.data, 0, 0, out)
        return out

    def assign(self, keys: Text) -> IntArray:
        """Return the slot of each key, int64[n]; unknown keys are added. Slots are given out in row order."""
        out = np.empty(len(keys), np.int64)
        row = 0
        while (row := _look_up(*self._arrays(), keys.offsets, keys.data, row, 1, out)) < len(out):
            self.grow(int(keys.offsets[row + 1] - keys.offsets[row]))
        return out

    def remove(self, slot: int) -> None:
        """Forget the key in a slot; the slot is given to a later key."""
        _remove(*self._arrays(), slot)

    def key_bytes(self, slot: int) -> bytes:
        """Return the key in a slot."""
        start, size = self.entries[slot * ENTRY_WORDS + START], self.entries[slot * ENTRY_WORDS + SIZE]
        return self.arena[start : start + size].tobytes()

    def keys(self, slots: IntArray, valid: BoolArray | None = None) -> Text:
        """Return the keys in these slots; null, and not looked at, where `valid` is false."""
        if valid is not None:
            slots = np.where(valid, slots, 0)
        starts, sizes = self.entries[slots * ENTRY_WORDS + START], self.entries[slots * ENTRY_WORDS + SIZE]
        if valid is not None:
            sizes = np.where(valid, sizes, 0)
        offsets = offsets_of(sizes)
        places = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Text(offsets, self.arena[places], valid)

    def live_slots(self) -> IntArray:
        """Return the slots in use, ascending."""
        return np.flatnonzero(self.entries[LIVE::ENTRY_WORDS][: self.slots])

    def grow(self, key_bytes: int) -> None:
        """Make room for at least one more key of this size."""
        if 2 * (len(self) + 1) > len(self.buckets) // 2:
            self._rebuild_buckets()
        if (self.slots + 1) * ENTRY_WORDS > len(self.entries):
            self.entries = np.concatenate([self.entries, np.zeros_like(self.entries)])
        if self.meta[BYTES] + key_bytes > len(self.arena):
            self.pack(key_bytes)

    def pack(self, spare_bytes: int = 0) -> None:
        """Rebuild the arena without the bytes of removed keys, with room to double."""
        used = int(self.entries[SIZE::ENTRY_WORDS][self.live_slots()].sum())
        packed = np.zeros(max(2 * (used + spare_bytes), 16 * _MINIMUM), np.uint8)
        _pack_arena(self.meta, self.entries, self.arena, packed)
        self.arena = packed

    def _rebuild_buckets(self) -> None:
        size = 1 << max(4 * (len(self) + 1) - 1, 2 * _MINIMUM - 1).bit_length()
        self.buckets = np.zeros(2 * size, np.int64)
        self.meta[BUCKET_MASK] = size - 1
        _fill_buckets(*self._arrays())

    def _arrays(self) -> Table:
        return Table(self.meta, self.buckets, self.entries, self.arena)
