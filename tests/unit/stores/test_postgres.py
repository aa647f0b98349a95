"""What only a store in PostgreSQL has: one writer by lock and epoch, patience with a server that is away, decisions as rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from penstock.core.errors import AwayError, SettingsError, StoreError
from penstock.core.records import Commit, DeadLetter, DecisionBatch, DecisionRows, Erasure, PendingLabel
from penstock.stores.postgres import migrating
from penstock.stores.postgres.session import Session
from penstock.stores.postgres.store import PROBLEM, PostgresReader, PostgresStore
from penstock.stores.postgres.target import Target

DAY_US = 86_400_000_000

WRITER = """
import sys, time
import numpy as np
from penstock.core.records import Commit, LogBatch
from penstock.stores.postgres.store import PostgresStore
from penstock.stores.postgres.target import Target
store = PostgresStore.open_writer(Target(sys.argv[1], sys.argv[2]), durability="process", patience_s=5.0)
print("open", flush=True)
try:
    while True:
        at = np.array([store.next_position])
        store.commit(Commit(log=[LogBatch("mine", at, ingest_time_us=1, payload=b"theirs")]))
        print(at[0], flush=True)
        time.sleep(0.005)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def home(postgres_home):
    return postgres_home


@pytest.fixture
def other_process(home):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, home.target.url, home.target.schema],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "open\n"
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_writer_and_the_message_names_it(store, home):
    with pytest.raises(StoreError, match=f"process {os.getpid()} on .* is writing to it, and only one may"):
        home.open()
    store.close()
    with home.open():
        pass


def test_a_writer_that_died_leaves_the_store_at_once(other_process, home):
    other_process.kill()
    with home.open() as store:
        assert store.next_position > 0


def test_a_frozen_writer_cannot_write_after_another_took_over(other_process, home, simple_commit):
    for _ in range(20):
        other_process.stdout.readline()
    other_process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreError, match="is writing to it"):
        home.open()
    with home.open(take_over=True) as store:
        length = store.next_position
        store.commit(simple_commit(length, 2))
        other_process.send_signal(signal.SIGCONT)
        said = other_process.stdout.read().splitlines()
        assert "took over writing to it" in said[-1]
        assert all(int(one) < length for one in said[:-1])
        assert store.next_position == length + 2
        store.commit(simple_commit(length + 2, 1))
        assert sum(len(b.positions) for b in store.read_log(sources={"transactions"})) == 3


class Faulty:
    """Loses the connection at a statement, before the server has it or after."""

    def __init__(self, session, monkeypatch, *, at, before):
        self.at, self.before, self.seen, self.lost = at, before, 0, False
        self.execute = session.execute
        self.session = session
        monkeypatch.setattr(session, "execute", self.statement)

    def statement(self, statement, parameters=(), /):
        counts = not self.lost and not statement.startswith("ROLLBACK")
        self.seen += counts
        if counts and self.seen == self.at and self.before:
            self.lose()
        done = self.execute(statement, parameters)
        if counts and self.seen == self.at:
            self.lose()
        return done

    def lose(self):
        self.lost = True
        self.session.driver.close()
        raise psycopg.OperationalError("the connection is lost")


@pytest.mark.parametrize("before", [True, False])
def test_a_commit_is_stored_once_wherever_the_connection_is_lost(
    store, home, simple_commit, monkeypatch, before
):
    position, lost = 0, True
    statements = 0
    while lost:
        statements += 1
        with monkeypatch.context() as patched:
            faulty = Faulty(store._session, patched, at=statements, before=before)
            store.commit(simple_commit(position, 2, offsets={"file": str(position)}))
        lost = faulty.lost
        position += 2
        assert PROBLEM not in store.problems
        assert store.next_position == position
        assert store.counters() == {"received": position, "scored": position}
    assert statements > 4, "BEGIN, the fence, the batches, the offsets, COMMIT"
    store.close()
    with home.open() as again:
        assert again.next_position == position
        assert [int(b.positions[0]) for b in again.read_log()] == list(range(0, position, 2))
        assert again.counters() == {"received": position, "scored": position}
        assert again.offsets() == {"file": str(position - 2)}


