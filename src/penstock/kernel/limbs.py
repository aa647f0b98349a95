"""Exact sums: integers of several 64-bit words, added on entry, subtracted on exit, rounded once.

A float64 is ``m * 2**k`` with a 53-bit integer m. So a sum of floats is an integer times a fixed power of two, and
adding and subtracting integers never loses a bit: no drift, whatever came and went. The integers are little-endian
two's-complement words inside an int64 array.

Narrow sums hold values with ``|x| < 2**60`` whose lowest set bit is at least ``2**-100``: 3 words with the unit
``2**-100`` (squares: 6 words, ``2**-200``), room for 2**31 rows. Other values go to wide sums that cover every
float64: 34 words with the unit ``2**-1074`` (squares: 68 words, ``2**-2148``). Integer lanes use the narrow words
with the unit 1.
"""

from __future__ import annotations

import numpy as np

from penstock.kernel.bits import (
    add_three_words,
    bits_of,
    fused,
    leading_zeros,
    multiply_high,
    stay_apart,
    trailing_zeros,
)
from penstock.kernel.columns import IntArray
from penstock.kernel.jit import Word, inlined, inner

UNIT = -100
WIDE_UNIT = -1074
_EXPONENT_OF_UNIT = 1075 + UNIT  # biased exponent field e: x = m * 2**(e - 1075)
_EXPONENT_OF_LIMIT = 1023 + 60
NARROW_SHIFTS = _EXPONENT_OF_LIMIT - _EXPONENT_OF_UNIT
FRACTION, HIDDEN_BIT = np.uint64((1 << 52) - 1), np.uint64(1 << 52)
_INFINITY = 0x7FF << 52
_EXACT, _LAST_BIT, _CERTAIN = 2.0**53, 2.0**-53, 2.0**-93


@inner
def fraction_and_exponent(bits: int) -> tuple[int, int]:
    """Return (m, e) with ``|x| = m * 2**(e - 1075)`` for the bits of a finite float64."""
    exponent = (bits >> 52) & 0x7FF
    fraction = np.uint64(bits) & FRACTION
    if exponent == 0:
        return fraction, 1
    return fraction | HIDDEN_BIT, exponent


@inner
def is_narrow(fraction: int, exponent: int) -> bool:
    """Whether the value fits the narrow sums."""
    if fraction == 0 or exponent >= _EXPONENT_OF_LIMIT:
        return fraction == 0
    shift = exponent - _EXPONENT_OF_UNIT
    return shift >= 0 or trailing_zeros(np.uint64(fraction)) >= -shift


@inlined
def narrow_shift(bits: int) -> int:
    """Return by how much the 53 bits of a normal float64 are shifted in a narrow sum; outside 0..107 it may not fit."""
    return ((bits >> 52) & 0x7FF) - _EXPONENT_OF_UNIT


@inlined
def add_narrow(a: IntArray, at: int, size: int, shift: int, negative: bool) -> None:
    """Add (or subtract) one word, shifted left by less than 128, to the integer of SUM_WORDS words at `at`."""
    add_narrow_to(a, at, at, size, shift, negative)


@inlined
def add_narrow_to(a: IntArray, source: int, target: int, size: int, shift: int, negative: bool) -> None:
    """`add_narrow` to the integer at `source`, written at `target`."""
    bit = np.uint64(shift & 63)
    low = size << bit
    high = (size >> np.uint64(1)) >> (np.uint64(63) - bit)
    # All ones where the number begins in the second word: a choice, or a shift of three words, would cost more.
    second = np.uint64((np.int64(63) - shift) >> 63)
    first = ~second
    add_three_words(a, source, target, low & first, (high & first) | (low & second), high & second, negative)


@inner
def add_shifted(a: IntArray, at: int, words: int, low: int, high: int, shift: int, negative: bool) -> None:
    """Add (or subtract) the 128-bit number (high, low), shifted left, to the integer of `words` words at `at`."""
    bit = np.uint64(shift & 63)
    back = np.uint64(63) - bit
    one = np.uint64(1)
    p0 = low << bit
    p1 = (high << bit) | ((low >> one) >> back)
    p2 = (high >> one) >> back
    i = at + (shift >> 6)
    end = at + words
    carry = np.uint64(0)
    k = 0
    while i < end and (k < 3 or carry != 0):
        part = p0 if k == 0 else (p1 if k == 1 else (p2 if k == 2 else np.uint64(0)))
        old = np.uint64(a[i])
        if negative:
            middle = old - part
            new = middle - carry
            carry = np.uint64(old < part) | np.uint64(middle < carry)
        else:
            middle = old + part
            new = middle + carry
            carry = np.uint64(middle < part) | np.uint64(new < carry)
        a[i] = np.int64(new)
        i += 1
        k += 1


