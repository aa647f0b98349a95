"""A registry that was written before there were gates opens, keeps its hashes, and takes rows with gates."""

import sqlite3

import pytest

from penstock.core.chains import GENESIS
from penstock.core.errors import CorruptionError, NotFoundError
from penstock.models.history import HistoryRow
from penstock.models.registry import DATABASE_NAME, LocalRegistry
from penstock.testing.clock import ManualClock

OLD = """CREATE TABLE history (sequence INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
name TEXT NOT NULL, version INTEGER NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL, digest TEXT NOT NULL, hash TEXT NOT NULL) STRICT"""
# As the first version of Penstock computed it.
OLD_HASH = "b52b4377f796ab91cb80a4bdec9bd4037e89796e1848f07dc93db2e2b7727058"


def test_an_older_history_goes_on(tmp_path):
    row = HistoryRow(1, 5, "ada", "register", "fraud", 1, "None", "first", "d")
    hashed = row.hash_after(GENESIS)
    assert hashed == OLD_HASH
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute(OLD)
    connection.execute(
        "INSERT INTO history VALUES (1, 5, 'ada', 'register', 'fraud', 1, 'None', 'first', 'd', ?)", (hashed,)
    )
    connection.commit()
    connection.close()
    registry = LocalRegistry(tmp_path, clock=ManualClock(9))
    assert registry.head() == hashed
    registry.promote("fraud", 1, actor="ada", reason="good", gate="skipped: there was none")
    assert [one.gate for one in registry.history()] == ["", "skipped: there was none"]


def test_a_gate_cannot_be_added_or_removed_later(tmp_path, files):
    registry = LocalRegistry(tmp_path, clock=ManualClock(9))
    registry.register(files, actor="ada", reason="trained")
    registry.promote("fraud", 1, actor="ada", reason="good", gate="skipped: in a hurry")
    for forged in ("", "skipped: as agreed"):
        connection = sqlite3.connect(tmp_path / DATABASE_NAME)
        connection.execute("DROP TRIGGER IF EXISTS history_is_never_changed")
        connection.execute("UPDATE history SET gate = ? WHERE sequence = 2", (forged,))
        connection.commit()
        connection.close()
        with pytest.raises(CorruptionError, match="does not follow"):
            registry.verify()


def test_a_report_is_kept_and_checked(tmp_path, files):
    registry = LocalRegistry(tmp_path, clock=ManualClock(9))
    registry.register(files, actor="ada", reason="trained")
    with pytest.raises(NotFoundError, match="there is nothing"):
        registry.attachment("fraud", 1, "gate-x.json")
    registry.attach("fraud", 1, "roc.png", b"picture")
    assert registry.attachment("fraud", 1, "roc.png") == b"picture"
    with pytest.raises(NotFoundError, match=r"there is roc\.png"):
        registry.attachment("fraud", 1, "gate-x.json")
