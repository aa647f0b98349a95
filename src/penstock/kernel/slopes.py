"""Slope: sums of t, t², x and t·x over a window, as integers; the least-squares slope is a quotient of two of them.

With n rows it is ``(n Σtx - Σt Σx) / (n Σt² - (Σt)²)``, computed exactly and rounded once. Values are integers times ``2**-1074``
here, the unit of the wide sums, so that any float64 fits; only the words near a value's own bits are touched.
"""

from __future__ import annotations

import numpy as np

from penstock.kernel.bits import leading_zeros, multiply_high, stay_apart
from penstock.kernel.cells import INT
from penstock.kernel.columns import IntArray
from penstock.kernel.extension import Q_STATE, SLOPE_WORDS, XQ_RECORD
from penstock.kernel.jit import inner
from penstock.kernel.limbs import WIDE_UNIT, add_shifted, assemble, fraction_and_exponent, magnitude
from penstock.kernel.program import C_KIND, C_LANE, ROW_LANES, ROW_TIME, WIDE_SUM_WORDS
from penstock.kernel.rows import Kernel

TIME_WORDS, TIME_SQUARES_WORDS, PRODUCTS_WORDS = 2, 3, WIDE_SUM_WORDS + 1
S_TIMES = Q_STATE
S_TIME_SQUARES = S_TIMES + TIME_WORDS
S_VALUES = S_TIME_SQUARES + TIME_SQUARES_WORDS
S_PRODUCTS = S_VALUES + WIDE_SUM_WORDS
assert S_PRODUCTS + PRODUCTS_WORDS == SLOPE_WORDS
# In the scratch words: the absolute sums, then numerator and denominator.
NUMERATOR_WORDS, DENOMINATOR_WORDS = PRODUCTS_WORDS + 1, 3
AT_SUMS, AT_NUMERATOR, AT_DENOMINATOR, AT_REST = 0, 80, 120, 124
QUOTIENT_BITS = 62
MICROSECONDS = 1_000_000


@inner
def add_to_slope(k: Kernel, r: int, q: int, c: int, row: int, removing: bool) -> None:
    """Add a row to the sums of a queue, or take it away."""
    stay_apart()
    x = r + k.program[q + XQ_RECORD]
    time, value = k.rows[row + ROW_TIME], k.rows[row + ROW_LANES + k.program[c + C_LANE]]
    since = np.uint64(-time if time < 0 else time)
    if k.program[c + C_KIND] == INT:
        size, shift = np.uint64(-value if value < 0 else value), -WIDE_UNIT
    else:
        size, exponent = fraction_and_exponent(value)
        shift = exponent - 1
    none = np.uint64(0)
    add_shifted(k.states, x + S_TIMES, TIME_WORDS, since, none, 0, (time < 0) != removing)
    high = multiply_high(since, since)
    add_shifted(k.states, x + S_TIME_SQUARES, TIME_SQUARES_WORDS, since * since, high, 0, removing)
    add_shifted(k.states, x + S_VALUES, WIDE_SUM_WORDS, size, none, shift, (value < 0) != removing)
    negative = ((value < 0) != (time < 0)) != removing
    high = multiply_high(since, size)
    add_shifted(k.states, x + S_PRODUCTS, PRODUCTS_WORDS, since * size, high, shift, negative)


@inner
def add_product(
    a: IntArray, at: int, words: int, left: int, left_words: int, right: int, right_words: int, negative: bool
) -> None:
    """Add the product of two unsigned integers in `a` to a third one, or subtract it."""
    for i in range(left_words):
        for j in range(right_words):
            one, other = np.uint64(a[left + i]), np.uint64(a[right + j])
            if one != 0 and other != 0:
                add_shifted(a, at, words, one * other, multiply_high(one, other), 64 * (i + j), negative)


@inner
def scale(a: IntArray, at: int, words: int, factor: int) -> None:
    """Multiply an unsigned integer by a word."""
    carry = np.uint64(0)
    for i in range(at, at + words):
        word, by = np.uint64(a[i]), np.uint64(factor)
        low = word * by
        new = low + carry
        carry = multiply_high(word, by) + np.uint64(new < low)
        a[i] = np.int64(new)


@inner
def bit_length(a: IntArray, at: int, words: int) -> int:
    """Return how many bits an unsigned integer has."""
    for i in range(words - 1, -1, -1):
        if a[at + i] != 0:
            return 64 * i + 64 - leading_zeros(np.uint64(a[at + i]))
    return 0


