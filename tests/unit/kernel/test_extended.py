"""The extension with more rows than the laws draw: tables grow, blocks double and halve, keys leave, nothing stays behind."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import numpy as np
import pytest

from penstock import Aggregate
from penstock.aggregation_functions import AggregationFunction
from penstock.kernel.columns import Text
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.rows import DISTINCT_USED, POOL_FREE_COUNT
from penstock.kernel.state import Op, ViewState
from penstock.testing.reference_functions import Entry, compute
from penstock.types import Field, Float64

ROWS, SIZE = 4_000, 1_000
US = timedelta(microseconds=1)
LIFETIME = Window(0, lifetime=True)
QUEUED = (
    (Function.MEDIAN, AggregationFunction("median")),
    (Function.MODE, AggregationFunction("mode")),
    (Function.ENTROPY, AggregationFunction("entropy")),
    (Function.SLOPE, AggregationFunction("slope")),
    (Function.EWMA, AggregationFunction("ewma", half_life=7 * US)),
    (Function.DECAYED_SUM, AggregationFunction("decayed_sum", half_life=400 * US)),
)


def process(state, keys, times, values, op=Op.APPLY):
    count = len(times)
    lanes = np.asarray(values, np.float64).view(np.int64).reshape(-1, 1)
    ops = np.full(count, op, np.uint8)
    return state.process(
        Text.from_strings(keys), np.asarray(times), lanes, np.ones((count, 1), np.bool_), ops
    )


def parameter_of(function):
    return function.n or (0 if function.half_life is None else function.half_life // US)


def test_queues_over_long_windows_that_fill_and_empty_again():
    random = np.random.default_rng(3)
    gaps = np.where(np.arange(ROWS) % 1500 == 1499, 10 * SIZE, 1)  # now and then everything expires
    times = np.cumsum(gaps) + 10_000
    values = random.integers(0, 900, ROWS) / 4
    specs = [AggregateSpec(kind, 0, 0, parameter_of(function)) for kind, function in QUEUED]
    program = Program((LaneKind.FLOAT,), (Window(SIZE),), tuple(specs))
    output = process(ViewState(program), ["k"] * ROWS, times, values)
    assert output.valid[times > times[0]].all(axis=1).sum() > ROWS - 10
    for row in [*range(0, ROWS, 173), 1498, 1499, 1500, ROWS - 1]:
        time = int(times[row])
        held = [
            Entry(int(t), float(v), is_asking=False)
            for t, v in zip(times[: row + 1], values[: row + 1], strict=True)
            if time - SIZE < t
        ]
        for at, (_, function) in enumerate(QUEUED):
            aggregate = Aggregate(Field("x", Float64), function, time_window=SIZE * US)
            expected = compute(aggregate, held, time)
            bits = output.bits[row : row + 1, at]
            found = bits.view(np.float64)[0] if output.valid[row, at] else None
            assert found == expected, (function, row)


@pytest.mark.parametrize("function", [Function.COUNT_DISTINCT, Function.SUM, Function.LAST])
def test_a_key_that_leaves_frees_what_its_lifetime_held(function):
    program = Program((LaneKind.FLOAT,), (LIFETIME,), (AggregateSpec(function, 0, 0),), max_keys=3)
    state = ViewState(program)
    keys = [f"k{i % 7}" for i in range(3_000)]
    process(state, keys, np.arange(3_000) * 10, [1e300 / (i + 1) for i in range(3_000)])
    for key in ("k0", "k1", "k2", "k3", "k4", "k5", "k6"):
        state.forget(key.encode())
    meta = state._memory.table.meta
    assert state.stats.keys == 0
    assert meta[DISTINCT_USED] == 0
    assert meta[POOL_FREE_COUNT] * 34 == len(state._memory.pool)


@pytest.mark.parametrize(
    "function", [Function.MODE, Function.ENTROPY, Function.FIRST_DISTINCT, Function.LAST_DISTINCT]
)
def test_a_key_that_leaves_frees_what_its_queues_held(function):
    program = Program((LaneKind.FLOAT,), (Window(SIZE),), (AggregateSpec(function, 0, 0, 2),), max_keys=3)
    state = ViewState(program)
    process(state, [f"k{i % 5}" for i in range(2_000)], np.arange(2_000), np.arange(2_000.0))
    for i in range(5):
        state.forget(f"k{i}".encode())
    assert state._memory.table.meta[DISTINCT_USED] == 0


def test_a_lifetime_keeps_no_rows():
    specs = [AggregateSpec(f, 0, 0) for f in (Function.COUNT, Function.SUM, Function.MIN, Function.LAST)]
    state = ViewState(Program((LaneKind.FLOAT,), (LIFETIME,), tuple(specs)))
    output = process(state, ["k"] * 50_000, np.arange(50_000), np.arange(50_000.0))
    assert output.bits[-1, 0] == 50_000
    assert output.bits[-1, 1:].view(np.float64).tolist() == [49_999 * 25_000.0, 0.0, 49_999.0]
    assert state.stats.rows <= 2


def test_a_lifetime_of_many_values_is_restored():
    specs = [AggregateSpec(Function.COUNT_DISTINCT, 0, 0), AggregateSpec(Function.VAR_POP, 0, 0)]
    program = Program((LaneKind.FLOAT,), (LIFETIME,), tuple(specs), allowed_lateness_us=100)
    state = ViewState(program)
    values = np.arange(5_000) % 1_700 * 1e250
    process(state, ["a", "b"] * 2_500, np.arange(5_000), values)
    restored = ViewState.restore(program, state.snapshot(), seed=9)
    assert restored.snapshot() == state.snapshot()
    again = [process(s, ["a", "b"], [5_001, 5_002], [3e250, -1.0]) for s in (state, restored)]
    assert (again[0].bits == again[1].bits).all()
    assert again[0].bits[:, 0].tolist() == [851, 851]


def test_texts_that_only_a_lifetime_remembers_are_not_collected():
    specs = [AggregateSpec(Function.LAST, 0, 0), AggregateSpec(Function.FIRST_N, 0, 0, 2)]
    state = ViewState(Program((LaneKind.CODE,), (LIFETIME,), tuple(specs)))

    def ask(key, time, text, op=Op.APPLY):
        codes = state.intern(0, Text.from_strings([text])).reshape(1, 1)
        there = np.ones((1, 1), np.bool_)
        keys = Text.from_strings([key])
        return state.process(keys, np.array([time]), codes, there, np.array([op], np.uint8))

    for time, text in enumerate(["first", "second", "third"]):
        ask("old", time, text)
    for batch in range(12):  # enough new texts that unused ones are collected
        names = [f"text {batch} {i}" for i in range(1_000)]
        codes = state.intern(0, Text.from_strings(names)).reshape(-1, 1)
        keys, ops = Text.from_strings(["new"] * 1_000), np.zeros(1_000, np.uint8)
        state.process(keys, np.arange(1_000) + 1_000 * batch, codes, np.ones((1_000, 1), np.bool_), ops)
    found = ask("old", 10**6, "-", op=Op.LOOKUP)
    assert state.texts(0, found.bits[0]).to_strings() == ["third", "first", "second"]
    again = ViewState.restore(state.program, state.snapshot(), seed=3)
    assert again.snapshot() == state.snapshot()


@pytest.mark.parametrize("edge", [318, 319, 320, 321, 330])
def test_a_row_at_the_end_of_a_block_is_in_the_next(edge):
    """Blocks of 320 µs: what expires is taken from its own block, not from the next."""
    specs = [AggregateSpec(Function.DECAYED_SUM, 0, 0, 10)]
    state = ViewState(Program((LaneKind.FLOAT,), (Window(400),), tuple(specs)))
    rows = [(300, 1.0), (310, 2.0), (edge, 4.0)]
    process(state, ["k"] * 3, [t for t, _ in rows], [v for _, v in rows])
    found = process(state, ["k"], [705], [0.0], op=Op.LOOKUP).bits.view(np.float64)[0, 0]
    held = [Entry(t, v, is_asking=False) for t, v in rows[1:]]
    function = AggregationFunction("decayed_sum", half_life=10 * US)
    assert found == compute(Aggregate(Field("x", Float64), function, time_window=400 * US), held, 705)


@pytest.mark.parametrize(
    "order", list(permutations((Function.DECAYED_SUM, Function.EWMA, Function.DECAYED_COUNT)))
)
def test_decayed_functions_of_one_column_share_their_sums_in_any_order(order):
    state = ViewState(
        Program((LaneKind.FLOAT,), (Window(400),), tuple(AggregateSpec(f, 0, 0, 10) for f in order))
    )
    process(state, ["k"] * 2, [300, 310], [1.0, 4.0])
    found = process(state, ["k"], [330], [0.0], op=Op.LOOKUP).bits.view(np.float64)[0].tolist()
    held = [Entry(300, 1.0, is_asking=False), Entry(310, 4.0, is_asking=False)]
    for function, value in zip(order, found, strict=True):
        named = AggregationFunction(function.name.lower(), half_life=10 * US)
        assert value == compute(Aggregate(Field("x", Float64), named, time_window=400 * US), held, 330)
