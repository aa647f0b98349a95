"""One lane in one window, walked over a whole history: for each key two edges that only move forward, and running totals.

The edges say which rows a row's window holds; the totals, from the key's first row on, say their count and sum, as the difference of
two. What values are is not decided here: sums are those of `limbs.py`, rounded as in `emit.py`; extremes are found by the two stacks of
`windows.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from penstock.kernel.bits import (
    add_square,
    behind,
    ordered,
    pointer,
    stay_apart,
    subtract_squared_sum,
)
from penstock.kernel.cells import INT, NOT_YET
from penstock.kernel.columns import IntArray
from penstock.kernel.emit import (
    COUNT,
    COUNT_DISTINCT,
    LAST,
    LATEST,
    MAX,
    MEAN,
    MIN,
    SUM,
    TIME_SINCE_LAST,
    degrees_of,
    integer_sum,
    mean_bits,
    seconds,
    spread_bits,
)
from penstock.kernel.history import I4_2D, READ_U1_2D, U1_2D, Places
from penstock.kernel.jit import I8, I8_2D, READ_I8, ByteArray, entry, inlined, inner
from penstock.kernel.limbs import FRACTION, HIDDEN_BIT, UNIT, narrow_shift, round_narrow, round_quotient
from penstock.kernel.program import SUM_WORDS
from penstock.kernel.totals import add_to_total

AT_ONCE = 4  # rows looked at together for whether they have passed an edge
# A walk's words: the kind of its lane, its window, and what is kept.
H_KIND, H_SIZE, H_OFFSET, H_INTERVAL, H_CURRENT, H_LIFETIME, H_SUMS, H_SQUARES, H_LOWEST, WALK_WORDS = range(
    10
)
# What a walk needs for each row of the longest run, in words, and once.
EDGES_WORDS = 4  # edges, count, rounded sum; behind them the counts' totals, and then the running extremes
RUN_WORDS = EDGES_WORDS + 1 + 2 * SUM_WORDS


def room_words(longest: int) -> int:
    """Return how many words a walk needs besides the rows, where the longest run of a key has so many rows."""
    return RUN_WORDS * (longest + 1) + SUM_WORDS


@inlined
def first_later(times: IntArray, start: int, number: int, end: int, time: int) -> int:
    """Return the first row from `number` up to `end` of the run that is later than `time`; without branches if near."""
    while True:
        passed = 0
        for ahead in range(AT_ONCE):
            passed += np.int64(times[start + number + ahead] <= time) & np.int64(number + ahead < end)
        number += passed
        if passed < AT_ONCE:
            return number


@inlined
def find_edges(
    walk: IntArray, times: IntArray, start: int, rows: int, lows: IntArray, highs: IntArray
) -> None:
    """Write for each row of a run which rows its window holds, counted from the run's first: ``low <= row < high``."""
    size, offset, interval = walk[H_SIZE], walk[H_OFFSET], walk[H_INTERVAL]
    low = high = np.int64(0)
    for j in range(rows):
        upper = times[start + j]
        if interval != 0:
            upper = upper // interval * interval - 1
        upper += offset
        if interval != 0 or offset != 0:
            high = first_later(times, start, high, j, upper)
        else:
            high = j + walk[H_CURRENT]
        if walk[H_LIFETIME] == 0:
            low = first_later(times, start, low, high, upper - size)
        lows[j], highs[j] = low, high


@inlined
def find_counts(
    present: ByteArray,
    start: int,
    rows: int,
    lows: IntArray,
    highs: IntArray,
    counts: IntArray,
    totals: IntArray,
) -> None:
    """Write how many values each row's window holds."""
    totals[0] = 0
    for j in range(rows):
        totals[j + 1] = totals[j] + np.int64(present[start + j])
    for j in range(rows):
        counts[j] = totals[highs[j]] - totals[lows[j]]


@inlined
def total_sums(values: IntArray, start: int, rows: int, is_float: bool, sums: IntArray) -> None:
    """Write the running totals of a run's values."""
    for w in range(SUM_WORDS):
        sums[w] = 0
    for j in range(rows):
        at = SUM_WORDS * j
        add_to_total(sums, at, at + SUM_WORDS, values[start + j], is_float)


@inlined
def total_squares(
    values: IntArray, start: int, rows: int, is_float: bool, lowest: int, squares: IntArray
) -> None:
    """Write the running totals of the squares of a run's values, in units of the square of the lane's lowest bit."""
    for w in range(SUM_WORDS):
        squares[w] = 0
    for j in range(rows):
        value = values[start + j]
        size, left = np.uint64(-value if value < 0 else value), np.int64(0)
        if is_float:
            # Of a zero the bits that are none are shifted out, as are zeros below the lane's lowest bit.
            size = (np.uint64(value) & FRACTION) | HIDDEN_BIT if value != 0 else np.uint64(0)
            left = narrow_shift(value) if value != 0 else np.int64(0)
        at = SUM_WORDS * j
        add_square(squares, at, at + SUM_WORDS, size, left, lowest)


