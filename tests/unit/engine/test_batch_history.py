"""Batch rows for training sets: leaving rows out that nobody sees changes nothing, whatever the view does."""

from datetime import timedelta
from random import Random

import pyarrow as pa
import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FileConfig,
    PushConfig,
    StreamFeatureView,
    StreamSource,
)
from penstock.core.errors import InputError
from penstock.core.time import from_us
from penstock.engine import batch_history, training_set
from penstock.engine.frames import believed_columns
from penstock.engine.training_set import features_for_frame
from penstock.types import Field, Float64, Int64, String, Timestamp

SECOND = 1_000_000
COLUMNS = [
    Field("user_id", String, optional=True),
    Field("changed", Timestamp),
    Field("seen", Timestamp),
    Field("age", Int64, optional=True),
]
user = Entity("user", [Field("user_id", String)])
other = Entity("other", [Field("age", Int64)])
delay = timedelta(seconds=3)
users = BatchSource(
    "users", FileConfig("u", "csv", data_delay=delay), schema=COLUMNS, timestamp_field="changed"
)


def view(**changed):
    arguments = {"sources": [users], "entities": [user], "features": [Attribute("age", Int64)]} | changed
    return BatchFeatureView("asked" if changed else "profile", **arguments)


def doubled(rows):
    return {"user_id": rows["user_id"], "changed": rows["changed"], "age": 2 * rows["age"]}


VIEWS = {
    "profile": view(),
    "ttl": view(ttl=timedelta(seconds=5)),
    "started": view(feature_start_time=from_us(20 * SECOND)),
    "few keys": view(max_keys=2),
    "function": view(features=[Attribute("age", Float64)], function=doubled),
    "count": view(
        features=[Aggregate(Field("age", Int64), "count", time_window=timedelta(seconds=9), name="n")]
    ),
    "by another time": view(timestamp_field="seen"),
    "of another key": view(entities=[other], features=[Attribute("user_id", String)]),
}


def random_rows(random, count, *, sort):
    rows = [
        {
            "user_id": random.choice(["a", "b", "c", "d", None]),
            "changed": random.randrange(60) * SECOND,
            "seen": random.randrange(60) * SECOND,
            "age": random.choice([1, 2, 3, None]),
        }
        for _ in range(count)
    ]
    return sorted(rows, key=lambda row: row["changed"]) if sort else rows


def frame(rows):
    schema = pa.schema(
        [("user_id", pa.string()), ("changed", pa.int64()), ("seen", pa.int64()), ("age", pa.int64())]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def everything(plan, source, table, blocks, services):
    fields = [field for field in source.fields if field.name != source.id_field]
    return believed_columns(table, fields, owner="all")


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("piece", [7, 1 << 16])
def test_the_same_features_as_from_all_rows(name, sort, piece, monkeypatch):
    monkeypatch.setattr(batch_history, "_PIECE", piece)
    random = Random(f"{name}{sort}{piece}")
    for _ in range(60):
        history = {"users": frame(random_rows(random, random.randrange(30), sort=sort))}
        asked = random_rows(random, random.randrange(1, 12), sort=False)
        events = frame(asked).rename_columns(["user_id", "at", "seen", "age"])
        options = {"history": history, "timestamp_key": "at"}
        references = [VIEWS[name].reference(), VIEWS["profile"].with_name("also")]
        references = references[: 1 if name in {"profile", "few keys"} else 2]
        found = features_for_frame(references, events, **options).to_arrow()
        with monkeypatch.context() as patched:
            patched.setattr(training_set, "asked_rows", everything)
            expected = features_for_frame(references, events, **options).to_arrow()
        assert found.to_pylist() == expected.to_pylist()


def test_rows_that_nobody_sees_are_left_out(monkeypatch):
    left = []

    def counting(*arguments):
        left.append(batch_history.asked_rows(*arguments))
        return left[-1]

    monkeypatch.setattr(training_set, "asked_rows", counting)
    rows = [{"user_id": u, "changed": t * SECOND, "seen": 0, "age": t} for t in range(10) for u in "abcd"]
    events = {"user_id": ["a", "z"], "at": [5 * SECOND, 5 * SECOND]}
    found = features_for_frame(
        [VIEWS["profile"].reference()], events, history={"users": frame(rows)}, timestamp_key="at"
    )
    assert found.to_arrow().column("profile__age").to_pylist() == [2, None]  # known three seconds later
    assert left[0].length == 1


def test_an_error_names_the_row_of_the_whole_frame():
    late = 8_000_000_000 * SECOND
    rows = [{"user_id": u, "changed": 0, "seen": late if u == "b" else 0} for u in "aab"]
    with pytest.raises(InputError, match="row 2"):
        features_for_frame(
            [view(features=[Attribute("seen", Timestamp)]).reference()],
            {"user_id": ["b"], "at": [9 * SECOND]},
            history={"users": frame(rows)},
            timestamp_key="at",
        )


def test_what_is_missing_is_named():
    references = [VIEWS["profile"].reference()]
    with pytest.raises(InputError, match="no history of it"):
        features_for_frame(references, {"user_id": ["a"], "at": [0]}, timestamp_key="at")
    history = {"users": frame([])}
    with pytest.raises(InputError, match="column 'user_id'"):
        features_for_frame(references, {"at": [0]}, history=history, timestamp_key="at")
    with pytest.raises(InputError, match="Name one with timestamp_key"):
        features_for_frame(references, {"user_id": ["a"], "at": [0]}, history=history)


def test_every_event_is_kept_beside_a_stream():
    payments = StreamSource(
        "payments",
        PushConfig(),
        schema=[Field("user_id", String), Field("time", Timestamp), Field("amount", Float64)],
    )
    totals = StreamFeatureView(
        "totals",
        source=payments,
        entities=[user],
        features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1), name="sum")],
    )
    events = [{"user_id": u, "time": t * SECOND, "amount": 1.0} for t, u in enumerate("abaz")]
    rows = [
        {"user_id": "a", "changed": -3 * SECOND, "seen": 0, "age": 7},
        {"user_id": "a", "changed": -1 * SECOND, "seen": 0, "age": 8},
    ]
    references = [totals.reference(), VIEWS["profile"].reference()]
    found = features_for_frame(references, events, history={"users": frame(rows)}).to_arrow().to_pylist()
    assert [(row["totals__sum"], row["profile__age"]) for row in found] == [
        (1.0, 7),
        (1.0, None),
        (2.0, 8),
        (1.0, None),
    ]
