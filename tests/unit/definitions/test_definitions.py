"""What definitions are: frozen, inert, named by default, and as Tecton's users write them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pandas as pd
import pytest

import penstock
from penstock import (
    Aggregate,
    Attribute,
    CostMatrix,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    LifetimeWindow,
    Policy,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    TimeWindow,
    TimeWindowSeries,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.aggregation_functions import ewma, first_distinct, lag, last
from penstock.types import Array, Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp

AMOUNT = Field("amount", Float64)
HOUR = timedelta(hours=1)
user = Entity("user", [Field("user_id", String)])
SCHEMA = [Field("id", Int64), Field("user_id", String), Field("time", Timestamp), AMOUNT, Field("ok", Bool)]
payments = StreamSource("payments", PushConfig(), schema=SCHEMA, event_id_field="id")
labels = LabelSource("labels", of=payments, label=Field("fraud", Bool), known_at="known_at")
view = StreamFeatureView(
    "totals",
    source=payments,
    entities=[user],
    features=[
        Aggregate(AMOUNT, "sum", time_window=HOUR, name="a"),
        Aggregate(AMOUNT, "mean", time_window=HOUR, name="b", where="ok"),
    ],
)


@realtime_feature_view(sources=[RequestSource([AMOUNT]), view[["b"]]], features=[Attribute("ratio", Float64)])
def ratio(request, totals):
    """Amount against the mean."""
    return {"ratio": request["amount"] / totals["b"]}


service = FeatureService("service", features=[view, ratio])


def test_tectons_own_snippet_works_as_it_stands():
    snippet = """
from datetime import timedelta
from penstock import Aggregate, Entity, FeatureService, StreamSource, PushConfig, stream_feature_view
from penstock.types import Field, Float64, String, Timestamp

user = Entity(name="user", join_keys=[Field("user_id", String)])
transactions_stream = StreamSource(
    name="transactions_stream",
    stream_config=PushConfig(),
    schema=[Field("user_id", String), Field("timestamp", Timestamp), Field("amount", Float64)],
)

@stream_feature_view(
    source=transactions_stream, entities=[user], mode="pandas", timestamp_field="timestamp",
    features=[
        Aggregate(input_column=Field("amount", Float64), function="sum", time_window=timedelta(minutes=1)),
        Aggregate(input_column=Field("amount", Float64), function="sum", time_window=timedelta(hours=1)),
    ],
)
def user_transaction_amount_totals(transactions_stream):
    return transactions_stream[["user_id", "timestamp", "amount"]]

fraud_detection_feature_service = FeatureService(
    name="fraud_detection_feature_service", features=[user_transaction_amount_totals])

