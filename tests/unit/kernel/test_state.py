from __future__ import annotations

import numpy as np
import pytest

from penstock.core.errors import DefinitionError, InputError, SnapshotError
from penstock.kernel.columns import Text
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.state import Op, ViewState
from tests.unit.kernel.batches import SUM_COUNT, batch, program_of


def filled(program, rows=200, seed=0):
    state = ViewState(program, seed=seed)
    rng = np.random.default_rng(1)
    keys = [f"key{k}" for k in rng.integers(0, 9, rows)]
    state.process(*batch(keys, range(rows), rng.random(rows).tolist()))
    return state


def test_single_rows_may_come_from_arrays_that_cannot_be_written():
    state = ViewState(program_of(*SUM_COUNT))
    keys, *rest = batch(["a"], [1], [2.0])
    for array in rest:
        array.flags.writeable = False
    assert state.process(keys, *rest).bits[0, 1] == 1


def test_strided_and_narrow_arrays_are_cast_where_that_loses_nothing():
    state = ViewState(program_of(*SUM_COUNT))
    keys, times, lanes, valid, ops = batch(["a", "a"], [1, 2], [2.0, 3.0])
    times = np.array([1, 0, 2, 0], np.int32)[::2]
    assert state.process(keys, times, lanes, valid, ops).bits[1, 1] == 2


def test_wrong_batches_are_refused():
    state = ViewState(program_of(*SUM_COUNT))
    keys, times, lanes, valid, ops = batch(["a", "a"], [1, 2], [2.0, 3.0])
    for wrong in (
        (keys, times.astype(np.float64), lanes, valid, ops),
        (keys, times[:1], lanes, valid, ops),
        (keys, times, lanes[:, :0], valid[:, :0], ops),
    ):
        with pytest.raises(InputError, match="batch of 2 keys"):
            state.process(*wrong)


def test_programs_that_mean_nothing_are_refused():
    with pytest.raises(DefinitionError, match="size 0"):
        Window(0)
    with pytest.raises(DefinitionError, match="offset 1"):
        Window(5, 1)
    with pytest.raises(DefinitionError, match="holds text"):
        program_of(Function.SUM, kind=LaneKind.CODE)
    with pytest.raises(DefinitionError, match="there are 1 lanes"):
        Program((LaneKind.INT,), (Window(1),), (AggregateSpec(Function.SUM, 1, 0),))
    with pytest.raises(DefinitionError, match="max_keys 0"):
        program_of(max_keys=0)


def test_null_keys_answer_nothing_and_leave_nothing():
    state = ViewState(program_of(Function.SUM, Function.MEAN))
    _, *rest = batch(["a", ""], [1, 2], [1.0, 5.0])
    output = state.process(Text.from_strings(["a", None]), *rest)
    assert output.valid.tolist() == [[True, True], [True, False]]
    assert state.stats.keys == 1


def test_a_lookup_makes_no_key():
    state = ViewState(program_of(*SUM_COUNT))
    state.process(*batch(["a"], [1], [1.0], op=Op.LOOKUP))
    assert state.stats.keys == 0


def test_the_key_applied_longest_ago_leaves_and_starts_afresh():
    state = ViewState(program_of(Function.COUNT, sizes=(1000,), max_keys=2))
    state.process(*batch(["a", "b", "a"], [1, 2, 3], [1.0] * 3))
    state.process(*batch(["b"], [4], [1.0], op=Op.LOOKUP))
    assert state.process(*batch(["c", "a", "b"], [5, 6, 7], [1.0] * 3)).bits.ravel().tolist() == [1, 3, 1]
    assert (state.stats.keys, state.stats.evicted_keys) == (2, 2)


def test_forget_drops_a_key():
    state = filled(program_of(*SUM_COUNT, Function.COUNT_DISTINCT))
    before = state.stats
    assert state.forget(b"key3")
    assert not state.forget(b"key3")
    assert (state.stats.keys, state.stats.evicted_keys) == (before.keys - 1, 0)
    whole = filled(program_of(*SUM_COUNT, Function.COUNT_DISTINCT))
    others = batch([f"key{k}" for k in range(9) if k != 3], [200] * 8, [1.0] * 8)
    assert (state.process(*others).bits == whole.process(*others).bits).all()
    assert state.process(*batch(["key3"], [300], [1.0])).bits[0, 1] == 1