@inner
def shift_in(a: IntArray, at: int, words: int, bit: int) -> None:
    """Shift an unsigned integer left by one, with a bit coming in."""
    carry = np.uint64(bit)
    for i in range(at, at + words):
        word = np.uint64(a[i])
        a[i] = np.int64((word << np.uint64(1)) | carry)
        carry = word >> np.uint64(63)


@inner
def subtract_if_it_fits(a: IntArray, at: int, source: int, words: int) -> bool:
    """Subtract an unsigned integer from another unless that would be negative; return whether it was."""
    for i in range(words - 1, -1, -1):
        one, other = np.uint64(a[at + i]), np.uint64(a[source + i])
        if one < other:
            return False
        if one > other:
            break
    for i in range(words):
        if a[source + i] != 0:
            add_shifted(a, at, words, np.uint64(a[source + i]), np.uint64(0), 64 * i, True)
    return True


@inner
def has_bits_below(a: IntArray, at: int, bit: int) -> bool:
    """Whether an unsigned integer has a bit below one."""
    if bit <= 0:
        return False
    for i in range(bit >> 6):
        if a[at + i] != 0:
            return True
    return (bit & 63) != 0 and np.uint64(a[at + (bit >> 6)]) << np.uint64(64 - (bit & 63)) != 0


@inner
def rounded_quotient(a: IntArray, negative: bool) -> int:
    """Return float64 bits of numerator times ``2**WIDE_UNIT`` by denominator, rounded once, by long division."""
    stay_apart()
    top = bit_length(a, AT_NUMERATOR, NUMERATOR_WORDS)
    if top == 0:
        return 0
    steps = bit_length(a, AT_DENOMINATOR, DENOMINATOR_WORDS) + QUOTIENT_BITS
    words = DENOMINATOR_WORDS + 1
    for i in range(words):
        a[AT_REST + i] = 0
    a[AT_DENOMINATOR + DENOMINATOR_WORDS] = 0
    quotient = np.uint64(0)
    for bit in range(top - 1, top - 1 - steps, -1):
        incoming = (a[AT_NUMERATOR + (bit >> 6)] >> (bit & 63)) & 1 if bit >= 0 else 0
        shift_in(a, AT_REST, words, incoming)
        fits = subtract_if_it_fits(a, AT_REST, AT_DENOMINATOR, words)
        quotient = (quotient << np.uint64(1)) | np.uint64(fits)
    sticky = bit_length(a, AT_REST, words) != 0 or has_bits_below(a, AT_NUMERATOR, top - steps)
    zeros = leading_zeros(quotient)
    exponent = WIDE_UNIT + top - steps + 63 - zeros
    return assemble(quotient << np.uint64(zeros), exponent, sticky, negative)


@inner
def slope(k: Kernel, x: int, count: int) -> tuple[int, bool]:
    """Return the slope per second of `count` values."""
    stay_apart()
    a = k.scratch
    times, squares = AT_SUMS, AT_SUMS + TIME_WORDS
    values, products = squares + TIME_SQUARES_WORDS, squares + TIME_SQUARES_WORDS + WIDE_SUM_WORDS
    for i in range(SLOPE_WORDS - Q_STATE):
        a[AT_SUMS + i] = k.states[x + S_TIMES + i]
    for i in range(AT_NUMERATOR, AT_REST):
        a[i] = 0
    before = magnitude(a, times, TIME_WORDS)
    below = magnitude(a, values, WIDE_SUM_WORDS)
    falling = magnitude(a, products, PRODUCTS_WORDS)
    a[AT_REST] = count
    add_product(a, AT_DENOMINATOR, DENOMINATOR_WORDS, squares, TIME_SQUARES_WORDS, AT_REST, 1, False)
    add_product(a, AT_DENOMINATOR, DENOMINATOR_WORDS, times, TIME_WORDS, times, TIME_WORDS, True)
    if bit_length(a, AT_DENOMINATOR, DENOMINATOR_WORDS) == 0:
        return 0, False
    scale(a, times, TIME_WORDS, MICROSECONDS)
    a[AT_REST] = count * MICROSECONDS
    add_product(a, AT_NUMERATOR, NUMERATOR_WORDS, products, PRODUCTS_WORDS, AT_REST, 1, falling)
    add_product(a, AT_NUMERATOR, NUMERATOR_WORDS, values, WIDE_SUM_WORDS, times, TIME_WORDS, below == before)
    negative = magnitude(a, AT_NUMERATOR, NUMERATOR_WORDS)
    return rounded_quotient(a, negative), True
