"""Features of several values as frames: every type of element, empty lists, nulls of a series, any order of rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeWindowSeries,
)
from penstock.aggregation_functions import last, last_distinct
from penstock.core.errors import InputError
from penstock.engine.arrays import Lists, concat_lists
from penstock.engine.training_set import features_for_frame
from penstock.kernel.columns import Numeric, Text
from penstock.types import Array, Bool, Field, Float64, Int32, String, Timestamp

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {"amount": Float64, "count": Int32, "shop": String, "abroad": Bool, "at": Timestamp}
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("card", String), *(Field(n, t, optional=n != "at") for n, t in COLUMNS.items())],
    timestamp_field="at",
)
view = StreamFeatureView(
    "v",
    source=payments,
    entities=[Entity("card", [Field("card", String)])],
    features=[
        *(Aggregate(Field(n, t), last(2), time_window=MINUTE, name=n) for n, t in COLUMNS.items()),
        Aggregate(
            Field("amount", Float64), "max", time_window=TimeWindowSeries(-2 * MINUTE, MINUTE), name="s"
        ),
        Aggregate(Field("shop", String), last_distinct(2), time_window=MINUTE, name="shops"),
        Aggregate(Field("amount", Float64), "sum", time_window=MINUTE, name="sum"),
    ],
)


def payment(second, **columns):
    empty = dict.fromkeys(COLUMNS)
    return {"card": "c", **empty, **columns, "at": START + timedelta(seconds=second)}


EVENTS = [
    payment(70, amount=0.5, count=3, shop="b", abroad=False),
    payment(0, amount=0.25, count=1, shop="a", abroad=True),
    payment(30),
    payment(40, amount=2.0, count=2, shop="a", abroad=True),
]


def frame():
    return features_for_frame(FeatureService("s", features=[view]).features, EVENTS)


def column(name):
    return frame().to_arrow().column(f"v__{name}").to_pylist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("amount", [[2.0, 0.5], [0.25], [0.25], [0.25, 2.0]]),
        ("count", [[2, 3], [1], [1], [1, 2]]),
        ("shop", [["a", "b"], ["a"], ["a"], ["a", "a"]]),
        ("abroad", [[True, False], [True], [True], [True, True]]),
        ("s", [[0.25, 2.0], [None, 0.25], [None, 0.25], [None, 2.0]]),
        ("shops", [["a", "b"], ["a"], ["a"], ["a"]]),
        ("sum", [2.5, 0.25, 0.25, 2.25]),
    ],
)
def test_arrays_in_a_frame(name, expected):
    assert column(name) == expected


def test_elements_have_their_own_type():
    schema = frame().to_arrow().schema
    assert schema.field("v__count").type == pa.list_(pa.int32())
    assert schema.field("v__at").type == pa.list_(pa.timestamp("us", "UTC"))
    assert column("at")[0] == [START + timedelta(seconds=40), START + timedelta(seconds=70)]


def test_pandas_and_polars_have_lists():
    assert frame().to_pandas()["v__amount"][0].tolist() == [2.0, 0.5]
    assert frame().to_polars()["v__shop"].to_list()[3] == ["a", "a"]


def test_arrays_are_no_matrix():
    with pytest.raises(InputError, match="'v__amount' is an array"):
        frame().to_numpy()


def test_a_key_that_is_not_known_has_empty_lists():
    asked = [{"card": "nobody", "at": START}]
    service = FeatureService("s", features=[view])
    found = features_for_frame(service.features, asked, history={"payments": EVENTS[1:]})
    row = found.to_arrow().to_pylist()[0]
    assert (row["v__amount"], row["v__s"], row["v__sum"]) == ([], [None, None], 0.0)


def test_lists_are_taken_and_joined():
    lists = Lists(np.array([0, 2, 2, 3]), Text.from_strings(["a", None, "c"]))
    both = concat_lists([lists.take(np.array([2, 1, 0])), lists])
    assert both.to_lists(Array(String)) == [["c"], [], ["a", None], ["a", None], [], ["c"]]
    numbers = Lists(np.array([0, 1]), Numeric(np.array([7]), np.array([False])))
    assert numbers.to_arrow(Array(Int32)).to_pylist() == [[None]]
