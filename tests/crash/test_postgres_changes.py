"""Changes of a PostgreSQL table under load: each in the log soon after its commit, in order, once, though both sides restart."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from contextlib import closing

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from penstock.app.inputs import inputs_of
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.core.clock import SystemClock
from penstock.core.errors import InputError
from penstock.core.time import from_us
from penstock.kernel.columns import Columns
from services.postgres import Postgres
from tests import services

USERS = 50
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

user = Entity("user", [Field("user_id", String)])
users = BatchSource(
    "users",
    PostgresChangesConfig("${{USERS_DATABASE}}", "public.users", ["user_id"], timestamp_field="changed_at"{more}),
    schema=[
        Field("user_id", String),
        Field("changed_at", Timestamp),
        Field("age", Int64, optional=True),
        Field("limit", Float64, optional=True),
        Field("vip", Bool, optional=True),
        Field("born", Timestamp, optional=True),
        Field("city", String, optional=True),
    ],
)
profile = BatchFeatureView(
    "profile", sources=[users], entities=[user], features=[Attribute("age", Int64), Attribute("limit", Float64)]
)
payments = StreamSource(
    "payments",
    FileConfig("payments.ndjson", "ndjson"),
    schema=[Field("id", String), Field("time", Timestamp), Field("user_id", String), Field("amount", Float64)],
    event_id_field="id",
)
totals = StreamFeatureView(
    "totals", source=payments, entities=[user],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(days=1), name="sum")],
)
service = FeatureService("service", features=[totals, profile])
"""

TABLES = """
DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS history;
CREATE TABLE users(
    user_id text PRIMARY KEY, age int, "limit" numeric(12, 2), vip bool, born timestamptz, city text, unrelated text);
CREATE TABLE history(seq bigserial PRIMARY KEY, user_id text, age int, "limit" numeric(12, 2), vip bool, born timestamptz, city text);
CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' THEN INSERT INTO history(user_id) VALUES (OLD.user_id);
    ELSE INSERT INTO history(user_id, age, "limit", vip, born, city)
        VALUES (NEW.user_id, NEW.age, NEW."limit", NEW.vip, NEW.born, NEW.city); END IF;
    RETURN NULL; END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION note();
"""


class OwnServer(Postgres):
    """A server that no other test restarts."""

    name = "postgres_changes"
    default_port = 15438


@pytest.fixture(scope="module")
def server():
    services.needed(started := OwnServer())
    yield started
    started.stop()


@pytest.fixture
def database(server, monkeypatch):
    monkeypatch.setenv("USERS_DATABASE", server.address)
    with psycopg.connect(server.address, autocommit=True) as connection:
        for (slot,) in connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
            connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        connection.execute("DROP PUBLICATION IF EXISTS by_hand")
        connection.execute(TABLES)
        for i in range(USERS):
            connection.execute("INSERT INTO users VALUES (%s, %s, 0.1, true, now(), 'Zürich')", (f"u{i}", i))
    return server.address


@pytest.fixture
def project(tmp_path, database):
    (tmp_path / "definitions.py").write_text(DEFINITIONS.format(more=""))
    (tmp_path / "penstock.toml").touch()
    (tmp_path / "payments.ndjson").touch()
    return tmp_path


class Running:
    """The project, following its inputs in a thread, until it is stopped."""

    def __init__(self, root):
        self.runtime = Runtime.open(root)
        self._stop = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            Runner(self.runtime, inputs_of(self.runtime, {}), stop=self._stop).follow()
        except BaseException as error:
            self._error = error
            raise

    def wait_for(self, rows, seconds=60):
        give_up = time.monotonic() + seconds
        while self.runtime.store.row_counts().get("users", 0) < rows:
            assert self._thread.is_alive(), self._error
            assert time.monotonic() < give_up, (self.runtime.store.row_counts(), rows, self.runtime.problems)
            time.sleep(0.02)

    def stop(self):
        self._stop.set()
        self._thread.join(30)
        self.runtime.close(snapshot=False)


