"""Power cuts at random operations: what was acknowledged stays, commits are whole, and broken variants are caught."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import suppress

import apsw
import pytest

from penstock.core.errors import PenstockError
from penstock.stores import sqlite as store_module
from penstock.stores.reader import ProjectReader
from penstock.stores.sqlite import ProjectStore
from tests.crash.power_vfs import PowerConnection, PowerCut, PowerVfs
from tests.crash.workload import check_whole, numbered_commit, random_rows

LIVES_IN_A_CHAIN = 20
_vfs_names = (f"power-{number}" for number in itertools.count())


class LostError(AssertionError):
    """An acknowledged commit is gone."""


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch):
    monkeypatch.setattr(store_module, "_CHECKPOINT_PAGES", 40)


def one_life(directory, chance, *, durability, mutant):
    """Commit until the power goes off; returns the VFS, the last acknowledged position and the one under way."""
    vfs = PowerVfs(
        next(_vfs_names), cut_at=chance.choice([3, 20, 100, 400]) + chance.randrange(150), chance=chance
    )

    def factory(path, /, *, access):
        return mutant(path, vfs, access)

    acknowledged = attempted = None
    store = None
    try:
        store = ProjectStore.open(directory / "store.db", durability=durability, connection_factory=factory)
        acknowledged = attempted = store.next_position
        for number in itertools.count():
            rows = random_rows(chance)
            attempted = acknowledged + rows
            store.commit(numbered_commit(acknowledged, rows))
            acknowledged = store.next_position
            store.tidy()
            if number == 60:
                store.close()
                vfs.operate()
                vfs.cut()
                break
    except (PowerCut, PenstockError, apsw.Error):
        assert vfs.remains is not None  # nothing else may fail
    if store is not None:
        with suppress(PowerCut, PenstockError, apsw.Error):
            store.close()
        store._lock.release()
    vfs.unregister()
    return vfs, acknowledged, attempted


def check_life(path, acknowledged, attempted, *, durability):
    outside = sqlite3.connect(path)
    assert outside.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    tables = outside.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    outside.close()
    if not tables:  # cut while the store was created
        if acknowledged:
            raise LostError(f"the store is gone, {acknowledged} rows were acknowledged")
        return 0
    with ProjectReader.open_reader(path) as reader:
        found = reader.next_position
        check_whole(reader)
    if durability == "power" and found < acknowledged:
        raise LostError(f"{acknowledged} rows were acknowledged, {found} are there")
    assert found <= attempted, f"{found} rows are there, only {attempted} were ever sent"
    if durability == "power":
        assert found in {acknowledged, attempted}, "half a commit is there"
    return found


def chain_of_lives(tmp_path, seed, *, lives=LIVES_IN_A_CHAIN, durability="power", mutant=PowerConnection):
    """Cut the power `lives` times, each life going on with what the one before left."""
    chance = random.Random(seed)
    directory = tmp_path / "0"
    directory.mkdir()
    known = 0
    for life in range(lives):
        vfs, acknowledged, attempted = one_life(directory, chance, durability=durability, mutant=mutant)
        directory = tmp_path / str(life + 1)
        directory.mkdir()
        vfs.restore(directory)
        if acknowledged is None:  # cut while opening: what was there before must be there still
            acknowledged = attempted = known
        try:
            known = check_life(directory / "store.db", acknowledged, attempted, durability=durability)
        except (AssertionError, PenstockError, sqlite3.Error) as error:
            error.add_note(
                f"seed {seed}, life {life}, durability {durability}: run chain_of_lives with this seed"
            )
            raise
    return known


@pytest.mark.parametrize("seed", range(6))
def test_no_acknowledged_commit_is_lost_and_each_is_whole(tmp_path, seed):
    assert chain_of_lives(tmp_path, seed) > 0


@pytest.mark.parametrize("seed", range(100, 102))
def test_durability_process_loses_whole_commits_only(tmp_path, seed):
    chain_of_lives(tmp_path, seed, durability="process")


def test_durability_process_may_lose_what_was_acknowledged(tmp_path):
    """The documentation says so; and the file system does drop what is not synced."""
    with pytest.raises(LostError):
        _until_caught(tmp_path, _as_if_power)


class SynchronousOff(PowerConnection):
    """The mutant that never syncs."""

    def execute(self, sql, parameters=(), /):
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), parameters)


class SplitCommit(PowerConnection):
    """The mutant that commits the log first and the decisions after."""

    def execute(self, sql, parameters=(), /):
        row = "(" + ",".join("?" * 13) + ")"
        rows = sql.count(row)
        if not sql.startswith("INSERT INTO batches") or rows < 2:
            return super().execute(sql, parameters)
        apart = self.in_transaction
        for i in range(rows):
            if i and apart:
                super().execute("COMMIT")
                super().execute("BEGIN IMMEDIATE")
            super().execute(f"INSERT INTO batches VALUES {row}", parameters[13 * i : 13 * i + 13])
        return None


def test_the_mutant_without_syncs_is_caught(tmp_path):
    with pytest.raises((LostError, AssertionError, PenstockError, sqlite3.Error)):
        _until_caught(tmp_path, lambda path, seed: chain_of_lives(path, seed, mutant=SynchronousOff))


def test_the_mutant_with_split_commits_is_caught(tmp_path):
    with pytest.raises(
        (AssertionError, PenstockError), match=r"no decision|different commits|last row is missing"
    ):
        _until_caught(tmp_path, lambda path, seed: chain_of_lives(path, seed, mutant=SplitCommit))


@pytest.mark.nightly
@pytest.mark.parametrize("base", [0, random.SystemRandom().getrandbits(32)], ids=["fixed", "drawn"])
def test_many_power_cuts(tmp_path, base):
    for seed in range(base, base + 25):
        for durability in ("power", "process"):
            directory = tmp_path / f"{seed}-{durability}"
            directory.mkdir()
            chain_of_lives(directory, seed, durability=durability)


def _as_if_power(path, seed):
    """Durability "process", held to the promise of "power"."""

    class Normal(PowerConnection):
        def execute(self, sql, parameters=(), /):
            return super().execute(sql.replace("synchronous=FULL", "synchronous=NORMAL"), parameters)

    chain_of_lives(path, seed, mutant=Normal)


def _until_caught(tmp_path, chain):
    for seed in range(10):
        directory = tmp_path / str(seed)
        directory.mkdir()
        chain(directory, seed)
