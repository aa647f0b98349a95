"""The history of a batch view's values, against asking the view at every second."""

from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FileConfig,
    LifetimeWindow,
    TimeWindow,
    TimeWindowSeries,
)
from penstock.aggregation_functions import decayed_sum, last
from penstock.core.errors import InputError
from penstock.core.time import from_us
from penstock.testing.reference import ReferenceView
from penstock.testing.reference_secondary import ReferenceSecondaryView
from penstock.types import Field, Int64, String, Timestamp
from tests.laws.fold_views import Joined, Whole

SECOND = timedelta(seconds=1)
COLUMNS = [
    Field("user_id", String, optional=True),
    Field("changed", Timestamp),
    Field("age", Int64, optional=True),
    Field("home", String, optional=True),
]
user = Entity("user", [Field("user_id", String)])
users = BatchSource("users", FileConfig("u", "csv", data_delay=2 * SECOND), schema=COLUMNS)
ATTRIBUTES = [Attribute("age", Int64), Attribute("home", String)]
WINDOWS = [TimeWindow(4 * SECOND), TimeWindow(3 * SECOND, offset=-5 * SECOND)]


def view(**changed):
    arguments = {"sources": [users], "entities": [user], "features": ATTRIBUTES} | changed
    return BatchFeatureView("profile", **arguments)


def grown(rows):
    keep = rows["user_id"] != "c"
    names = ("user_id", "changed", "age", "home", "_row")
    return {name: rows[name][keep] for name in names}


VIEWS = {
    "endless": view(),
    "ttl": view(ttl=6 * SECOND),
    "started": view(feature_start_time=from_us(15_000_000)),
    "function": view(function=grown, features=[Attribute("home", String)]),
    "tiles": view(
        features=[
            Aggregate(
                Field("age", Int64),
                "sum",
                time_window=TimeWindow(6 * SECOND, offset),
                name=f"s{n}",
                aggregation_interval=3 * SECOND,
            )
            for n, offset in enumerate((0 * SECOND, -3 * SECOND))
        ]
    ),
    "lifetime": view(
        features=[Aggregate(Field("age", Int64), "sum", time_window=LifetimeWindow(), name="s")]
    ),
    "lists": view(
        features=[
            Aggregate(Field("home", String), last(2), time_window=9 * SECOND, name="homes"),
            Aggregate(
                Field("age", Int64),
                "count",
                time_window=TimeWindowSeries(-8 * SECOND, 4 * SECOND),
                name="ages",
            ),
        ]
    ),
    "folds": view(
        features=[
            Aggregate(Field("age", Int64), Whole(), time_window=5 * SECOND, name="whole"),
            Aggregate(
                Field("home", String), Joined(), time_window=TimeWindow(3 * SECOND, -SECOND), name="homes"
            ),
        ]
    ),
    "secondary": view(
        aggregation_secondary_key="home",
        features=[
            Aggregate(Field("age", Int64), "sum", time_window=5 * SECOND, name="sum"),
            Aggregate(Field("age", Int64), "last", time_window=TimeWindow(3 * SECOND, -SECOND), name="last"),
        ],
    ),
    "count": view(
        features=[
            Aggregate(Field("age", Int64), "count", time_window=w, name=f"n{i}")
            for i, w in enumerate(WINDOWS)
        ]
    ),
}


def random_rows(random, count):
    return [
        {
            "user_id": random.choice(["a", "b", "c", None]),
            "changed": random.randrange(30) * 1_000_000,
            "age": random.choice([1, 2, None]),
            "home": random.choice(["x", "y", None]),
        }
        for _ in range(count)
    ]


