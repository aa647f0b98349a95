from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.core.chains import GENESIS
from penstock.core.errors import CorruptionError, InputError
from penstock.stores.audit_log import AuditLog
from penstock.testing.clock import ManualClock


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "audit.db", clock=ManualClock(1_000))


def add(log, action="route", subject="checkout", **detail):
    return log.append(action, subject, detail, actor="ann", reason="test")


def test_rows_come_back_as_they_were_written(log):
    assert (log.rows(), log.newest("route", "checkout"), log.head()) == ([], None, (0, GENESIS))
    first = add(log, weights={"a": 1.0})
    other = add(log, subject="returns")
    second = add(log, weights={"a": 2.0})
    assert log.rows() == [first, other, second]
    assert log.rows(subject="checkout", action="route") == [first, second]
    assert log.newest("route", "checkout").values() == {"weights": {"a": 2.0}}
    assert log.verify() == 3


def test_time_never_runs_backwards(tmp_path):
    clock = ManualClock(1_000)
    log = AuditLog(tmp_path / "audit.db", clock=clock)
    add(log)
    early = AuditLog(tmp_path / "audit.db", clock=ManualClock(10))
    assert add(early).time_us == 1_000


def test_a_row_needs_somebody_and_a_reason(log):
    with pytest.raises(InputError, match="reason"):
        log.append("route", "checkout", {}, actor="ann", reason=" ")
    assert log.head()[0] == 0


def test_many_writers_make_one_chain(log):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: add(log, n=i), range(40)))
    assert log.verify() == 40
    assert sorted(row.values()["n"] for row in log.rows()) == list(range(40))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET reason = 'other' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 2",
        "UPDATE audit SET detail = '{}' WHERE sequence = 1",
    ],
)
def test_tampering_is_found(tmp_path, log, change):
    for n in range(3):
        add(log, n=n)
    with sqlite3.connect(tmp_path / "audit.db") as connection:
        with pytest.raises(sqlite3.Error, match="append-only"):
            connection.execute(change)
        connection.execute("DROP TRIGGER audit_is_never_changed")
        connection.execute("DROP TRIGGER audit_is_never_deleted")
        connection.execute(change)
    with pytest.raises(CorruptionError, match="changed by hand"):
        log.verify()
