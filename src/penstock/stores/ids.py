"""The event-id index: which events of the whole log had this id, at a cost that does not grow with the log.

1. The newest ids stand in a hash table in memory (the memtable).
2. A full memtable is sorted and sealed as a run, a file, in the background; look-ups find it in memory until then.
3. Two runs of the same size are merged into one of twice the size, like the digits of a binary counter, so that there
   are O(log n) runs and each id is rewritten O(log n) times (the log-structured merge tree of O'Neil et al., 1996).
4. A look-up asks each run's Bloom filter first; only what passes (duplicates, and a few in a thousand others) reads it.

The index is derived from the log and may be lost. It is no part of a commit's transaction.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError, InputError, StoreError
from penstock.kernel.pages import own_memory
from penstock.stores import id_kernel
from penstock.stores.directories import sync_directory
from penstock.stores.id_runs import Run, RunWriter, write_merged, write_sorted

if TYPE_CHECKING:
    from penstock.core.records import EventIds

HashArray = npt.NDArray[np.uint64]
PositionArray = npt.NDArray[np.int64]

RUN_SIZE = 1 << 19
_MAX_UNSEALED = 4  # memtables that wait to be sealed before `add` waits for them


class Memtable:
    """A hash table of up to `capacity` (hash, position) pairs, added in the order of their positions."""

    def __init__(self, capacity: int, start: int) -> None:
        slots = 4
        while slots < 2 * capacity:
            slots *= 2
        self.start = self.stop = start
        self._slots = own_memory(slots, np.int32)
        self._hashes = own_memory(capacity, np.uint64)
        self._positions = own_memory(capacity, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def free(self) -> int:
        """How many pairs still fit."""
        return len(self._hashes) - self._size

    def add(self, hashes: HashArray, positions: PositionArray) -> None:
        """Add pairs; there must be room."""
        count = len(hashes)
        self._positions[self._size : self._size + count] = positions
        add = id_kernel.table_add_one if count == 1 else id_kernel.table_add
        add(self._slots, self._hashes, self._size, hashes)
        self._size += count
        self.stop = positions.item(-1) + 1

    def find(self, hashes: HashArray, out: PositionArray) -> None:
        """Fill in the first position of each hash that has none yet (-1) in `out`."""
        find = id_kernel.table_find_one if len(hashes) == 1 else id_kernel.table_find
        find(self._slots, self._hashes, self._positions, hashes, out)

    def all_of(self, wanted: int) -> PositionArray:
        """Every position of one hash, ascending."""
        size = self._size  # which another thread may raise meanwhile
        found: PositionArray = self._positions[:size][self._hashes[:size] == np.uint64(wanted)]
        return found

    def in_order(self) -> tuple[HashArray, PositionArray]:
        """Hashes ascending, equal ones by position; and their positions."""
        order = np.argsort(self._hashes[: self._size], kind="stable")
        hashes, positions = own_memory(len(order), np.uint64), own_memory(len(order), np.int64)
        np.take(self._hashes, order, out=hashes)
        np.take(self._positions, order, out=positions)
        return hashes, positions


class IdIndex:
    """Finds the positions of events by the seeded 64-bit hash of their id.

    Exact up to the hash: different ids may share one, so the caller compares the ids of what it finds. One thread uses
    it; sealing and merging go on in another. Ids may be added before their commit: what never was committed is dropped
    when the index is opened again.
    """

    def __init__(self, directory: Path, *, store_id: str, run_size: int, runs: tuple[Run, ...]) -> None:
        self._directory = directory
        self._store_id = store_id
        self._run_size = run_size
        # Runs, which tile the positions from 0 on, and memtables after them: oldest first, replaced in one step.
        self._parts: tuple[tuple[Run, ...], tuple[Memtable, ...]] = (runs, ())
        self._memtable = Memtable(run_size, runs[-1].stop if runs else 0)
        self._changing = Lock()
        self._worker = ThreadPoolExecutor(1, "penstock-id-index")
        self._jobs: list[Future[None]] = []

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        store_id: str,
        next_position: int,
        event_ids: Callable[[int], Iterator[EventIds]],
        run_size: int = RUN_SIZE,
    ) -> Self:
        """Load the runs in `directory`, and the rest of the log's ids from `event_ids`.

        Parameters
        ----------
        directory
            Belongs to the index; whatever in it is not a good run of this store is removed.
        store_id, next_position, event_ids
            Of the store: `ProjectStore.store_id`, `.next_position`, `.event_ids`.
        run_size
            Ids in a memtable: 24 bytes of memory each.
        """
        directory.mkdir(parents=True, exist_ok=True)
        runs = _load_runs(directory, store_id, next_position)
        index = cls(directory, store_id=store_id, run_size=run_size, runs=runs)
        for ids in event_ids(runs[-1].stop if runs else 0):
            index.add(ids.hashes, ids.positions)
        return index

    def close(self) -> None:
        """Wait for the work in the background; what is not sealed is found in the log again."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lookup(self, hashes: HashArray) -> PositionArray:
        """For each hash (uint64[n]) the first position that was added with it, or -1: int64[n]."""
        out = np.empty(len(hashes), np.int64)
        out.fill(-1)
        runs, unsealed = self._parts
        for run in runs:
            run.find(hashes, out)
        for memtable in unsealed:
            memtable.find(hashes, out)
        self._memtable.find(hashes, out)
        return out

    def candidates(self, wanted: int) -> PositionArray:
        """Every position that was added with this hash, ascending; for when the first was another id's.

        Safe in any thread: one that is not the index's may miss what is just being added.
        """
        newest = self._memtable  # before the others: what is sealed meanwhile stands among them
        runs, unsealed = self._parts
        memtables = unsealed if newest in unsealed else (*unsealed, newest)
        found = [*(run.all_of(wanted) for run in runs), *(memtable.all_of(wanted) for memtable in memtables)]
        return np.unique(np.concatenate(found))

    def add(self, hashes: HashArray, positions: PositionArray) -> None:
        """Add the ids of new events, at ascending positions after all that were added before.

        Raises
        ------
        InputError
            The positions do not go on ascending.
        StoreError
            Sealing failed in the background; these ids were not added. A further call tries again.
        """
        if not len(hashes):
            return
        if self._jobs:
            self._wait_for_backlog()
        if positions.item(0) < self._memtable.stop:
            raise InputError(
                f"event-id index: position {int(positions[0])} added, but positions below {self._memtable.stop} are "
                "known already. Add each event once, in log order."
            )
        while len(hashes) >= self._memtable.free:
            fitting = self._memtable.free
            self._memtable.add(hashes[:fitting], positions[:fitting])
            hashes, positions = hashes[fitting:], positions[fitting:]
            self._seal()
        if len(hashes):
            self._memtable.add(hashes, positions)

    def settle(self) -> None:
        """Wait until every full memtable is sealed and merged."""
        while self._jobs:
            self._finished(self._jobs.pop(0))

    @property
    def runs(self) -> int:
        """How many sealed runs there are."""
        return len(self._parts[0])

    def _seal(self) -> None:
        """Hand the full memtable to the background, and start another."""
        full = self._memtable
        with self._changing:
            runs, unsealed = self._parts
            self._parts = (runs, (*unsealed, full))
        self._memtable = Memtable(self._run_size, full.stop)
        self._jobs.append(self._worker.submit(self._seal_waiting))

    def _wait_for_backlog(self) -> None:
        while len(self._jobs) >= _MAX_UNSEALED or (self._jobs and self._jobs[0].done()):
            self._finished(self._jobs.pop(0))

    def _finished(self, job: Future[None]) -> None:
        try:
            job.result()
        except OSError as error:
            raise StoreError(
                f"event-id index {self._directory}: a run could not be written ({error}). Free disk space and start again; "
                "the index is made again from the log."
            ) from error

    def _seal_waiting(self) -> None:
        """Seal every full memtable, oldest first; one that an earlier job failed to seal comes first again."""
        while unsealed := self._parts[1]:
            self._seal_one(unsealed[0])
            while len(runs := self._parts[0]) > 1 and runs[-1].level == runs[-2].level:
                self._merge(*runs[-2:])

    def _seal_one(self, full: Memtable) -> None:
        hashes, positions = full.in_order()
        writer = self._writer(range(full.start, full.stop), level=0, count=len(full))
        run = self._written(writer, lambda: write_sorted(writer, hashes, positions))
        with self._changing:
            runs, unsealed = self._parts
            self._parts = ((*runs, run), unsealed[1:])

    def _merge(self, older: Run, newer: Run) -> None:
        """Replace the two newest runs by one."""
        span, count = range(older.start, newer.stop), len(older.hashes) + len(newer.hashes)
        writer = self._writer(span, level=older.level + 1, count=count)
        run = self._written(writer, lambda: write_merged(writer, older, newer))
        with self._changing:
            runs, unsealed = self._parts
            self._parts = ((*runs[:-2], run), unsealed)
        older.path.unlink()  # look-ups under way keep their mapping
        newer.path.unlink()

    def _writer(self, span: range, *, level: int, count: int) -> RunWriter:
        return RunWriter(self._directory, store_id=self._store_id, span=span, level=level, count=count)

    def _written(self, writer: RunWriter, write: Callable[[], None]) -> Run:
        try:
            write()
            writer.finish()
        except OSError:
            writer.abandon()
            raise
        return Run.open(writer.path, self._store_id)


