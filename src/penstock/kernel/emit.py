"""The values of a program's aggregates, read from what the cells keep and rounded once.

Each value is 64 bits and a flag. A float that is not finite, and a sum of integers outside int64, is null.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.kernel.bits import bits_of, float_of, is_finite_bits, ordered, stay_apart
from penstock.kernel.cells import BACK_MAX, BACK_MIN, INT, WIDE_COUNT, WIDE_ROW
from penstock.kernel.columns import BoolArray, IntArray
from penstock.kernel.jit import Word, inlined, inner
from penstock.kernel.limbs import (
    UNIT,
    WIDE_UNIT,
    add_shifted,
    magnitude,
    round_magnitude,
    round_narrow,
    variance_bits,
)
from penstock.kernel.program import (
    A_CELL,
    A_FUNCTION,
    AGGREGATE_TABLE,
    AGGREGATE_WORDS,
    AGGREGATES,
    C_COUNT,
    C_DISTINCT,
    C_EXTREMES,
    C_KIND,
    C_LANE,
    C_LAST,
    C_SQUARES,
    C_SUM,
    C_WINDOW,
    CELL_TABLE,
    CELL_WORDS,
    KIND_TABLE,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
    SQUARES_WORDS,
    SUM_WORDS,
    WIDE_SQUARES_WORDS,
    WIDE_SUM_WORDS,
    Function,
)
from penstock.kernel.rows import Kernel, row_at
from penstock.kernel.windows import front

COUNT, SUM, MEAN, MIN, MAX = (int(f) for f in list(Function)[:5])
STDDEV_SAMP, STDDEV_POP, VAR_SAMP, VAR_POP = (int(f) for f in list(Function)[5:9])
LAST, COUNT_DISTINCT, TIME_SINCE_LAST = (int(f) for f in list(Function)[9:12])
DECAYED_SUM, DECAYED_COUNT = int(Function.DECAYED_SUM), int(Function.DECAYED_COUNT)
LATEST = int(Function.LATEST)
MICROSECONDS = 1e6


@inner
def emit_empty(k: Kernel, place: int, bits: IntArray, ok: BoolArray, down: int, across: int) -> None:
    """Write the values of empty windows as a row of the output; see `Batch`."""
    stay_apart()
    program = k.program
    for a in range(program[AGGREGATES]):
        function = program[program[AGGREGATE_TABLE] + a * AGGREGATE_WORDS + A_FUNCTION]
        at = place * down + a * across
        bits[at] = 0
        ok[at] = function in (COUNT, COUNT_DISTINCT, SUM, DECAYED_SUM, DECAYED_COUNT)


@inner
def emit_since(
    k: Kernel, r: int, time: int, place: int, bits: IntArray, ok: BoolArray, down: int, across: int
) -> None:
    """Write the times since the last valid row; to be called before the asking row is in its windows."""
    stay_apart()
    program = k.program
    for a in range(program[AGGREGATES]):
        entry = program[AGGREGATE_TABLE] + a * AGGREGATE_WORDS
        if program[entry + A_FUNCTION] != TIME_SINCE_LAST:
            continue
        at = place * down + a * across
        c = program[CELL_TABLE] + program[entry + A_CELL] * CELL_WORDS
        bits[at], ok[at] = since_last(k, r, c, time)


@inner
def since_last(k: Kernel, r: int, c: int, time: int) -> tuple[int, bool]:
    """Return the seconds since the last valid row of the window."""
    last = k.states[r + k.program[c + C_LAST]]
    if last < k.states[r + RECORD_HEADER + 2 * k.program[c + C_WINDOW]]:
        return 0, False
    return seconds(time - k.rows[row_at(k, r, last) + ROW_TIME]), True


@inner
def seconds(elapsed: int) -> int:
    """Return microseconds as float64 bits of seconds."""
    return bits_of(float(elapsed) / MICROSECONDS)


@inlined
def emit(k: Kernel, r: int, place: int, bits: IntArray, ok: BoolArray, down: int, across: int) -> None:
    """Write all other aggregates of the key with record `r` as a row of the output; see `Batch`."""
    program = k.program
    for a in range(program[AGGREGATES]):
        entry = program[AGGREGATE_TABLE] + a * AGGREGATE_WORDS
        function = program[entry + A_FUNCTION]
        if function == TIME_SINCE_LAST:
            continue
        at = place * down + a * across
        c = program[CELL_TABLE] + program[entry + A_CELL] * CELL_WORDS
        value, valid = value_of(k, r, c, function)
        bits[at] = value if valid else 0
        ok[at] = valid


@inlined
def value_of(k: Kernel, r: int, c: int, function: int) -> tuple[int, bool]:
    """Return the value of one function over what a cell holds."""
    program, states = k.program, k.states
    count = states[r + program[c + C_COUNT]]
    value = np.int64(0)
    valid = True
    if function == COUNT:
        value = count
    elif function == COUNT_DISTINCT:
        value = states[r + program[c + C_DISTINCT]]
    elif function == SUM:
        value, valid = total(k, r, c)
    elif function == LATEST:
        value, valid = latest(k, r, c)
    elif count == 0:
        valid = False
    elif function == MEAN:
        value, valid = mean(k, r, c, count)
    elif function == MIN or function == MAX:
        value = extreme(k, r, c, function == MIN)
    elif function == LAST:
        value = k.rows[row_at(k, r, states[r + program[c + C_LAST]]) + ROW_LANES + program[c + C_LANE]]
    else:
        value, valid = spread(k, r, c, count, function)
    return value, valid


@inner
def latest(k: Kernel, r: int, c: int) -> tuple[int, bool]:
    """Return the value of the window's latest row, which may be null there."""
    edges = r + RECORD_HEADER + 2 * k.program[c + C_WINDOW]
    if k.states[edges] >= k.states[edges + 1]:
        return 0, False
    row = row_at(k, r, k.states[edges + 1] - 1)
    lane = k.program[c + C_LANE]
    return k.rows[row + ROW_LANES + lane], (k.rows[row + ROW_VALID] >> lane) & 1 != 0


