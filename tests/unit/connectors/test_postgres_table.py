"""Tables of PostgreSQL as batch sources: each row once, and only the days that changed are read."""

from __future__ import annotations

import threading

import psycopg
import pytest

from penstock import BatchSource, PostgresConfig
from penstock.app.inputs import inputs_of
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.connectors.batch import batch_reader
from penstock.connectors.postgres_table import PostgresBatch
from penstock.core.errors import DefinitionError, InputError, SettingsError
from penstock.plan.compile import source_node
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

SCHEMA = [
    Field("user_id", String),
    Field("updated_at", Timestamp),
    Field("age", Int64, optional=True),
    Field("limit", Float64, optional=True),
    Field("vip", Bool, optional=True),
]
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

user = Entity("user", [Field("user_id", String)])
users = BatchSource(
    "users",
    PostgresConfig("${{SHOP}}", "{schema}.users", changed_by="updated_at"),
    schema=[Field("user_id", String), Field("updated_at", Timestamp), Field("age", Int64, optional=True)],
)
profile = BatchFeatureView("profile", sources=[users], entities=[user], features=[Attribute("age", Int64)])
logins = StreamSource("logins", PushConfig(), schema=[Field("user_id", String), Field("at", Timestamp)])
seen = StreamFeatureView(
    "seen", source=logins, entities=[user],
    features=[Aggregate(Field("user_id", String), "count", time_window=timedelta(days=1))],
)
service = FeatureService("service", features=[seen, profile])
"""


@pytest.fixture
def shop(postgres_home, monkeypatch):
    """A schema with a table, and a connection that finds it."""
    name, url = postgres_home.target.schema, postgres_home.target.url
    monkeypatch.setenv("SHOP", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
        connection.execute(f'SET search_path = "{name}"')
        connection.execute(
            'CREATE TABLE users(user_id text, updated_at timestamptz, age int, "limit" numeric(12, 2), vip bool)'
        )
        connection.execute(
            "INSERT INTO users SELECT 'u' || i, timestamptz '2026-01-01T00:00Z' + i * interval '8 hours', i, i + 0.1, i % 2 = 0 "
            "FROM generate_series(0, 8) i"
        )
        connection.schema = name
        yield connection


def reader_of(shop, **more):
    config = PostgresConfig("${SHOP}", f"{shop.schema}.users", **more)
    return batch_reader(config, None, source_node(BatchSource("users", config, schema=SCHEMA)))


def test_the_whole_table_is_one_part_that_may_always_have_changed(shop):
    reader = reader_of(shop)
    assert isinstance(reader, PostgresBatch)
    assert reader.parts() == {"table": ""}
    blocks = list(reader.blocks("table", 4))
    assert [block.payload.count(b"\n") + 1 for block in blocks] == [4, 4, 1]
    assert blocks[0].payload.splitlines()[1] == (
        b'{"user_id":"u1","updated_at":"2026-01-01T08:00:00+00:00","age":1,"limit":1.10,"vip":false}'
    )


def test_days_are_parts_and_say_when_they_changed(shop):
    reader = reader_of(shop, changed_by="updated_at")
    before = reader.parts()
    assert list(before) == ["2026-01-01", "2026-01-02", "2026-01-03"]
    shop.execute("UPDATE users SET age = 50, updated_at = '2026-01-03T23:00Z' WHERE user_id = 'u0'")
    shop.execute("INSERT INTO users(user_id) VALUES ('nobody knows when')")
    after = reader.parts()
    assert [part for part in after if after[part] != before.get(part)] == [
        "2026-01-01",
        "2026-01-03",
        "never",
    ]
    assert b"".join(block.payload for block in reader.blocks("2026-01-02", 100)).count(b"user_id") == 3
    assert b"nobody" in next(iter(reader.blocks("never", 100))).payload


def test_each_row_enters_the_log_once(shop, tmp_path):
    (tmp_path / "penstock.toml").touch()
    (tmp_path / "definitions.py").write_text(DEFINITIONS.format(schema=shop.schema))
    for change, logged in (
        ("SELECT 1", 9),
        ("SELECT 1", 9),
        ("UPDATE users SET age = 50, updated_at = '2026-01-03T23:00Z' WHERE user_id = 'u0'", 10),
        ("INSERT INTO users VALUES ('late', '2026-01-01T01:00Z', 7)", 11),
    ):
        shop.execute(change)
        with Runtime.open(tmp_path) as runtime:
            Runner(runtime, inputs_of(runtime, {}), stop=threading.Event()).run()
            assert runtime.store.row_counts()["users"] == logged


def test_what_is_wrong_is_named(shop, monkeypatch):
    with pytest.raises(InputError, match=r"users cannot be read \(column \"nothing\" does not exist"):
        reader_of(shop, changed_by="nothing").parts()
    monkeypatch.delenv("SHOP")
    with pytest.raises(SettingsError, match="the environment variable SHOP"):
        reader_of(shop).blocks("table", 4).__next__()
    with pytest.raises(DefinitionError, match=r"allowed is schema\.table"):
        PostgresConfig("postgresql://localhost/a", "users")
    with pytest.raises(DefinitionError, match="postgresql://user@host/database"):
        PostgresConfig("mysql://localhost/a", "public.users")
