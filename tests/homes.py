"""Where a project's store can live: the same tests run over each of them."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing

import pytest

from penstock.stores.reader import ProjectReader
from penstock.stores.snapshots import SnapshotStore
from penstock.stores.sqlite import ProjectStore


class SqliteHome:
    """A file in a folder of its own."""

    def __init__(self, folder):
        self.path = folder / "project" / "store.db"

    def open(self, **more):
        return ProjectStore.open(self.path, **{"durability": "process", **more})

    def reader(self):
        return ProjectReader.open_reader(self.path)

    def snapshots(self, store_id):
        return SnapshotStore(self.path.parent / "snapshots", store_id=store_id)

    def outside(self, statement, parameters=()):
        """Run a statement past the store; `?` stands for parameters."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, parameters).fetchall()


class PostgresHome:
    """A schema of its own, in a server's database."""

    def __init__(self, url):
        from penstock.stores.postgres.target import Target

        self.target = Target(url, f"test_{secrets.token_hex(6)}")

    def open(self, **more):
        from penstock.stores.postgres.store import PostgresStore

        return PostgresStore.open_writer(self.target, **{"durability": "process", "patience_s": 10.0, **more})

    def reader(self):
        from penstock.stores.postgres.store import PostgresReader

        return PostgresReader.open(self.target)

    def snapshots(self, store_id):
        from penstock.stores.postgres.snapshots import PostgresSnapshots

        return PostgresSnapshots(self.target)

    def outside(self, statement, parameters=()):
        from penstock.stores.postgres.session import Session

        with closing(Session(self.target, access="write")) as session:
            done = session.execute(statement, parameters)
            return done.fetchall() if done.description else []

    def emptied(self):
        """Another store in the same tables."""
        self.open().close()
        self.outside(
            "TRUNCATE batches, decisions, labels, pending_labels, dead_letters, offsets, erasures, names, snapshots CASCADE"
        )
        self.outside("INSERT INTO batches VALUES (0, 0, 0, 0, 0, 0, 0, '{}', NULL, NULL, NULL, NULL, '')")
        return self.open()

    def drop(self):
        from psycopg import sql

        from penstock.stores.postgres.session import Session

        with closing(Session(self.target, access="write")) as session:
            name = sql.Identifier(self.target.schema)
            session.driver.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))


@pytest.fixture(params=["sqlite", "postgres"])
def home(request, tmp_path):
    """Each home that a store can have."""
    if request.param == "sqlite":
        yield SqliteHome(tmp_path)
    else:
        yield from postgres_homes(request)


@pytest.fixture
def postgres_home(request):
    """A home in PostgreSQL."""
    yield from postgres_homes(request)


@pytest.fixture(autouse=True)
def projects_in_postgres(request, monkeypatch):
    """With PENSTOCK_TEST_STORE=postgres every project that a test makes keeps its log there; one schema a test."""
    if os.environ.get("PENSTOCK_TEST_STORE") == "postgres" and "home" not in request.fixturenames:
        found = PostgresHome(request.getfixturevalue("postgres").address)
        monkeypatch.setenv("PENSTOCK_STORE__URL", found.target.url)
        monkeypatch.setenv("PENSTOCK_STORE__NAMESPACE", found.target.schema)
        yield
        found.drop()
    else:
        yield


def postgres_homes(request):
    found = PostgresHome(request.getfixturevalue("postgres").address)
    yield found
    found.drop()
