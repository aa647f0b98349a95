"""The engine against the oracle: live in any batches, replayed, and resumed from a snapshot, bit for bit."""

from __future__ import annotations

from datetime import timedelta

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
from penstock.plan.compile import compile_plan
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import Step
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp
from tests.laws.engine_laws import EngineLaws, ones
from tests.laws.parity import (
    endpoint_of,
    in_batches,
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


LAWS = EngineLaws(
    PLAN, numbers, everything, oracle=lambda: ReferenceEngine(everything.features, source=payments)
)


@settings(max_examples=160, deadline=None)
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    LAWS.live(batches, ones(batches))


@settings(max_examples=200, deadline=None)
@given(batched())
def test_replay_equals_the_oracle_with_exact_integers_and_texts(batches):
    LAWS.replayed(batches)


@settings(max_examples=150, deadline=None)
@given(batched(), st.integers(0, 8))
def test_going_on_from_a_snapshot_equals_the_oracle(batches, stop):
    LAWS.resumed(batches, stop)


@settings(max_examples=100, deadline=None)
@given(batched(), st.lists(st.integers(-90_000_000, 4_000_000_000), min_size=3, max_size=3))
def test_reads_by_key_equal_the_oracle_and_disturb_nothing(batches, moments):
    columns = ("card_id", "payee_id", "shop_id", "amount")
    LAWS.read(batches, moments, source="payments", columns=columns)


@settings(max_examples=60, deadline=None)
@given(batched(), st.lists(st.integers(-90_000_000, 4_000_000_000), min_size=3, max_size=3))
def test_what_was_published_of_keys_is_enough_to_say_what_the_oracle_says(batches, moments):
    columns = ("card_id", "payee_id", "shop_id", "amount")
    LAWS.lent(batches, moments, source="payments", columns=columns)