class Changing(threading.Thread):
    """Changes users at a rate, some in transactions of several; waits for a server that is away."""

    def __init__(self, url, count, rate):
        super().__init__()
        self.url, self.count, self.rate, self.done = url, count, rate, 0

    def run(self):
        chance, begun = random.Random(3), time.monotonic()
        while self.done < self.count:
            try:
                with closing(psycopg.connect(self.url, autocommit=True, connect_timeout=2)) as connection:
                    while self.done < self.count:
                        with connection.transaction():
                            changes = chance.choice((1, 1, 1, 1, 5))
                            for _ in range(changes):
                                change(connection, chance)
                        self.done += changes
                        time.sleep(max(0.0, begun + self.done / self.rate - time.monotonic()))
            except psycopg.OperationalError:
                time.sleep(0.1)
                begun = time.monotonic() - self.done / self.rate


def change(connection, chance):
    """One change: a value, there and back within a transaction at times, another key, a row gone and back."""
    user = f"u{chance.randrange(USERS)}"
    what = chance.random()
    if what < 0.05:
        connection.execute("DELETE FROM users WHERE user_id = %s", (user,))
        connection.execute("INSERT INTO users(user_id, age) VALUES (%s, %s)", (user, chance.randrange(90)))
    elif what < 0.1:
        connection.execute("UPDATE users SET city = NULL, vip = NOT vip WHERE user_id = %s", (user,))
    else:
        connection.execute(
            'UPDATE users SET age = %s, "limit" = %s, unrelated = %s WHERE user_id = %s',
            (chance.randrange(3), chance.randrange(10**9) / 100, "x" * chance.randrange(50), user),
        )


class Paying(threading.Thread):
    """Appends payments to the file, 500 a second."""

    def __init__(self, root):
        super().__init__()
        self.path, self.ended = root / "payments.ndjson", threading.Event()

    def run(self):
        number = 0
        with self.path.open("a") as file:
            while not self.ended.wait(0.02):
                now = from_us(SystemClock().now_us()).isoformat()
                for _ in range(10):
                    one = {"id": str(number), "time": now, "user_id": f"u{number % USERS}", "amount": 1.0}
                    file.write(json.dumps(one) + "\n")
                    number += 1
                file.flush()


def by_user(rows):
    found = {}
    for user, *values in rows:
        found.setdefault(user, []).append(tuple(values))
    return found


def expected_history(url):
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            'SELECT user_id, age, "limit"::float8, vip, (extract(epoch FROM born) * 1000000)::bigint, city FROM history ORDER BY seq'
        ).fetchall()
    return by_user(rows)


def logged(store):
    """The logged rows by user, and how long after its commit each was in the log (seconds)."""
    rows, delays = [], []
    for batch in store.read_log(sources={"users"}):
        columns = Columns.from_bytes(batch.payload)
        names = ("user_id", "age", "limit", "vip", "born", "city")
        rows += zip(*(plain(columns[name]) for name in names), strict=True)
        delays.append((batch.ingest_time_us - columns["changed_at"].values) / 1e6)
    return by_user(rows), np.concatenate(delays)


def plain(column):
    if hasattr(column, "to_strings"):
        return column.to_strings()
    values = column.values.tolist()
    return (
        values
        if column.valid is None
        else [v if ok else None for v, ok in zip(values, column.valid, strict=True)]
    )


def changes_under_load(server, project, count, *, rate, restart):
    """Run through `count` changes; returns the delays of all changes that met both sides running."""
    running = Running(project)
    running.wait_for(USERS)
    changing, paying = Changing(server.address, count, rate), Paying(project)
    changing.start()
    paying.start()
    try:
        if restart:
            while changing.done < count // 3:
                time.sleep(0.01)
            running.stop()
            time.sleep(0.5)
            running = Running(project)
            while changing.done < 2 * count // 3:
                time.sleep(0.01)
            server.stop()
            server.start()
        changing.join()
        expected = expected_history(server.address)
        running.wait_for(sum(map(len, expected.values())))
    finally:
        paying.ended.set()
        paying.join()
        running.stop()
    with Runtime.open(project) as runtime:
        found, delays = logged(runtime.store)
        counters = runtime.store.counters()
        assert counters.get("rejected", 0) == 0
        assert runtime.store.row_counts()["payments"] > 0
    assert found == expected
    return delays


