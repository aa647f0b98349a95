"""Batch sources and views: what is refused, and what they look like."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    DeltaConfig,
    DuckDBConfig,
    Entity,
    FeatureService,
    FileConfig,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    batch_feature_view,
    realtime_feature_view,
)
from penstock.core.errors import DefinitionError, PlanError
from penstock.core.time import from_us
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, Int64, String, Timestamp

COLUMNS = [Field("user_id", String), Field("changed", Timestamp), Field("age", Int64, optional=True)]
FILE = FileConfig("users.csv", "csv")
AGE = Attribute("age", Int64)
COUNT = Aggregate(Field("age", Int64), "count", time_window=timedelta(days=1))

user = Entity("user", [Field("user_id", String)])
users = BatchSource("users", FILE, schema=COLUMNS)
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("user_id", String), Field("to_id", String), Field("time", Timestamp)],
)


def view(**changed):
    arguments = {"sources": [users], "entities": [user], "features": [AGE]} | changed
    return BatchFeatureView("profile", **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchSource("users", PushConfig(), schema=COLUMNS), "batch_config is PushConfig"),
        (lambda: BatchSource("users", FILE, schema=[*COLUMNS, Field("row_id", Int64)]), "digest"),
        (lambda: BatchSource("users", FILE, schema=COLUMNS[::2]), "no Timestamp field"),
        (
            lambda: BatchSource("users", FILE, schema=COLUMNS, allowed_lateness=-timedelta(1)),
            "allowed_lateness",
        ),
        (lambda: FileConfig("a", "csv", data_delay=-timedelta(1)), "data_delay"),
        (lambda: DeltaConfig("a", data_delay=3), "data_delay"),
        (lambda: DuckDBConfig("  "), "allowed is a query"),
        (
            lambda: StreamSource("s", FileConfig("a", "csv", data_delay=timedelta(1)), schema=COLUMNS),
            "data_delay",
        ),
        (lambda: view(sources=[users, users]), "list of one BatchSource"),
        (lambda: view(sources=users), "list of one BatchSource"),
        (lambda: view(sources=[payments]), "allowed are BatchSource"),
        (lambda: view(features=[AGE, COUNT]), "Make two views"),
        (lambda: view(features=AGE), "allowed is a list"),
        (lambda: view(features=[]), "features is empty"),
        (lambda: view(features=[AGE, AGE]), "two features are named 'age'"),
        (lambda: view(features=[Attribute("height", Int64)]), "column 'height'"),
        (lambda: view(features=[Attribute("age", Float64)]), "column 'age' of type Float64"),
        (lambda: view(features=[COUNT], ttl=timedelta(1)), "ttl for attributes"),
        (lambda: view(ttl=timedelta(0)), "ttl is"),
        (lambda: view(ttl=30), "ttl is 30"),
        (lambda: view(batch_schedule=timedelta(0)), "batch_schedule"),
        (lambda: view(batch_schedule="daily"), "five fields"),
        (lambda: view(feature_start_time="2026"), "feature_start_time"),
        (lambda: view(entities=[]), "entities is empty"),
        (lambda: view(mode="sql"), "mode is 'sql'"),
        (
            lambda: StreamFeatureView("v", source=users, entities=[user], features=[COUNT]),
            "allowed are StreamSource",
        ),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_a_decorated_function_names_and_describes_its_view():
    @batch_feature_view(sources=[users], entities=[user], features=[AGE], ttl=timedelta(days=30), owner="me")
    def people(rows):
        """Who they are."""
        return rows

    assert (people.name, people.description, people.owner) == ("people", "Who they are.", "me")
    assert people.feature_types == {"age": Int64}


def test_services_and_realtime_views_take_batch_views():
    @realtime_feature_view(
        sources=[RequestSource([Field("to_id", String)]), view()[["age"]]], features=[Attribute("x", Float64)]
    )
    def more(request, profile):
        return {"x": profile["age"]}

    to = view().with_name("to").with_join_key_map({"user_id": "to_id"})
    with pytest.raises(PlanError, match="two different views"):
        compile_plan([(FeatureService("s", features=[view(), more]), payments)])
    shared = to.view
    service = FeatureService("s", features=[shared, shared[["age"]].with_name("again"), to])
    plan = compile_plan([(service, payments)])
    assert plan.services["s"].feature_names == ("profile.age", "again.age", "to.age")
    assert [lookup.key_columns for lookup in plan.services["s"].lookups] == [("user_id",), ("to_id",)]


def fingerprint(**changed):
    service = FeatureService("s", features=[view(**changed)])
    return compile_plan([(service, payments)]).services["s"].fingerprint


def test_what_changes_values_changes_the_fingerprint():
    delayed = BatchSource(
        "users", FileConfig("users.csv", "csv", data_delay=timedelta(hours=1)), schema=COLUMNS
    )
    changes = [
        {},
        {"ttl": timedelta(days=1)},
        {"feature_start_time": from_us(1_767_225_600_000_000)},
        {"sources": [delayed]},
    ]
    assert len({fingerprint(**change) for change in changes}) == len(changes)
    moved = BatchSource("users", DeltaConfig("elsewhere"), schema=COLUMNS)
    assert fingerprint(sources=[moved], batch_schedule="0 3 * * *") == fingerprint()


def test_what_an_attribute_is_cannot_be_named_in_an_aggregate():
    for function in ("latest", view().features[0].function):
        with pytest.raises(DefinitionError, match="latest"):
            Aggregate(Field("age", Int64), function, time_window=timedelta(days=1))


def test_tags_are_kept():
    tagged = BatchSource("users", FILE, schema=COLUMNS, tags={"team": "crm"})
    assert tagged.tags == (("team", "crm"),)
    assert view(sources=[tagged], tags={"a": "b"}).tags == (("a", "b"),)