@inlined
def assemble(top: int, exponent: int, sticky: bool, negative: bool) -> int:
    """Float64 bits, rounded half to even, of ``top * 2**(exponent - 63)`` plus something smaller if `sticky`.

    `top` has its highest bit set. Too large gives an infinity.
    """
    one = np.uint64(1)
    if -1022 <= exponent <= 1023:
        kept = top >> np.uint64(11)
        rest = ((top & np.uint64(0x7FF)) << one) | np.uint64(sticky)
        kept += np.uint64(rest + (kept & one) > np.uint64(0x800))
        # The leading bit of `kept` adds one to the exponent; rounding up to 2**1024 gives just the infinity.
        bits = np.int64(kept) + ((exponent + 1022) << 52)
    else:
        bits = _INFINITY if exponent > 1023 else np.int64(subnormal(top, -1022 - exponent, sticky))
    return bits | (np.int64(negative) << 63)


@inner
def subnormal(top: int, below: int, sticky: bool) -> Word:
    """Fraction, rounded half to even, of a number whose exponent lies `below` that of the least normal one."""
    stay_apart()
    one = np.uint64(1)
    drop = 11 + below
    if drop > 64:
        return np.uint64(0)
    kept = np.uint64(0) if drop == 64 else top >> np.uint64(drop)
    half = one << np.uint64(drop - 1)
    rest = top & (half | (half - one))
    if rest > half or (rest == half and (sticky or (kept & one) != 0)):
        kept += one
    return kept


@inlined
def round_narrow(w0: int, w1: int, w2: int, unit: int) -> int:
    """Float64 bits of a two's-complement integer of three words times ``2**unit``; +0.0 for zero.

    `unit` is such that every result is a normal number.
    """
    one = np.uint64(1)
    negative = w2 < 0
    # The absolute value: ~x + 1, without a branch.
    mask = np.uint64(w2 >> 63)
    carry = mask & one
    low = (np.uint64(w0) ^ mask) + carry
    carry &= np.uint64(low == 0)
    middle = (np.uint64(w1) ^ mask) + carry
    carry &= np.uint64(middle == 0)
    high = (np.uint64(w2) ^ mask) + carry
    exponent = unit + 63 + 128
    if high == 0:
        high, middle, low = middle, low, np.uint64(0)
        exponent -= 64
        if high == 0:
            high, middle = middle, low
            exponent -= 64
    if high == 0:
        return 0
    zeros = np.uint64(leading_zeros(high))
    top = (high << zeros) | ((middle >> one) >> (np.uint64(63) - zeros))
    sticky = ((middle << zeros) | low) != 0
    return assemble(top, exponent - np.int64(zeros), sticky, negative)


@inner
def magnitude(a: IntArray, at: int, words: int) -> bool:
    """Replace a two's-complement integer by its absolute value; return whether it was negative."""
    if a[at + words - 1] >= 0:
        return False
    carry = True
    for i in range(at, at + words):
        a[i] = ~a[i]
        if carry:
            a[i] += 1
            carry = a[i] == 0
    return True


@inner
def round_magnitude(a: IntArray, at: int, words: int, unit: int, negative: bool) -> int:
    """Float64 bits of an unsigned integer times ``2**unit``, rounded half to even; +0.0 for zero."""
    stay_apart()
    k = words - 1
    while k >= 0 and a[at + k] == 0:
        k -= 1
    if k < 0:
        return 0
    lead = np.uint64(a[at + k])
    zeros = leading_zeros(lead)
    top = lead << np.uint64(zeros)
    sticky = False
    if k > 0:
        below = np.uint64(a[at + k - 1])
        top |= (below >> np.uint64(1)) >> np.uint64(63 - zeros)
        sticky = (below << np.uint64(zeros)) != 0
        i = k - 2
        while not sticky and i >= 0:
            sticky = a[at + i] != 0
            i -= 1
    return assemble(top, unit + 64 * k + 63 - zeros, sticky, negative)


@inner
def divide_small(high: int, low: int, divisor: int) -> tuple[int, int, bool]:
    """Quotient (high, low) of a 128-bit number by a divisor below 2**32, and whether something was left."""
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    d = np.uint64(divisor)
    q3 = (high >> half) // d
    r = (high >> half) - q3 * d
    n = (r << half) | (high & mask)
    q2 = n // d
    r = n - q2 * d
    n = (r << half) | (low >> half)
    q1 = n // d
    r = n - q1 * d
    n = (r << half) | (low & mask)
    q0 = n // d
    r = n - q0 * d
    return (q3 << half) | q2, (q1 << half) | q0, r != 0


