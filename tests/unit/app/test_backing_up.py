"""A backup is whole though the project runs, and a project restored from it is the same project."""

import json
import sqlite3
import threading

import pytest

from penstock.app.backing_up import LEFT_OUT, back_up, kept_elsewhere, read_backup, restore
from penstock.app.runtime import open_reader, state_folder, store_path
from penstock.core.errors import CorruptionError, ProjectError, StoreError
from penstock.engine.audit import audit
from penstock.stores.copies import copy_database, held
from tests.unit.app.observed import feed, observed, send, serve
from tests.unit.app.shop import CLOCK, open_project, payments, write_project


@pytest.fixture
def folder(tmp_path):
    return write_project(tmp_path / "project")


def ran(folder, count=60):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, count)
        return runtime.store.store_id, runtime.store.next_position


def test_a_restored_project_goes_on_as_the_first_one_does(folder, tmp_path):
    ran(folder)
    made = back_up(folder, tmp_path / "copy", clock=CLOCK)
    other = write_project(tmp_path / "other")
    assert restore(other, tmp_path / "copy") == made
    answers = []
    for root in (folder, other):
        with observed(root) as (runtime, observing):
            serve(runtime)
            send(runtime, observing, "payments", payments(20, 3, 60))
            decided = [(one.endpoint, one.payload) for one in runtime.store.read_decisions()]
            answers.append((runtime.store.next_position, runtime.store.counters(), decided))
            assert audit(runtime.store, runtime.plan).clean
    assert answers[0] == answers[1], "the same decisions and features to the last bit, from the log alone"
    assert made.stores == {"penstock.db": made.log_length}


def test_shards_are_in_it_without_what_is_made_again(folder, tmp_path):
    for shard in "01":
        with open_project(folder, shard=shard) as runtime:
            runtime.ingest("payments", payments(int(shard) + 2, 1))
    made = back_up(folder, tmp_path / "copy", clock=CLOCK)
    assert made.stores == {"shards/0/penstock.db": 2, "shards/1/penstock.db": 3}
    assert not [name for name in made.files if "/ids/" in name or "/snapshots/" in name]
    other = write_project(tmp_path / "other")
    restore(other, tmp_path / "copy")
    with open_project(other, shard="1") as runtime:
        assert runtime.store.next_position == 3


def test_what_is_in_postgresql_is_backed_up_there(folder, tmp_path):
    ran(folder)
    (folder / "penstock.toml").write_text('[store]\nurl = "postgresql://nowhere/shop"\n')
    with pytest.raises(ProjectError, match="pg_dump"):
        back_up(folder, tmp_path / "copy", clock=CLOCK)


def test_a_backup_of_a_running_project_is_one_moment_of_it(folder, tmp_path):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 20)
        ends = threading.Event()
        failed = []

        def copy():
            number = 0
            try:
                while not ends.is_set():
                    back_up(folder, tmp_path / f"copy{number}", clock=CLOCK)
                    number += 1
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failed.append(error)

        copying = threading.Thread(target=copy)
        copying.start()
        for first in range(20, 420, 20):
            feed(runtime, observing, 20, first=first)
        ends.set()
        copying.join()
        assert failed == []
        plan = runtime.plan
    copies = sorted(tmp_path.glob("copy*"))
    assert len(copies) > 1
    lengths = set()
    for number, copy in enumerate(copies):
        other = write_project(tmp_path / f"other{number}")
        lengths.add(restore(other, copy).log_length)
        with open_reader(other) as store:
            counters = store.counters()
            parts = ("scored", "logged", "duplicate", "rejected")
            assert counters["received"] == sum(counters.get(part, 0) for part in parts)
            assert audit(store, plan).clean
    assert len(lengths) > 1, "the project ran meanwhile"


def test_what_is_made_again_is_not_in_it(folder, tmp_path):
    ran(folder)
    for name in LEFT_OUT:
        if not (state_folder(folder) / name).exists():
            (state_folder(folder) / name).mkdir()
            (state_folder(folder) / name / "x").write_text("derived")
    made = back_up(folder, tmp_path / "copy", clock=CLOCK)
    assert "penstock.db" in made.files
    assert not {name.split("/")[0] for name in made.files} & LEFT_OUT
    assert not [name for name in made.files if name.endswith((".lock", "-wal", "-shm"))]
    assert sorted(made.files) == sorted(
        str(path.relative_to(tmp_path / "copy"))
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file() and path.name != "backup.json"
    )


def test_nobody_else_may_read_it(folder, tmp_path):
    ran(folder)
    back_up(folder, tmp_path / "copy", clock=CLOCK)
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_damaged_backup_is_refused_by_name(folder, tmp_path, how):
    ran(folder)
    back_up(folder, tmp_path / "copy", clock=CLOCK)
    file = tmp_path / "copy" / "penstock.db"
    if how == "changed":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    other = write_project(tmp_path / "other")
    with pytest.raises(CorruptionError, match=r"penstock\.db is missing or not as written"):
        restore(other, tmp_path / "copy")
    assert not state_folder(other).exists()


def test_nothing_is_overwritten(folder, tmp_path):
    ran(folder)
    back_up(folder, tmp_path / "copy", clock=CLOCK)
    with pytest.raises(ProjectError, match="copy exists; a backup is a new folder"):
        back_up(folder, tmp_path / "copy", clock=CLOCK)
    with pytest.raises(ProjectError, match=r"\.penstock exists, and is not overwritten"):
        restore(folder, tmp_path / "copy")


def test_what_is_no_backup_or_no_project_is_said(folder, tmp_path):
    with pytest.raises(ProjectError, match="has never run"):
        back_up(folder, tmp_path / "copy", clock=CLOCK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProjectError, match=r"is no backup: it holds no readable backup\.json"):
        read_backup(tmp_path / "empty")
    (tmp_path / "empty" / "backup.json").write_text(json.dumps({"files": 3}))
    with pytest.raises(ProjectError, match="is no backup"):
        read_backup(tmp_path / "empty")
    with pytest.raises(ProjectError, match=r"holds no penstock\.toml"):
        restore(tmp_path / "empty", tmp_path / "copy")


def test_a_damaged_store_makes_no_backup(folder, tmp_path):
    ran(folder)
    path = store_path(folder)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // size, 3):
        data[page * size : page * size + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert not held(path)
    with pytest.raises(StoreError):
        back_up(folder, tmp_path / "copy", clock=CLOCK)
    assert list(tmp_path.glob("*copy*")) == []


def test_a_copy_is_one_file_without_a_log(folder, tmp_path):
    ran(folder)
    copy_database(store_path(folder), tmp_path / "one.db")
    assert [path.name for path in tmp_path.glob("one.db*")] == ["one.db"]
    assert held(tmp_path / "one.db")


def test_a_registry_elsewhere_is_named(folder):
    assert kept_elsewhere(folder) == ()
    with (folder / "penstock.toml").open("a") as file:
        file.write('\n[registry]\nuri = "http://models:5000"\n')
    assert kept_elsewhere(folder) == ("the model registry at http://models:5000",)


def test_a_restored_project_can_be_opened_at_once(folder, tmp_path):
    ran(folder)
    back_up(folder, tmp_path / "copy", clock=CLOCK)
    other = write_project(tmp_path / "other")
    restore(other, tmp_path / "copy")
    with open_project(other) as runtime:
        assert runtime.problems == {} or "endpoint" in runtime.problems