def claimed(directory: Path, epoch: int | None) -> Path:
    """The folder in `directory` for the index of a store's writer, which another writer of the store never has.

    The writer just before may be frozen, and thaw: its folder is renamed, so that it finds it no more. What is left of those before that one is
    removed: it may hold ids that were never committed, at positions that others have used since.

    Parameters
    ----------
    epoch
        Of the store: `WritableStore.epoch`. None: there is one writer at a time, and `directory` is its own.
    """
    if epoch is None:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    own, before = directory / str(epoch), directory / str(epoch - 1)
    for path in directory.iterdir():
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif path == own or (path != before and path.name.isdigit() and int(path.name) < epoch):
            shutil.rmtree(path, ignore_errors=True)
    if before.is_dir():
        before.rename(own)
    return own


def _load_runs(directory: Path, store_id: str, next_position: int) -> tuple[Run, ...]:
    """The good runs that tile the log from its start, widest first; removes all other files."""
    runs: list[Run] = []
    removed = False
    for path in sorted(directory.iterdir(), key=_widest_first):
        run = _believed(path, store_id) if path.suffix == ".run" else None
        at = runs[-1].stop if runs else 0
        if run is not None and run.start == at and run.stop <= next_position:
            runs.append(run)
        elif path.is_file():
            path.unlink()
            removed = True
    if removed:  # a run that was ahead must not come back when the log has grown past it
        sync_directory(directory)
    return tuple(runs)


def _widest_first(path: Path) -> tuple[str, int]:
    start, _, stop = path.stem.partition("-")
    try:
        return start, -int(stop, 16)
    except ValueError:
        return start, 0


def _believed(path: Path, store_id: str) -> Run | None:
    try:
        return Run.open(path, store_id)
    except CorruptionError:
        return None
