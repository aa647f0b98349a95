"""What is removed because it is ahead of the log stays removed: the log may grow past it with other events."""

from __future__ import annotations

import random
from unittest.mock import patch

import numpy as np
import pytest

from penstock.core.records import EventIds
from penstock.stores.ids import IdIndex
from penstock.stores.snapshots import Snapshot, SnapshotStore
from tests.crash.power_files import PowerFolder, PowerSyncs

STORE_ID = "5a" * 16


@pytest.fixture(params=range(8))
def power(tmp_path, request):
    """A folder whose power is cut when the test is done with it."""
    folder = PowerFolder(tmp_path / "folder", random.Random(request.param))
    syncs = PowerSyncs([folder], lambda: None)
    with patch("os.fsync", syncs.sync), patch("os.fdatasync", syncs.sync):
        yield folder
    folder.close()


def test_a_snapshot_ahead_of_the_log_does_not_come_back(power, tmp_path):
    of_the_plan = {"fingerprint": "f", "schema_hash": "s"}
    power.start()
    snapshots = SnapshotStore(power.path, store_id=STORE_ID)
    snapshots.save(Snapshot(position=10, state=b"lost", **of_the_plan))
    assert snapshots.newest_good(next_position=5, **of_the_plan).snapshot is None
    power.cut()
    power.restore(tmp_path / "after")
    after = SnapshotStore(tmp_path / "after", store_id=STORE_ID)
    assert after.newest_good(next_position=20, **of_the_plan).snapshot is None


def test_a_run_of_event_ids_ahead_of_the_log_does_not_come_back(power, tmp_path):
    lost, kept = (np.array([seed], np.uint64) * np.arange(1, 9).astype(np.uint64) for seed in (1000, 7))
    index = open_index(power.path, np.zeros(0, np.uint64))
    index.add(lost, np.arange(8))
    index.settle()
    index.close()
    power.start()
    open_index(power.path, kept[:5]).close()
    power.cut()
    power.restore(tmp_path / "after")
    after = open_index(tmp_path / "after", kept)
    assert after.lookup(kept).tolist() == list(range(8))
    assert after.lookup(lost).tolist() == [-1] * 8
    after.close()


def open_index(directory, hashes):
    def event_ids(start):
        if start < len(hashes):
            yield EventIds(hashes[start:], np.arange(start, len(hashes)))

    return IdIndex.open(
        directory, store_id=STORE_ID, next_position=len(hashes), event_ids=event_ids, run_size=8
    )
