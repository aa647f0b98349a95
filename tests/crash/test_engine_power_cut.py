"""Power cuts under the whole engine: database, snapshots and event-id runs lose what was not synced, all at once."""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
import time
from contextlib import suppress
from threading import RLock
from unittest.mock import patch

import apsw
import pytest

from penstock.app.runtime import state_folder, store_path
from penstock.app.snapshotting import Snapshotting
from penstock.core.errors import PenstockError
from penstock.stores import sqlite as store_module
from penstock.stores.reader import ProjectReader
from penstock.stores.sqlite import ProjectStore
from tests.crash.engine_life import check_again, check_state, check_store, live, open_runtime, run_through
from tests.crash.feed import Feed
from tests.crash.power_files import PowerFolder, PowerSyncs
from tests.crash.power_vfs import PowerConnection, PowerCut, PowerVfs

EVENTS = 160
LIVES = 10
_vfs_names = (f"engine-power-{number}" for number in itertools.count())


class LostError(AssertionError):
    """Something acknowledged is gone."""


class AheadError(AssertionError):
    """A snapshot holds what the log does not."""


class Outage(PowerVfs):
    """The power switch of the database and of the folders beside it, for operations of several threads."""

    def __init__(self, root, *, cut_at, chance):
        self.off = False
        self._lock = RLock()
        self.folders = [
            PowerFolder(state_folder(root) / name, random.Random(chance.random()))
            for name in ("ids", "snapshots")
        ]
        super().__init__(next(_vfs_names), cut_at=cut_at, chance=chance)

    def operate(self):
        with self._lock:
            super().operate()

    def cut(self):
        self.off = True  # before anything is decided: what is acknowledged from here on does not count
        super().cut()
        for folder in self.folders:
            folder.cut()

    def restore_all(self, root):
        state_folder(root).mkdir(parents=True)
        self.restore(state_folder(root))
        for folder in self.folders:
            folder.restore(state_folder(root) / folder.path.name)


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch):
    monkeypatch.setattr(store_module, "_CHECKPOINT_PAGES", 40)


def one_life(root, feed, chance, *, durability, connection):
    """Run the engine until the power goes off; returns the switch and up to where was acknowledged."""
    outage = Outage(root, cut_at=chance.choice([3, 30, 150, 600]) + chance.randrange(200), chance=chance)
    acknowledged = 0

    def acknowledge(stop):
        nonlocal acknowledged
        if not outage.off:
            acknowledged = stop

    def factory(path, /, *, access):
        return connection(path, outage, access)

    for folder in outage.folders:
        folder.start()
    syncs = PowerSyncs(outage.folders, outage.operate)
    runtime = None
    with patch("os.fsync", syncs.sync), patch("os.fdatasync", syncs.sync):
        try:
            runtime = open_runtime(root, feed, durability=durability, connection_factory=factory)
            live(runtime, feed, chance, acknowledge)
            outage.operate()
            outage.cut()
        except (PowerCut, PenstockError, apsw.Error):
            assert outage.off  # nothing else may fail
        if runtime is not None:
            with suppress(PowerCut, PenstockError, apsw.Error):
                runtime.close(snapshot=False)
    for folder in outage.folders:
        folder.close()
    outage.unregister()
    return outage, acknowledged


def check_life(root, feed, whole, acknowledged, *, durability):
    outside = sqlite3.connect(store_path(root))
    assert outside.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    tables = outside.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    outside.close()
    stop = 0
    if tables:  # else it was cut while the store was created
        with ProjectReader.open_reader(store_path(root)) as reader:
            stop = check_store(reader, feed, whole)
    if durability == "power" and stop < acknowledged:
        raise LostError(f"{acknowledged} units were acknowledged, {stop} are there")
    check_recovery(root, feed, durability=durability)
    return stop