def test_a_server_that_is_away_is_waited_for_and_said_to_be(home, simple_commit, monkeypatch):
    with home.open(patience_s=20.0) as store:
        store.commit(simple_commit(0, 2))
        whole, away = store._session._connected, threading.Event()
        away.set()

        def connected():
            if away.is_set():
                raise psycopg.OperationalError("connection refused")
            return whole()

        for session in (store._session, store._reader_session):
            monkeypatch.setattr(session, "_connected", connected)
            session.driver.close()
        writing = threading.Thread(target=store.commit, args=(simple_commit(2, 2),))
        writing.start()
        while PROBLEM not in store.problems:
            time.sleep(0.01)
        assert "committing at position 2 failed" in store.problems[PROBLEM]
        time.sleep(0.3)
        assert writing.is_alive()
        monkeypatch.setattr(
            store._reader_session, "_connected", Session._connected.__get__(store._reader_session)
        )
        away.clear()
        writing.join(20)
        assert (store.next_position, store.problems) == (4, {})


def test_patience_ends_and_the_commit_is_not_stored(home, simple_commit, monkeypatch):
    with home.open(patience_s=0.3) as store:

        def refused():
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(store._session, "_connected", refused)
        store._session.driver.close()
        with pytest.raises(AwayError, match=r"connection refused\. Check that the server runs"):
            store.commit(simple_commit(0, 2))
        assert store.next_position == 0


def test_a_reader_outlives_a_lost_connection(store, home, simple_commit):
    store.commit(simple_commit(0, 2))
    with home.reader() as reader:
        reader._reader_session.driver.close()
        assert reader.next_position == 2


def test_a_database_that_was_put_back_is_not_written_to(store, home, simple_commit):
    for i in range(3):
        store.commit(simple_commit(i, 1))
    home.outside("UPDATE writer SET commits = commits - 2")
    store._session.driver.close()
    with pytest.raises(StoreError, match="put back to an older state"):
        store.commit(simple_commit(3, 1))


def test_reading_a_project_that_never_ran(home):
    with pytest.raises(StoreError, match="has never run"):
        home.reader()
    with pytest.raises(StoreError, match="has never run"):
        home.open(migrate=False)


def test_a_newer_schema_is_refused_and_left_alone(store, home):
    store.close()
    home.outside("UPDATE alembic_version SET version_num = '9999'")
    for opening in (home.open, home.reader):
        with pytest.raises(StoreError, match=r"newer Penstock \(step 9999.*pip install -U penstock"):
            opening()


def test_older_tables_wait_for_migrate_where_it_is_asked_for(store, home, monkeypatch):
    store.close()
    monkeypatch.setattr(migrating, "NEWEST", "9998")
    for opening in (home.reader, lambda: home.open(migrate=False)):
        with pytest.raises(StoreError, match="Run `penstock migrate`"):
            opening()


def test_tables_of_an_older_penstock_get_the_columns_and_keep_their_rows(home, batch, monkeypatch):
    """As the first step made them: rows of before have nulls, rows from then on, in the partition of before too, say all."""
    with monkeypatch.context() as old:
        old.setattr(migrating, "NEWEST", "0001")
        home.open().close()
    assert home.outside("SELECT version_num FROM alembic_version") == [("0001",)]
    positions = np.arange(2)
    log = [batch("transactions", positions, ingest_time_us=5)]
    home.outside(
        "CREATE TABLE decisions_19700101 PARTITION OF decisions FOR VALUES FROM ('1970-01-01T00:00:00Z') TO ('1970-01-02T00:00:00Z')"
    )
    home.outside(
        "INSERT INTO decisions SELECT '1970-01-01T00:00:00Z', 0, 'checkout', 'e', NULL, .5, 'block', NULL, NULL, 'velocity', 0"
    )
    with pytest.raises(StoreError, match="Run `penstock migrate`"):
        home.reader()
    with home.open() as store:
        store.describe_decisions(rows_of)
        store.commit(Commit(log=log, decisions=[DecisionBatch("checkout", positions, payload=b"decided")]))
        assert [(b.endpoint, b.payload) for b in store.read_decisions()] == [("checkout", b"decided")]
    found = home.outside("SELECT event_id, rule, policy, lists FROM decisions ORDER BY event_id, position")
    assert found == [
        ("e", "velocity", None, None),
        ("e\t0\0", None, "0a1b", {"blocked": 18}),
        ("e\t1\0", "velocity", None, None),
    ]
    assert home.outside("SELECT version_num FROM alembic_version") == [("0002",)]


def test_the_steps_as_sql(home):
    text = migrating.statements(home.target)
    assert "CREATE TABLE batches(" in text
    assert "ADD COLUMN lists jsonb" in text
    assert text.rstrip().endswith("COMMIT;")


def test_a_server_that_is_not_there_is_named_without_the_password():
    target = Target("postgresql://me:secret@127.0.0.1:1/cards", connect_timeout_s=2.0)
    with pytest.raises(
        StoreError, match=r"postgresql://me@127.0.0.1:1/cards, schema penstock: opening"
    ) as raised:
        PostgresStore.open_writer(target, durability="power")
    assert "secret" not in str(raised.value)


