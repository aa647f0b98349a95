"""Classes of one's own, sketches and secondary keys, where they are written."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FeatureService,
    FileConfig,
    LifetimeWindow,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeWindowSeries,
    UserAggregation,
)
from penstock.aggregation_functions import approx_count_distinct, approx_percentile, last
from penstock.core.errors import DefinitionError
from penstock.plan.compile import compile_plan, view_fingerprint
from penstock.types import Array, Bool, Field, Float64, Int64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT = Field("amount", Float64)
user = Entity("user", [Field("user_id", String)])
COLUMNS = [
    Field("user_id", String),
    Field("at", Timestamp),
    Field("ad_id", String),
    AMOUNT,
    Field("n", Int64),
]
views = StreamSource("views", PushConfig(), schema=COLUMNS)


class Most(UserAggregation):
    name, takes, gives = "most", (Float64,), Float64

    def __init__(self, least=0.0):
        self.least = least

    def init(self):
        return self.least

    def add(self, state, value):
        return max(state, value)

    def value(self, state):
        return state


def view(features, **options):
    return StreamFeatureView("seen", source=views, entities=[user], features=features, **options)


def aggregate(function, column=AMOUNT, window=HOUR, **options):
    return Aggregate(column, function, time_window=window, **options)


def test_a_class_of_ones_own_is_a_function():
    made = aggregate(Most())
    assert made.name == "amount_most_1h_continuous"
    assert made.dtype is Float64
    assert str(made.function) == "user_defined(most)"
    assert aggregate(Most(), window=TimeWindowSeries(-2 * HOUR, HOUR)).dtype is Array(Float64)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"name": "no name"}, "name is 'no name'"),
        ({"takes": ()}, r"takes is \(\); allowed is a tuple of types"),
        ({"takes": (float,)}, "takes is .*float"),
        ({"gives": None}, "gives is None; allowed is a type"),
        ({"gives": float}, "gives is .*float"),
        ({"add": UserAggregation.add}, "no method 'add'; needed are"),
    ],
)
def test_a_class_that_lacks_something_is_refused(changed, found):
    lacking = type("Lacking", (Most,), changed)
    with pytest.raises(DefinitionError, match=found):
        aggregate(lacking())


def test_columns_and_windows_that_it_cannot_take_are_refused():
    with pytest.raises(DefinitionError, match=r"function 'user_defined\(most\)' cannot take type String"):
        aggregate(Most(), Field("ad_id", String))
    with pytest.raises(DefinitionError, match="over a LifetimeWindow would keep every row"):
        aggregate(Most(), window=LifetimeWindow())
    several = type("Several", (Most,), {"gives": Array(Float64)})
    with pytest.raises(DefinitionError, match="gives an array"):
        aggregate(several(), window=TimeWindowSeries(-2 * HOUR, HOUR))


def fingerprint(*functions):
    service = FeatureService("s", features=[view([aggregate(one) for one in functions])])
    plan = compile_plan([(service, views)])
    return plan.fingerprint, view_fingerprint(plan, plan.views[0]), plan.services["s"].fingerprint


def test_what_the_class_does_is_in_every_fingerprint():
    def value(self, state):
        return state + 1

    def value_again(self, state):  # the same under another name
        return state + 1

    other = type("Most", (Most,), {"value": value})
    same = type("Most", (Most,), {"value": value_again})
    prints = [fingerprint(one) for one in (Most(), Most(), Most(2.0), other(), same())]
    assert prints[0] == prints[1]
    assert prints[3] == prints[4]
    for kind in range(3):
        assert len({one[kind] for one in prints}) == 3


def test_names_of_sketches():
    assert [aggregate(one).name for one in (approx_count_distinct(), approx_count_distinct(12))] == [
        "amount_approx_count_distinct_1h_continuous",
        "amount_approx_count_distinct_12_1h_continuous",
    ]
    assert [one.label for one in (approx_percentile(0.5), approx_percentile(0.999, 200))] == [
        "approx_percentile_50",
        "approx_percentile_99_9_precision_200",
    ]
    assert aggregate(approx_count_distinct()).dtype is Int64
    assert fingerprint(approx_percentile(0.5)) != fingerprint(approx_percentile(0.50001))


@pytest.mark.parametrize("precision", [3, 17, 8.0, True, None])
def test_a_precision_that_no_sketch_has_is_refused(precision):
    with pytest.raises(DefinitionError, match=r"precision is .*allowed is a whole number of 4 to 16"):
        approx_count_distinct(precision)
    with pytest.raises(DefinitionError, match=r"precision is .*allowed is a whole number of 20 to 1000"):
        approx_percentile(0.5, precision)


@pytest.mark.parametrize("percentile", [-0.1, 1.1, 50, "0.5", None, float("nan"), True])
def test_a_percentile_that_is_none_is_refused(percentile):
    with pytest.raises(DefinitionError, match=r"percentile is .*allowed is a number of 0 to 1"):
        approx_percentile(percentile)


def test_a_secondary_key_makes_lists_and_names_their_keys():
    day = timedelta(days=1)
    made = view(
        [
            aggregate("sum", window=day),
            aggregate("count", window=day),
            aggregate("sum", window=day, aggregation_interval=HOUR),
            aggregate("sum", window=HOUR, include_current=False),
            aggregate("last", window=LifetimeWindow()),
        ],
        aggregation_secondary_key="ad_id",
    )
    assert made.feature_types == {
        "ad_id_keys_1d": Array(String),
        "amount_sum_1d_continuous": Array(Float64),
        "amount_count_1d_continuous": Array(Int64),
        "ad_id_keys_1d_1h": Array(String),
        "amount_sum_1d_1h": Array(Float64),
        "ad_id_keys_1h_excluding_current": Array(String),
        "amount_sum_1h_excluding_current_continuous": Array(Float64),
        "ad_id_keys_lifetime": Array(String),
        "amount_last_lifetime_continuous": Array(Float64),
    }
    tiled = view([aggregate("sum", window=day)], aggregation_secondary_key="n", aggregation_interval=HOUR)
    assert tiled.feature_types == {"n_keys_1d": Array(Int64), "amount_sum_1d_1h": Array(Float64)}
    assert made.aggregation_secondary_key == Field("ad_id", String)


def test_a_function_may_make_the_secondary_key():
    made = view(
        [aggregate("sum")], function=lambda rows: rows, aggregation_secondary_key=Field("large", Bool)
    )
    assert Field("large", Bool) in made.columns
    with pytest.raises(DefinitionError, match="column 'large' of type Bool is not in source"):
        view([aggregate("sum")], aggregation_secondary_key=Field("large", Bool))


@pytest.mark.parametrize("key", ["none", "amount", AMOUNT, Field("at", Timestamp), 7])
def test_a_column_that_cannot_be_a_key_is_refused(key):
    with pytest.raises(DefinitionError, match=r"aggregation_secondary_key is .*allowed is a column of type"):
        view([aggregate("sum")], aggregation_secondary_key=key)


def test_lists_of_lists_are_refused():
    for one in (aggregate(last(2)), aggregate("sum", window=TimeWindowSeries(-2 * HOUR, HOUR))):
        with pytest.raises(DefinitionError, match="would make a list of lists"):
            view([one], aggregation_secondary_key="ad_id")
    ads = BatchSource("ads", FileConfig("a.csv", "csv"), schema=COLUMNS)
    with pytest.raises(DefinitionError, match="attribute 'n' is one of the key's latest row"):
        BatchFeatureView(
            "b",
            sources=[ads],
            entities=[user],
            features=[Attribute("n", Int64)],
            aggregation_secondary_key="ad_id",
        )


def test_the_secondary_key_is_in_every_fingerprint():
    def prints(key):
        features = [
            aggregate("sum"),
            aggregate("last", Field("ad_id", String)),
            aggregate("last", Field("n", Int64)),
        ]
        made = view(features, aggregation_secondary_key=key)
        plan = compile_plan([(FeatureService("s", features=[made[["amount_sum_1h_continuous"]]]), views)])
        return plan.fingerprint, view_fingerprint(plan, plan.views[0]), plan.services["s"].fingerprint

    found = [prints(key) for key in (None, "ad_id", "n")]
    for kind in range(3):
        assert len({one[kind] for one in found}) == 3
