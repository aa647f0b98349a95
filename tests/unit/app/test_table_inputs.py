"""Streams and labels that lie in PostgreSQL tables: each row once, in the order of the cursor, whatever commits when."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from penstock.app.inputs import inputs_of
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.core.errors import InputError, SettingsError, UnreachableError
from penstock.engine.logged_history import history_of
from penstock.testing.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int32, Int64, String, Timestamp

card = Entity("card", [Field("card", String)])
payments = StreamSource(
    "payments",
    {payments},
    schema=[
        Field("id", Int64), Field("card", String), Field("at", Timestamp), Field("amount", Float64),
        Field("pieces", Int32, optional=True), Field("abroad", Bool, optional=True),
    ],
    {event_id}
)
spending = StreamFeatureView("spending", source=payments, entities=[card], features=[
    Aggregate(Field("amount", Float64), function, time_window=timedelta(hours=1)) for function in ("sum", "mean", "stddev_samp")
])
features = FeatureService("features", features=[spending])
"""
LABELS = """
labels = LabelSource("labels", of=payments, label=Field("fraud", Bool), known_at="told_at", stream_config={labels})
frauds = StreamFeatureView("frauds", source=labels, entities=[card], features=[
    Aggregate(Field("fraud", Bool), "count", time_window=timedelta(days=1), name="told")
])
features = FeatureService("features", features=[spending, frauds])
"""
TABLES = """
CREATE TABLE payments(
    id bigserial PRIMARY KEY, card text, at timestamptz NOT NULL DEFAULT now(), amount numeric(20, 4), pieces smallint, abroad bool,
    unrelated jsonb DEFAULT '{{}}');
CREATE INDEX ON payments(at, id);
CREATE TABLE labels(id bigint, fraud bool, told_at timestamp NOT NULL, PRIMARY KEY (told_at, id));
"""
BY_ID, BY_TIME = '"id"', '["at", "id"]'


class Shop:
    """A schema with two tables, and a project that reads them."""

    def __init__(self, root, url, schema):
        self.root, self.url, self.schema = root, url, schema
        (root / "penstock.toml").write_text('[project]\nname = "shop"\n')
        self.now = START + timedelta(days=30)

    def define(self, cursor=BY_TIME, *, more="", event_id='event_id_field="id",', labels=False):
        config = f'PostgresStreamConfig("${{SHOP}}", "{self.schema}.payments", {cursor}{more}, interval=timedelta(milliseconds=50))'
        text = DEFINITIONS.format(payments=config, event_id=event_id)
        if labels:
            text += LABELS.format(
                labels=f'PostgresStreamConfig("${{SHOP}}", "{self.schema}.labels", ["told_at", "id"])'
            )
        (self.root / "definitions.py").write_text(text)

    @contextmanager
    def connected(self):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'SET search_path = "{self.schema}"')
            yield connection

    def opened(self):
        return Runtime.open(self.root, clock=ManualClock(int(self.now.timestamp() * 1e6)))

    def run(self, *, stop=None, watch=None):
        """Read to the end; the counters, and the ids in the order of the log."""
        with self.opened() as runtime:
            extra = {} if watch is None else {"watch": watch}
            Runner(runtime, inputs_of(runtime, {}), stop=stop or threading.Event(), **extra).run()
            return runtime.store.counters(), ids_of(runtime)


def ids_of(runtime):
    return history_of(runtime.store, runtime.plan, sources=["payments"])["payments"]["id"].to_pylist()


def insert(connection, count, *, first=0, card="c", step=1):
    """Payments, a second apart."""
    connection.execute(
        "INSERT INTO payments(card, at, amount, pieces, abroad) "
        "SELECT %s || i %% 7, timestamptz '2026-01-01T00:00Z' + i * %s * interval '1 second', i * 1.0001, i %% 100, i %% 3 = 0 "
        "FROM generate_series(%s::int, %s) i",
        (card, step, first, first + count - 1),
    )


