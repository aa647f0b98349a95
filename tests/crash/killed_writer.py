"""A process to be killed: commits numbered batches for ever, and says on stdout what was acknowledged.

Started once, it forks a writer for each line on stdin (``FOLDER SEED DURABILITY``), so that a kill costs milliseconds
instead of an interpreter's start. It prints ``pid N``, the writer prints positions, and at its end comes ``dead``.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from penstock.stores import sqlite as store_module
from penstock.stores.ids import IdIndex
from penstock.stores.snapshots import Snapshot, SnapshotStore
from penstock.stores.sqlite import ProjectStore
from tests.crash.workload import hashes_of, numbered_commit, random_rows

RUN_SIZE = 32


def open_index(directory: Path, store) -> IdIndex:
    return IdIndex.open(
        directory / "ids",
        store_id=store.store_id,
        next_position=store.next_position,
        event_ids=store.event_ids,
        run_size=RUN_SIZE,
    )


def snapshot_at(position: int) -> Snapshot:
    return Snapshot(
        position=position, fingerprint="plan", schema_hash="schema", state=b"%d" % position * 1000
    )


def write_for_ever(directory: Path, seed: int, durability) -> None:
    chance = random.Random(seed)
    store = ProjectStore.open(directory / "store.db", durability=durability)
    snapshots = SnapshotStore(directory / "snapshots", store_id=store.store_id)
    with open_index(directory, store) as index:
        while True:
            start, rows = store.next_position, random_rows(chance)
            positions = np.arange(start, start + rows)
            index.add(hashes_of(positions), positions)  # before the commit, as the engine may
            store.commit(numbered_commit(start, rows))
            os.write(1, b"%d\n" % store.next_position)
            store.tidy()
            if chance.random() < 0.05:
                snapshots.save(snapshot_at(store.next_position))


def warm_up() -> None:
    """Compile what the writers need, before they are forked."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProjectStore.open(Path(folder) / "store.db", durability="process") as store,
        open_index(Path(folder), store) as index,
    ):
        positions = np.arange(2 * RUN_SIZE)
        index.add(hashes_of(positions), positions)
        index.settle()
        index.lookup(hashes_of(positions))


def main() -> None:
    store_module._CHECKPOINT_PAGES = 200
    warm_up()
    for line in sys.stdin:
        folder, seed, durability = line.rsplit(maxsplit=2)
        child = os.fork()
        if child == 0:
            os.write(1, b"pid %d\n" % os.getpid())
            write_for_ever(Path(folder), int(seed), durability)
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
