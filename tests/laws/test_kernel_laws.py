"""The kernel equals the oracle to the last bit, however the log is cut and wherever it is restored."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import Aggregate, LifetimeWindow
from penstock.aggregation_functions import AggregationFunction
from penstock.definitions.batch_views import Latest
from penstock.definitions.windows import TimeWindow
from penstock.kernel.columns import Text
from penstock.kernel.program import ENDLESS_US, AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.rows import DISTINCT_USED
from penstock.kernel.spec import EXTENDED, SEVERAL
from penstock.kernel.state import Op, ViewState
from penstock.kernel.whole import WholeHistory
from penstock.testing.reference import ReferenceView
from penstock.types import Field, Float64, Int64, String

COLUMNS = {"f": (Float64, LaneKind.FLOAT), "i": (Int64, LaneKind.INT), "s": (String, LaneKind.CODE)}
CORE = [f for f in Function if f not in EXTENDED]
WITH_N = {Function.LAG, *SEVERAL}
WITH_HALF_LIFE = {Function.EWMA, Function.DECAYED_SUM, Function.DECAYED_COUNT}
NAMES = {Function.FIRST_N: "first", Function.LAST_N: "last"}


def name_of(function):
    return NAMES.get(function, function.name.lower())


def parameters_of(spec):
    if spec.function in WITH_HALF_LIFE:
        return {"half_life": spec.parameter * US}
    return {"n": spec.parameter}


def allowed(function, lane, window):
    """Whether a function is for a lane and a window: as the table of traits says."""
    if function is Function.LATEST:
        return window.of_core
    spec = AggregateSpec(function, lane, 0, 1)
    traits = AggregationFunction(
        name_of(function), **(parameters_of(spec) if function in WITH_N | WITH_HALF_LIFE else {})
    ).traits
    return ("float", "int", "text")[lane] in traits.takes and (traits.lifetime or not window.lifetime)


US = timedelta(microseconds=1)
HARD_FLOATS = [
    0.0,
    -0.0,
    1e15,
    -1e15,
    1e300,
    -1e300,
    1.7976931348623157e308,
    5e-324,
    -5e-324,
    1e-310,
    0.1,
    0.2,
]
HARD_FLOATS += [1e16, math.nan, math.inf, -math.inf, 2.0**60, -(2.0**60), 2.0**-100, 2.0**-101, 3e-20]
HARD_INTS = [0, 1, -1, 2**63 - 1, -(2**63), 2**62]

floats = st.one_of(
    st.sampled_from([None, 1.0, 2.5]),
    st.sampled_from(HARD_FLOATS),
    st.floats(),
    st.integers(0, 5000).map(lambda c: c / 100),
)
ints = st.one_of(st.none(), st.sampled_from(HARD_INTS), st.integers(-9, 9))
texts = st.sampled_from(["x", "y", "zz", "", None])
steps = st.one_of(st.sampled_from([0, 0, 1, 1, 2, 5]), st.integers(-12, 60))
ops = st.sampled_from([Op.APPLY] * 8 + [Op.LOOKUP] * 2 + [Op.NONE])
events = st.lists(
    st.tuples(st.sampled_from("abcd"), steps, ops, floats, ints, texts), min_size=1, max_size=60
)


sizes = st.sampled_from([1, 2, 5, 10, 50, 1000])
offsets = st.sampled_from([0, 0, -1, -3, -10])
sliding = st.builds(Window, sizes, offsets)


@st.composite
def tiled(draw):
    interval = draw(st.sampled_from([1, 3, 10]))
    size, offset = draw(st.sampled_from([1, 2, 7])), draw(st.sampled_from([0, 0, -1, -2]))
    return Window(size * interval, offset * interval, interval)


lifetimes = st.builds(
    lambda interval, current: Window(0, 0, interval, current=current, lifetime=True),
    st.sampled_from([0, 0, 3, 10]),
    st.booleans(),
)
before_current = st.builds(lambda size: Window(size, current=False), sizes)
EVERY_KIND = st.one_of(sliding, tiled(), lifetimes, before_current)


@st.composite
def programs(draw, kinds=sliding, functions=tuple(CORE)):
    windows = draw(st.lists(kinds, min_size=1, max_size=3))
    lanes = st.integers(0, 2)
    specs = []
    lateness, keys = draw(st.sampled_from([0, 3, 10, 100])), draw(st.sampled_from([1, 2, 3, 1000]))
    kinds = tuple(kind for _, kind in COLUMNS.values())
    if draw(st.integers(0, 4)) == 0:  # a profile without ttl
        specs = [AggregateSpec(Function.LATEST, lane, 0) for lane in draw(st.sets(lanes, min_size=1))]
        return Program(kinds, (Window(ENDLESS_US),), tuple(specs), lateness, keys)
    for lane, window in draw(
        st.lists(st.tuples(lanes, st.integers(0, len(windows) - 1)), min_size=1, max_size=9)
    ):
        function = draw(st.sampled_from([f for f in functions if allowed(f, lane, windows[window])]))
        parameter = draw(st.integers(1, 4)) if function in WITH_N else 0
        if function in WITH_HALF_LIFE:
            parameter = draw(st.sampled_from([1, 3, 100]))
        specs.append(AggregateSpec(function, lane, window, parameter))
    return Program(kinds, tuple(windows), tuple(specs), lateness, keys)


def oracle_of(program):
    names = list(COLUMNS)
    aggregates = []
    for n, spec in enumerate(program.aggregates):
        window = program.windows[spec.window]
        column = Field(names[spec.lane], COLUMNS[names[spec.lane]][0])
        size = TimeWindow(window.size_us * US, window.offset_us * US) if window.size_us else LifetimeWindow()
        if spec.function is Function.LATEST:
            aggregates.append(Latest(column, time_window=size, name=f"a{n}"))
            continue
        aggregates.append(
            Aggregate(
                column,
                AggregationFunction(name_of(spec.function), **parameters_of(spec)),
                time_window=size,
                name=f"a{n}",
                include_current=window.current,
                aggregation_interval=window.interval_us * US,
            )
        )
    return ReferenceView(aggregates, program.allowed_lateness_us, max_keys=program.max_keys)


def timed(stream):
    """Each event with its time: steps forward from the newest, steps back from it when negative."""
    now, out = 10_000, []
    for key, step, *rest in stream:
        now = max(now, now + step)
        out.append((key, now + min(step, 0), *rest))
    return out


def answer_of_oracle(view, event):
    key, time, op, f, i, s = event
    if op == Op.APPLY:
        result = view.apply(key, time, {"f": f, "i": i, "s": s})
        return flat(view, result.features), int(result.lateness)
    return flat(view, view.lookup(key, time) if op == Op.LOOKUP else view.empty()), 0


def flat(view, features):
    """The values one after another, as the kernel gives them: lists filled up to their n."""
    values = []
    for aggregate, value in zip(view.aggregates, features.values(), strict=True):
        if isinstance(value, list):
            values += [*value, *[None] * (aggregate.function.n - len(value))]
        else:
            values.append(value)
    return values


def bits(value):
    return 0 if value is None else struct.unpack("<q", struct.pack("<d", value))[0]


def answers_of_kernel(state, batch):
    keys, times, codes, f, i, s = zip(*batch, strict=True)
    interned = state.intern(2, Text.from_strings(s)).tolist()
    lanes = [(bits(a), b or 0, c) for a, b, c in zip(f, i, interned, strict=True)]
    valid = [(a is not None, b is not None, c is not None) for a, b, c in zip(f, i, s, strict=True)]
    output = state.process(
        Text.from_strings(keys),
        np.array(times),
        np.array(lanes, np.int64),
        np.array(valid),
        np.array(codes, np.uint8),
    )
    assert not output.bits[~output.valid].any()
    columns = []
    for a, kind in enumerate(state.program.output_kinds):
        values = np.ascontiguousarray(output.bits[:, a])
        if kind is LaneKind.CODE:
            columns.append(state.texts(2, values, output.valid[:, a]).to_strings())
            continue
        plain = values.view(np.float64).tolist() if kind is LaneKind.FLOAT else values.tolist()
        columns.append([v if ok else None for v, ok in zip(plain, output.valid[:, a], strict=True)])
    rows = [list(row) for row in zip(*columns, strict=True)]
    return list(zip(rows, output.lateness.tolist(), strict=True))


def run(program, stream, *, size, restore_at=None):
    state, out = ViewState(program, seed=size), []
    for begin in range(0, len(stream), size):
        if restore_at is not None and begin >= restore_at:
            state, restore_at = ViewState.restore(program, state.snapshot(), seed=size + 1), None
        out += answers_of_kernel(state, stream[begin : begin + size])
    return out, state


@settings(max_examples=500, deadline=None)
@given(programs(), events, st.integers(0, 60))
def test_kernel_is_the_oracle_however_the_log_is_cut(program, stream, restore_at):
    assert not program.is_extended
    check(program, stream, restore_at)


@settings(max_examples=400, deadline=None)
@given(programs(EVERY_KIND, tuple(Function)), events, st.integers(0, 60))
def test_so_is_the_extension_with_every_function_over_every_kind_of_window(program, stream, restore_at):
    check(program, stream, restore_at)


def check(program, stream, restore_at):
    stream = timed(stream)
    view = oracle_of(program)
    expected = [answer_of_oracle(view, event) for event in stream]
    snapshots = set()
    for size, restored in ((1, None), (7, None), (1000, None), (3, restore_at)):
        answers, state = run(program, stream, size=size, restore_at=restored)
        assert repr(answers) == repr(expected)  # repr tells -0.0 from 0.0 and 1 from 1.0
        assert state.stats.evicted_keys == view.evicted_keys
        snapshots.add(state.snapshot())
        for key in "abcd":
            state.forget(key.encode())
        assert state._memory.table.meta[DISTINCT_USED] == 0  # a key leaves nothing behind
    assert len(snapshots) == 1


tame_floats = st.one_of(
    st.sampled_from([None, 0.0, -0.0, math.nan, math.inf, 2.0**-40, -(2.0**40), 0.1]),
    st.integers(-5000, 5000).map(lambda c: c / 100),
)


@settings(max_examples=500, deadline=None)
@given(
    programs(EVERY_KIND, tuple(Function)),
    st.lists(
        st.tuples(st.sampled_from("abcd"), steps, ops, st.one_of(tame_floats, floats), ints, texts),
        min_size=1,
        max_size=60,
    ),
    st.booleans(),
    st.booleans(),
)
def test_so_is_a_whole_history_at_once(program, stream, is_tame, is_in_order):
    program = replace(program, max_keys=1000 if is_in_order else program.max_keys)
    stream = timed(stream)
    if is_in_order:
        stream.sort(key=lambda event: event[1])
    if is_tame:
        stream = [(*e[:3], e[3] if e[3] is None or abs(e[3]) < 1e15 else 1.0, *e[4:]) for e in stream]
    view = oracle_of(program)
    expected = [answer_of_oracle(view, event) for event in stream]
    assert repr(answers_of_kernel(WholeHistory(program), stream)) == repr(expected)


def test_a_profile_without_end_holds_few_rows_however_often_it_changes():
    program = Program((LaneKind.INT,), (Window(ENDLESS_US),), (AggregateSpec(Function.LATEST, 0, 0),), 10)
    state = ViewState(program)
    for time in range(1_000):
        lanes = np.array([[time]])
        state.process(
            Text.from_strings(["a"]), np.array([time]), lanes, np.ones((1, 1), bool), np.zeros(1, np.uint8)
        )
    assert state.stats.rows == 11  # from the horizon on, and the one that counts there


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("offset", [0, -50])
def test_window_edges_to_the_microsecond(off, offset):
    program = Program(
        (LaneKind.FLOAT, LaneKind.INT, LaneKind.CODE),
        (Window(100, offset),),
        (AggregateSpec(Function.COUNT, 0, 0), AggregateSpec(Function.SUM, 0, 0)),
    )
    stream = [("a", 1000, Op.APPLY, 2.5, None, None)]
    stream += [("a", 1000 + at + off, Op.LOOKUP, None, None, None) for at in (0, 50, 100, 150)]
    view = oracle_of(program)
    assert run(program, stream, size=10)[0] == [answer_of_oracle(view, event) for event in stream]
