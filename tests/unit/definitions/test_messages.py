"""Every mistake in a definition is refused with four things: the object, what was found, what is allowed, what to do."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Attribute,
    CostMatrix,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
    Gate,
    LabelSource,
    LifetimeWindow,
    Model,
    Monitor,
    Policy,
    PushConfig,
    RealtimeFeatureView,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    TimeWindow,
    TimeWindowSeries,
)
from penstock.aggregation_functions import AggregationFunction, ewma, lag, last
from penstock.core.errors import DefinitionError
from penstock.types import Array, Bool, Field, Float64, Int64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT = Field("amount", Float64)
user = Entity("user", [Field("user_id", String)])
SCHEMA = [Field("id", Int64), Field("user_id", String), Field("time", Timestamp), AMOUNT]
payments = StreamSource("payments", PushConfig(), schema=SCHEMA, event_id_field="id")
nameless = StreamSource("nameless", PushConfig(), schema=SCHEMA)
labels = LabelSource("labels", of=payments, label=Field("fraud", Bool), known_at="known_at")
total = Aggregate(AMOUNT, "sum", time_window=HOUR)
last_two = Aggregate(AMOUNT, last(2), time_window=HOUR)
view = StreamFeatureView("totals", source=payments, entities=[user], features=[total])
request = RequestSource([AMOUNT])


class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...
    def __repr__(self):
        return "Estimator()"


SPLIT = TimeSplit(train=HOUR, delay=HOUR, test=HOUR)
service = FeatureService("service", features=[view])
policy = Policy("policy", actions={"block": 0.9})


def model_of(**changes):
    return Model(
        "m", **{"features": service, "label": labels, "estimator": Estimator(), "split": SPLIT, **changes}
    )


def source_of(**changes):
    return StreamSource("s", **{"stream_config": PushConfig(), "schema": SCHEMA, **changes})


def labels_of(**changes):
    return LabelSource(
        "l", **{"of": payments, "label": Field("fraud", Bool), "known_at": "known_at", **changes}
    )


def view_of(**changes):
    return StreamFeatureView("v", **{"source": payments, "entities": [user], "features": [total], **changes})


def realtime_of(function=lambda request: {}, **changes):
    options = {"sources": [request], "features": [Attribute("ratio", Float64)], "function": function}
    return RealtimeFeatureView("r", **{**options, **changes})


def two_times(**changes):
    return source_of(schema=[*SCHEMA, Field("seen", Timestamp)], **changes)


def monitor_of(**changes):
    endpoint = Endpoint("checkout", source=payments, model=model_of(), policy=policy)
    return Monitor(**{"endpoint": endpoint, **changes})


CASES = {
    # name: (what is written, the object, what was found)
    "field name": (lambda: Field("a b", Float64), "Field", "'a b'"),
    "field name is a keyword": (lambda: Field("class", Float64), "Field", "'class'"),
    "field name with two underscores": (lambda: Field("a__b", Float64), "Field 'a__b'", "a__b"),
    "field name hidden": (lambda: Field("_a", Float64), "Field '_a'", "_a"),
    "field type": (lambda: Field("a", float), "Field 'a'", "<class 'float'>"),
    "monitor of a name": (lambda: monitor_of(endpoint="checkout"), "Monitor", "'checkout'"),
    "monitor without windows": (lambda: monitor_of(windows=[]), "Monitor 'checkout'", "[]"),
    "monitor window of days": (lambda: monitor_of(windows=[7]), "Monitor 'checkout'", "7"),
    "monitor windows that do not fit": (
        lambda: monitor_of(windows=[2 * HOUR, 3 * HOUR]),
        "Monitor 'checkout'",
        "3:00:00",
    ),
    "monitor windows too many": (
        lambda: monitor_of(windows=[timedelta(seconds=1), timedelta(days=1)]),
        "Monitor 'checkout'",
        "86,400 times",
    ),
    "monitor segment": (lambda: monitor_of(segments=["country"]), "Monitor 'checkout'", "'country'"),
    "monitor segment twice": (
        lambda: monitor_of(segments=["user_id", "user_id"]),
        "Monitor 'checkout'",
        "'user_id' twice",
    ),
    "monitor segment nearly right": (
        lambda: monitor_of(segments=["totals.amount_sum"]),
        "Monitor 'checkout'",
        "Perhaps 'totals.amount_sum_1h_continuous' was",
    ),
    "gate segment": (
        lambda: model_of(gate=Gate(segments=["usr_id"])),
        "Model 'm', gate",
        (
            "'usr_id'; allowed, once each, are the columns of 'payments' (id, user_id, time, amount) and the features of "
            "'service' (totals.amount_sum_1h_continuous). Perhaps 'user_id'"
        ),
    ),
    "gate segment twice": (
        lambda: model_of(gate=Gate(segments=["user_id", "amount_sum_1h_continuous", "user_id"])),
        "Model 'm', gate",
        "'user_id' twice",
    ),
    "monitor top_k": (lambda: monitor_of(top_k=0), "Monitor 'checkout'", "0"),
    "monitor false alarms": (lambda: monitor_of(false_alarms=5), "Monitor 'checkout'", "5"),
    "monitor delay": (lambda: monitor_of(delay=-HOUR), "Monitor 'checkout'", "-1"),
    "monitor false discovery": (
        lambda: monitor_of(false_discovery="bonferroni"),
        "Monitor 'checkout'",
        "'bonferroni'",
    ),
    "monitor NAB profile": (lambda: monitor_of(nab_profile="low"), "Monitor 'checkout'", "'low'"),
    "entity name": (lambda: Entity("", [Field("a", String)]), "Entity", "''"),
    "entity keys": (lambda: Entity("e", []), "Entity 'e'", "[]"),
    "entity key alone": (lambda: Entity("e", Field("a", String)), "Entity 'e'", "Field(name='a'"),
    "entity key a text": (lambda: Entity("e", ["a"]), "Entity 'e'", "'a'"),
    "entity key a float": (lambda: Entity("e", [AMOUNT]), "Entity 'e'", "Float64"),
    "entity key twice": (lambda: Entity("e", [Field("a", String)] * 2), "Entity 'e'", "a twice"),
    "window of zero": (lambda: TimeWindow(timedelta(0)), "TimeWindow", "timedelta(0)"),
    "window of seconds": (lambda: TimeWindow(60), "TimeWindow", "60"),
    "window beyond all time": (lambda: TimeWindow(timedelta.max), "TimeWindow", "999999999"),
    "window into the future": (lambda: TimeWindow(HOUR, HOUR), "TimeWindow", "timedelta(seconds=3600)"),
    "window far into the past": (lambda: TimeWindow(HOUR, timedelta.min), "TimeWindow", "-999999999"),
    "aggregate of a name": (lambda: Aggregate("amount", "sum", time_window=HOUR), "Aggregate", "'amount'"),
    "function that needs a parameter": (
        lambda: Aggregate(AMOUNT, "lag(n)", time_window=HOUR),
        "Aggregate",
        "'lag(n)'",
    ),
    "lag of nothing": (lambda: lag(0), "lag", "0"),
    "last of too many": (lambda: last(1001), "last", "1001"),
    "half-life": (lambda: ewma(60), "ewma", "60"),
    "function from nowhere": (lambda: AggregationFunction("avg"), "aggregation function", "'avg'"),
    "median of a lifetime": (
        lambda: Aggregate(AMOUNT, "median", time_window=LifetimeWindow()),
        "Aggregate of 'amount'",
        "median",
    ),
    "series start": (lambda: TimeWindowSeries(HOUR, HOUR), "TimeWindowSeries", "timedelta(seconds=3600)"),
    "series step": (
        lambda: TimeWindowSeries(-HOUR, HOUR, step_size=-HOUR),
        "TimeWindowSeries",
        "timedelta(days=-1",
    ),
    "series of a broken number": (lambda: TimeWindowSeries(-HOUR * 2.5, HOUR), "TimeWindowSeries", "1h"),
    "series of arrays": (
        lambda: Aggregate(AMOUNT, last(2), time_window=TimeWindowSeries(-HOUR, HOUR)),
        "Aggregate of 'amount'",
        "last(2)",
    ),
    "array column": (lambda: Field("x", Array(Float64)), "Field 'x'", "Array(Float64)"),
    "array of arrays": (lambda: Array(Array(Float64)), "Array", "Array(Float64)"),
    "array in a realtime view": (
        lambda: realtime_of(sources=[view_of(features=[last_two])], function=lambda view: {}),
        "realtime feature view",
        "'amount_last_2_1h_continuous'",
    ),
    "array in a model": (
        lambda: model_of(features=FeatureService("f", features=[view_of(features=[last_two])])),
        "Model 'm'",
        "'v.amount_last_2_1h_continuous'",
    ),
    "interval": (
        lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, aggregation_interval=-HOUR),
        "Aggregate of 'amount'",
        "timedelta(days=-1",
    ),
    "window that is not made of tiles": (
        lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, aggregation_interval=HOUR * 2),
        "Aggregate of 'amount'",
        "2h",
    ),
    "include_current": (
        lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, include_current=None),
        "Aggregate of 'amount'",
        "None",
    ),
    "function": (lambda: Aggregate(AMOUNT, "avg", time_window=HOUR), "Aggregate of 'amount'", "'avg'"),
    "time_window": (lambda: Aggregate(AMOUNT, "sum", time_window="1h"), "Aggregate of 'amount'", "'1h'"),
    "sum of a text": (
        lambda: Aggregate(Field("a", String), "sum", time_window=HOUR),
        "Aggregate of 'a'",
        "String",
    ),
    "min of a bool": (
        lambda: Aggregate(Field("a", Bool), "min", time_window=HOUR),
        "Aggregate of 'a'",
        "Bool",
    ),
    "mean of a time": (
        lambda: Aggregate(Field("a", Timestamp), "mean", time_window=HOUR),
        "Aggregate of 'a'",
        "Time",
    ),
    "where": (
        lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, where=AMOUNT),
        "Aggregate of 'amount'",
        "Float64",
    ),
    "where is code": (
        lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, where="a > 1"),
        "Aggregate of 'amount', where",
        "'a > 1'",
    ),
    "aggregate name": (lambda: Aggregate(AMOUNT, "sum", time_window=HOUR, name="1h"), "Aggregate", "'1h'"),
    "file format": (lambda: FileConfig("a.avro", "avro"), "FileConfig 'a.avro'", "'avro'"),
    "stream config": (lambda: source_of(stream_config="push"), "StreamSource 's'", "'push'"),
    "schema": (lambda: source_of(schema=["a"]), "StreamSource 's'", "'a'"),
    "schema without a time": (lambda: source_of(schema=[AMOUNT]), "StreamSource 's'", "no Timestamp"),
    "two times": (two_times, "StreamSource 's'", "none is named"),
    "time field": (lambda: two_times(timestamp_field="when"), "StreamSource 's'", "'when'"),
    "id field": (lambda: source_of(event_id_field="amount"), "StreamSource 's'", "'amount'"),
    "lateness": (lambda: source_of(allowed_lateness=-HOUR), "StreamSource 's'", "timedelta(days=-1"),
    "lateness in seconds": (lambda: source_of(allowed_lateness=5), "StreamSource 's'", "5"),
    "lateness without end": (
        lambda: source_of(allowed_lateness=timedelta.max),
        "StreamSource 's'",
        "999999999",
    ),
    "future skew": (lambda: source_of(max_future_skew=None), "StreamSource 's'", "None"),
    "labels of": (lambda: labels_of(of="payments"), "LabelSource 'l'", "'payments'"),
    "labels of a stream without ids": (lambda: labels_of(of=nameless), "LabelSource 'l'", "'nameless'"),
    "label type": (lambda: labels_of(label=Field("a", String)), "LabelSource 'l'", "String"),
    "label is a column": (lambda: labels_of(label=AMOUNT), "LabelSource 'l'", "'amount'"),
    "known_at is a column": (lambda: labels_of(known_at="time"), "LabelSource 'l'", "'time'"),
    "known_at is the label": (lambda: labels_of(known_at="fraud"), "LabelSource 'l'", "'fraud'"),
    "view source": (lambda: view_of(source="payments"), "stream feature view 'v'", "'payments'"),
    "view mode": (lambda: view_of(mode="spark"), "stream feature view 'v'", "'spark'"),
    "view entities": (lambda: view_of(entities=[]), "stream feature view 'v'", "entities is empty"),
    "view entity alone": (lambda: view_of(entities=user), "stream feature view 'v'", "Entity(name='user'"),
    "view entity is a name": (lambda: view_of(entities=["user"]), "stream feature view 'v'", "'user'"),
    "view with a key twice": (lambda: view_of(entities=[user, user]), "stream feature view 'v'", "'user_id'"),
    "view features": (lambda: view_of(features=[AMOUNT]), "stream feature view 'v'", "Field(name='amount'"),
    "view features twice": (
        lambda: view_of(features=[total, total]),
        "stream feature view 'v'",
        "'amount_sum_1h_continuous'",
    ),
    "view function": (lambda: view_of(function="amount"), "stream feature view 'v'", "'amount'"),
    "view function of two": (
        lambda: view_of(function=lambda a, b: a),
        "stream feature view 'v'",
        "2 arguments",
    ),
    "view time field": (lambda: view_of(timestamp_field="when"), "stream feature view 'v'", "'when'"),
    "view column": (
        lambda: view_of(features=[Aggregate(Field("tip", Float64), "sum", time_window=HOUR)]),
        "stream feature view 'v'",
        "'tip'",
    ),
    "view column type": (
        lambda: view_of(features=[Aggregate(Field("amount", Int64), "sum", time_window=HOUR)]),
        "stream feature view 'v'",
        "Int64",
    ),
    "view condition": (
        lambda: view_of(features=[Aggregate(AMOUNT, "sum", time_window=HOUR, where="big")]),
        "stream feature view 'v'",
        "'big'",
    ),
    "view column of two types": (
        lambda: view_of(
            features=[total, Aggregate(Field("amount", Int64), "max", time_window=HOUR)],
            function=lambda rows: rows,
        ),
        "stream feature view 'v'",
        "Float64 and as Int64",
    ),
    "selection": (lambda: view[["tip"]], "feature view 'totals'", "'tip'"),
    "empty selection": (lambda: view[[]], "feature view 'totals'", "empty"),
    "selection twice": (
        lambda: view[["amount_sum_1h_continuous"] * 2],
        "feature view 'totals'",
        "'amount_sum_1h",
    ),
    "selection by place": (lambda: view[0], "feature view 'totals'", "0"),
    "view renamed": (lambda: view.with_name("a.b"), "feature view", "'a.b'"),
    "key map": (lambda: view.with_join_key_map({"card": "payer"}), "feature view 'totals'", "'card'"),
    "key map of a realtime view": (
        lambda: realtime_of().with_join_key_map({"card": "payer"}),
        "realtime feature view 'r'",
        "{'card': 'payer'}",
    ),
    "realtime sources": (lambda: realtime_of(sources=[]), "realtime feature view 'r'", "[]"),
    "realtime source alone": (
        lambda: realtime_of(sources=request),
        "realtime feature view 'r'",
        "RequestSource(",
    ),
    "realtime source": (
        lambda: realtime_of(sources=[payments]),
        "realtime feature view 'r'",
        "StreamSource(",
    ),
    "realtime over realtime": (
        lambda: realtime_of(sources=[realtime_of()]),
        "realtime feature view 'r'",
        "Realtime",
    ),
    "realtime features": (lambda: realtime_of(features=[total]), "realtime feature view 'r'", "Aggregate("),
    "realtime function": (
        lambda: realtime_of(lambda: {"ratio": 1.0}),
        "realtime feature view 'r'",
        "0 arguments",
    ),
    "realtime mode": (lambda: realtime_of(mode="sql"), "realtime feature view 'r'", "'sql'"),
    "service features": (lambda: FeatureService("f", features=[]), "FeatureService 'f'", "[]"),
    "service feature alone": (
        lambda: FeatureService("f", features=view),
        "FeatureService 'f'",
        "StreamFeatureView(",
    ),
    "service feature": (lambda: FeatureService("f", features=["totals"]), "FeatureService 'f'", "'totals'"),
    "service feature twice": (
        lambda: FeatureService("f", features=[view, view]),
        "FeatureService 'f'",
        "'totals.am",
    ),
    "split": (lambda: TimeSplit(train=timedelta(0), delay=HOUR, test=HOUR), "TimeSplit", "timedelta(0)"),
    "split delay": (lambda: TimeSplit(train=HOUR, delay=-HOUR, test=HOUR), "TimeSplit", "timedelta(days=-1"),
    "split start": (lambda: TimeSplit(HOUR, HOUR, HOUR, start="2018-07-25"), "TimeSplit", "'2018-07-25'"),
    "cost": (lambda: CostMatrix(false_positive=-1, false_negative=1), "CostMatrix", "-1"),
    "cost column": (lambda: CostMatrix(false_positive=1, false_negative="a b"), "CostMatrix", "'a b'"),
    "cost not a number": (
        lambda: CostMatrix(false_positive=1, false_negative=float("nan")),
        "CostMatrix",
        "nan",
    ),
    "actions": (lambda: Policy("p", actions={}), "Policy 'p'", "{}"),
    "actions in a list": (lambda: Policy("p", actions=["block"]), "Policy 'p'", "['block']"),
    "action name": (lambda: Policy("p", actions={"to block": 0.9}), "Policy 'p', action", "'to block'"),
    "threshold": (lambda: Policy("p", actions={"block": "high"}), "Policy 'p'", "'high'"),
    "threshold not a number": (lambda: Policy("p", actions={"block": float("nan")}), "Policy 'p'", "nan"),
    "equal thresholds": (
        lambda: Policy("p", actions={"a": 0.5, "b": 0.5}),
        "Policy 'p'",
        "{'a': 0.5, 'b': 0.5}",
    ),
    "default action": (lambda: Policy("p", actions={"block": 1.0}, default="block"), "Policy 'p'", "'block'"),
    "default name": (
        lambda: Policy("p", actions={"block": 1.0}, default="let pass"),
        "Policy 'p'",
        "'let pass'",
    ),
    "costs": (lambda: Policy("p", actions={"block": 1.0}, costs=5), "Policy 'p'", "5"),
    "model features": (lambda: model_of(features=view), "Model 'm'", "StreamFeatureView("),
    "model label": (lambda: model_of(label="fraud"), "Model 'm'", "'fraud'"),
    "model task": (lambda: model_of(task="ranking"), "Model 'm'", "'ranking'"),
    "model imbalance": (lambda: model_of(imbalance="smote"), "Model 'm'", "'smote'"),
    "model weights in regression": (
        lambda: model_of(task="regression", imbalance="weight"),
        "Model 'm'",
        "'weight'",
    ),
    "model estimator": (lambda: model_of(estimator="xgboost"), "Model 'm'", "'xgboost'"),
    "model estimator's class": (lambda: model_of(estimator=Estimator), "Model 'm'", "<class"),
    "model split": (lambda: model_of(split=HOUR), "Model 'm'", "timedelta(seconds=3600)"),
    "endpoint source": (
        lambda: Endpoint("e", source="payments", model=model_of(), policy=policy),
        "Endpoint 'e'",
        "'payments'",
    ),
    "endpoint of another stream": (
        lambda: Endpoint("e", source=nameless, model=model_of(), policy=policy),
        "Endpoint 'e'",
        "'nameless'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_refused_with_object_found_allowed_and_next_step(case):
    build, owner, found = CASES[case]
    with pytest.raises(DefinitionError) as caught:
        build()
    message = str(caught.value)
    assert message.startswith(owner)
    assert found in message
    assert re.search(r"\ballowed\b", message)
    after = re.split(r"\ballowed\b", message, maxsplit=1)[1]
    assert re.search(r"\. [A-Z][^.]*", after), "a sentence that says what to do next"
    assert message.endswith(".")


def test_a_text_feature_cannot_enter_a_model():
    last = Aggregate(Field("user_id", String), "last", time_window=HOUR)
    texts = FeatureService("texts", features=[view_of(features=[last])])
    with pytest.raises(
        DefinitionError, match=r"Model 'm': feature 'v\.user_id_last.*String; allowed.*Encode"
    ):
        model_of(features=texts)


LISTS = "first(n), last(n), first_distinct(n), last_distinct(n)"
WEIGHT = "decayed_count(half_life), approx_count_distinct(precision)"


@pytest.mark.parametrize(
    ("function", "dtype", "allowed"),
    [
        (
            "sum",
            String,
            f"count, last, count_distinct, time_since_last, time_since_first, lag(n), {LISTS}, mode, entropy, {WEIGHT}",
        ),
        (
            "min",
            Bool,
            (
                "count, sum, mean, last, count_distinct, time_since_last, time_since_first, lag(n), "
                f"{LISTS}, mode, entropy, ewma(half_life), decayed_sum(half_life), {WEIGHT}"
            ),
        ),
        (
            "sum",
            Timestamp,
            (
                "count, min, max, last, count_distinct, time_since_last, time_since_first, lag(n), "
                f"{LISTS}, mode, entropy, {WEIGHT}"
            ),
        ),
    ],
)
def test_the_functions_that_a_type_allows_are_listed(function, dtype, allowed):
    with pytest.raises(DefinitionError, match=f"allowed for it are {re.escape(allowed)}\\."):
        Aggregate(Field("a", dtype), function, time_window=HOUR)
