"""The middle of a window: of an even number of values the mean of the two middle ones, rounded once."""

from __future__ import annotations

import math

import numpy as np

from penstock.kernel.bits import bits_of, float_of
from penstock.kernel.cells import INT
from penstock.kernel.extension import Q_LOWER, Q_UPPER, XQ_RECORD
from penstock.kernel.jit import inner
from penstock.kernel.limbs import round_narrow
from penstock.kernel.program import C_KIND
from penstock.kernel.queues import LOWER, UPPER, cell_of_queue, heap_at, value_in
from penstock.kernel.rows import Kernel


@inner
def middle_of_floats(low: int, high: int) -> int:
    """Return the bits of the mean of two floats; halving loses nothing unless the sum is too large."""
    a, b = float_of(low), float_of(high)
    both = a + b
    if math.isinf(both):
        return bits_of(0.5 * a + 0.5 * b)
    return bits_of(0.5 * both)


@inner
def middle_of_integers(low: int, high: int) -> int:
    """Return the float64 bits of the mean of two integers."""
    both = np.uint64(low) + np.uint64(high)
    carry = np.int64(both < np.uint64(low))
    upper = (low >> 63) + (high >> 63) + carry
    return round_narrow(np.int64(both), upper, upper >> 63, -1)


@inner
def median(k: Kernel, r: int, q: int) -> tuple[int, bool]:
    """Return the median of a queue."""
    x = r + k.program[q + XQ_RECORD]
    if k.states[x + Q_LOWER] == 0:
        return 0, False
    low = value_in(k, r, q, k.rows[heap_at(k, r, q, LOWER, 0)])
    high = low
    if k.states[x + Q_UPPER] == k.states[x + Q_LOWER]:
        high = value_in(k, r, q, k.rows[heap_at(k, r, q, UPPER, 0)])
    if k.program[cell_of_queue(k, q) + C_KIND] == INT:
        return middle_of_integers(low, high), True
    return (low if low == high else middle_of_floats(low, high)), True
