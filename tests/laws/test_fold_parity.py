"""What is made beside the kernel against the oracle: live in any batches, replayed, restored, read by key; bit for bit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import LabelSource
from penstock.plan.compile import compile_plan
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import Step
from penstock.types import Bool, Field
from tests.laws.engine_laws import EngineLaws, ones
from tests.laws.fold_views import everything, numbers, payments
from tests.laws.parity import (
    endpoint_of,
)
from tests.laws.strategies import cuts, event_streams

WINDOWS_US = (60_000_000, 3_600_000_000)
LIMITED = ("plain", "by_device")  # views with max_keys, which the oracle is told of
chargebacks = LabelSource("chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at")
PLAN = compile_plan([(everything, payments)], [endpoint_of(numbers, payments, chargebacks)])


def oracle() -> ReferenceEngine:
    made = ReferenceEngine(everything.features, source=payments)
    for name in LIMITED:
        state = made.states[name]
        getattr(state, "_pairs", state).max_keys = made.views[name].max_keys
    return made


@st.composite
def batched(draw: st.DrawFn) -> list[list[Step]]:
    steps = draw(event_streams(source=payments, windows_us=WINDOWS_US, max_size=30))
    ends = iter(steps)
    return [[next(ends) for _ in range(size)] for size in draw(cuts(len(steps)))]


def repr_of(value: object) -> str:
    """Floats to the last bit; booleans as numbers."""
    if isinstance(value, list):
        return str([repr_of(one) for one in value])
    return repr(int(value) if isinstance(value, bool) else value)


def same(found: object, answer: object) -> bool:
    return repr_of(found) == repr_of(answer)


LAWS = EngineLaws(PLAN, numbers, everything, oracle=oracle, same=same)


@settings(max_examples=25, deadline=None)
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    LAWS.live(batches, ones(batches))


@settings(max_examples=30, deadline=None)
@given(batched())
def test_replay_equals_the_oracle(batches):
    LAWS.replayed(batches)


@settings(max_examples=20, deadline=None)
@given(batched(), st.integers(0, 8))
def test_a_restored_state_goes_on_as_if_nothing_had_happened(batches, cut):
    LAWS.resumed(batches, cut)


@settings(max_examples=25, deadline=None)
@given(batched(), st.lists(st.integers(0, 7_200_000_000), min_size=1, max_size=4))
def test_reads_by_key_equal_the_oracle_and_disturb_nothing(batches, moments):
    LAWS.read(batches, moments, source="payments", columns=("card_id", "payee_id"))


@settings(max_examples=25, deadline=None)
@given(batched(), st.lists(st.integers(0, 7_200_000_000), min_size=1, max_size=4))
def test_what_was_published_of_keys_is_enough_to_say_what_the_oracle_says(batches, moments):
    LAWS.lent(batches, moments, source="payments", columns=("card_id", "payee_id"))
