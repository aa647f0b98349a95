"""A key that is taken out of a state and put into another goes on with the bits of the oracle, and leaves no trace where it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import SnapshotError
from penstock.kernel.columns import Text
from penstock.kernel.program import Function, Program
from penstock.kernel.state import ViewState
from tests.laws.test_kernel_laws import (
    EVERY_KIND,
    answer_of_oracle,
    answers_of_kernel,
    events,
    oracle_of,
    programs,
    timed,
)

OTHERS = ["d", "nobody"]


@settings(max_examples=100, deadline=None)
@given(programs(), events, st.integers(1, 9))
def test_the_next_event_of_a_key_is_answered_elsewhere_as_by_the_oracle(program, stream, size):
    check(program, timed(stream), size)


@settings(max_examples=100, deadline=None)
@given(programs(EVERY_KIND, tuple(Function)), events, st.integers(1, 9))
def test_so_with_every_function_over_every_kind_of_window(program, stream, size):
    check(program, timed(stream), size)


def check(program: Program, stream, size):
    view = oracle_of(program)
    expected = [answer_of_oracle(view, event) for event in stream]
    owner, elsewhere = ViewState(program, seed=1), ViewState(program, seed=2)
    for begin in range(0, len(stream), size):
        batch = stream[begin : begin + size]
        # What is lent need not be the event's key alone, and one that nobody holds is as good as new.
        keys = list(dict.fromkeys([batch[0][0] or "a", *OTHERS]))[: program.max_keys]
        states = owner.export(Text.from_strings(keys))
        assert states.there.tolist() == [key.encode() in held(owner) for key in keys]
        elsewhere.load([blob for blob in states.blobs() if blob is not None])
        assert repr(answers_of_kernel(elsewhere, batch[:1])) == repr(expected[begin : begin + 1])
        assert repr(answers_of_kernel(owner, batch)) == repr(expected[begin : begin + size])


@settings(max_examples=50, deadline=None)
@given(programs(EVERY_KIND, tuple(Function)), events)
def test_all_keys_one_by_one_are_the_whole_state(program, stream):
    owner = ViewState(program)
    answers_of_kernel(owner, timed(stream))
    whole = ViewState(program, seed=3)
    # A snapshot has the keys in order of use.
    keys = ViewState.restore(program, owner.snapshot()).keys()
    blobs = owner.export(keys).blobs()
    assert None not in blobs
    whole.load(blobs)
    assert sorted(whole.export(keys).blobs()) == sorted(blobs)
    assert whole.stats.rows == owner.stats.rows


def test_damaged_bytes_and_those_of_another_program_are_refused_and_change_nothing():
    program = programs_of(Function.SUM)
    state = ViewState(program)
    state.process(
        Text.from_strings(["a"]), np.array([1]), np.array([[0]]), np.ones((1, 1), bool), np.zeros(1, np.uint8)
    )
    (blob,) = state.export(Text.from_strings(["a"])).blobs()
    assert blob is not None
    with pytest.raises(SnapshotError, match="damaged"):
        state.load([blob[:-1] + b"x"])
    with pytest.raises(SnapshotError, match="another program"):
        ViewState(programs_of(Function.COUNT)).load([blob])
    assert held(state) == {b"a"}


def programs_of(function: Function) -> Program:
    from penstock.kernel.program import AggregateSpec, LaneKind, Window

    return Program((LaneKind.FLOAT,), (Window(100),), (AggregateSpec(function, 0, 0),))


def held(state: ViewState) -> set[bytes]:
    keys = state.keys()
    return {bytes(keys.data[a:b]) for a, b in zip(keys.offsets, keys.offsets[1:], strict=False)}
