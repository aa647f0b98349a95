"""A history walked at once gives what the kernel gives row by row; and it is walked, where it can be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.kernel.columns import Numeric, Text
from penstock.kernel.hashing import encode_keys
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.spec import TEXT_FUNCTIONS
from penstock.kernel.state import Op, ViewState
from penstock.kernel.whole import WALKED, WholeHistory
from tests.unit.kernel.batches import batch, program_of

ROWS = 2_000
KINDS = (LaneKind.FLOAT, LaneKind.INT, LaneKind.CODE)
SLIDING = (Window(50), Window(7, -3), Window(1_000, -100))
OTHERS = (
    Window(30, 0, 10),
    Window(20, current=False),
    Window(0, lifetime=True),
    Window(0, 0, 7, lifetime=True),
)
PRESENT = ("bits", "valid", "lateness")


def program_over(windows):
    specs = [
        AggregateSpec(function, lane, w)
        for w, window in enumerate(windows)
        for lane, kind in enumerate(KINDS)
        for function in sorted(WALKED)
        if (kind is not LaneKind.CODE or function in TEXT_FUNCTIONS)
        and (function is not Function.LATEST or window.of_core)
    ]
    return Program(KINDS, tuple(windows), tuple(specs))


def rows_of(*, keys="text", seed=0, null=0.1, asking=0.1, keyless=0.03, huge=0.0, integers=9, late=0):
    chance = np.random.default_rng(seed)
    names = chance.integers(-5, 20, ROWS)
    times = 1_000 + np.cumsum(chance.integers(0, 3, ROWS)) - chance.integers(0, late + 1, ROWS)
    values = np.round(chance.normal(50, 3_000, ROWS), 2)
    values[chance.random(ROWS) < 0.05] = -0.0
    values[chance.random(ROWS) < 0.01] = np.nan
    values[chance.random(ROWS) < huge] = 1e300
    others = [chance.integers(-integers, integers, ROWS), chance.integers(0, 9, ROWS)]
    lanes = np.stack([values.view(np.int64), *others], axis=1)
    valid = chance.random((ROWS, 3)) >= null
    ops = np.where(chance.random(ROWS) < asking, Op.LOOKUP, Op.APPLY).astype(np.uint8)
    there = chance.random(ROWS) >= keyless
    if keys == "text":
        encoded = Text.from_strings([f"k{n}" if ok else None for n, ok in zip(names, there, strict=True)])
    else:
        encoded = encode_keys([Numeric(names * (1 if keys == "near" else 1 << 40), there)])
    return encoded, times, lanes, valid, ops


def assert_same(program, rows, **options):
    one_by_one = ViewState(program).process(*rows)
    at_once = WholeHistory(program, **options).process(*rows)
    for part in PRESENT:
        np.testing.assert_array_equal(getattr(at_once, part), getattr(one_by_one, part))


@pytest.fixture
def all_walked(monkeypatch):
    """Nothing may be left to the kernel: neither all rows nor some aggregates."""
    monkeypatch.setattr("penstock.kernel.whole.ViewState", None)
    monkeypatch.setattr(WholeHistory, "_by_kernel", None)


@pytest.mark.parametrize("keys", ["text", "near", "far"])
@pytest.mark.parametrize("windows", [SLIDING, OTHERS], ids=["sliding", "others"])
@pytest.mark.parametrize(
    "made", [{}, {"integers": 2**62}, {"null": 0, "asking": 0, "keyless": 0}, {"null": 0.9}], ids=str
)
def test_all_functions_over_all_windows(all_walked, keys, windows, made):
    assert_same(program_over(windows), rows_of(keys=keys, **made))


def test_in_several_threads(all_walked):
    assert_same(program_over(SLIDING), rows_of(), threads=3)


def test_one_key_and_a_key_for_each_row(all_walked):
    _, *arrays = rows_of()
    for names in (np.zeros(ROWS, np.int64), np.arange(ROWS)):
        assert_same(program_over(SLIDING), (encode_keys([Numeric(names)]), *arrays))


def test_sums_that_do_not_fit_are_left_to_the_kernel_and_no_others(monkeypatch):
    taken = []
    own = ViewState.process_more
    monkeypatch.setattr(
        ViewState, "process_more", lambda self, *rows: taken.append(self.program) or own(self, *rows)
    )
    program = program_over(SLIDING)
    WholeHistory(program).process(*rows_of(huge=0.01))
    assert {
        (spec.lane, spec.function < Function.MIN or spec.function in _SPREADS)
        for p in taken
        for spec in p.aggregates
    } == {(0, True)}
    assert_same(program, rows_of(huge=0.01))


_SPREADS = {Function.VAR_POP, Function.VAR_SAMP, Function.STDDEV_POP, Function.STDDEV_SAMP}


def test_squares_that_lie_too_far_apart():
    keys, times, lanes, valid, ops = rows_of()
    lanes[:, 0] = np.where(np.arange(ROWS) % 2, 1e-20, 1e15).view(np.int64)
    assert_same(program_over(SLIDING), (keys, times, lanes, valid, ops))


def test_other_functions_beside():
    windows = (Window(50), Window(300))
    functions = [Function.COUNT, Function.MEDIAN, Function.SUM, Function.LAG, Function.LAST_N, Function.MAX]
    specs = [AggregateSpec(f, 0, w, 2) for w in (0, 1) for f in functions]
    assert_same(Program(KINDS, windows, tuple(specs)), rows_of())


def test_rows_out_of_order_and_keys_beyond_the_most():
    program = program_over(SLIDING)
    assert_same(replace(program, allowed_lateness_us=10), rows_of(late=30))
    assert_same(replace(program, max_keys=7), rows_of())


def test_no_rows():
    empty = tuple(
        column.take(np.arange(0)) if isinstance(column, Text) else column[:0] for column in rows_of()
    )
    assert_same(program_over(SLIDING), empty)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30))
@example([1.0, 2.0])
@example([0.0, 2.0**-25, 2.0**-25])
@example([16777216.0, 16777217.0, 16777218.0])
def test_variances_are_rounded_once(values):
    program = program_of(Function.VAR_POP, Function.VAR_SAMP)
    for state in (ViewState(program), WholeHistory(program)):
        got, _ = state.process_floats(*batch(["k"] * len(values), range(len(values)), values))
        exact = [Fraction(v) for v in values]
        centre = sum(exact) / len(exact)
        squares = sum((x - centre) ** 2 for x in exact)
        assert got[-1].tolist() == [float(squares / len(exact)), float(squares / (len(exact) - 1))]


@pytest.mark.parametrize("kind", [ViewState, WholeHistory])
@pytest.mark.parametrize("little", [0.0, 2.0**-30, 2.0**-60])
def test_quotients_that_lie_between_two_floats_or_next_to_there(kind, little):
    # Of ±x and ±y the variance is (x² + y²) / 2. For odd x of 27 bits, x² has 54: one more than a float. A y² so small that
    # 106 bits do not show it says that it is more than half.
    program = program_of(Function.VAR_POP)
    for x in range(2**27 - 1, 2**27 - 400, -2):
        values = [float(x), -float(x), little, -little]
        found, _ = kind(program).process_floats(*batch(["k"] * 4, range(4), values))
        assert found[-1, 0] == float((Fraction(x) ** 2 + Fraction(little) ** 2) / 2)