@inlined
def quick_quotient(high: int, low: int, unit: int, first: int, second: int) -> int:
    """Float64 bits of a number of 128 bits, its highest one set, divided by two numbers; 0 where they are not certain.

    The number stands for itself times ``2**unit`` and perhaps a little more. It is taken as two floats of 53 bits, so the quotient of
    two floats errs by less than ``2**-100`` of itself; where a hundred times that does not change the rounding, it is right.
    """
    divisor = float(first) * float(second)
    size = float(np.int64(high >> np.uint64(11)))
    rest = float(np.int64(((high & np.uint64(0x7FF)) << np.uint64(42)) | (low >> np.uint64(22)))) * _LAST_BIT
    quotient = size / divisor
    more = (fused(-quotient, divisor, size) + rest) / divisor
    error = quotient * _CERTAIN
    least, most = quotient + (more - error), quotient + (more + error)
    bits = bits_of(least) + ((unit + 75) << 52)
    exponent = (bits_of(least) >> 52) + unit + 75
    certain = least == most and divisor < _EXACT and 1 <= exponent <= 2046
    return bits if certain else np.int64(0)


@inner
def round_quotient(a: IntArray, at: int, words: int, unit: int, first: int, second: int) -> int:
    """Float64 bits of an unsigned integer times ``2**unit``, divided by two numbers below 2**32, rounded once.

    The top 128 bits of the numerator leave a quotient of at least 65 bits; what lies below only decides ties.
    """
    stay_apart()
    k = words - 1
    while k >= 0 and a[at + k] == 0:
        k -= 1
    if k < 0:
        return 0
    zeros = np.uint64(leading_zeros(np.uint64(a[at + k])))
    back = np.uint64(63) - zeros
    one = np.uint64(1)
    w0 = np.uint64(a[at + k])
    w1 = np.uint64(a[at + k - 1]) if k >= 1 else np.uint64(0)
    w2 = np.uint64(a[at + k - 2]) if k >= 2 else np.uint64(0)
    high = (w0 << zeros) | ((w1 >> one) >> back)
    low = (w1 << zeros) | ((w2 >> one) >> back)
    sticky = (w2 << zeros) != 0
    i = k - 3
    while not sticky and i >= 0:
        sticky = a[at + i] != 0
        i -= 1
    quick = quick_quotient(high, low, unit + 64 * (k - 1) - np.int64(zeros), first, second)
    if quick != 0:
        return quick
    high, low, left = divide_small(high, low, first)
    sticky = sticky or left
    high, low, left = divide_small(high, low, second)
    sticky = sticky or left
    # The unit of `low` is 2**(unit + 64 * (k - 1) - zeros); bring the quotient's highest bit to the top.
    exponent = unit + 64 * (k - 1) - np.int64(zeros) + 63
    if high == 0:
        shift = np.uint64(leading_zeros(low))
        return assemble(low << shift, exponent - np.int64(shift), sticky, False)
    shift = np.uint64(leading_zeros(high))
    top = (high << shift) | ((low >> one) >> (np.uint64(63) - shift))
    sticky = sticky or (low << shift) != 0
    return assemble(top, exponent + 64 - np.int64(shift), sticky, False)


@inner
def subtract_square(a: IntArray, at: int, words: int, source: int, source_words: int) -> None:
    """Subtract the square of the unsigned integer at `source` from the integer at `at`."""
    stay_apart()
    for i in range(source_words):
        left = np.uint64(a[source + i])
        if left == 0:
            continue
        carry = np.uint64(0)
        borrow = np.uint64(0)
        for j in range(words - i):
            if j >= source_words and carry == 0 and borrow == 0:
                break
            right = np.uint64(a[source + j]) if j < source_words else np.uint64(0)
            low = left * right
            part = low + carry
            carry = multiply_high(left, right) + np.uint64(part < low)
            old = np.uint64(a[at + i + j])
            middle = old - part
            new = middle - borrow
            borrow = np.uint64(old < part) | np.uint64(middle < borrow)
            a[at + i + j] = np.int64(new)


@inner
def variance_bits(
    a: IntArray, sum_words: int, squares_words: int, unit: int, count: int, degrees: int
) -> int:
    """Float64 bits of the variance from a sum at 0 and a sum of squares right behind it in `a`, rounded once.

    The numerator is ``count * sum(x²) - sum(x)²``, an exact integer; it is divided by count and by degrees. It is
    built behind the two operands in `a`. `count` is below 2**32, `unit` is the exponent of the sum's unit.
    """
    stay_apart()
    magnitude(a, 0, sum_words)
    at = sum_words + squares_words
    factor = np.uint64(count)
    carry = np.uint64(0)
    for i in range(squares_words):
        word = np.uint64(a[sum_words + i])
        low = word * factor
        new = low + carry
        carry = multiply_high(word, factor) + np.uint64(new < low)
        a[at + i] = np.int64(new)
    a[at + squares_words] = np.int64(carry)
    subtract_square(a, at, squares_words + 1, 0, sum_words)
    return round_quotient(a, at, squares_words + 1, 2 * unit, count, degrees)
