"""The index of lists is the fold of the log, however it came to be; notes in the audit log are of what happened, and of all of it."""

import json
import random
import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.app import Runtime, key_lists, list_changes, list_index
from penstock.app.forgetting import forget
from penstock.app.key_lists import Wanted, changes_of, members
from penstock.app.list_changes import change, note_what_is_left
from penstock.app.list_index import index_path
from penstock.app.runtime import audit_log_of, open_reader
from penstock.core.errors import StoreError
from penstock.core.time import to_us
from penstock.stores.audit_log import AuditLog
from penstock.testing.clock import ManualClock

EXAMPLE = Path("examples/fraud/rules_project")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
NAME = "blocked_cards"


@pytest.fixture
def clock():
    return ManualClock(to_us(START))


@pytest.fixture
def root(tmp_path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "rules", ignore=shutil.ignore_patterns(".penstock"))
    (folder / "penstock.toml").write_text(
        '[project]\ndefinitions = ["definitions.py"]\n[engine]\ndurability = "process"\n'
    )
    return folder


@pytest.fixture
def runtime(root, clock):
    with Runtime.open(root, clock=clock) as runtime:
        yield runtime


def changed(runtime, *wanted, actor="ann", reason="stolen"):
    log = audit_log_of(runtime.project.root, clock=runtime.clock)
    return change(runtime, NAME, wanted, actor=actor, reason=reason, log=log)


def block(card, **named):
    return Wanted({"card_id": card}, **named)


def some_changes(rng, count):
    for _ in range(count):
        expires = START + timedelta(days=rng.randrange(9)) if rng.random() < 0.3 else None
        yield block(f"c{rng.randrange(40)}", listed=rng.random() < 0.7, expires_at=expires)


def source_of(runtime):
    return runtime.plan.sources[NAME]


def noted(root):
    return [
        (row.actor, row.reason, row.values())
        for row in audit_log_of(root).rows(action="list.change", subject=NAME)
    ]


def check(root, source):
    """Members, history, pages and look-ups by key are those of the fold."""
    with open_reader(root) as store, list_index.list_index(root, store, source) as index:
        history = list(changes_of(store, source))
        listed = list(members(history).values())
        assert index.version == index.count_changes() == len(history)
        assert index.count_members() == len(listed)
        assert index.members(limit=1000) == listed
        assert index.members(limit=1000, newest_first=True) == listed[::-1]
        assert index.changes(limit=1000) == history[::-1]
        paged, after = [], 0
        while page := index.members(after=after, limit=7):
            paged, after = paged + page, page[-1].version
        assert paged == listed
        paged, before = [], None
        while page := index.changes(before=before, limit=7):
            paged, before = paged + page, page[-1].version
        assert paged == history[::-1]
        keys = [("c1",), ("c2",), ("nobody",)]
        assert index.members(keys=keys, limit=9) == [one for one in listed if one.key in keys]
        assert index.changes(keys=keys, limit=999) == [one for one in history[::-1] if one.key in keys]
        assert index.count_changes(keys) == sum(one.key in keys for one in history)
        return history


@pytest.mark.parametrize("rows", [1, 8, 20_000])
def test_the_index_is_the_fold_however_it_came_to_be(root, runtime, monkeypatch, rows):
    monkeypatch.setattr(list_index, "ROWS", rows)
    monkeypatch.setattr(key_lists, "_AT_ONCE", 7)
    rng = random.Random(rows)
    for size in (1, 30, 2, 60):
        changed(runtime, *some_changes(rng, size))
        runtime.ingest("payments", [])
        check(root, source_of(runtime))
    list_index.discard_index(root)
    check(root, source_of(runtime))


def test_only_what_is_new_is_read(root, runtime, monkeypatch):
    changed(runtime, *some_changes(random.Random(1), 50))
    check(root, source_of(runtime))
    seen = []
    taken = list_index.changes_from
    monkeypatch.setattr(list_index, "changes_from", lambda *a: seen.append(len([*taken(*a)])) or taken(*a))
    with open_reader(root) as store, list_index.list_index(root, store, source_of(runtime)) as index:
        assert index.version == 50
    assert not seen
    changed(runtime, block("new"))
    assert seen == [1]