@pytest.fixture
def shop(postgres_home, tmp_path, monkeypatch):
    found = Shop(tmp_path, postgres_home.target.url, postgres_home.target.schema)
    monkeypatch.setenv("SHOP", found.url)
    with psycopg.connect(found.url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{found.schema}"')
        connection.execute(f'SET search_path = "{found.schema}"')
        connection.execute(TABLES.format())
    return found


@pytest.mark.parametrize("cursor", [BY_ID, BY_TIME])
def test_rows_are_read_in_order_and_once(shop, cursor):
    shop.define(cursor)
    with shop.connected() as connection:
        insert(connection, 500)
        assert shop.run() == ({"received": 500, "logged": 500}, list(range(1, 501)))
        assert shop.run()[0]["received"] == 500
        insert(connection, 10, first=500)
    counters, ids = shop.run()
    assert (counters["received"], ids) == (510, list(range(1, 511)))


def test_a_run_that_is_stopped_anywhere_goes_on_there(shop, monkeypatch):
    shop.define(labels=True, event_id='event_id_field="id",')
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "50")
    with shop.connected() as connection:
        insert(connection, 900)
        connection.execute(
            "INSERT INTO labels SELECT id, id % 9 = 0, at + interval '30 seconds' FROM payments"
        )
    rounds = 0
    while True:
        stop = threading.Event()
        counters, ids = shop.run(stop=stop, watch=lambda _, stop=stop: stop.set())
        rounds += 1
        if not stop.is_set() or rounds > 200:
            break
    assert rounds > 5
    assert (counters["received"], counters.get("duplicate", 0), counters["labels_joined"]) == (900, 0, 900)
    assert counters["labels_received"] == 900
    assert ids == list(range(1, 901))


def test_rows_that_are_deleted_between_two_runs_hide_no_others(shop, monkeypatch):
    """A run ends within a page, since labels wait for payments; what it has read is gone when the next one reads that page again."""
    shop.define(labels=True)
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "50")
    with shop.connected() as connection:
        insert(connection, 100)
        connection.execute(
            "INSERT INTO labels SELECT id, id % 9 = 0, at + interval '30 seconds' FROM payments"
        )
        stop = threading.Event()
        counters, _ = shop.run(stop=stop, watch=lambda _: stop.set())
        assert 0 < counters["labels_received"] < 50, "the run must end within a page"
        connection.execute("DELETE FROM labels WHERE id <= 10")
    assert shop.run()[0]["labels_joined"] == 100


def test_pages_end_within_equal_cursors_without_loss(shop, monkeypatch):
    shop.define('"at"')
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "10")
    with shop.connected() as connection:
        insert(connection, 95, step=0)
        insert(connection, 5, first=95)
    counters, ids = shop.run()
    assert (counters["received"], sorted(ids)) == (100, list(range(1, 101)))


def test_too_many_equal_cursors_are_an_error(shop, monkeypatch):
    monkeypatch.setattr("penstock.connectors.postgres_rows.MOST_EQUAL", 20)
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "10")
    shop.define('"at"')
    with shop.connected() as connection:
        insert(connection, 31, step=0)
    with pytest.raises(InputError, match=r"more than 20 rows of .* have one cursor"):
        shop.run()
    shop.define(BY_TIME)
    assert shop.run()[1] == list(range(1, 32))


@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.parametrize("cursor", [BY_ID, BY_TIME])
@pytest.mark.parametrize("event_id", ['event_id_field="id",', ""])
def test_rows_that_are_committed_out_of_order_are_read_once(shop, cursor, savepoint, event_id):
    """Two transactions: the one with the smaller id and the earlier time commits later, after the other's rows were read."""
    shop.define(cursor, event_id=event_id, more="")
    with shop.connected() as early, shop.connected() as late:
        insert(early, 3)
        early.execute("BEGIN")
        if savepoint:
            early.execute("SAVEPOINT one")
        early.execute(
            "INSERT INTO payments(id, card, at, amount) VALUES (50, 'c', '2026-01-01T00:00:10Z', 1)"
        )
        late.execute("INSERT INTO payments(id, card, at, amount) VALUES (51, 'c', '2026-01-01T00:00:20Z', 1)")
        assert shop.run()[1] == [1, 2, 3, 51], "rows that are committed wait for nobody"
        assert shop.run()[1] == [1, 2, 3, 51]
        early.execute("COMMIT")
        late.execute("INSERT INTO payments(id, card, at, amount) VALUES (52, 'c', '2026-01-01T00:00:30Z', 1)")
        counters, ids = shop.run()
        assert (ids, counters["received"]) == ([1, 2, 3, 51, 50, 52], 6)
        assert shop.run() == (counters, ids)


