"""Rows that are all known beforehand, put side by side by key, and their outputs put back where the rows are.

A history in time order needs no state that may be asked at any moment: its rows are ordered by key, once, and then each cell, one lane in one
window, is walked alone (`walk.py`). Rows enter as `runs.entering` says.

Outputs are gathered in row order on purpose: the next value of each key then lies beside its last one, in the CPU's cache.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from penstock.kernel.batch import APPLY, NO_KEY
from penstock.kernel.bits import behind, pointer, prefetch, trailing_zeros
from penstock.kernel.cells import FLOAT
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.hashing import hash_words
from penstock.kernel.jit import (
    I8,
    I8_2D,
    READ_B1_2D,
    READ_I8,
    READ_I8_2D,
    READ_U1,
    ByteArray,
    entry,
)
from penstock.kernel.limbs import FRACTION, HIDDEN_BIT, NARROW_SHIFTS, narrow_shift
from penstock.kernel.program import SUM_WORDS
from penstock.kernel.runs import entering

Places = npt.NDArray[np.int32]
I4 = types.int32[::1]
I4_2D = types.int32[:, ::1]
U1_2D = types.uint8[:, ::1]
READ_U1_2D = types.Array(types.uint8, 2, "C", readonly=True)

PADDING = 8  # words behind the ordered times that may be read
AHEAD = 16
OUT_OF_ORDER = -1
SIGNIFICANT = 53
_BITS = 64 * SUM_WORDS


def squares_fit(lowest: int, highest: int, longest: int) -> bool:
    """Whether a variance's numerator, ``n * sum(x²) - sum(x)²``, needs no more than three words.

    A lane's values reach from bit `lowest` up to `highest`; `longest` rows are the most that a window holds.
    """
    return 2 * (highest - lowest) + 2 * longest.bit_length() < _BITS


@entry(types.int64, I4, READ_U1, I8)
def find_places(places: Places, ops: ByteArray, starts: IntArray) -> int:
    """Write where each row stands among the rows key by key, and where each key's rows start; return the longest run.

    `places` holds the numbers of the rows' keys before. Rows without a key stand at the end. `starts` has two words more than there
    are numbers, all zeros.
    """
    last = len(starts) - 2
    for i in range(len(places)):
        if ops[i] == NO_KEY:
            places[i] = last
        starts[places[i] + 1] += 1
    longest = np.int64(0)
    for slot in range(last + 1):
        longest = max(longest, starts[slot + 1])
        starts[slot + 1] += starts[slot]
    # While rows are given their places, starts[slot] is the place of its next row: at the end that is the next slot's.
    for i in range(len(places)):
        slot = places[i]
        places[i] = starts[slot]
        starts[slot] += 1
    for slot in range(last + 1, 0, -1):
        starts[slot] = starts[slot - 1]
    starts[0] = 0
    return longest


@entry(types.int64, I4, READ_U1, READ_I8, READ_I8_2D, READ_B1_2D, READ_I8, I8, I8, I8_2D, U1_2D, I8, I8_2D)
def order_rows(
    places: Places,
    ops: ByteArray,
    times: IntArray,
    lanes: IntArray,
    valid: BoolArray,
    kinds: IntArray,
    starts: IntArray,
    ordered_times: IntArray,
    ordered_lanes: IntArray,
    present: ByteArray,
    wide: IntArray,
    extents: IntArray,
) -> int:
    """Write the rows as they enter, key by key; `OUT_OF_ORDER` where a key's do not come in time order.

    `present` says by lane which rows have a value, and behind the last lane which were applied; `wide` counts by lane the values
    that the narrow sums do not hold. `extents` is, by lane, from which bit of a narrow sum up to which its values reach.
    """
    rows, count = len(places), len(kinds)
    for i in range(rows):
        p = np.int64(places[i])
        ordered_times[p] = times[i]
        present[count, p] = ops[i] == APPLY
    for lane in range(count):
        is_float = kinds[lane] == FLOAT
        of, there = behind(pointer(lanes), lane), behind(pointer(valid), lane)
        to, kept = behind(pointer(ordered_lanes), lane * rows), behind(pointer(present), lane * rows)
        beyond, lowest, highest = np.int64(0), np.int64(_BITS), np.int64(0)
        for i in range(rows):
            p = np.int64(places[i])
            value, given = entering(of[i * count], ops[i] == APPLY and there[i * count] != 0, is_float)
            to[p], kept[p] = value, given
            shift = narrow_shift(value)
            beyond += np.int64(value != 0) & np.int64(not 0 <= shift < NARROW_SHIFTS)
            if value != 0:
                zeros = trailing_zeros((np.uint64(value) & FRACTION) | HIDDEN_BIT)
                lowest, highest = min(lowest, shift + zeros), max(highest, shift + SIGNIFICANT)
        wide[lane] = beyond if is_float else 0
        if not is_float:
            lowest, highest = np.int64(0), np.int64(64)
        extents[lane, 0], extents[lane, 1] = min(lowest, highest), highest
    for slot in range(len(starts) - 2):
        for p in range(starts[slot] + 1, starts[slot + 1]):
            if ordered_times[p] < ordered_times[p - 1]:
                return OUT_OF_ORDER
    return 0


@entry(types.void, READ_I8, READ_I8, READ_U1, I4_2D, I8)
def link_equal(starts: IntArray, values: IntArray, present: ByteArray, links: Places, room: IntArray) -> None:
    """Write for each row of a lane where in its key's run its value stood last (-1: nowhere) and stands next.

    `room` has two words for each row of twice the longest run, rounded up to a power of two.
    """
    for slot in range(len(starts) - 2):
        start, rows = starts[slot], starts[slot + 1] - starts[slot]
        size = np.int64(1)
        while size < 2 * rows:
            size *= 2
        for i in range(2 * size):
            room[i] = 0
        for j in range(rows):
            links[0, start + j] = -1
            links[1, start + j] = rows
            if present[start + j] == 0:
                continue
            value = values[start + j]
            i = np.int64(hash_words(value, 0, 0)) & (size - 1)
            while room[2 * i + 1] != 0 and room[2 * i] != value:
                i = (i + 1) & (size - 1)
            before = room[2 * i + 1] - 1
            if before >= 0:
                links[0, start + j] = before
                links[1, start + before] = j
            room[2 * i] = value
            room[2 * i + 1] = j + 1


@entry(types.void, I4, READ_I8_2D, READ_U1_2D, READ_I8, types.int64, I8_2D, U1_2D)
def spread_out(
    places: Places,
    ordered_bits: IntArray,
    ordered_ok: ByteArray,
    outputs: IntArray,
    every: int,
    bits: IntArray,
    ok: ByteArray,
) -> None:
    """Put a cell's outputs where their rows are. Flags of outputs that every row has are left as they are."""
    rows = len(places)
    place = pointer(places)
    for q in range(len(outputs)):
        of, to = (
            behind(pointer(ordered_bits), q * ordered_bits.shape[1]),
            behind(pointer(bits), outputs[q] * rows),
        )
        for i in range(rows):
            prefetch(of, np.int64(place[min(i + AHEAD, rows - 1)]))
            to[i] = of[np.int64(place[i])]
        if (every >> q) & 1 == 0:
            there = behind(pointer(ordered_ok), q * ordered_ok.shape[1])
            flags = behind(pointer(ok), outputs[q] * rows)
            for i in range(rows):
                flags[i] = there[np.int64(place[i])]