@inner
def total(k: Kernel, r: int, c: int) -> tuple[int, bool]:
    """Return the sum in the kind of the lane."""
    s = r + k.program[c + C_SUM]
    if k.program[c + C_KIND] != INT:
        bits = rounded_sum(k, s, UNIT)
        return bits, is_finite_bits(bits)
    return integer_sum(k.states[s], k.states[s + 1], k.states[s + 2])


@inlined
def integer_sum(w0: int, w1: int, w2: int) -> tuple[int, bool]:
    """Return a sum of integers, of three words, as one, and whether it fits."""
    return w0, w1 == (w0 >> 63) and w2 == (w0 >> 63)


@inlined
def mean_bits(rounded: int, count: int) -> int:
    """Return the bits of a rounded sum divided by the count."""
    return bits_of(float_of(rounded) / float(count))


@inlined
def mean(k: Kernel, r: int, c: int, count: int) -> tuple[int, bool]:
    """Return the rounded sum divided by the count."""
    unit = 0 if k.program[c + C_KIND] == INT else UNIT
    bits = rounded_sum(k, r + k.program[c + C_SUM], unit)
    return mean_bits(bits, count), is_finite_bits(bits)


@inlined
def rounded_sum(k: Kernel, s: int, unit: int) -> int:
    """Return the float64 bits of the narrow sum at `s` of `states`, and the wide sum where there is one."""
    if k.states[s + WIDE_COUNT] != 0:
        wide_sum(k, s)
        negative = magnitude(k.scratch, 0, WIDE_SUM_WORDS)
        return round_magnitude(k.scratch, 0, WIDE_SUM_WORDS, WIDE_UNIT, negative)
    return round_narrow(k.states[s], k.states[s + 1], k.states[s + 2], unit)


