"""kill -9 at random moments: what was acknowledged stays, once and whole; index and snapshots agree with the log."""

from __future__ import annotations

import os
import pathlib
import random
import selectors
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from penstock.stores.sqlite import ProjectStore
from tests.crash.killed_writer import open_index, snapshot_at
from tests.crash.workload import check_whole, hashes_of

DEADLINE = 60  # seconds for anything that is waited for


class Nursery:
    """The process that forks writers."""

    def __init__(self):
        paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.killed_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._output = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._unread = b""

    def close(self):
        self._process.stdin.close()
        self._process.wait(DEADLINE)
        self._process.stdout.close()
        self._selector.close()

    def kill_one(self, directory, *, seed, durability, delay):
        """Let a writer work for `delay` seconds after its first commit, kill it; returns what it acknowledged last."""
        self._process.stdin.write(f"{directory} {seed} {durability}\n".encode())
        self._process.stdin.flush()
        writer, acknowledged, kill_at = None, None, None
        while True:
            line = self._line(kill_at)
            if line is None:
                os.kill(writer, signal.SIGKILL)
                kill_at = time.perf_counter() + DEADLINE
            elif line.startswith(b"pid "):
                writer = int(line[4:])
            elif line == b"dead":
                return acknowledged
            else:
                acknowledged = int(line)
                kill_at = kill_at or time.perf_counter() + delay

    def _line(self, until):
        """The next line, or None where it does not come until then."""
        while b"\n" not in self._unread:
            left = DEADLINE if until is None else until - time.perf_counter()
            if left <= 0 or not self._selector.select(left):
                assert until is not None, "the writer says nothing"
                return None
            data = os.read(self._output, 65536)
            assert data, "the nursery died"
            self._unread += data
        if until is not None and time.perf_counter() >= until:
            return None
        line, _, self._unread = self._unread.partition(b"\n")
        return line


@pytest.fixture
def nursery():
    started = Nursery()
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
            directory, seed=chance.getrandbits(32), durability=durability, delay=chance.uniform(0, 0.04)
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