def test_each_change_is_known_soon_and_the_history_is_exact(server, project):
    delays = changes_under_load(server, project, 400, rate=200, restart=False)
    assert np.quantile(delays[USERS:], 1.0) < 2.0, np.quantile(delays, [0.5, 0.99, 1.0])


def test_nothing_is_lost_over_a_restart_of_either_side(server, project):
    changes_under_load(server, project, 300, rate=100, restart=True)


@pytest.mark.nightly
@pytest.mark.parametrize("restart", [False, True])
def test_ten_thousand_changes(server, project, restart, capsys):
    delays = changes_under_load(server, project, 10_000, rate=250, restart=restart)
    with capsys.disabled():
        sys.stderr.write(
            f"\nfrom commit to log, p50 p99 max: {np.quantile(delays[USERS:], [0.5, 0.99, 1.0])} s\n"
        )
    if not restart:
        assert delays[USERS:].max() < 2.0


def test_an_event_after_a_change_sees_it_and_a_deleted_row_is_null(project, database):
    running = Running(project)
    running.wait_for(USERS)
    running.stop()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE users SET age = 77 WHERE user_id = 'u1'")
        connection.execute("DELETE FROM users WHERE user_id = 'u2'")
        connection.execute("UPDATE users SET user_id = 'u99' WHERE user_id = 'u3'")
    with Runtime.open(project) as runtime:
        Runner(runtime, inputs_of(runtime, {}), stop=threading.Event()).run()
        now = from_us(SystemClock().now_us())
        events = [
            {"id": u, "time": now, "user_id": u, "amount": 1.0} for u in ("u1", "u2", "u3", "u99", "u4")
        ]
        runtime.ingest("payments", events)
        frame = runtime.project.services["service"].get_features_for_events(pa.Table.from_pylist(events))
        assert frame.to_arrow()["profile__age"].to_pylist() == [77, None, None, 3, 4]


def test_what_is_missing_is_named_with_what_to_do(project, database, monkeypatch):
    with Runtime.open(project) as runtime:
        reads = inputs_of(runtime, {})
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE users RENAME TO people")
            with pytest.raises(InputError, match=r"there is no table public\.users"):
                Runner(runtime, reads, stop=threading.Event()).run()
            connection.execute("ALTER TABLE people RENAME TO users")
            connection.execute("ALTER TABLE users DROP CONSTRAINT users_pkey")
            with pytest.raises(InputError, match=r"public\.users has no primary key"):
                Runner(runtime, reads, stop=threading.Event()).run()
            connection.execute("ALTER TABLE users ADD PRIMARY KEY (user_id)")
            name = f"penstock_users_{runtime.store.store_id[:8]}"
            connection.execute(f"CREATE PUBLICATION {name} FOR TABLE history")
            with pytest.raises(InputError, match=f"ALTER PUBLICATION {name} ADD TABLE"):
                Runner(runtime, reads, stop=threading.Event()).run()
            connection.execute(f"ALTER PUBLICATION {name} ADD TABLE users")
            Runner(runtime, reads, stop=threading.Event()).run()
            assert runtime.store.row_counts()["users"] == USERS
    with Runtime.open(project) as runtime, psycopg.connect(database, autocommit=True) as connection:
        time.sleep(0.2)
        connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        with pytest.raises(InputError, match="Changes since it was dropped are lost"):
            Runner(runtime, inputs_of(runtime, {}), stop=threading.Event()).run()
    monkeypatch.delenv("USERS_DATABASE")


def test_a_slot_made_by_hand_is_read_from_where_it_stands(project, database):
    (project / "definitions.py").write_text(
        DEFINITIONS.format(more=', slot="by_hand", publication="by_hand"')
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION by_hand FOR TABLE users")
        connection.execute("SELECT pg_create_logical_replication_slot('by_hand', 'pgoutput')")
        connection.execute("UPDATE users SET age = 77 WHERE user_id = 'u1'")
    with Runtime.open(project) as runtime:
        for _ in range(2):
            Runner(runtime, inputs_of(runtime, {}), stop=threading.Event()).run()
        assert runtime.store.row_counts()["users"] == USERS + 1