def test_a_forgotten_key_is_nowhere_in_the_index(root, clock):
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c1"), block("secret-card"), block("c2"))
        source = source_of(runtime)
        check(root, source)
    assert b"secret-card" in b"".join(one.read_bytes() for one in index_path(root).parent.iterdir())
    forget(root, "card", ["secret-card"], clock=clock)
    assert not index_path(root).exists()
    history = check(root, source)
    assert [one.key for one in history] == [("c1",), None, ("c2",)]
    assert b"secret-card" not in b"".join(one.read_bytes() for one in index_path(root).parent.iterdir())


def test_an_index_of_before_a_key_was_forgotten_is_made_anew(root, clock, tmp_path):
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c1"), block("c2"))
        source = source_of(runtime)
        check(root, source)
    kept = shutil.copytree(index_path(root).parent, tmp_path / "kept")
    forget(root, "card", ["c1"], clock=clock)
    shutil.copytree(kept, index_path(root).parent, dirs_exist_ok=True)
    assert [one.key for one in check(root, source)] == [None, ("c2",)]


def test_an_index_of_another_log_is_made_anew(root, clock, tmp_path):
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c1"))
        source = source_of(runtime)
        check(root, source)
    older = shutil.copytree(root, tmp_path / "older")
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c2"), block("c3"))
    for file in index_path(root).parent.iterdir():  # as where a store is put back to an older state
        shutil.copy(file, index_path(older).parent)
    assert [one.key for one in check(older, source)] == [("c1",)]
    other = tmp_path / "other"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("penstock.db*", "snapshots", "ids"))
    with Runtime.open(other, clock=clock) as runtime:
        changed(runtime, *(block(f"d{i}") for i in range(9)))
    assert len(check(other, source)) == 9


def test_a_damaged_index_is_made_anew(root, runtime):
    changed(runtime, block("c1"))
    for file in index_path(root).parent.iterdir():
        file.unlink()
    index_path(root).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="made anew"):
        check(root, source_of(runtime))
    check(root, source_of(runtime))


def test_who_may_not_write_reads_all_the_same(root, runtime, monkeypatch):
    changed(runtime, block("c1"))
    monkeypatch.setattr(list_index.os, "access", lambda *_: False)
    check(root, source_of(runtime))


def test_several_at_once(root, runtime):
    failed = []

    def look():
        try:
            for _ in range(10):
                with (
                    open_reader(root) as store,
                    list_index.list_index(root, store, source_of(runtime)) as index,
                ):
                    assert len(index.members(limit=1000)) == index.version
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(20):
        changed(runtime, block(f"k{i}"))
    for thread in threads:
        thread.join()
    assert not failed
    assert len(check(root, source_of(runtime))) == 20
    assert [one["versions"] for _, _, one in noted(root)] == [[i, i] for i in range(1, 21)]


class Overtaken:
    """A reader that somebody overtakes: behind its first look at the log's length something happens."""

    def __init__(self, store, happens):
        self._store, self._happens = store, [happens]

    def __getattr__(self, name):
        return getattr(self._store, name)

    @property
    def next_position(self):
        found = self._store.next_position
        if self._happens:
            self._happens.pop()()
        return found


def test_who_is_overtaken_begins_nothing_anew(root, runtime, monkeypatch):
    changed(runtime, block("c0"))
    anew, begun = list_index._afresh, []
    monkeypatch.setattr(list_index, "_afresh", lambda *a: begun.append(a) or anew(*a))
    with open_reader(root) as store:
        slow = Overtaken(store, lambda: changed(runtime, block("c1")))
        with list_index.list_index(root, slow, source_of(runtime)) as index:
            assert index.version == 2
    assert not begun