def check_recovery(root, feed, *, durability):
    """Recover a copy, so that the next life has to recover by itself."""
    copy = root.with_name(root.name + "-copy")
    shutil.copytree(root, copy)
    runtime = open_runtime(copy, feed)
    ahead = [reason for reason in runtime.skipped_snapshots if "ahead of the log" in reason]
    if ahead and durability == "power":
        raise AheadError(f"a snapshot was durable before its events: {ahead}")
    assert all("ahead of the log" in reason for reason in runtime.skipped_snapshots)
    check_state(runtime)
    runtime.close(snapshot=False)
    shutil.rmtree(copy)


def chain(tmp_path, seed, *, lives=LIVES, durability="power", connection=PowerConnection):
    """Cut the power `lives` times, each life going on with what the one before left, and then run to the end."""
    chance = random.Random(seed)
    feed = Feed(seed, EVENTS)
    whole = run_through(tmp_path / "whole", feed, random.Random(seed))
    root = tmp_path / "0"
    known = 0
    for life in range(lives):
        outage, acknowledged = one_life(root, feed, chance, durability=durability, connection=connection)
        root = tmp_path / str(life + 1)
        outage.restore_all(root)
        try:
            known = check_life(root, feed, whole, max(acknowledged, known), durability=durability)
        except (AssertionError, PenstockError, sqlite3.Error) as error:
            error.add_note(f"seed {seed}, life {life}, durability {durability}: run chain with this seed")
            raise
        if known == len(feed.units):
            break
    runtime = open_runtime(root, feed)
    live(runtime, feed, chance, lambda stop: None)
    check_store(runtime.store, feed, whole)
    check_state(runtime, whole)
    check_again(runtime, feed)
    runtime.close()
    return life + 1


def chains(tmp_path, *, cuts, seed, **more):
    """Chains until the power was cut `cuts` times."""
    while cuts > 0:
        directory = tmp_path / f"{seed}"
        directory.mkdir()
        cuts -= chain(directory, seed, **more)
        seed += 1


def test_power_cuts_under_the_engine(tmp_path):
    chains(tmp_path, cuts=40, seed=0)


def test_power_cuts_with_durability_process(tmp_path):
    chains(tmp_path, cuts=10, seed=100, durability="process")


@pytest.mark.nightly
@pytest.mark.parametrize("durability", ["power", "process"])
def test_many_power_cuts_under_the_engine(tmp_path, durability):
    chains(tmp_path, cuts=200, seed=random.SystemRandom().getrandbits(32), durability=durability)


class SynchronousOff(PowerConnection):
    """The mutant that never syncs."""

    def execute(self, sql, parameters=(), /):
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), parameters)


class SplitCommit(PowerConnection):
    """The mutant that commits the offsets in a transaction of their own."""

    def executemany(self, sql, parameters, /):
        if sql.startswith("INSERT INTO offsets"):
            super().execute("COMMIT")
            super().execute("BEGIN IMMEDIATE")
        return super().executemany(sql, parameters)


def test_the_mutant_without_syncs_is_caught(tmp_path):
    with pytest.raises((LostError, PenstockError, AssertionError, sqlite3.Error)):
        chains(tmp_path, cuts=100, seed=0, connection=SynchronousOff)


def test_the_mutant_with_split_commits_is_caught(tmp_path):
    with pytest.raises(AssertionError, match=r"of another commit|labels lost|log holds"):
        chains(tmp_path, cuts=200, seed=0, connection=SplitCommit)


def test_the_mutant_that_saves_snapshots_early_is_caught(tmp_path, monkeypatch):
    save = Snapshotting._save
    monkeypatch.setattr(
        Snapshotting,
        "_save",
        lambda self, plan, position, state, committed: save(self, plan, position, state, None),
    )
    commit = ProjectStore.commit

    def on_a_slow_disk(store, one):
        time.sleep(0.005)  # so that a snapshot that does not wait for its commit is there before it
        commit(store, one)

    monkeypatch.setattr(ProjectStore, "commit", on_a_slow_disk)
    with pytest.raises(AheadError):
        chains(tmp_path, cuts=200, seed=0)
