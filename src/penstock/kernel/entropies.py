"""Entropy: the exact sum of ``c * log(c)`` over the counts of a window's values."""

from __future__ import annotations

import numpy as np

from penstock.kernel import elementary
from penstock.kernel.bits import bits_of, float_of
from penstock.kernel.extension import Q_STATE
from penstock.kernel.jit import inner
from penstock.kernel.limbs import FRACTION, HIDDEN_BIT, UNIT, add_narrow, narrow_shift, round_narrow
from penstock.kernel.rows import Kernel

log = inner(elementary.log)
E_VALUES, E_SUM = Q_STATE, Q_STATE + 1  # how many different values, and the sum's words


@inner
def add_count(k: Kernel, at: int, count: int, removing: bool) -> None:
    """Add the term of a count to the sum, or take it away."""
    if count < 2:
        return
    bits = bits_of(float(count) * log(float(count)))
    size = (np.uint64(bits) & FRACTION) | HIDDEN_BIT
    add_narrow(k.states, at, size, narrow_shift(bits), removing)


@inner
def recount(k: Kernel, x: int, before: int, after: int) -> None:
    """Let a value that occurred `before` times occur `after` times."""
    add_count(k, x + E_SUM, before, True)
    add_count(k, x + E_SUM, after, False)
    if before == 0:
        k.states[x + E_VALUES] += 1
    if after == 0:
        k.states[x + E_VALUES] -= 1


@inner
def entropy(k: Kernel, x: int, count: int) -> int:
    """Return the float64 bits of the entropy of `count` values, in nats."""
    if k.states[x + E_VALUES] < 2:
        return 0
    s = x + E_SUM
    total = float_of(round_narrow(k.states[s], k.states[s + 1], k.states[s + 2], UNIT))
    return bits_of(log(float(count)) - total / float(count))
