from __future__ import annotations

import os
from threading import Event

import pytest

from penstock.stores.early_sync import EVERY_PAGES, EarlySync


@pytest.fixture
def synced(monkeypatch):
    """The files that were synced, by inode."""
    found = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: found.append(os.fstat(descriptor).st_ino))
    return found


def test_the_log_is_synced_now_and_then(tmp_path, synced):
    log = tmp_path / "penstock.db-wal"
    log.write_bytes(b"frames")
    sync = EarlySync(tmp_path / "penstock.db")
    sync.written(EVERY_PAGES - 1)
    sync.written(EVERY_PAGES)
    sync.close()
    assert synced == [log.stat().st_ino]


def test_it_goes_on_after_a_checkpoint(tmp_path, synced):
    (tmp_path / "penstock.db-wal").write_bytes(b"frames")
    sync = EarlySync(tmp_path / "penstock.db")
    sync.written(8 * EVERY_PAGES)
    sync._latest.result()
    sync.written(1)
    sync.written(1 + EVERY_PAGES)
    sync.close()
    assert len(synced) == 2


def test_one_sync_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "penstock.db-wal").write_bytes(b"frames")
    begun, go_on, count = Event(), Event(), []

    def slow(_descriptor):
        count.append(1)
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr(os, "fdatasync", slow)
    sync = EarlySync(tmp_path / "penstock.db")
    sync.written(EVERY_PAGES)
    assert begun.wait(10)
    sync.written(2 * EVERY_PAGES)
    go_on.set()
    sync.close()
    assert len(count) == 1


def test_no_log_and_a_failing_disk_are_left_to_the_checkpoint(tmp_path, monkeypatch):
    sync = EarlySync(tmp_path / "penstock.db")
    sync.written(EVERY_PAGES)
    sync._latest.result()

    def failing(_descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    (tmp_path / "penstock.db-wal").write_bytes(b"frames")
    sync.written(2 * EVERY_PAGES)
    sync._latest.result()
    sync.close()