training_data = fraud_detection_feature_service.get_features_for_events(training_events).to_pandas()
"""
    times = pd.to_datetime(["2024-01-01 00:00", "2024-01-01 00:01", "2024-01-01 00:01"])
    events = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "timestamp": times, "amount": [1.0, 2.0, 4.0]})
    written = {"training_events": events}
    exec(snippet, written)
    assert written["fraud_detection_feature_service"].feature_types == {
        "user_transaction_amount_totals.amount_sum_1m_continuous": Float64,
        "user_transaction_amount_totals.amount_sum_1h_continuous": Float64,
    }
    made = written["training_data"]
    assert made["user_transaction_amount_totals__amount_sum_1m_continuous"].tolist() == [1.0, 2.0, 4.0]
    assert made["user_transaction_amount_totals__amount_sum_1h_continuous"].tolist() == [1.0, 3.0, 4.0]
    assert made[["user_id", "amount"]].equals(events[["user_id", "amount"]])


@pytest.mark.parametrize(
    "definition",
    [
        AMOUNT,
        user,
        payments,
        labels,
        view,
        view[["a"]],
        ratio,
        service,
        view.features[0],
        TimeWindow(HOUR),
        LifetimeWindow(),
        TimeWindowSeries(-HOUR, HOUR),
        lag(1),
        PushConfig(),
        FileConfig("a.csv", "csv"),
        RequestSource([AMOUNT]),
        Attribute("x", Float64),
        TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
        CostMatrix(1.0, "amount"),
        Policy("policy", actions={"block": 0.9}),
    ],
    ids=lambda definition: type(definition).__name__,
)
def test_definitions_are_frozen(definition):
    for field in dataclasses.fields(definition):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(definition, field.name, None)
    assert not hasattr(definition, "__dict__")


def test_lists_given_are_not_shared():
    schema = list(SCHEMA)
    source = StreamSource("s", PushConfig(), schema=schema)
    schema.clear()
    assert source.schema == tuple(SCHEMA)


@pytest.mark.parametrize(
    ("window", "options", "name"),
    [
        (HOUR, {}, "amount_sum_1h_continuous"),
        (timedelta(days=7), {}, "amount_sum_7d_continuous"),
        (timedelta(minutes=90), {}, "amount_sum_1h30m_continuous"),
        (timedelta(milliseconds=5), {}, "amount_sum_5ms_continuous"),
        (TimeWindow(HOUR, timedelta(days=-7)), {}, "amount_sum_1h_offset_7d_continuous"),
        (HOUR, {"where": "ok"}, "amount_sum_1h_where_ok_continuous"),
        (HOUR, {"where": Field("ok", Bool)}, "amount_sum_1h_where_ok_continuous"),
        (HOUR, {"name": "mine"}, "mine"),
        (LifetimeWindow(), {}, "amount_sum_lifetime_continuous"),
        (HOUR, {"include_current": False}, "amount_sum_1h_excluding_current_continuous"),
        (HOUR, {"aggregation_interval": timedelta(minutes=5)}, "amount_sum_1h_5m"),
        (HOUR, {"aggregation_interval": timedelta(0)}, "amount_sum_1h_continuous"),
        (TimeWindow(HOUR, -HOUR), {"aggregation_interval": HOUR}, "amount_sum_1h_offset_1h_1h"),
    ],
)
def test_default_names(window, options, name):
    assert Aggregate(AMOUNT, "sum", time_window=window, **options).name == name


@pytest.mark.parametrize(
    ("function", "window", "name"),
    [
        (last(3), HOUR, "amount_last_3_1h_continuous"),
        ("last", HOUR, "amount_last_1h_continuous"),
        (ewma(timedelta(minutes=5)), HOUR, "amount_ewma_5m_1h_continuous"),
        (
            "sum",
            TimeWindowSeries(timedelta(days=-7), timedelta(days=1)),
            "amount_sum_1d_series_7d_continuous",
        ),
        (
            "sum",
            TimeWindowSeries(-HOUR * 4, HOUR * 2, -HOUR, HOUR),
            "amount_sum_2h_series_4h_to_1h_step_1h_continuous",
        ),
    ],
)
def test_default_names_of_functions_with_parameters_and_of_series(function, window, name):
    assert Aggregate(AMOUNT, function, time_window=window).name == name


def test_a_series_of_numbers_is_an_array():
    series = TimeWindowSeries(-HOUR * 3, HOUR)
    assert Aggregate(AMOUNT, "count", time_window=series).dtype is Array(Int64)
    assert [w.offset for w in series.windows] == [-HOUR * 2, -HOUR, HOUR * 0]


def test_a_views_interval_holds_for_aggregates_without_one():
    minute = timedelta(minutes=1)
    totals = StreamFeatureView(
        "totals",
        source=payments,
        entities=[user],
        aggregation_interval=minute,
        features=[
            Aggregate(AMOUNT, "sum", time_window=HOUR),
            Aggregate(AMOUNT, "sum", time_window=HOUR, aggregation_interval=timedelta(0)),
            Aggregate(AMOUNT, "sum", time_window=HOUR, aggregation_interval=HOUR, name="hourly"),
        ],
    )
    assert list(totals.feature_types) == ["amount_sum_1h_1m", "amount_sum_1h_continuous", "hourly"]
    assert [a.interval for a in totals.features] == [minute, timedelta(0), HOUR]


@pytest.mark.parametrize(
    ("function", "column", "dtype"),
    [
        (lag(2), String, String),
        ("time_since_first", Bool, Float64),
        (last(2), Timestamp, Array(Timestamp)),
        (first_distinct(2), String, Array(String)),
        ("median", Int64, Float64),
        ("mode", Bool, Bool),
        (ewma(HOUR), Bool, Float64),
        ("count", String, Int64),
        ("count_distinct", Float64, Int64),
        ("sum", Int32, Int64),
        ("sum", Bool, Int64),
        ("sum", Float32, Float64),
        ("mean", Int64, Float64),
        ("min", Int32, Int32),
        ("max", Timestamp, Timestamp),
        ("last", String, String),
        ("last", Bool, Bool),
        ("stddev_samp", Int64, Float64),
        ("time_since_last", String, Float64),
    ],
)
def test_types_of_aggregates(function, column, dtype):
    assert Aggregate(Field("a", column), function, time_window=HOUR).dtype is dtype


def test_a_view_is_named_and_described_by_its_function():
    @stream_feature_view(source=payments, entities=[user], features=view.features)
    def user_totals(rows):
        """What a user spends."""
        return rows

    assert (user_totals.name, user_totals.description) == ("user_totals", "What a user spends.")
    assert (user_totals.mode, user_totals.timestamp_field) == ("numpy", "time")
    assert ratio.description == "Amount against the mean."


def test_a_label_views_rows_count_from_when_the_label_was_known():
    risk = StreamFeatureView(
        "risk",
        source=labels,
        entities=[user],
        features=[Aggregate(Field("fraud", Bool), "mean", time_window=HOUR)],
    )
    assert risk.timestamp_field == "known_at"
    assert [field.name for field in labels.schema] == ["id", "fraud", "known_at"]
    assert [field.name for field in labels.joined_schema][-2:] == ["fraud", "known_at"]


def test_the_columns_that_a_view_needs():
    assert view.columns == (Field("user_id", String), Field("time", Timestamp), AMOUNT, Field("ok", Bool))


def test_selecting_and_renaming_features():
    assert view[["b", "a"]].features == ("b", "a")
    assert view["a"].features == ("a",)
    assert view[["a"]].with_name("spent").feature_types == {"a": Float64}
    mapped = view.with_join_key_map({"user_id": "payee_id"})
    assert mapped.join_key_map == (("user_id", "payee_id"),)
    both = FeatureService("both", features=[view, mapped.with_name("payee")])
    assert list(both.feature_types) == ["totals.a", "totals.b", "payee.a", "payee.b"]


def test_the_same_feature_twice_needs_another_view_name():
    assert list(FeatureService("s", features=[view[["a"]], view[["b"]]]).feature_types) == [
        "totals.a",
        "totals.b",
    ]


def test_a_functions_default_arguments_need_no_source():
    def scaled(request, factor=2.0):
        return {"x": request["amount"] * factor}

    made = realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("x", Float64)])(
        scaled
    )
    assert made.name == "scaled"


def test_actions_are_ordered_by_threshold():
    made = Policy("p", actions={"block": 0.9, "watch": 0, "review": 0.5})
    assert made.actions == (("watch", 0.0), ("review", 0.5), ("block", 0.9))


def test_every_public_noun_is_there():
    assert sorted(penstock.__all__) == penstock.__all__
    assert all(hasattr(penstock, name) for name in penstock.__all__)