def test_a_transaction_may_stay_open_however_long(shop):
    """Its rows are found although the newest cursor has gone far beyond what is looked back."""
    shop.define(BY_ID, more=", look_back=2")
    with shop.connected() as early, shop.connected() as other:
        insert(other, 3)
        shop.run()
        early.execute("BEGIN")
        early.execute("INSERT INTO payments(id, card, at, amount) VALUES (4, 'c', '2026-01-01T00:00:04Z', 1)")
        other.execute("SELECT setval('payments_id_seq', 4)")
        for number in range(5):
            insert(other, 100, first=5 + 100 * number)
            shop.run()
        early.execute("COMMIT")
        assert shop.run()[1] == [1, 2, 3, *range(5, 505), 4]


def test_what_begins_to_write_late_is_looked_back_for(shop):
    """A sequence's value that is taken long before the row is written: found within `look_back`, and no further."""
    shop.define(BY_ID, more=", look_back=10")
    with shop.connected() as connection:
        insert(connection, 100)
        for _ in range(3):
            shop.run()
            insert(connection, 10, first=200)
        taken = [connection.execute("SELECT nextval('payments_id_seq')").fetchone()[0] for _ in range(30)]
        insert(connection, 1, first=300)
        for _ in range(3):
            shop.run()
            connection.execute("CREATE TABLE IF NOT EXISTS other(n int)")
        for one in (taken[0], taken[-2]):
            connection.execute(
                "INSERT INTO payments(id, card, at, amount) VALUES (%s, 'c', '2026-01-02', 1)", (one,)
            )
        _, ids = shop.run()
    assert taken[-2] in ids
    assert taken[0] not in ids, "this is what look_back says; if it is found, look_back may be less"


def test_many_late_rows_come_page_by_page(shop, monkeypatch):
    shop.define(BY_ID)
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "20")
    with shop.connected() as early, shop.connected() as late:
        early.execute("BEGIN")
        insert(early, 100)
        insert(late, 10, first=200)
        assert shop.run()[1] == list(range(101, 111))
        early.execute("COMMIT")
        while True:
            stop = threading.Event()
            counters, ids = shop.run(stop=stop, watch=lambda _, stop=stop: stop.set())
            if not stop.is_set():
                break
    assert (counters["received"], ids) == (110, [*range(101, 111), *range(1, 101)])


def test_writers_beside_a_reader_lose_and_double_nothing(shop):
    """Many short transactions, some with savepoints, some rolled back, without event ids to hide behind."""
    shop.define(BY_ID, event_id="")
    ended = threading.Event()

    def write(number):
        draw = np.random.default_rng(number)
        with shop.connected() as connection:
            for _ in range(60):
                with connection.transaction(force_rollback=draw.random() < 0.2):
                    for _ in range(draw.integers(1, 4)):
                        with connection.transaction(force_rollback=draw.random() < 0.3):
                            connection.execute(
                                "INSERT INTO payments(card, at, amount) VALUES ('c', '2026-01-01', %s)",
                                (number,),
                            )
                            time.sleep(draw.random() / 200)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    with shop.opened() as runtime:
        reader = threading.Thread(
            target=lambda: Runner(runtime, inputs_of(runtime, {}), stop=ended).follow(poll_s=0.005)
        )
        for one in (*writers, reader):
            one.start()
        for one in writers:
            one.join()
        with shop.connected() as connection:
            wanted = [row[0] for row in connection.execute("SELECT id FROM payments ORDER BY id").fetchall()]
        wait_for(lambda: runtime.store.counters().get("logged", 0) >= len(wanted))
        time.sleep(0.3)
        ended.set()
        reader.join(30)
        found = ids_of(runtime)
    assert sorted(found) == wanted
    assert found != wanted, "no two transactions met: the test shows nothing"


