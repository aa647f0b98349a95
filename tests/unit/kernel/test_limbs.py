"""Sums and variances against exact fractions, through the kernel, with values coming and going."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.kernel.program import Function, LaneKind
from penstock.kernel.state import ViewState
from tests.unit.kernel.batches import batch, program_of

finite = st.floats(allow_nan=False, allow_infinity=False)
amounts = st.one_of(
    finite, st.sampled_from([1e15, -1e15, 1e300, 5e-324, -0.0, 0.1, 2.0**-1022]), st.floats(-9, 9)
)
FUNCTIONS = (Function.SUM, Function.MEAN, Function.VAR_POP, Function.VAR_SAMP, Function.STDDEV_POP)


def rounded(exact):
    try:
        return float(exact)
    except OverflowError:
        return math.nan


def expected(values):
    exact = [Fraction(v) for v in values]
    n, total = len(exact), sum(exact)
    squares = sum((x - total / n) ** 2 for x in exact)
    variance = rounded(squares / n)
    sample = rounded(squares / (n - 1)) if n > 1 else math.nan
    return [rounded(total), rounded(total) / n, variance, sample, math.sqrt(variance)]


@settings(max_examples=200, deadline=None)
@given(st.lists(amounts, min_size=1, max_size=20), st.integers(1, 6))
@example([1e15, 1.1, 2.2, 3.3, 4.4], 2)
@example([5e-324, 5e-324, -5e-324, 1e-310], 4)
@example([1.7e308, 1.7e308, 1.0], 2)
def test_sums_are_rounded_once_and_never_drift(values, size):
    state = ViewState(program_of(*FUNCTIONS, sizes=(size,)))
    n = len(values)
    got, _ = state.process_floats(*batch(["k"] * n, range(n), [float(v) for v in values]))
    for i in range(n):
        window = [v + 0.0 for v in values[max(0, i + 1 - size) : i + 1]]
        np.testing.assert_array_equal(got[i], expected(window))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12))
def test_integers_sum_exactly_or_not_at_all(values):
    state = ViewState(program_of(Function.SUM, Function.MEAN, Function.VAR_POP, kind=LaneKind.INT))
    output = state.process(*batch(["k"] * len(values), range(len(values)), values))
    total = sum(values)
    assert output.valid[-1, 0] == (-(2**63) <= total < 2**63)
    assert output.bits[-1, 0] == (total if output.valid[-1, 0] else 0)
    floats = output.bits[-1, 1:].view(np.float64)
    assert floats[0] == float(total) / len(values)
    exact = [Fraction(v) for v in values]
    centre = Fraction(total, len(values))
    assert floats[1] == float(sum((x - centre) ** 2 for x in exact) / len(values))


def test_a_huge_amount_leaves_no_trace():
    state = ViewState(program_of(Function.SUM, Function.VAR_POP, sizes=(10,)))
    state.process(*batch(["k", "k"], [0, 1], [1e300, -1e15]))
    values, _ = state.process_floats(*batch(["k"], [100], [0.1]))
    assert values.tolist() == [[0.1, 0.0]]
