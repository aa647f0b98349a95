"""The engine against the oracle: live in any batches, replayed, and resumed from a snapshot, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    Aggregate,
    Attribute,
    Entity,
    FeatureService,
    LabelSource,
    LifetimeWindow,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeWindow,
    TimeWindowSeries,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.aggregation_functions import (
    decayed_count,
    decayed_sum,
    ewma,
    first,
    first_distinct,
    lag,
    last,
    last_distinct,
)
from penstock.core.time import to_us
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.local import LocalEngine
from penstock.engine.online import OnlineReader
from penstock.engine.recovery import decode_state, encode_state
from penstock.plan.compile import compile_plan
from penstock.stores.ids import IdIndex
from penstock.stores.sqlite import ProjectStore
from penstock.testing.clock import ManualClock
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import START_US, Step
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp
from tests.laws.parity import (
    assert_same_vectors,
    endpoint_of,
    engine_of,
    expected_of,
    in_batches,
    run_live,
    store_in,
    typed_rows,
)
from tests.laws.strategies import cuts, event_streams

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WINDOWS_US = (60_000_000, 3_600_000_000)
DELAY = timedelta(minutes=1)
AMOUNT = Field("amount", Float64)
KIND = Field("kind", Int64, optional=True)

card = Entity("card", [Field("card_id", String)])
shop = Entity("shop", [Field("shop_id", Int64)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("time", Timestamp),
        Field("card_id", String, optional=True),
        Field("payee_id", String, optional=True),
        Field("shop_id", Int64),
        KIND,
        Field("abroad", Bool, optional=True),
        Field("amount", Float64, optional=True),
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=10),
)
logins = StreamSource(
    "logins",
    PushConfig(),
    schema=[Field("card_id", String), Field("at", Timestamp), Field("device", String, optional=True)],
)
chargebacks = LabelSource(
    "chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at", allowed_lateness=MINUTE
)

NUMBERS = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "var_samp",
    "stddev_pop",
    "count_distinct",
    "time_since_last",
)
totals = StreamFeatureView(
    "totals",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, function, time_window=window)
        for function in NUMBERS
        for window in (MINUTE, TimeWindow(HOUR, -MINUTE))
    ]
    + [
        Aggregate(AMOUNT, "sum", time_window=HOUR, where="abroad"),
        Aggregate(KIND, "sum", time_window=HOUR),
        Aggregate(KIND, "last", time_window=MINUTE),
        Aggregate(Field("abroad", Bool), "mean", time_window=HOUR),
        Aggregate(Field("time", Timestamp), "min", time_window=HOUR),
        Aggregate(AMOUNT, "last", time_window=HOUR),
    ],
)
BEYOND_THE_CORE = (*NUMBERS, "last", "time_since_first", lag(2))
OF_FINITE_WINDOWS = ("median", "mode", "entropy", "slope")
DECAYED = (ewma(MINUTE), decayed_sum(timedelta(seconds=1)), decayed_count(timedelta(hours=2)))
beyond = StreamFeatureView(
    "beyond",
    source=payments,
    entities=[card],
    aggregation_interval=timedelta(seconds=20),
    features=[
        Aggregate(AMOUNT, function, time_window=window, **options)
        for function in BEYOND_THE_CORE
        for window, options in (
            (MINUTE, {}),
            (MINUTE, {"include_current": False, "aggregation_interval": timedelta(0)}),
            (LifetimeWindow(), {}),
            (LifetimeWindow(), {"where": "abroad", "aggregation_interval": timedelta(0)}),
        )
    ]
    + [Aggregate(KIND, function, time_window=LifetimeWindow()) for function in ("sum", "min", lag(1))],
)
queued = StreamFeatureView(
    "queued",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, function, time_window=window, **options)
        for function in (*OF_FINITE_WINDOWS, *DECAYED)
        for window, options in (
            (MINUTE, {}),
            (TimeWindow(HOUR, -MINUTE), {}),
            (MINUTE, {"include_current": False, "where": "abroad"}),
            (HOUR, {"aggregation_interval": MINUTE}),
        )
    ]
    + [Aggregate(KIND, function, time_window=HOUR) for function in (*OF_FINITE_WINDOWS, *DECAYED)],
)
SERIES = TimeWindowSeries(timedelta(minutes=-5), MINUTE, step_size=timedelta(seconds=30))
lists = StreamFeatureView(
    "lists",
    source=payments,
    entities=[card],
    features=[
        Aggregate(column, function(3), time_window=window, **options)
        for column in (AMOUNT, Field("payee_id", String))
        for function in (first, last, first_distinct, last_distinct)
        for window, options in ((MINUTE, {}), (HOUR, {"aggregation_interval": MINUTE}))
    ]
    + [
        Aggregate(column, function, time_window=LifetimeWindow())
        for column in (AMOUNT, Field("payee_id", String), Field("time", Timestamp))
        for function in (first(2), last(3))
    ]
    + [Aggregate(AMOUNT, function, time_window=SERIES) for function in ("sum", "median")],
)
texts = StreamFeatureView(
    "texts",
    source=logins,
    entities=[card],
    features=[
        Aggregate(Field("device", String), "last", time_window=HOUR, name="last"),
        Aggregate(Field("device", String), "count_distinct", time_window=HOUR, name="distinct"),
        Aggregate(Field("device", String), "count_distinct", time_window=LifetimeWindow(), name="ever"),
        Aggregate(Field("device", String), lag(1), time_window=LifetimeWindow(), name="before"),
    ],
)


@stream_feature_view(
    source=payments,
    entities=[card, shop],
    features=[
        Aggregate(Field("inverse", Float64), "mean", time_window=MINUTE, name="inverse"),
        Aggregate(Field("inverse", Float64), "time_since_last", time_window=HOUR, name="since"),
    ],
)
def large(rows):
    keep = np.abs(rows["amount"]) >= 0.2
    columns = {name: rows[name][keep] for name in ("card_id", "shop_id", "time", "_row")}
    return {**columns, "inverse": 1.0 / (rows["amount"][keep] - 1e15)}


@stream_feature_view(
    source=chargebacks,
    entities=[shop],
    mode="python",
    features=[
        Aggregate(Field("fraud", Bool), "count", time_window=HOUR, name="count"),
        Aggregate(Field("fraud", Bool), "mean", time_window=TimeWindow(HOUR, -DELAY), name="share"),
        Aggregate(AMOUNT, "sum", time_window=HOUR, name="lost", where="fraud"),
    ],
)
def risk(row):
    return row if row["kind"] != 1 else None


@realtime_feature_view(
    sources=[RequestSource([Field("amount", Float64), Field("time", Timestamp)]), totals],
    features=[Attribute("ratio", Float64), Attribute("odd", Bool), Attribute("count", Int64)],
)
def ratio(request, totals):
    return {
        "ratio": request["amount"] / totals["amount_mean_1m_continuous"],
        "odd": request["time"].astype("int64") % 2 == 1,
        "count": totals["amount_count_1m_continuous"],
    }


numbers = FeatureService(
    "numbers",
    features=[
        totals,
        large,
        risk,
        ratio,
        texts[["distinct", "ever"]],
        beyond,
        queued,
        totals[["amount_sum_1m_continuous"]].with_name("payee").with_join_key_map({"card_id": "payee_id"}),
    ],
)
everything = FeatureService(
    "everything", features=[*numbers.features, texts[["last", "before"]].with_name("texts"), lists]
)


PLAN = compile_plan([(everything, payments)], [endpoint_of(numbers, payments, chargebacks)])


@st.composite
def batched(draw: st.DrawFn) -> list[list[Step]]:
    """A stream cut into batches, each ordered as the engine takes it: one source after another."""
    steps = draw(
        event_streams(
            source=payments,
            labels=chargebacks,
            label_delay_us=60_000_000,
            others=[logins],
            windows_us=WINDOWS_US,
            max_size=30,
        )
    )
    return in_batches(steps, draw(cuts(len(steps))))


def ones(batches: Sequence[Sequence[Step]]) -> list[list[Step]]:
    """The same log, one record a batch."""
    return [[step] for batch in batches for step in batch]


def expected(batches: Sequence[Sequence[Step]], service: FeatureService) -> list[dict[str, object]]:
    return expected_of(everything, payments, batches, service)


def engine_on(store: ProjectStore, ids: IdIndex, state: FeatureState) -> LocalEngine:
    return engine_of(PLAN, store, ids, state)


@settings(max_examples=160, deadline=None)
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    answers = expected(batches, numbers)
    for cut in (batches, ones(batches)):
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            engine = engine_on(store, ids, FeatureState(PLAN))
            vectors = run_live(engine, cut)
            engine.close()
        assert_same_vectors(vectors, answers)


@settings(max_examples=200, deadline=None)
@given(batched())
def test_replay_equals_the_oracle_with_exact_integers_and_texts(batches):
    answers = expected(batches, everything)
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        engine = engine_on(store, ids, FeatureState(PLAN))
        run_live(engine, batches)
        engine.close()
        replayed = features_from_log(store, PLAN, PLAN.services["everything"])
    found = typed_rows(replayed.features, everything)
    assert len(found) == len(answers)
    for row, answer in zip(found, answers, strict=True):
        different = {name: (row[name], answer[name]) for name in answer if row[name] != answer[name]}
        assert not different


@settings(max_examples=150, deadline=None)
@given(batched(), st.integers(0, 8))
def test_going_on_from_a_snapshot_equals_the_oracle(batches, stop):
    answers = expected(batches, numbers)
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        before = engine_on(store, ids, FeatureState(PLAN))
        vectors = run_live(before, batches[:stop])
        before.close()
        resumed = engine_on(store, ids, decode_state(PLAN, encode_state(before.features)))
        vectors += run_live(resumed, batches[stop:])
        resumed.close()
    assert_same_vectors(vectors, answers)


@settings(max_examples=100, deadline=None)
@given(batched(), st.lists(st.integers(-90_000_000, 4_000_000_000), min_size=3, max_size=3))
def test_reads_by_key_equal_the_oracle_and_disturb_nothing(batches, moments):
    answers = expected(batches, numbers)
    oracle = ReferenceEngine(everything.features, source=payments)
    records = [step.record for batch in batches for step in batch if step.source == "payments"]
    asked = [
        {name: record.get(name) for name in ("card_id", "payee_id", "shop_id", "amount")}
        for record in records[:3]
    ]
    vectors: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        engine, clock = engine_on(store, ids, FeatureState(PLAN)), ManualClock(START_US)
        reader = OnlineReader(engine, clock)
        for batch, moment in zip(batches, cycle(moments), strict=False):
            vectors += run_live(engine, [batch])
            for step in batch:
                if not step.is_duplicate:
                    oracle.accept(step.source, step.record)
            clock.advance(timedelta(microseconds=START_US + moment - clock.now_us()))
            found = reader.read("everything", asked).to_dicts() if asked else []
            for row, record in zip(found, asked, strict=True):
                wanted = oracle.ask(record, START_US + moment)
                assert {n: comparable(v) for n, v in row.items()} == wanted
        engine.close()
    assert_same_vectors(vectors, answers)


def comparable(value: object) -> object:
    if isinstance(value, list):
        return [comparable(one) for one in value]
    return to_us(value) if isinstance(value, datetime) else value