@inlined
def sum_between(sums: IntArray, low: int, high: int) -> tuple[int, int, int]:
    """Return the difference of two running totals, as its three words."""
    a, b = SUM_WORDS * high, SUM_WORDS * low
    a0, b0, a1, b1 = np.uint64(sums[a]), np.uint64(sums[b]), np.uint64(sums[a + 1]), np.uint64(sums[b + 1])
    borrow = np.uint64(a0 < b0)
    middle = a1 - b1
    over = np.uint64(a1 < b1) | np.uint64(middle < borrow)
    return (
        np.int64(a0 - b0),
        np.int64(middle - borrow),
        np.int64(np.uint64(sums[a + 2]) - np.uint64(sums[b + 2]) - over),
    )


@inlined
def round_sums(
    sums: IntArray, is_int: bool, rows: int, lows: IntArray, highs: IntArray, rounded: IntArray
) -> None:
    """Write each row's sum as the bits of a float64."""
    unit = 0 if is_int else UNIT
    for j in range(rows):
        w0, w1, w2 = sum_between(sums, lows[j], highs[j])
        rounded[j] = round_narrow(w0, w1, w2, unit)


class To(NamedTuple):
    """Where an output of a run goes: a word and a flag for each row."""

    bits: IntArray
    ok: ByteArray


@inlined
def put(to: To, j: int, value: int, valid: bool) -> int:
    """Write the output of row `j` of the run, and whether it is there; return that as a word."""
    to.bits[j] = value if valid else np.int64(0)
    to.ok[j] = valid
    return np.int64(valid)


@inner
def put_extremes(
    values: IntArray,
    present: ByteArray,
    is_int: bool,
    smallest: bool,
    start: int,
    rows: int,
    room: IntArray,
    to: To,
) -> int:
    """Write minima or maxima, by the two stacks of `windows.py`; return whether every row has one."""
    stay_apart()
    lows, highs, counts = room, behind(room, rows), behind(room, 2 * rows)
    suffix = behind(room, EDGES_WORDS * rows)
    # The largest is the smallest of the complements.
    flip = np.int64(0) if smallest else np.int64(-1)
    middle = entered = np.int64(0)
    back = NOT_YET
    every = np.int64(1)
    for j in range(rows):
        low, high = lows[j], highs[j]
        for row in range(entered, high):
            back = min(back, rank_of(values, present, is_int, flip, start + row))
        entered = max(entered, high)
        if low >= middle:
            back = NOT_YET
            for row in range(high - 1, low - 1, -1):
                back = min(back, rank_of(values, present, is_int, flip, start + row))
                suffix[row] = back
            middle = high
            back = NOT_YET
        best = min(back, suffix[low]) if low < middle else back
        best ^= flip
        every &= put(to, j, best if is_int else ordered(best), counts[j] != 0)
    return every


@inlined
def rank_of(values: IntArray, present: ByteArray, is_int: bool, flip: int, row: int) -> int:
    """Return a row's value as an integer in the order that is asked for; the last of all where it has none."""
    value = values[row]
    rank = (value if is_int else ordered(value)) ^ flip
    return rank if present[row] != 0 else NOT_YET


@inner
def put_different(links: Places, present: ByteArray, start: int, rows: int, room: IntArray, to: To) -> int:
    """Write how many different values there are: a value counts where it stands first in the window."""
    stay_apart()
    lows, highs = room, behind(room, rows)
    low = high = different = np.int64(0)
    for j in range(rows):
        while high < highs[j]:
            different += np.int64(present[start + high]) & np.int64(links[0, start + high] < low)
            high += 1
        while low < lows[j]:
            different -= np.int64(present[start + low]) & np.int64(links[1, start + low] >= high)
            low += 1
        put(to, j, different, True)
    return 1


@inner
def put_last(
    times: IntArray,
    values: IntArray,
    present: ByteArray,
    applied: ByteArray,
    function: int,
    start: int,
    rows: int,
    room: IntArray,
    to: To,
) -> int:
    """Write the latest value, the time since it, or the value of the latest row; return whether every row has one."""
    stay_apart()
    lows, highs, latest = room, behind(room, rows), behind(room, EDGES_WORDS * rows)
    counted = applied if function == LATEST else present
    last = np.int64(-1)
    for j in range(rows):
        if counted[start + j] != 0:
            last = j
        latest[j] = last
    every = np.int64(1)
    for j in range(rows):
        # Who asks for the time since the last row does not mean itself.
        high = min(highs[j], j) if function == TIME_SINCE_LAST else highs[j]
        row = latest[high - 1] if high > 0 else np.int64(-1)
        valid = row >= lows[j]
        value = np.int64(0)
        if valid and function == TIME_SINCE_LAST:
            value = seconds(times[start + j] - times[start + row])
        elif valid:
            value = values[start + row]
            valid = present[start + row] != 0
        every &= put(to, j, value, valid)
    return every


