"""What is made beside the kernel against the oracle: live in any batches, replayed, restored, read by key; bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from itertools import cycle
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import Endpoint, FeatureService, LabelSource, Model, Policy, TimeSplit
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.local import LocalEngine
from penstock.engine.online import OnlineReader
from penstock.engine.recovery import decode_state, encode_state
from penstock.plan.compile import compile_plan
from penstock.testing.clock import ManualClock
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import START_US, Step
from penstock.types import Bool, Field
from tests.laws.fold_views import HOUR, everything, numbers, payments
from tests.laws.parity import (
    NoEstimator,
    assert_same_vectors,
    engine_of,
    run_live,
    store_in,
    typed_rows,
)
from tests.laws.strategies import cuts, event_streams
from tests.laws.test_engine_parity import comparable, ones

WINDOWS_US = (60_000_000, 3_600_000_000)
LIMITED = ("plain", "by_device")  # views with max_keys, which the oracle is told of
chargebacks = LabelSource("chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at")
endpoint = Endpoint(
    "endpoint",
    source=payments,
    model=Model(
        "model",
        features=numbers,
        label=chargebacks,
        estimator=NoEstimator(),
        split=TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
    ),
    policy=Policy("policy", actions={"block": 0.9}),
)
PLAN = compile_plan([(everything, payments)], [endpoint])


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


def expected(batches: Sequence[Sequence[Step]], service: FeatureService) -> list[dict[str, object]]:
    answering, names = oracle(), list(service.feature_types)
    answers = [answering.accept(s.source, s.record) for batch in batches for s in batch if not s.is_duplicate]
    return [{name: answer[name] for name in names} for answer in answers if answer is not None]


def engine_on(store, ids, state: FeatureState) -> LocalEngine:
    return engine_of(PLAN, store, ids, state)


def assert_same_rows(found, answers) -> None:
    assert len(found) == len(answers)
    for row, answer in zip(found, answers, strict=True):
        different = {
            name: (row[name], answer[name]) for name in answer if repr_of(row[name]) != repr_of(answer[name])
        }
        assert not different


def repr_of(value: object) -> str:
    """Floats to the last bit; booleans as numbers."""
    if isinstance(value, list):
        return str([repr_of(one) for one in value])
    return repr(int(value) if isinstance(value, bool) else value)


@settings(max_examples=25, deadline=None)
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    answers = expected(batches, numbers)
    for cut in (batches, ones(batches)):
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            engine = engine_on(store, ids, FeatureState(PLAN))
            vectors = run_live(engine, cut)
            engine.close()
        assert_same_vectors(vectors, answers)


@settings(max_examples=30, deadline=None)
@given(batched())
def test_replay_equals_the_oracle(batches):
    answers = expected(batches, everything)
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        engine = engine_on(store, ids, FeatureState(PLAN))
        run_live(engine, batches)
        engine.close()
        replayed = features_from_log(store, PLAN, PLAN.services["everything"])
    assert_same_rows(typed_rows(replayed.features, everything), answers)


@settings(max_examples=20, deadline=None)
@given(batched(), st.integers(0, 8))
def test_a_restored_state_goes_on_as_if_nothing_had_happened(batches, cut):
    answers = expected(batches, numbers)
    vectors: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        state = FeatureState(PLAN)
        vectors += run_live(engine_on(store, ids, state), batches[:cut])
        restored = decode_state(PLAN, encode_state(state))
        assert encode_state(restored) == encode_state(state)
        engine = engine_on(store, ids, restored)
        vectors += run_live(engine, batches[cut:])
        engine.close()
    assert_same_vectors(vectors, answers)


@settings(max_examples=25, deadline=None)
@given(batched(), st.lists(st.integers(0, 7_200_000_000), min_size=1, max_size=4))
def test_reads_by_key_equal_the_oracle_and_disturb_nothing(batches, moments):
    answers = expected(batches, numbers)
    told = oracle()
    records = [step.record for batch in batches for step in batch]
    asked = [{name: record.get(name) for name in ("card_id", "payee_id")} for record in records[:3]]
    vectors: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        engine, clock = engine_on(store, ids, FeatureState(PLAN)), ManualClock(START_US)
        reader = OnlineReader(engine, clock)
        for batch, moment in zip(batches, cycle(moments), strict=False):
            vectors += run_live(engine, [batch])
            for step in batch:
                if not step.is_duplicate:
                    told.accept(step.source, step.record)
            clock.advance(timedelta(microseconds=START_US + moment - clock.now_us()))
            found = [
                {name: comparable(value) for name, value in row.items()}
                for row in reader.read("everything", asked).to_dicts()
            ]
            assert_same_rows(found, [told.ask(record, START_US + moment) for record in asked])
        engine.close()
    assert_same_vectors(vectors, answers)
