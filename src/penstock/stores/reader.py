"""Reading a project's store: log, decisions, labels, dead letters, counters, offsets."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.core.errors import StoreError
from penstock.core.records import (
    CommitHead,
    DeadLetter,
    DecisionBatch,
    Erasure,
    EventIds,
    LabelRecords,
    LogBatch,
    PendingLabel,
)
from penstock.stores import backwards, batches, dead_letters, labels, schema
from penstock.stores.connection import (
    Connection,
    ConnectionFactory,
    Row,
    connect,
    prepare_reader,
    translated,
)

PositionArray = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]

_NAME_MASK = (1 << schema.NAME_BITS) - 1


class ProjectReader:
    """What is committed in a project's store; any number of readers may work beside the one writer.

    Every method reads what is committed when it is called; iterators go on to see what is committed meanwhile. Safe to
    use from several threads. Errors: `StoreError` where the file cannot be read, `CorruptionError` where bytes are not
    those that were written.
    """

    def __init__(self, path: Path, connection: Connection, identity: schema.StoreIdentity) -> None:
        self._path = path
        self._reading = connection
        self._reading_lock = Lock()
        self._identity = identity
        self._names: dict[int, str] = {}

    @classmethod
    def open_reader(cls, path: Path, *, connection_factory: ConnectionFactory = connect) -> ProjectReader:
        """Open the store at `path` for reading only, whether or not a process writes to it."""
        if not path.exists():
            raise _never_ran(path)
        with translated(path, "opening for reading"):
            return ProjectReader(path, *reading_connection(path, connection_factory))

    def close(self) -> None:
        """Close the file."""
        with self._reading_lock, self._translated("closing"):
            self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def store_id(self) -> str:
        """A random name of the store, in every file derived from it."""
        return self._identity.store_id

    @property
    def hash_seed(self) -> int:
        """The seed for hashing event ids (0 … 2**63 - 1), drawn once when the store was created."""
        return self._identity.hash_seed

    @property
    def next_position(self) -> int:
        """The length of the log: the position that the next row gets."""
        return batches.progress(self._fetch)[0]

    def counters(self) -> dict[str, int]:
        """Totals since the store was created."""
        return dict(json.loads(batches.progress(self._fetch)[1]))

    def row_counts(self, start: int = 0) -> dict[str, int]:
        """How many rows of each source the log holds, in commits at `start` or later."""
        counted = batches.row_counts(self._fetch, batches.LOG, start)
        return {self._name(number): rows for number, rows in counted.items()}

    def decision_counts(self) -> dict[str, int]:
        """How many decisions of each endpoint there are."""
        counted = batches.row_counts(self._fetch, batches.DECISIONS)
        return {self._name(number): rows for number, rows in counted.items()}

    def offsets(self) -> dict[str, str]:
        """Where to go on reading, by source or URI."""
        return dict(self._fetch("SELECT source, value FROM offsets", ()))

    def read_log(
        self, start: int = 0, stop: int | None = None, *, sources: Collection[str] | None = None
    ) -> Iterator[LogBatch]:
        """Log batches with rows in ``[start, stop)`` (None: to the end), by first position.

        Batches come whole: the first and last may hold rows outside. Batches of one commit may interleave. Holds a few
        MiB at a time.
        """
        stop = self.next_position if stop is None else stop
        for stored in batches.scan(self._fetch, batches.LOG, start, stop, self._numbers(sources)):
            yield self._log_batch(stored)

    def newest_log_batch(self, source: str, *, start: int = 0) -> LogBatch | None:
        """The newest batch of a source that begins at log position `start` or later; reads no other's payload."""
        numbers = self._numbers({source})
        found = None if not numbers else batches.newest(self._fetch, batches.LOG, start, min(numbers))
        return None if found is None else self._log_batch(found)

    def log_batches_at(self, positions: PositionArray) -> Iterator[LogBatch]:
        """Each log batch that holds one of `positions`, once, in log order."""
        for stored in batches.batches_at(self._fetch, batches.LOG, positions):
            yield self._log_batch(stored)

    def read_decisions(
        self, start: int = 0, stop: int | None = None, *, endpoints: Collection[str] | None = None
    ) -> Iterator[DecisionBatch]:
        """Decision batches with rows in ``[start, stop)`` (None: to the end), like `read_log`."""
        stop = self.next_position if stop is None else stop
        for stored in batches.scan(self._fetch, batches.DECISIONS, start, stop, self._numbers(endpoints)):
            yield self._decision_batch(stored)

    def decision_batches_at(self, positions: PositionArray) -> Iterator[DecisionBatch]:
        """Each decision batch that holds one of `positions`, once, in log order."""
        for stored in batches.batches_at(self._fetch, batches.DECISIONS, positions):
            yield self._decision_batch(stored)

    def heads_before(self, position: int | None = None) -> Iterator[CommitHead]:
        """What the commits hold, newest first: of batches that start before `position` (None: all), without their payloads."""
        for head in backwards.heads(self._fetch, position):
            decisions = {key: (self._name(key & _NAME_MASK), rows) for key, rows in head.decisions}
            log = {self._name(key & _NAME_MASK): key for key in head.log}
            yield CommitHead(head.start, head.stop, head.ingest_time_us, decisions, log)

    def log_batch(self, key: int) -> LogBatch:
        """The log batch with a key of `CommitHead.log`."""
        return self._log_batch(batches.one(self._fetch, batches.LOG, key))

    def decision_batch(self, key: int) -> DecisionBatch:
        """The decision batch with a key of `CommitHead.decisions`."""
        return self._decision_batch(batches.one(self._fetch, batches.DECISIONS, key))

    def decisions_between(self, start: int, stop: int) -> int:
        """How many decisions there are in batches that start in ``[start, stop)``."""
        return backwards.decisions_between(self._fetch, start, stop)

    def position_at(self, time_us: int) -> int:
        """How long the log was at a time: the position of the first row that was accepted later."""
        return backwards.position_at(self._fetch, time_us, self.next_position)

    def event_ids(self, start: int = 0) -> Iterator[EventIds]:
        """Hashes of the event ids of rows at positions ≥ `start`, a commit at a time, without decoding any row."""
        return batches.event_ids(self._fetch, start)

    def latest_labels(
        self, start: int = 0, stop: int | None = None, *, as_of_us: int | None = None
    ) -> LabelRecords:
        """The truth of each labelled event in ``[start, stop)``, as known at `as_of_us` (None: now).

        The label with the greatest (known_at, label position) among those with known_at ≤ `as_of_us` counts. Sorted by
        event position.
        """
        return labels.latest(self._fetch, start, self.next_position if stop is None else stop, as_of_us)

    def labels_of(self, positions: PositionArray) -> LabelRecords:
        """Every label of these events, sorted by (event position, label position)."""
        return labels.of_events(self._fetch, positions)

    def labels_arrived(self, start: int, stop: int) -> LabelRecords:
        """The first label of each event that joined its event in ``[start, stop)``, in the order in which they did.

        Label and event are joined at the later position of the two. See `ProjectStore.index_labels`.
        """
        return labels.arrived(self._fetch, start, stop)

    def pending_labels(self, limit: int = 1000, *, after: int = -1) -> list[PendingLabel]:
        """Up to `limit` labels that wait for their event, with a label position greater than `after`."""
        return labels.all_pending(self._fetch, limit, after)

    def dead_letters(self, limit: int = 100, *, after: int = 0) -> list[DeadLetter]:
        """Up to `limit` dead letters with an id greater than `after`, oldest first."""
        return dead_letters.read(self._fetch, limit, after)

    def newest_dead_letters(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        source: str | None = None,
        reason: str | None = None,
    ) -> list[DeadLetter]:
        """Up to `limit` dead letters with an id less than `before`, newest first; of a source, a reason, or both."""
        return dead_letters.read_newest(self._fetch, limit, before, source, reason)

    def dead_letters_with(self, letter_ids: Sequence[int]) -> list[DeadLetter]:
        """Those of these dead letters that are kept, by id."""
        return dead_letters.read_these(self._fetch, letter_ids)

    def dead_letter_counts(self) -> dict[tuple[str, str], int]:
        """How many dead letters are kept, by source and reason."""
        return dead_letters.counts(self._fetch)

    def dead_letter_count(self) -> int:
        """How many dead letters are kept."""
        return int(self._fetch("SELECT count(*) FROM dead_letters", ())[0][0])

    def size_bytes(self) -> int:
        """How much room the store takes: the file and its write-ahead log."""
        found = 0
        for one in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                found += one.stat().st_size
            except OSError:
                continue
        return found

    def erasures(self) -> list[Erasure]:
        """Which keys were forgotten, by keyed hash, in the order in which they were."""
        rows = self._fetch("SELECT entity, key_hash, position, erased_us FROM erasures ORDER BY id", ())
        return [Erasure(entity=row[0], key_hash=row[1], position=row[2], erased_us=row[3]) for row in rows]

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        with self._reading_lock, self._translated("reading"):
            return self._reading.execute(sql, parameters).fetchall()

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        """Raises the driver's errors as ours."""
        return translated(self._path, doing)

    def _log_batch(self, stored: batches.StoredBatch) -> LogBatch:
        return LogBatch(
            self._name(stored.key & _NAME_MASK),
            stored.position_array(),
            ingest_time_us=stored.ingest_time_us,
            payload=stored.payload,
        )

    def _decision_batch(self, stored: batches.StoredBatch) -> DecisionBatch:
        return DecisionBatch(
            self._name(stored.key & _NAME_MASK), stored.position_array(), payload=stored.payload
        )

    def _name(self, number: int) -> str:
        name = self._names.get(number)
        if name is None:
            self._names = dict(self._fetch("SELECT number, name FROM names", ()))
            name = self._names[number]
        return name

    def _numbers(self, names: Collection[str] | None) -> set[int] | None:
        if names is None:
            return None
        known = self._fetch("SELECT number, name FROM names", ())
        return {number for number, name in known if name in names}


def reading_connection(
    path: Path, connection_factory: ConnectionFactory
) -> tuple[Connection, schema.StoreIdentity]:
    """A connection for reading the store at `path`, and who the store is."""
    with ExitStack() as undo:
        connection = connection_factory(path, access="read")
        undo.callback(connection.close)
        prepare_reader(connection)
        if schema.is_empty(connection):
            raise _never_ran(path)
        identity = schema.check(connection, path)
        undo.pop_all()
    return connection, identity


def _never_ran(path: Path) -> StoreError:
    return StoreError(
        f"store {path}: nothing is there; this project has never run. Start it with `penstock up` or `penstock run`."
    )