@inner
def put_spread(
    is_int: bool,
    function: int,
    lowest: int,
    rows: int,
    room: IntArray,
    sums: IntArray,
    squares: IntArray,
    work: IntArray,
    to: To,
) -> int:
    """Write variances or standard deviations; return whether every row has one."""
    stay_apart()
    lows, highs, counts = room, behind(room, rows), behind(room, 2 * rows)
    unit = 2 * lowest + (0 if is_int else 2 * UNIT)
    every = np.int64(1)
    for j in range(rows):
        degrees = degrees_of(counts[j], function)
        value, valid = np.int64(0), False
        if degrees >= 1:
            low, high = SUM_WORDS * lows[j], SUM_WORDS * highs[j]
            subtract_squared_sum(work, sums, squares, low, high, lowest, counts[j])
            bits = round_quotient(work, 0, SUM_WORDS, unit, counts[j], degrees)
            value, valid = spread_bits(bits, function)
        every &= put(to, j, value, valid)
    return every


@entry(types.int64, READ_I8, READ_I8, READ_I8, READ_U1_2D, I4_2D, READ_I8, READ_I8, I8, I8_2D, U1_2D)
def walk(
    starts: IntArray,
    times: IntArray,
    lane_values: IntArray,
    lane_present: ByteArray,
    links: Places,
    walked: IntArray,
    functions: IntArray,
    space: IntArray,
    bits: IntArray,
    ok: ByteArray,
) -> int:
    """Write a cell's outputs, one behind the other, for all rows key by key; a word with a bit for each that is there in all rows.

    `lane_present` says which rows have a value in the lane, and which were applied.
    """
    is_int = walked[H_KIND] == INT
    clock, values = pointer(times), pointer(lane_values)
    present = pointer(lane_present)
    applied = behind(present, lane_present.shape[1])
    all_there = (np.int64(1) << len(functions)) - 1
    for slot in range(len(starts) - 1):
        start, rows = starts[slot], starts[slot + 1] - starts[slot]
        if rows == 0:
            continue
        room = pointer(space)
        lows, highs, counts, rounded = (
            room,
            behind(room, rows),
            behind(room, 2 * rows),
            behind(room, 3 * rows),
        )
        totals = behind(room, EDGES_WORDS * rows)
        sums = behind(totals, rows + 1)
        squares = behind(sums, SUM_WORDS * (rows + 1))
        work = behind(squares, SUM_WORDS * (rows + 1))
        if slot == len(starts) - 2:
            for j in range(2 * rows):
                room[j] = 0
        else:
            find_edges(walked, clock, start, rows, lows, highs)
        find_counts(present, start, rows, lows, highs, counts, totals)
        if walked[H_SUMS] != 0:
            total_sums(values, start, rows, not is_int, sums)
        if walked[H_SQUARES] != 0:
            total_squares(values, start, rows, not is_int, walked[H_LOWEST], squares)
        is_rounded = False
        for q in range(len(functions)):
            function = functions[q]
            to = To(
                behind(pointer(bits), q * bits.shape[1] + start), behind(pointer(ok), q * ok.shape[1] + start)
            )
            every = np.int64(1)
            if function == COUNT:
                for j in range(rows):
                    to.bits[j] = counts[j]
            elif function == SUM and is_int:
                for j in range(rows):
                    w0, w1, w2 = sum_between(sums, lows[j], highs[j])
                    value, fits = integer_sum(w0, w1, w2)
                    every &= put(to, j, value, fits)
            elif function == SUM or function == MEAN:
                if not is_rounded:
                    round_sums(sums, is_int, rows, lows, highs, rounded)
                is_rounded = True
                if function == SUM:
                    for j in range(rows):
                        to.bits[j] = rounded[j]
                else:
                    for j in range(rows):
                        every &= put(to, j, mean_bits(rounded[j], counts[j]), counts[j] != 0)
            elif function == MIN or function == MAX:
                every = put_extremes(values, present, is_int, function == MIN, start, rows, room, to)
            elif function == COUNT_DISTINCT:
                every = put_different(links, present, start, rows, room, to)
            elif function == LAST or function == LATEST or function == TIME_SINCE_LAST:
                every = put_last(clock, values, present, applied, function, start, rows, room, to)
            else:
                every = put_spread(is_int, function, walked[H_LOWEST], rows, room, sums, squares, work, to)
            all_there &= ~((np.int64(1) - every) << q)
    return all_there
