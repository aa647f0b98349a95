"""The loops of the event-id index, jitted: hash table of the newest ids, Bloom filters, search in sorted runs.

All work on seeded 64-bit hashes, which are uniform whatever the ids are. Several ids may share a hash: a table or run
keeps every (hash, position) pair, equal hashes in the order of their positions.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from penstock.kernel.jit import I8, U8, entry, unchecked

_READ_U8 = types.Array(types.uint64, 1, "C", readonly=True)

HashArray = npt.NDArray[np.uint64]
PositionArray = npt.NDArray[np.int64]
SlotArray = npt.NDArray[np.int32]

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _mixed(value: np.uint64) -> np.uint64:
    """Spread the entropy of a hash over all bits (the finaliser of MurmurHash3, Austin Appleby)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    return value


@entry(types.void, types.int32[::1], U8, types.int64, _READ_U8)
def table_add(slots: SlotArray, stored: HashArray, size: int, hashes: HashArray) -> None:
    """Append `hashes` behind the `size` stored ones and enter them in `slots` (open addressing, 0 is free)."""
    mask = np.uint64(len(slots) - 1)
    for i in range(len(hashes)):
        stored[size + i] = hashes[i]
        slot = _mixed(hashes[i]) & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = size + i + 1


@entry(types.void, types.int32[::1], U8, I8, _READ_U8, I8)
def table_find(
    slots: SlotArray, stored: HashArray, positions: PositionArray, hashes: HashArray, out: PositionArray
) -> None:
    """Fill in the first position of each hash that has none yet (-1) in `out`."""
    mask = np.uint64(len(slots) - 1)
    for i in range(len(hashes)):
        if out[i] >= 0:
            continue
        slot = _mixed(hashes[i]) & mask
        while slots[slot] != 0:
            entry = slots[slot] - 1
            if stored[entry] == hashes[i]:
                out[i] = positions[entry]
                break
            slot = (slot + np.uint64(1)) & mask


table_add_one, table_find_one = unchecked(table_add), unchecked(table_find)


@_jit
def first_of_duplicates(hashes: HashArray) -> PositionArray:
    """For each hash, the index of the first equal one: i itself where it is new."""
    size = np.int64(4)
    while size < 2 * len(hashes):
        size *= 2
    mask = np.uint64(size - 1)
    slots = np.zeros(size, np.int64)
    first = np.empty(len(hashes), np.int64)
    for i in range(len(hashes)):
        slot = _mixed(hashes[i]) & mask
        while slots[slot] != 0 and hashes[slots[slot] - 1] != hashes[i]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] == 0:
            slots[slot] = i + 1
        first[i] = slots[slot] - 1
    return first


@_jit
def _bloom_word(mixed: np.uint64, words: int) -> np.uint64:
    return ((mixed >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32)


@_jit
def _bloom_bits(mixed: np.uint64) -> np.uint64:
    """Five of a word's 64 bits, chosen by the low bits, which the choice of the word does not use."""
    bits = np.uint64(0)
    for i in range(5):
        bits |= np.uint64(1) << ((mixed >> np.uint64(6 * i)) & np.uint64(63))
    return bits


@_jit
def bloom_add(bloom: HashArray, hashes: HashArray) -> None:
    """Enter hashes in a blocked Bloom filter: one 64-bit word a key, so a look-up costs one cache miss."""
    for i in range(len(hashes)):
        mixed = _mixed(hashes[i])
        bloom[_bloom_word(mixed, len(bloom))] |= _bloom_bits(mixed)


@_jit
def _lower_bound(ordered: HashArray, wanted: np.uint64) -> np.int64:
    """The first index whose hash is ≥ `wanted`: guess by interpolation, widen until enclosed, then bisect."""
    size = len(ordered)
    guess = np.int64(((wanted >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))
    low, high, step = guess, guess, np.int64(64)
    while low > 0 and ordered[low - 1] >= wanted:
        high = low
        low = max(np.int64(0), low - step)
        step *= 2
    while high < size and ordered[high] < wanted:
        low = high + 1
        high = min(np.int64(size), high + step)
        step *= 2
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@_jit
def run_find(
    bloom: HashArray, ordered: HashArray, positions: PositionArray, hashes: HashArray, out: PositionArray
) -> int:
    """Fill in the first position of each hash that has none yet; returns how many look-ups passed the filter."""
    touched = 0
    for i in range(len(hashes)):
        if out[i] >= 0:
            continue
        mixed = _mixed(hashes[i])
        bits = _bloom_bits(mixed)
        if bloom[_bloom_word(mixed, len(bloom))] & bits != bits:
            continue
        touched += 1
        at = _lower_bound(ordered, hashes[i])
        if at < len(ordered) and ordered[at] == hashes[i]:
            out[i] = positions[at]
    return touched


@_jit
def merge(
    older: tuple[HashArray, PositionArray],
    newer: tuple[HashArray, PositionArray],
    merged: tuple[HashArray, PositionArray],
) -> None:
    """Merge two sorted sequences of hashes, with their positions, into `merged`; of equal hashes the older come first."""
    i, j = 0, 0
    for k in range(len(merged[0])):
        if j == len(newer[0]) or (i < len(older[0]) and older[0][i] <= newer[0][j]):
            merged[0][k], merged[1][k] = older[0][i], older[1][i]
            i += 1
        else:
            merged[0][k], merged[1][k] = newer[0][j], newer[1][j]
            j += 1