def test_a_schema_that_the_server_would_cut_off_is_refused():
    with pytest.raises(SettingsError, match="a name of 1 to 45 bytes"):
        Target("postgresql://localhost/cards").shard("x" * 60)


def test_shards_are_apart(store, home, simple_commit):
    store.commit(simple_commit(0, 1))
    shard = replace(home.target).shard("transactions:1")
    with PostgresStore.open_writer(shard, durability="process") as other:
        assert other.next_position == 0
        other.commit(simple_commit(0, 3))
        with PostgresReader.open(shard) as reader:
            assert reader.next_position == 3
            assert reader.size_bytes() > 0
    assert store.next_position == 1
    home.outside(f'DROP SCHEMA "{shard.schema}" CASCADE')


def test_texts_may_hold_any_character(store):
    strange = "a\0b\x01c\x010d\x011\t\\N'\"€"
    waiting = PendingLabel(
        source="s", event_id=strange, event_hash=5, label_position=1, value=1.0, known_at_us=1
    )
    letter = DeadLetter(source="s", received_us=1, reason="r", detail=strange, payload=b"\0")
    store.commit(Commit(pending_added=[waiting], dead_letters=[letter], offsets={strange: strange}))
    assert store.pending_labels() == [waiting]
    assert store.dead_letters()[0].detail == strange
    assert store.offsets() == {strange: strange}


def rows_of(batch, log):
    """The rows of a made-up batch: of two kinds, the second without a score."""
    n = len(batch.positions)
    erased = batch.payload == b"gone"
    return DecisionRows(
        endpoint=batch.endpoint,
        decided_us=log[0].ingest_time_us,
        positions=batch.positions,
        scores=np.where(np.arange(n) % 2 == 0, 0.1 + 0.2, np.nan),
        flags=np.full(n, 16 if erased else 0, np.uint8),
        event_ids=None if erased else [f"e\t{p}\0" for p in batch.positions],
        event_times_us=np.arange(n) * 1_000_001,
        kinds=[
            ("approve", "fraud:1", "champion", "", "0a1b", '{"blocked":18}'),
            ("block", "", "", "velocity", "", ""),
        ],
        kind_of=np.arange(n) % 2,
    )


def test_decisions_are_rows_in_partitions_of_a_day(store, home, batch):
    store.describe_decisions(rows_of)
    for start, at_us in ((0, 5), (2, DAY_US - 1), (4, DAY_US), (6, 20_000 * DAY_US)):
        positions = np.arange(start, start + 2)
        store.commit(
            Commit(
                log=[batch("transactions", positions, ingest_time_us=at_us)],
                decisions=[DecisionBatch("checkout", positions, payload=b"decided")],
            )
        )
    found = home.outside(
        "SELECT position, endpoint, event_id, event_time::text, score, action, model, arm, rule, policy, lists, flags FROM decisions "
        "WHERE decided_at < '1970-01-02' ORDER BY position"
    )
    assert found[:2] == [
        (
            0,
            "checkout",
            "e\t0\0",
            "1970-01-01 00:00:00+00",
            0.1 + 0.2,
            "approve",
            "fraud:1",
            "champion",
            None,
            "0a1b",
            {"blocked": 18},
            0,
        ),
        (
            1,
            "checkout",
            "e\t1\0",
            "1970-01-01 00:00:01.000001+00",
            None,
            "block",
            None,
            None,
            "velocity",
            None,
            None,
            0,
        ),
    ]
    assert len(found) == 4
    tables = home.outside("SELECT relid::text FROM pg_partition_tree('decisions') WHERE isleaf ORDER BY 1")
    assert [name.rpartition(".")[2] for (name,) in tables] == [
        "decisions_19700101",
        "decisions_19700102",
        "decisions_20241004",
    ]


def test_what_is_forgotten_leaves_the_rows_too(store, home, batch):
    store.describe_decisions(rows_of)
    positions = np.arange(4)
    store.commit(
        Commit(
            log=[batch("transactions", positions)],
            decisions=[DecisionBatch("checkout", positions, payload=b"decided")],
        )
    )
    store.erase(
        [Erasure(entity="card", key_hash=b"k", position=4, erased_us=1)],
        decisions=[DecisionBatch("checkout", positions, payload=b"gone")],
    )
    store.purge()
    assert home.outside("SELECT count(*), count(event_id), min(flags) FROM decisions") == [(4, 0, 16)]
    store.commit(Commit(log=[batch("transactions", [4])]))
    assert store.next_position == 5