def wait_for(done, seconds=30):
    give_up = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_table_and_a_file_with_the_same_rows_have_the_same_bits(shop, tmp_path_factory):
    shop.define(labels=True)
    with shop.connected() as connection:
        insert(connection, 400)
        connection.execute("UPDATE payments SET pieces = NULL, amount = amount / 3 WHERE id % 5 = 0")
        connection.execute(
            "INSERT INTO labels SELECT id, id % 9 = 0, at + interval '95 seconds' FROM payments WHERE id % 2 = 0"
        )
        lines = {
            name: connection.execute(
                f"SELECT row_to_json({name})::text FROM {name} ORDER BY {order}"
            ).fetchall()
            for name, order in (("payments", "at, id"), ("labels", "told_at, id"))
        }
    shop.run()
    other = tmp_path_factory.mktemp("files")
    for name, rows in lines.items():
        (other / f"{name}.ndjson").write_text("\n".join(row[0] for row in rows) + "\n")
    (other / "penstock.toml").touch()
    text = DEFINITIONS.format(
        payments='FileConfig("payments.ndjson", "ndjson")', event_id='event_id_field="id",'
    )
    files = Shop(other, shop.url, shop.schema)
    (other / "definitions.py").write_text(
        text + LABELS.format(labels='FileConfig("labels.ndjson", "ndjson")')
    )
    files.run()
    found = []
    for one in (shop, files):
        with one.opened() as runtime:
            events = history_of(runtime.store, runtime.plan, sources=["payments"])["payments"]
            vectors = runtime.project.services["features"].get_features_for_events(events).to_arrow()
            counters = runtime.store.counters()
            found.append((events, vectors, {k: v for k, v in counters.items() if "unrelated" not in k}))
    (events, vectors, counters), (others, other_vectors, other_counters) = found
    assert events.equals(others)
    assert counters == other_counters
    assert counters["labels_joined"] == 200
    assert vectors.column_names == other_vectors.column_names
    for name in vectors.column_names:
        assert bits(vectors[name]) == bits(other_vectors[name]), name
    assert max(value or 0 for value in vectors["frauds__told"].to_pylist()) > 3


def bits(column):
    values = column.to_pylist()
    return [np.float64(value).tobytes() if isinstance(value, float) else value for value in values]


def test_hostile_values_have_their_verdicts(shop):
    shop.define('"id"')
    rows = [
        ("'c', '2026-01-01', 1.5", None),
        ("'c', '2026-01-01', 'NaN'", "not_finite"),
        ("'c', 'infinity', 1", "wrong_type"),
        ("'c', '0044-03-15 BC', 1", "wrong_type"),
        ("'c', '1890-01-01', 1", "time_out_of_range"),
        ("NULL, '2026-01-01', 1", "null_field"),
        ("'c', '2026-01-01', NULL", "null_field"),
        ("'4111111111111111', '2026-01-01', 1", "card_number"),
        (r"E'a\nb\"\t', '2026-01-01', 1", None),
        ("'é' || chr(1), '2026-01-01 03:00:00.123456+03', 123456789012.0001", None),
        ("repeat('x', 2000000), '2026-01-01', 1", "event_too_large"),
    ]
    with shop.connected() as connection:
        for values, _ in rows:
            connection.execute(f"INSERT INTO payments(card, at, amount) VALUES ({values})")
    counters, ids = shop.run()
    bad = [reason for _, reason in rows if reason]
    assert counters["received"] == len(rows)
    assert counters["rejected"] == len(bad)
    with shop.opened() as runtime:
        letters = runtime.store.dead_letters(100)
        assert [one.reason for one in letters] == bad
        assert json.loads(letters[0].payload)["id"] == 2
        assert b'"amount":NaN' in letters[0].payload
        logged = history_of(runtime.store, runtime.plan, sources=["payments"])["payments"].to_pylist()
    assert ids == [1, 9, 10]
    assert logged[1]["card"] == 'a\nb"\t'
    assert (logged[2]["at"], logged[2]["amount"]) == (
        START.replace(microsecond=123456),
        123456789012.0001,
    )