def test_a_change_that_did_not_happen_is_not_noted(root, runtime, monkeypatch):
    monkeypatch.setattr(runtime, "ingest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        changed(runtime, block("c1"))
    note_what_is_left(root, runtime.plan, clock=runtime.clock)
    assert noted(root) == []


def test_a_process_that_ends_before_the_note_leaves_it_to_the_next(root, runtime, clock, monkeypatch):
    changed(runtime, block("c0"))
    with monkeypatch.context() as killed:
        killed.setattr(list_changes, "note_changed", lambda *_: 1 / 0)
        for card, actor in (("c1", "bob"), ("c2", "bob"), ("c3", "eve")):
            with pytest.raises(ZeroDivisionError):
                changed(runtime, block(card), actor=actor, reason="found")
    assert len(noted(root)) == 1
    for _ in range(2):
        assert note_what_is_left(root, runtime.plan, clock=clock) is None
    at = {"changed_at": START.isoformat()}
    assert noted(root) == [
        ("ann", "stolen", {"added": 1, "removed": 0, "versions": [1, 1], "position": 0} | at),
        ("bob", "found", {"added": 2, "removed": 0, "versions": [2, 3], "position": 2} | at),
        ("eve", "found", {"added": 1, "removed": 0, "versions": [4, 4], "position": 3} | at),
    ]
    assert audit_log_of(root).verify() == 3


def test_an_audit_log_that_fails_is_told_and_made_good(root, runtime, clock, monkeypatch):
    def fails(*_, **__):
        raise StoreError("disk full")

    with monkeypatch.context() as full:
        full.setattr(AuditLog, "append", fails)
        with pytest.raises(
            StoreError, match=r"it was changed, and the audit log could not note it \(disk full"
        ):
            changed(runtime, block("c1"), actor="bob")
        assert "disk full" in note_what_is_left(root, runtime.plan, clock=clock)
    assert runtime.ingest("payments", []) == []
    changed(runtime, block("c2"), actor="eve")
    assert [(actor, one["versions"]) for actor, _, one in noted(root)] == [("bob", [1, 1]), ("eve", [2, 2])]


def test_of_two_that_note_at_once_each_change_is_in_one_note(root, runtime, monkeypatch):
    """One looks, the other notes in between; and notes of the process that lost are made anew."""
    changed(runtime, block("c0"))
    append, inside = AuditLog.append, []

    def slow(log, *arguments, **named):
        if not inside:
            inside.append(True)
            changed(runtime, block("c2"), actor="eve")
        return append(log, *arguments, **named)

    monkeypatch.setattr(AuditLog, "append", slow)
    changed(runtime, block("c1"), actor="bob")
    assert [(actor, one["versions"]) for actor, _, one in noted(root)] == [
        ("ann", [1, 1]),
        ("bob", [2, 2]),
        ("eve", [3, 3]),
    ]


def test_a_store_that_is_older_than_its_audit_log(root, clock, tmp_path):
    """As a backup of a running project is: the log first, the audit log after it. Other changes get the same versions and places then."""
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c0"))
    restored = shutil.copytree(root, tmp_path / "restored")
    with Runtime.open(root, clock=clock) as runtime:
        changed(runtime, block("c1"), actor="lost")
        changed(runtime, block("c2"), actor="lost")
    shutil.copy(root / ".penstock" / "audit.db", restored / ".penstock")
    clock.advance(timedelta(seconds=1))
    with Runtime.open(restored, clock=clock) as runtime:
        assert note_what_is_left(restored, runtime.plan, clock=clock) is None
        changed(runtime, block("d1"), actor="bob")
        changed(runtime, block("d2"), actor="eve")
        changed(runtime, block("d3"), actor="eve")
    assert [(actor, one["versions"]) for actor, _, one in noted(restored)] == [
        ("ann", [1, 1]),
        ("lost", [2, 2]),
        ("lost", [3, 3]),
        ("bob", [2, 2]),
        ("eve", [3, 3]),
        ("eve", [4, 4]),
    ]


def test_notes_of_an_older_penstock_say_no_versions(root, runtime, clock):
    changed(runtime, block("c0"))
    path = root / ".penstock" / "audit.db"
    path.unlink()
    audit_log_of(root, clock=clock).append(
        "list.change", NAME, {"added": 1, "removed": 0}, actor="ann", reason="stolen"
    )
    clock.advance(timedelta(seconds=1))
    changed(runtime, block("c1"))
    assert [json.dumps(one.get("versions")) for _, _, one in noted(root)] == ["null", "[2, 2]"]


def test_rows_of_a_table_are_not_noted_as_somebodys(root, runtime):
    runtime.ingest(NAME, [{"card_id": "c1", "changed_at": START}])
    changed(runtime, block("c2"))
    assert [one["versions"] for _, _, one in noted(root)] == [[2, 2]]
    with sqlite3.connect(index_path(root)) as connection:
        assert connection.execute("SELECT asked FROM changes ORDER BY version").fetchall() == [(0,), (1,)]
    connection.close()
