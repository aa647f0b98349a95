from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from penstock.core.errors import CorruptionError, StoreError
from penstock.core.records import (
    Commit,
    DeadLetter,
    DecisionBatch,
    Erasure,
    LabelRecords,
    PendingLabel,
)
from penstock.stores.connection import connect
from penstock.stores.reader import ProjectReader
from penstock.stores.sqlite import ProjectStore


def reopened(store):
    store.close()
    return ProjectStore.open(store.path, durability="process")


def test_one_writer_and_the_message_names_it(file_store):
    code = (
        "import sys, pathlib\n"
        "from penstock.core.errors import StoreError\n"
        "from penstock.stores.sqlite import ProjectStore\n"
        "try:\n    ProjectStore.open(pathlib.Path(sys.argv[1]), durability='process')\n"
        "except StoreError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file_store.path)],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    assert f"process {os.getpid()} is writing to it" in done.stdout
    with pytest.raises(StoreError, match="only one may"):
        ProjectStore.open(file_store.path, durability="process")
    with reopened(file_store):
        pass


def test_a_reader_recovers_what_a_dead_writer_left(file_store, simple_commit, tmp_path):
    file_store.commit(simple_commit(0, 2))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("store.db", "store.db-wal"):
        (copy / name).write_bytes(file_store.path.with_name(name).read_bytes())
    with ProjectReader.open_reader(copy / "store.db") as reader:
        assert (reader.next_position, len(list(reader.read_log()))) == (2, 1)


def test_reading_a_project_that_never_ran(path):
    with pytest.raises(StoreError, match="has never run"):
        ProjectReader.open_reader(path)
    assert not path.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreError, match="has never run"):
        ProjectReader.open_reader(path)


def test_a_newer_schema_is_refused_and_left_alone(file_store):
    file_store.close()
    outside = sqlite3.connect(file_store.path)
    outside.execute("PRAGMA user_version=99")
    outside.close()
    for opening in (
        lambda: ProjectStore.open(file_store.path, durability="power"),
        lambda: ProjectReader.open_reader(file_store.path),
    ):
        with pytest.raises(StoreError, match=r"newer Penstock \(schema version 99.*pip install -U penstock"):
            opening()


def test_another_programs_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "foreign.db"
    outside = sqlite3.connect(path)
    outside.execute("CREATE TABLE theirs(x)")
    outside.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        ProjectStore.open(path, durability="power")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    path = tmp_path / "text.db"
    path.write_text("this is not a database, it is a text " * 100)
    with pytest.raises(CorruptionError, match="damaged"):
        ProjectStore.open(path, durability="power")


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
def test_durability_sets_what_sqlite_syncs(path, durability, synchronous):
    opened = []

    def factory(path, /, *, access):
        opened.append(connect(path, access=access))
        return opened[-1]

    with ProjectStore.open(path, durability=durability, connection_factory=factory):
        writing = opened[0]
        assert writing.execute("PRAGMA synchronous").fetchone()[0] == synchronous
        assert writing.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert writing.execute("PRAGMA secure_delete").fetchone()[0] == 1


def test_tidy_bounds_the_write_ahead_log(file_store, batch):
    wal = file_store.path.with_name(file_store.path.name + "-wal")
    for i in range(60):
        file_store.commit(Commit(log=[batch("a", [i], bytes(1 << 20))]))
        file_store.tidy()
    assert wal.stat().st_size < 24 << 20


def test_forgotten_bytes_are_in_no_file(file_store, batch, simple_commit):
    secret = b"4000-0012-3456-7899"
    big = secret * 2000
    for i in range(20):
        payload = big if i % 3 else secret
        file_store.commit(
            Commit(
                log=[batch("transactions", [i], payload)],
                decisions=[DecisionBatch("checkout", np.array([i]), payload=b"d" + payload)],
                dead_letters=[DeadLetter(source="s", received_us=1, reason="r", detail="d", payload=secret)],
                pending_added=[
                    PendingLabel(
                        source="transactions",
                        event_id=secret.decode(),
                        event_hash=1,
                        label_position=100 + i,
                        value=1.0,
                        known_at_us=1,
                    )
                ],
                labels=LabelRecords(
                    event_positions=np.array([i]),
                    label_positions=np.array([i]),
                    values=np.array([1.0]),
                    known_at_us=np.array([1]),
                ),
            )
        )
    assert _files_with(file_store, secret)
    file_store.erase(
        [Erasure(entity="card", key_hash=b"\x01" * 32, position=20, erased_us=5)],
        log=(batch(b.source, b.positions, b"gone") for b in file_store.read_log()),
        decisions=(
            DecisionBatch(b.endpoint, b.positions, payload=b"gone") for b in file_store.read_decisions()
        ),
        labels_of=np.arange(10),
        pending=[one.label_position for one in file_store.pending_labels()],
        letters=[one.letter_id for one in file_store.dead_letters()],
    )
    file_store.purge()
    assert not _files_with(file_store, secret)
    assert [one.entity for one in file_store.erasures()] == ["card"]
    assert (
        {b.payload for b in file_store.read_log()}
        == {b.payload for b in file_store.read_decisions()}
        == {b"gone"}
    )
    assert file_store.latest_labels().event_positions.tolist() == list(range(10, 20))
    assert file_store.dead_letter_count() == 0
    file_store.commit(simple_commit(20, 1))
    with reopened(file_store) as again:
        assert again.next_position == 21


def test_purge_says_when_a_reader_is_in_the_way(file_store, simple_commit):
    file_store.commit(simple_commit(0, 1))
    outside = sqlite3.connect(file_store.path, isolation_level=None)
    outside.execute("BEGIN")
    outside.execute("SELECT * FROM batches").fetchone()
    file_store._writing.execute("PRAGMA busy_timeout=0")
    with pytest.raises(StoreError, match="another process reads"):
        file_store.purge()
    outside.close()
    file_store.purge()


def _files_with(store, needle):
    return [p.name for p in store.path.parent.iterdir() if needle in p.read_bytes()]


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
