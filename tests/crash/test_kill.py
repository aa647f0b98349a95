"""kill -9 at random moments: what was acknowledged stays, once and whole; index and snapshots agree with the log."""

from __future__ import annotations

import random
import sqlite3

import numpy as np
import pytest

from penstock.stores.sqlite import ProjectStore
from tests.crash.killed_writer import open_index, snapshot_at
from tests.crash.nursery import Nursery
from tests.crash.workload import check_whole, hashes_of


@pytest.fixture
def nursery():
    started = Nursery("tests.crash.killed_writer")
    yield started
    started.close()


def check_after_kill(directory, acknowledged):
    outside = sqlite3.connect(directory / "store.db")
    assert outside.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    outside.close()
    with ProjectStore.open(directory / "store.db", durability="process") as store:
        assert acknowledged <= store.next_position <= acknowledged + 30
        check_whole(store)
        with open_index(directory, store) as index:
            every = np.arange(store.next_position + 100)
            expected = np.where(every < store.next_position, every, -1)
            assert (index.lookup(hashes_of(every)) == expected).all(), "the index disagrees with the log"
        return store.store_id, store.next_position


def kill_many(nursery, tmp_path, *, kills, seed, durability):
    from penstock.stores.snapshots import SnapshotStore

    chance = random.Random(seed)
    found = 0
    for kill in range(kills):
        if kill % 20 == 0:
            directory = tmp_path / f"{durability}-{kill}"
            directory.mkdir()
        acknowledged = nursery.kill_one(
            directory, chance.getrandbits(32), durability, delay=chance.uniform(0, 0.04)
        )
        try:
            store_id, stop = check_after_kill(directory, acknowledged)
            snapshots = SnapshotStore(directory / "snapshots", store_id=store_id)
            search = snapshots.newest_good(fingerprint="plan", schema_hash="schema", next_position=stop)
            assert search.skipped == ()
            if search.snapshot is not None:
                assert search.snapshot == snapshot_at(search.snapshot.position)
                found += 1
        except AssertionError as error:
            error.add_note(f"seed {seed}, kill {kill}, durability {durability}")
            raise
    return found


@pytest.mark.parametrize("durability", ["power", "process"])
def test_kill_9_loses_nothing_that_was_acknowledged(nursery, tmp_path, durability):
    assert kill_many(nursery, tmp_path, kills=20, seed=1, durability=durability) > 0


@pytest.mark.nightly
@pytest.mark.parametrize("durability", ["power", "process"])
def test_many_kills(nursery, tmp_path, durability):
    kill_many(nursery, tmp_path, kills=200, seed=random.SystemRandom().getrandbits(32), durability=durability)
