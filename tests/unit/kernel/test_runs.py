"""Many rows of a key at a time give what one row at a time gives: outputs, and what is held."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.kernel.columns import Text
from penstock.kernel.program import Function, LaneKind
from penstock.kernel.state import Op, ViewState
from tests.unit.kernel.batches import program_of

ROWS = 600
CORE = (Function.COUNT, Function.SUM, Function.MEAN)
OTHERS = (Function.MIN, Function.LAST, Function.TIME_SINCE_LAST, Function.COUNT_DISTINCT, Function.STDDEV_POP)


def rows_of(*, keys=5, kind=LaneKind.FLOAT, wide=0.0, null=0.0, asking=0.0, late=0):
    chance = np.random.default_rng(7)
    names = [f"k{i}" for i in chance.integers(0, keys, ROWS)]
    times = np.cumsum(chance.integers(0, 3, ROWS)) - chance.integers(0, late + 1, ROWS)
    values = np.round(chance.normal(50, 30, ROWS), 2)
    values[chance.random(ROWS) < wide] = 1e300
    lanes = values.astype(np.int64) if kind is LaneKind.INT else values.view(np.int64)
    valid = chance.random((ROWS, 1)) >= null
    ops = np.where(chance.random(ROWS) < asking, Op.LOOKUP, Op.APPLY).astype(np.uint8)
    return names, times.astype(np.int64), lanes.reshape(-1, 1), valid, ops


def done_in_batches_of(size, program, rows):
    """The outputs, and all that is held in the order of use."""
    state = ViewState(program)
    outputs = []
    for at in range(0, ROWS, size):
        names, *arrays = (column[at : at + size] for column in rows)
        outputs.append(state.process(Text.from_strings(names), *arrays))
    joined = [np.concatenate([getattr(o, part) for o in outputs]) for part in ("bits", "valid", "lateness")]
    return joined, state.snapshot()


def assert_same(program, rows):
    one_by_one, held = done_in_batches_of(1, program, rows)
    for size in (2, 40, ROWS):
        together, then_held = done_in_batches_of(size, program, rows)
        for ours, theirs in zip(together, one_by_one, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert then_held == held


@pytest.mark.parametrize("kind", [LaneKind.FLOAT, LaneKind.INT])
@pytest.mark.parametrize("functions", [CORE, (*CORE, *OTHERS)], ids=["sums", "all"])
@pytest.mark.parametrize("made", [{}, {"null": 0.2}, {"asking": 0.1}, {"late": 20}, {"keys": 1}], ids="".join)
def test_a_batch_gives_what_its_rows_give(kind, functions, made):
    program = program_of(*functions, sizes=(3, 40, 200), kind=kind, allowed_lateness_us=10)
    assert_same(program, rows_of(kind=kind, **made))


def test_wide_values_in_a_run():
    assert_same(program_of(*CORE, sizes=(3, 200)), rows_of(wide=0.03))


def test_more_rows_leave_at_once_than_are_totalled():
    rows = rows_of(keys=1)
    rows[1][ROWS // 2 :] += 10_000
    assert_same(program_of(*CORE, sizes=(5_000,)), rows)


@pytest.mark.parametrize("max_keys", [7, 20, 45, 100, 700])
def test_the_order_of_use_is_that_of_the_rows_near_the_bound_on_keys_and_far_from_it(max_keys):
    rows = rows_of(keys=50, asking=0.2)
    assert_same(program_of(*CORE, sizes=(100,), max_keys=max_keys), rows)
