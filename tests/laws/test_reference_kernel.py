"""The kernel against the oracle: every function, window and lane, look-ups, few keys held, snapshots; bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import Aggregate, TimeWindow
from penstock.definitions.batch_views import Latest
from penstock.kernel.columns import Text
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.spec import EXTENDED
from penstock.kernel.state import Op, Output, ViewState
from penstock.testing.reference import ReferenceView
from penstock.testing.streams import KeyedRow
from penstock.types import Field, Float64, Int64, String
from tests.laws.strategies import cuts, rows

WINDOWS = ((60_000_000, 0), (3_600_000_000, 0), (60_000_000, -1), (10_000_000, -60_000_000))
LANES = (Field("x", Float64), Field("i", Int64), Field("c", String))
KINDS = (LaneKind.FLOAT, LaneKind.INT, LaneKind.CODE)
CORE = [function for function in Function if function not in EXTENDED]
OF_CODES = (Function.COUNT, Function.LAST, Function.COUNT_DISTINCT, Function.TIME_SINCE_LAST, Function.LATEST)
SPECS = [
    AggregateSpec(function, lane, window)
    for lane, kind in enumerate(KINDS)
    for function in (OF_CODES if kind is LaneKind.CODE else CORE)
    for window in range(len(WINDOWS))
]
US = timedelta(microseconds=1)
ALL_KEYS = 1_000
INTS = (None, 0, 1, -5, 2**53 + 1, 2**63 - 1, -(2**63))


@dataclass(frozen=True, slots=True)
class Asked:
    """One row for the kernel: what to do, and the values of its lanes."""

    row: KeyedRow
    op: int
    integer: int | None
    text: str | None


def aggregate_of(spec: AggregateSpec) -> Aggregate:
    size, offset = WINDOWS[spec.window]
    window = TimeWindow(size * US, offset * US)
    if spec.function is Function.LATEST:
        name = f"{LANES[spec.lane].name}_latest_{spec.window}"
        return Latest(LANES[spec.lane], time_window=window, name=name)
    return Aggregate(LANES[spec.lane], spec.function.name.lower(), time_window=window)


@st.composite
def asked(draw: st.DrawFn, lateness_us: int) -> list[list[Asked]]:
    """Rows with look-ups and keyless rows among them, cut into batches."""
    stream = draw(rows(windows_us=[size for size, _ in WINDOWS], lateness_us=lateness_us, max_size=30))
    ops = st.sampled_from((Op.APPLY, Op.APPLY, Op.APPLY, Op.LOOKUP, Op.NONE))
    ints, texts = st.sampled_from(INTS), st.sampled_from((None, "a", "b", ""))
    made = iter([Asked(row, draw(ops), draw(ints), draw(texts)) for row in stream])
    return [[next(made) for _ in range(size)] for size in draw(cuts(len(stream)))]


def expected(view: ReferenceView, one: Asked) -> tuple[list[object], int]:
    if one.op == Op.NONE:
        return list(view.empty().values()), 0
    if one.op == Op.LOOKUP:
        return list(view.lookup(one.row.key, one.row.time_us).values()), 0
    result = view.apply(one.row.key, one.row.time_us, {"x": one.row.value, "i": one.integer, "c": one.text})
    return list(result.features.values()), int(result.lateness)


def process(state: ViewState, batch: Sequence[Asked]) -> Output:
    texts = [one.text for one in batch]
    values = [[one.row.value, one.integer, one.text] for one in batch]
    lanes = np.zeros((len(batch), 3), np.int64)
    lanes[:, 0] = np.array([math.nan if x is None else x for x, _, _ in values], np.float64).view(np.int64)
    lanes[:, 1] = [0 if i is None else i for _, i, _ in values]
    lanes[:, 2] = state.intern(2, Text.from_strings(texts))
    valid = np.array([[value is not None for value in row] for row in values], np.bool_)
    keys = Text.from_strings([one.row.key for one in batch])
    times = np.array([one.row.time_us for one in batch], np.int64)
    return state.process(keys, times, lanes, valid, np.array([one.op for one in batch], np.uint8))


def found(state: ViewState, output: Output) -> list[tuple[list[object], int]]:
    columns = []
    for at, kind in enumerate(state.program.output_kinds):
        bits, valid = output.bits[:, at].copy(), output.valid[:, at].copy()
        values: Sequence[object] = bits.view(np.float64).tolist() if kind is LaneKind.FLOAT else bits.tolist()
        if kind is LaneKind.CODE:
            values = state.texts(2, bits, valid).to_strings()
        columns.append([value if ok else None for value, ok in zip(values, valid.tolist(), strict=True)])
    features = [list(row) for row in zip(*columns, strict=True)]
    return list(zip(features, output.lateness.tolist(), strict=True))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from((0, 1, 10_000_000, 4_000_000_000)), st.sampled_from((1, 2, ALL_KEYS)))
def test_the_kernel_equals_the_oracle(data, lateness_us, max_keys):
    batches = data.draw(asked(lateness_us))
    restart = data.draw(st.integers(0, 8))
    windows = tuple(Window(*window) for window in WINDOWS)
    program = Program(KINDS, windows, tuple(SPECS), allowed_lateness_us=lateness_us, max_keys=max_keys)
    oracle = ReferenceView([aggregate_of(spec) for spec in SPECS], lateness_us, max_keys=max_keys)
    state = ViewState(program)
    for at, batch in enumerate(batches):
        if at == restart:
            state = ViewState.restore(program, state.snapshot(), seed=1)
        answers = found(state, process(state, batch))
        for one, answer in zip(batch, answers, strict=True):
            assert repr(answer) == repr(expected(oracle, one))
    assert state.stats.evicted_keys == oracle.evicted_keys