@inner
def wide_sum(k: Kernel, s: int) -> None:
    """Write wide + narrow sum to the scratch words."""
    stay_apart()
    at = k.states[s + WIDE_ROW]
    for j in range(WIDE_SUM_WORDS):
        k.scratch[j] = k.pool[at + j]
    narrow = WIDE_SUM_WORDS
    for j in range(SUM_WORDS):
        k.scratch[narrow + j] = k.states[s + j]
    negative = magnitude(k.scratch, narrow, SUM_WORDS)
    shift = UNIT - WIDE_UNIT
    for j in range(SUM_WORDS):
        word = np.uint64(k.scratch[narrow + j])
        add_shifted(k.scratch, 0, WIDE_SUM_WORDS, word, np.uint64(0), shift + 64 * j, negative)


@inner
def wide_squares(k: Kernel, r: int, c: int) -> None:
    """Write wide + narrow sum of squares to the scratch words, behind the wide sum."""
    stay_apart()
    at = k.states[r + k.program[c + C_SUM] + WIDE_ROW] + WIDE_SUM_WORDS
    for j in range(WIDE_SQUARES_WORDS):
        k.scratch[WIDE_SUM_WORDS + j] = k.pool[at + j]
    shift = 2 * (UNIT - WIDE_UNIT)
    for j in range(SQUARES_WORDS):
        word = np.uint64(k.states[r + k.program[c + C_SQUARES] + j])
        add_shifted(k.scratch, WIDE_SUM_WORDS, WIDE_SQUARES_WORDS, word, np.uint64(0), shift + 64 * j, False)


@inner
def extreme(k: Kernel, r: int, c: int, smallest: bool) -> int:
    """Return the minimum or maximum."""
    stay_apart()
    e = r + k.program[c + C_EXTREMES]
    low, high = front(k, r, c, k.states[r + RECORD_HEADER + 2 * k.program[c + C_WINDOW]])
    order = min(low, k.states[e + BACK_MIN]) if smallest else max(high, k.states[e + BACK_MAX])
    return order if k.program[c + C_KIND] == INT else ordered(order)


@inner
def spread(k: Kernel, r: int, c: int, count: int, function: int) -> tuple[int, bool]:
    """Return a variance or standard deviation."""
    stay_apart()
    degrees = degrees_of(count, function)
    if degrees < 1:
        return 0, False
    s = r + k.program[c + C_SUM]
    if k.states[s + WIDE_COUNT] != 0:
        wide_sum(k, s)
        wide_squares(k, r, c)
        bits = variance_bits(k.scratch, WIDE_SUM_WORDS, WIDE_SQUARES_WORDS, WIDE_UNIT, count, degrees)
    else:
        for j in range(SUM_WORDS):
            k.scratch[j] = k.states[s + j]
        for j in range(SQUARES_WORDS):
            k.scratch[SUM_WORDS + j] = k.states[r + k.program[c + C_SQUARES] + j]
        unit = 0 if k.program[c + C_KIND] == INT else UNIT
        bits = variance_bits(k.scratch, SUM_WORDS, SQUARES_WORDS, unit, count, degrees)
    return spread_bits(bits, function)


@inner
def degrees_of(count: int, function: int) -> int:
    """Return by what the squared deviations are divided."""
    return count - 1 if function == VAR_SAMP or function == STDDEV_SAMP else count


@inlined
def spread_bits(variance: int, function: int) -> tuple[int, bool]:
    """Return a variance, or its root, where it is a number."""
    if not is_finite_bits(variance):
        return 0, False
    if function == STDDEV_SAMP or function == STDDEV_POP:
        return bits_of(math.sqrt(float_of(variance))), True
    return variance, True


@inlined
def kind_of_lane(k: Kernel, lane: int) -> Word:
    """Return the kind of an input lane."""
    return k.program[k.program[KIND_TABLE] + lane]
