"""Logarithm and power of two: near the truth, and the same compiled as interpreted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from penstock.kernel import elementary


def ulps(found, expected):
    return abs(found - expected) / math.ulp(expected)


@given(st.integers(2, 2**40) | st.floats(1e-300, 1e300))
def test_log_is_within_an_ulp(x):
    x = float(x)
    assert x == 1.0 or ulps(elementary.log(x), math.log(x)) <= 2


@given(st.floats(-1021, 1021))
def test_exp2_is_within_an_ulp(x):
    assert ulps(elementary.exp2(x), 2.0**x) <= 2


@pytest.mark.parametrize("k", [0, 1, -1, -32, -1022, 32])
def test_whole_powers_are_exact(k):
    assert elementary.exp2(float(k)) == 2.0**k


def test_what_is_below_the_least_normal_number_is_zero():
    assert elementary.exp2(math.nextafter(-1022.0, -math.inf)) == 0.0


@pytest.mark.parametrize("name", ["log", "exp2"])
def test_compiled_and_interpreted_give_the_same_bits(name):
    function = getattr(elementary, name)
    compiled = njit(nogil=True, error_model="numpy")(function)
    random = np.random.default_rng(1)
    inputs = random.uniform(1e-6, 1e6, 20_000) if name == "log" else random.uniform(-1100, 40, 20_000)
    for x in inputs.tolist():
        assert function(x).hex() == compiled(x).hex()