def test_rows_without_a_cursor_and_of_the_future_are_told_and_counted(shop):
    with shop.connected() as connection:
        connection.execute(
            "ALTER TABLE payments ADD COLUMN changed timestamptz; ALTER TABLE payments DROP CONSTRAINT payments_pkey"
        )
        connection.execute("ALTER TABLE payments ALTER COLUMN id DROP NOT NULL")
        shop.define('["changed", "id"]')
        insert(connection, 10)
        connection.execute("UPDATE payments SET changed = at WHERE id > 3")
        connection.execute("UPDATE payments SET changed = now() + interval '1 day' WHERE id = 7")
        connection.execute("UPDATE payments SET changed = 'infinity' WHERE id = 8")
        with shop.opened() as runtime:
            Runner(runtime, inputs_of(runtime, {}), stop=threading.Event()).run()
            assert ids_of(runtime) == [4, 5, 6, 9, 10]
            told = runtime.problems["payments"]
            assert "3 rows are not read, since their changed is null" in told
            assert "2 rows are not read, since their changed is ahead of the server's clock" in told
        connection.execute("UPDATE payments SET changed = now() WHERE changed IS NULL OR changed > now()")
        assert shop.run()[1] == [4, 5, 6, 9, 10, 1, 2, 3, 7, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE payments", r"there is no table .*\.payments"),
        ("ALTER TABLE payments DROP COLUMN amount", "has no column 'amount'.*it has abroad, at, card"),
        (
            "ALTER TABLE payments ALTER COLUMN amount TYPE text",
            "'amount' of .*payments is of type text; allowed for a field of type Float64 are smallint",
        ),
        ("ALTER TABLE payments ALTER COLUMN card TYPE bytea USING NULL", "'card' of .* is of type bytea"),
        (
            "ALTER TABLE payments RENAME TO old; CREATE VIEW payments AS SELECT * FROM old",
            "is a view or the like",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_named_with_what_is_allowed(shop, change, message):
    shop.define()
    with shop.connected() as connection:
        connection.execute(change)
    with pytest.raises(InputError, match=message):
        shop.run()


def test_a_cursor_and_a_look_back_that_do_not_fit_are_named(shop, monkeypatch):
    for cursor, more, message in (
        ('"card"', "", "'card' of .*payments is of type text; allowed for the beginning of the cursor"),
        ('["at", "amount", "abroad"]', "", "'abroad' of .* is of type boolean; allowed for a part"),
        ('["at", "nothing"]', "", "no column 'nothing', which is a part of the cursor"),
        (BY_ID, ", look_back=timedelta(1)", "allowed is a number"),
        (BY_TIME, ", look_back=3", "allowed is a timedelta"),
    ):
        shop.define(cursor, more=more)
        with pytest.raises(InputError, match=message):
            shop.run()
    monkeypatch.delenv("SHOP")
    with pytest.raises(SettingsError, match="SHOP"):
        shop.run()


def test_a_domain_an_enum_a_uuid_and_a_date_are_read(shop):
    with shop.connected() as connection:
        connection.execute("CREATE TYPE colour AS ENUM ('red', 'blue')")
        connection.execute("CREATE DOMAIN amounts AS float8 CHECK (VALUE > 0)")
        connection.execute("ALTER TABLE payments ALTER COLUMN amount TYPE amounts USING 1")
        connection.execute("ALTER TABLE payments ALTER COLUMN card TYPE colour USING NULL")
        connection.execute("ALTER TABLE payments ALTER COLUMN at DROP DEFAULT, ALTER COLUMN at TYPE date")
        shop.define('["at", "card", "id"]')
        connection.execute(
            "INSERT INTO payments(card, at, amount) VALUES ('blue', '2026-01-02', 0.1), ('red', '2026-01-02', 2)"
        )
    assert shop.run()[1] == [2, 1]


def test_partitions_are_read_as_one_table(shop):
    with shop.connected() as connection:
        connection.execute("DROP TABLE payments")
        connection.execute(
            "CREATE TABLE payments(id bigserial, card text, at timestamptz NOT NULL, amount float8, pieces int, abroad bool, "
            "PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
        )
        for day in (1, 2):
            connection.execute(
                f"CREATE TABLE part{day} PARTITION OF payments FOR VALUES FROM ('2026-01-0{day}') TO ('2026-01-0{day + 1}')"
            )
        shop.define()
        insert(connection, 10, step=17_000)
    assert shop.run()[1] == list(range(1, 11))


def test_a_table_that_was_made_anew_is_read_anew(shop):
    shop.define(BY_ID)
    with shop.connected() as connection:
        insert(connection, 10)
        shop.run()
        connection.execute("DROP TABLE payments")
        connection.execute(TABLES.format().split("CREATE TABLE labels")[0])
        connection.execute("SELECT setval('payments_id_seq', 4)")
        insert(connection, 3, first=4)
        connection.execute("INSERT INTO payments(id, card, at, amount) VALUES (2000, 'c', '2026-01-01', 1)")
        counters, ids = shop.run()
        assert (ids, counters["duplicate"]) == ([*range(1, 11), 2000], 3)
        shop.define(BY_ID, event_id="")
        connection.execute("ALTER TABLE payments RENAME TO old; CREATE TABLE payments AS TABLE old")
    with pytest.raises(InputError, match=r"made anew since it was last read.*Rename the source"):
        shop.run()


def test_a_server_that_is_away_ends_a_run_and_is_told(shop, monkeypatch):
    monkeypatch.setattr("penstock.app.table_inputs.FINAL_S", 0.2)
    shop.define()
    monkeypatch.setenv("SHOP", "postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(UnreachableError, match="does not answer"):
        shop.run()


def test_a_live_run_waits_for_a_server_and_a_table(shop, monkeypatch):
    """Away at first, then there; a table that is dropped, and put back."""
    monkeypatch.setattr("penstock.app.table_inputs.AGAIN_S", 0.05)
    shop.define(BY_ID)
    stop = threading.Event()
    with shop.connected() as connection, shop.opened() as runtime:
        insert(connection, 5)
        monkeypatch.setenv("SHOP", "postgresql://postgres@127.0.0.1:1/postgres")
        reader = threading.Thread(target=lambda: Runner(runtime, inputs_of(runtime, {}), stop=stop).follow())
        reader.start()
        try:
            wait_for(lambda: "does not answer" in runtime.problems.get("payments", ""))
            monkeypatch.setenv("SHOP", shop.url)
            wait_for(lambda: runtime.store.counters().get("logged", 0) == 5)
            wait_for(lambda: not runtime.problems)
            connection.execute("ALTER TABLE payments RENAME TO away")
            wait_for(lambda: "cannot be read" in runtime.problems.get("payments", ""))
            connection.execute("ALTER TABLE away RENAME TO payments")
            insert(connection, 5, first=5)
            wait_for(lambda: runtime.store.counters().get("logged", 0) == 10)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'penstock stream'"
            )
            insert(connection, 5, first=10)
            wait_for(lambda: runtime.store.counters().get("logged", 0) == 15 and not runtime.problems)
        finally:
            stop.set()
            reader.join(30)
        assert runtime.store.counters() == {"received": 15, "logged": 15}


def test_a_table_that_does_not_answer_holds_nothing_up(shop, monkeypatch):
    """Somebody locks the table: the run goes on round, says so, and reads on when the lock is gone."""
    monkeypatch.setattr("penstock.app.table_inputs.SILENT_S", 0.2)
    shop.define(BY_ID)
    stop, passes = threading.Event(), []
    with shop.connected() as connection, shop.opened() as runtime:
        insert(connection, 5)
        reader = threading.Thread(
            target=lambda: Runner(
                runtime, inputs_of(runtime, {}), stop=stop, watch=lambda _: passes.append(time.monotonic())
            ).follow(poll_s=0.01)
        )
        reader.start()
        try:
            wait_for(lambda: runtime.store.counters().get("logged", 0) == 5)
            with connection.transaction():
                connection.execute("LOCK TABLE payments")
                insert(connection, 5, first=5)
                wait_for(lambda: "has not answered" in runtime.problems.get("payments", ""))
                before = len(passes)
                wait_for(lambda: len(passes) > before + 20)
            wait_for(lambda: runtime.store.counters().get("logged", 0) == 10 and not runtime.problems)
            with connection.transaction():
                connection.execute("LOCK TABLE payments")
                wait_for(lambda: "has not answered" in runtime.problems.get("payments", ""))
                stop.set()
                reader.join(5)
                assert not reader.is_alive()
        finally:
            stop.set()
            reader.join(30)
