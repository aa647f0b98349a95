"""A disk that fails and a model that fails: the engine stops and says so, or degrades and flags it; nothing is lost."""

from __future__ import annotations

import random
import sqlite3

import numpy as np
import pytest

from penstock.core.errors import ModelError, StoreError
from penstock.engine.decisions import Flag
from penstock.stores.connection import connect
from penstock.stores.snapshots import SnapshotStore
from tests.crash.engine_life import (
    Found,
    Scorer,
    check_again,
    check_state,
    check_store,
    live,
    open_runtime,
    run_through,
)
from tests.crash.feed import Feed

FEED = Feed(5, 300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_through(tmp_path_factory.mktemp("whole"), FEED, random.Random(5))


def full_disk(path, /, *, access):
    """A disk with room for a part of the feed; SQLite itself says that it is full."""
    connection = connect(path, access=access)
    if access == "write":
        connection.execute("PRAGMA max_page_count=30").fetchall()
    return connection


class Failing:
    """A connection on which a commit fails at some point, before or after it was done."""

    def __init__(self, connection, *, commits, done):
        self._connection, self._left, self._done = connection, commits, done

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, parameters=(), /):
        alone = sql.startswith("INSERT INTO batches") and not self._connection.in_transaction
        if sql == "COMMIT" or alone:
            self._left -= 1
            if not self._left and self._done:
                self._connection.execute(sql, parameters)
            if self._left <= 0:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, parameters)


def fails_before(path, /, *, access):
    return Failing(connect(path, access=access), commits=40, done=False)


def fails_after(path, /, *, access):
    return Failing(connect(path, access=access), commits=40, done=True)


FAULTS = (full_disk, fails_before, fails_after)


@pytest.mark.parametrize("overlap", [0.0, 1.0], ids=["alone", "overlapping"])
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_a_commit_that_fails_stops_the_engine_and_reopening_recovers(tmp_path, whole, fault, overlap):
    runtime = open_runtime(tmp_path, FEED, connection_factory=fault)
    acknowledged = [0]
    with pytest.raises(StoreError, match=r"full|I/O error"):
        live(runtime, FEED, random.Random(1), acknowledged.append, overlap=overlap)
    assert runtime.engine.stopped
    with pytest.raises(StoreError, match="it stopped after an error"):
        runtime.process([("payments", runtime.engine.decode("payments", FEED.units[0].line))])
    try:
        runtime.close()
    except StoreError:
        assert overlap  # told again, since it may not have been waited for
    recovered = open_runtime(tmp_path, FEED)
    assert recovered.skipped_snapshots == (), "a state that was never committed was kept"
    assert acknowledged[-1] <= check_store(recovered.store, FEED, whole) < len(FEED.units)
    check_state(recovered)
    live(recovered, FEED, random.Random(2), lambda stop: None)
    check_store(recovered.store, FEED, whole)
    check_state(recovered, whole)
    check_again(recovered, FEED)
    recovered.close()


def test_a_failure_that_nobody_waited_for_is_told_when_the_project_is_closed(tmp_path):
    opened = []

    def factory(path, /, *, access):
        opened.append(Failing(connect(path, access=access), commits=10**9, done=False))
        return opened[-1]

    runtime = open_runtime(tmp_path, FEED, connection_factory=factory)
    opened[0]._left = 1
    runtime.process([("payments", runtime.engine.decode("payments", FEED.units[0].line))])
    with pytest.raises(StoreError, match="I/O error"):
        runtime.close()


class Moody(Scorer):
    """A model that fails on some batches."""

    def __init__(self, names, error):
        super().__init__(names)
        self.error, self.calls = error, 0

    def score(self, vectors):
        self.calls += 1
        if self.calls % 3 == 0:
            raise self.error
        return super().score(vectors)


def put_in_charge(runtime, scorer_type, *arguments):
    endpoint = runtime.plan.endpoints["checkout"]
    names = runtime.plan.services[endpoint.service].feature_names
    runtime.routes.serve(endpoint.name, scorer_type(names, *arguments))


def test_a_model_that_fails_degrades_its_decisions_and_loses_none(tmp_path, whole):
    runtime = open_runtime(tmp_path, FEED)
    put_in_charge(runtime, Moody, ModelError("model 'model:1': no memory."))
    live(runtime, FEED, random.Random(1), lambda stop: None)
    check_store(runtime.store, FEED)
    check_state(runtime, whole)
    found = Found.of(runtime.store)
    failed = np.isnan(found.scores)
    assert 0.1 < failed.mean() < 0.9
    assert (((found.flags.astype(int) & Flag.DEGRADED) > 0) == failed).all()
    assert (found.taken[failed] == 0).all()
    assert found.scores[~failed].tobytes() == whole.found.scores[~failed].tobytes()
    assert found.vectors.tobytes() == whole.found.vectors.tobytes()
    runtime.close()


def test_an_error_nobody_expects_stops_the_engine_before_anything_of_the_batch_is_stored(tmp_path, whole):
    runtime = open_runtime(tmp_path, FEED)
    put_in_charge(runtime, Moody, KeyError("a defect"))
    acknowledged = [0]
    with pytest.raises(KeyError, match="a defect"):
        live(runtime, FEED, random.Random(1), acknowledged.append)
    runtime.close()
    recovered = open_runtime(tmp_path, FEED)
    assert recovered.skipped_snapshots == ()
    assert acknowledged[-1] <= check_store(recovered.store, FEED, whole)
    live(recovered, FEED, random.Random(2), lambda stop: None)
    check_store(recovered.store, FEED, whole)
    check_state(recovered, whole)
    recovered.close()


def test_snapshots_that_cannot_be_written_stop_nothing(tmp_path, whole, monkeypatch):
    def save(self, snapshot):
        raise StoreError("no room")

    runtime = open_runtime(tmp_path, FEED)
    with monkeypatch.context() as broken:
        broken.setattr(SnapshotStore, "save", save)
        live(runtime, FEED, random.Random(1), lambda stop: None)
        runtime.engine.flush()
    check_store(runtime.store, FEED, whole)
    check_state(runtime, whole)
    runtime.close()