def expected(asked, rows, key):
    """The values at each second, by the oracle, rows in the order of time; None where no window holds a row."""
    secondary = asked.aggregation_secondary_key
    oracle = (
        ReferenceView([*asked.features], 10**15)
        if secondary is None
        else ReferenceSecondaryView([*asked.features], secondary, 10**15)
    )
    shadow = ReferenceView(
        [
            Aggregate(
                Field("here", Int64),
                "count",
                time_window=f.time_window,
                name=f"h{i}",
                aggregation_interval=f.aggregation_interval,
            )
            for i, f in enumerate(asked.features)
        ],
        10**15,
    )
    start = 0 if asked.feature_start_time is None else 15_000_000
    for row in sorted(rows, key=lambda row: row["changed"]):
        skipped = asked.function is not None and row["user_id"] == "c"
        if row["user_id"] == key and row["changed"] >= start and not skipped:
            oracle.apply(key, row["changed"] + 2_000_000, row)
            shadow.apply(key, row["changed"] + 2_000_000, {"here": 1})
    for second in range(1, 50):
        held = any(
            any(v) if isinstance(v, list) else v for v in shadow.lookup(key, second * 1_000_000).values()
        )
        yield oracle.lookup(key, second * 1_000_000) if held else None


@pytest.mark.parametrize("name", VIEWS)
def test_the_ranges_hold_what_the_view_says_at_each_moment(name):
    asked, random = VIEWS[name], Random(name)
    for _ in range(15):
        rows = random_rows(random, random.randrange(1, 25))
        table = {field.name: [row[field.name] for row in rows] for field in COLUMNS}
        made = asked.get_features_in_range(
            from_us(1_000_000), from_us(50_000_000), history={"users": arrow(table)}
        )
        found = made.to_arrow().to_pylist()
        for key in "abc":
            ranges = [row for row in found if row["user_id"] == key]
            assert all(a["_valid_to"] <= b["_valid_from"] for a, b in pairwise(ranges))
            for second, answer in enumerate(expected(asked, rows, key), start=1):
                at = from_us(second * 1_000_000)
                hits = [row for row in ranges if row["_valid_from"] <= at < row["_valid_to"]]
                values = [{f: row[f] for f in asked.feature_types} for row in hits]
                assert values == ([] if answer is None else [answer]), (key, second)


@pytest.mark.parametrize("function", ["time_since_last", decayed_sum(SECOND)])
def test_what_changes_at_every_moment_has_no_ranges(function):
    asked = view(features=[Aggregate(Field("age", Int64), function, time_window=SECOND, name="moving")])
    with pytest.raises(InputError, match="'moving' changes at every moment"):
        asked.get_features_in_range(from_us(0), from_us(9), history={"users": arrow({})})


def arrow(columns):
    import pyarrow as pa

    types = {"user_id": pa.string(), "changed": pa.int64(), "age": pa.int64(), "home": pa.string()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def test_neighbouring_ranges_differ():
    rows = {"user_id": ["a"] * 3, "changed": [0, 1_000_000, 2_000_000], "age": [1, 1, 2], "home": ["x"] * 3}
    made = VIEWS["endless"].get_features_in_range(from_us(0), from_us(10**8), history={"users": arrow(rows)})
    assert made.to_arrow().select(["_valid_from", "_valid_to", "age"]).to_pylist() == [
        {"_valid_from": from_us(2_000_000), "_valid_to": from_us(4_000_000), "age": 1},
        {"_valid_from": from_us(4_000_000), "_valid_to": from_us(10**8), "age": 2},
    ]


def test_only_the_entities_that_are_wanted():
    rows = {"user_id": ["a", "b"], "changed": [0, 0], "age": [1, 2], "home": [None, None]}
    made = VIEWS["endless"].get_features_in_range(
        from_us(0), from_us(10**8), entities={"user_id": ["b", "nobody"]}, history={"users": arrow(rows)}
    )
    assert made.to_arrow().column("user_id").to_pylist() == ["b"]


def test_a_range_that_ends_before_it_starts_is_refused():
    rows = {"user_id": ["a"], "changed": [0], "age": [1], "home": [None]}
    with pytest.raises(InputError, match="allowed is start_time before end_time"):
        VIEWS["endless"].get_features_in_range(from_us(5), from_us(5), history={"users": arrow(rows)})
