"""A row that comes alone takes a shorter way into the kernel, which believes its arrays: only those may take it that can."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.kernel.columns import Text
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.state import Op, ViewState

PROGRAM = Program(
    (LaneKind.FLOAT, LaneKind.FLOAT),
    (Window(60_000_000),),
    (AggregateSpec(Function.SUM, 0, 0), AggregateSpec(Function.SUM, 1, 0)),
)
LANES = np.array([[1.5, 10.0], [2.0, 20.0], [4.0, 40.0]]).view(np.int64)
VALID = np.array([[True, False], [True, True], [False, True]])
TIMES = np.array([0, 1, 2])


def sums(state, row, *, lanes=LANES, valid=VALID, times=TIMES):
    at = slice(row, row + 1)
    keys, ops = Text.from_strings(["ann"]), np.array([Op.APPLY], np.uint8)
    values, _ = state.process_floats(keys, times[at], lanes[at], valid[at], ops)
    return values.tolist()


def one_by_one(**arrays):
    state = ViewState(PROGRAM)
    return [sums(state, row, **arrays) for row in range(3)]


def expected():
    keys, ops = Text.from_strings(["ann"] * 3), np.zeros(3, np.uint8)
    values, _ = ViewState(PROGRAM).process_floats(keys, TIMES, LANES, VALID, ops)
    return [[row] for row in values.tolist()]


def test_one_by_one_is_all_at_once():
    assert str(one_by_one()) == str(expected())


@pytest.mark.parametrize(
    "arrays",
    [
        {"lanes": np.asfortranarray(LANES)},
        {"valid": np.asfortranarray(VALID)},
        {"times": TIMES.astype(np.int32)},
        {"valid": VALID.astype(np.bool_)[:, ::-1][:, ::-1]},
    ],
    ids=["lanes by column", "valid by column", "times int32", "valid turned twice"],
)
def test_arrays_that_lie_otherwise_mean_the_same(arrays):
    assert str(one_by_one(**arrays)) == str(expected())


def test_floats_are_not_read_as_bits():
    with pytest.raises(InputError, match="lanes float64"):
        one_by_one(lanes=LANES.view(np.float64))