def test_memory_follows_the_windows():
    state = ViewState(program_of(Function.COUNT_DISTINCT, Function.MAX, sizes=(1000,)))
    empty = state.stats.nbytes
    n = 100_000
    state.process(*batch(["hot"] * n, np.arange(n) // 1000, np.arange(n).tolist()))
    full = state.stats
    assert full.rows == n
    state.process(*batch(["hot"] * 10_000, np.arange(10_000) + 10**6, np.arange(10_000).tolist()))
    assert state.stats.rows == 1000
    assert state.stats.nbytes < max(3 * empty, full.nbytes // 16)


def test_unused_texts_are_collected():
    program = Program((LaneKind.CODE,), (Window(10),), (AggregateSpec(Function.LAST, 0, 0),))
    state = ViewState(program)
    for part in range(30):
        names = [f"text {part} {i}" for i in range(1000)]
        codes = state.intern(0, Text.from_strings(names))
        times = np.arange(1000) + 1000 * part
        output = state.process(
            Text.from_strings(["k"] * 1000),
            times,
            codes.reshape(-1, 1),
            np.ones((1000, 1), np.bool_),
            np.zeros(1000, np.uint8),
        )
        assert state.texts(0, output.bits[:, 0]).to_strings() == names
    assert len(state._interners[0].table) < 10_000


def test_a_snapshot_is_canonical_and_complete():
    program = program_of(*SUM_COUNT, Function.MIN, max_keys=5)
    snapshots = {filled(program, seed=seed).snapshot() for seed in range(3)}
    assert len(snapshots) == 1
    restored = ViewState.restore(program, snapshots.pop(), seed=9)
    original = filled(program)
    assert restored.stats.evicted_keys == original.stats.evicted_keys > 0
    more = batch([f"key{i}" for i in range(9)], range(200, 209), [0.5] * 9)
    np.testing.assert_array_equal(restored.process(*more).bits, original.process(*more).bits)


def test_damaged_and_foreign_snapshots_are_refused():
    program = program_of(*SUM_COUNT)
    data = filled(program, rows=12).snapshot()
    for size in range(len(data)):
        with pytest.raises(SnapshotError):
            ViewState.restore(program, data[:size])
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(SnapshotError):
            ViewState.restore(program, bytes(flipped))
    with pytest.raises(SnapshotError):
        ViewState.restore(program, data + b"\0")
    with pytest.raises(SnapshotError, match="another program"):
        ViewState.restore(program_of(*SUM_COUNT, max_keys=7), data)


def test_many_rows_are_worked_in_parts_and_come_column_by_column(monkeypatch):
    random = np.random.default_rng(3)
    keys = [f"k{i}" for i in random.integers(0, 5, 100)]
    rows = batch(keys, range(100), random.normal(size=100).tolist())
    program = program_of(Function.SUM, Function.COUNT, Function.LAST, sizes=(3, 40))
    whole = ViewState(program).process(*rows)
    floats, _ = ViewState(program).process_floats(*rows)
    monkeypatch.setattr("penstock.kernel.state._PART", 16)
    parts = ViewState(program).process(*rows)
    assert parts.bits.flags.f_contiguous
    for name in ("bits", "valid", "lateness"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_array_equal(ViewState(program).process_floats(*rows)[0], floats)


def test_the_pool_of_wide_sums_has_room_for_all_windows_of_a_row():
    state = ViewState(program_of(Function.SUM, sizes=(1, 10, 100)))
    names = [f"k{i}" for i in range(40)]
    for time, name in enumerate(names):
        values, _ = state.process_floats(*batch([name], [time], [1e300]))
        assert values.tolist() == [[1e300] * 3]
        # A look-up lets one row of the pool go: what is free is no multiple of three.
        state.process(*batch([name], [time + 1], [0.0], Op.LOOKUP))
    values, _ = state.process_floats(*batch(names, [45] * 40, [1.0] * 40, Op.LOOKUP))
    assert values[:, 2].tolist() == [1e300] * 40
