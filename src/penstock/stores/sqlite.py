"""The project's store in one SQLite file in WAL mode, one transaction a micro-batch.

The write-ahead log is copied into the file between commits (`tidy`), by the writing connection alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import StoreError
from penstock.stores import schema
from penstock.stores.connection import (
    Connection,
    ConnectionFactory,
    Durability,
    connect,
    prepare_writer,
    set_durability,
    translated,
)
from penstock.stores.early_sync import EarlySync
from penstock.stores.lock import WriterLock
from penstock.stores.reader import reading_connection
from penstock.stores.writing import WritableStore, has_more

if TYPE_CHECKING:
    from penstock.core.records import Commit

_PAGE_BYTES = 4096
_CHECKPOINT_PAGES = (
    1024  # of write-ahead log, when `tidy` copies it: more pages make no faster, only longer, pauses
)


class ProjectStore(WritableStore):
    """The writer of a store in a SQLite file; see `WritableStore`."""

    def __init__(
        self,
        path: Path,
        *,
        reading: Connection,
        writing: Connection,
        identity: schema.StoreIdentity,
        lock: WriterLock,
        max_dead_letters: int,
        max_pending_labels: int,
        early_sync: EarlySync | None = None,
    ) -> None:
        self._lock = lock
        self._early_sync = early_sync
        self._log_pages = 0
        super().__init__(
            path,
            reading=reading,
            writing=writing,
            identity=identity,
            max_dead_letters=max_dead_letters,
            max_pending_labels=max_pending_labels,
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        durability: Durability,
        connection_factory: ConnectionFactory = connect,
        max_dead_letters: int = 100_000,
        max_pending_labels: int = 1_000_000,
    ) -> ProjectStore:
        """Open the store at `path` for writing, creating it (and its folder) where there is none.

        Raises
        ------
        StoreError
            Another process writes to it, it is another program's file, or a newer Penstock's.
        CorruptionError
            The file is damaged.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo, translated(path, "opening"):
            lock = WriterLock(path.with_name(path.name + ".lock"))
            lock.acquire()
            undo.callback(lock.release)
            writing = connection_factory(path, access="write")
            undo.callback(writing.close)
            if not schema.is_empty(writing):
                schema.check(writing, path)
            prepare_writer(writing)
            set_durability(writing, "power")  # who a store is must not be lost: files beside it carry its id
            if schema.is_empty(writing):
                schema.create(writing)
            set_durability(writing, durability)
            reading, identity = reading_connection(path, connection_factory)
            undo.callback(reading.close)
            store = cls(
                path,
                reading=reading,
                writing=writing,
                identity=identity,
                lock=lock,
                max_dead_letters=max_dead_letters,
                max_pending_labels=max_pending_labels,
                early_sync=EarlySync(path) if durability == "process" else None,
            )
            undo.pop_all()
        return store

    def close(self) -> None:
        """Copy the write-ahead log into the file, close it and let another process write."""
        with self._writing_lock:
            try:
                if self._early_sync is not None:
                    self._early_sync.close()
                super().close()
                with self._translated("closing"):
                    self._writing.close()
            finally:
                self._lock.release()

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._log_pages >= _CHECKPOINT_PAGES

    def tidy(self) -> None:
        """Copy the write-ahead log into the file where it has grown; call it between commits.

        Takes milliseconds when there is something to do, and nothing otherwise. Never needed for durability.
        """
        if self.is_untidy:
            with self._writing_lock, self._translated("checkpointing"):
                self._writing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._log_pages = 0

    def purge(self) -> None:
        """Rebuild the file and empty the write-ahead log, so that nothing erased remains in either.

        Takes time and free disk space in proportion to the file. Raises `StoreError` where a reader is in the way.
        """
        with self._writing_lock, self._reading_lock, self._translated("purging"):
            self._writing.execute("VACUUM")
            busy = self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
            self._log_pages = 0
        if busy:
            raise StoreError(
                f"store {self._path}: another process reads from it, so old bytes remain in the write-ahead log. Stop it "
                "and forget the key again."
            )

    def _accept(
        self, commit: Commit, stop: int, *, totals: dict[str, int], letters: int, surplus: int
    ) -> None:
        super()._accept(commit, stop, totals=totals, letters=letters, surplus=surplus)
        payload = 0
        for logged in commit.log:
            payload += len(logged.payload)
        for decided in commit.decisions:
            payload += len(decided.payload)
        rows = 0 if commit.labels is None else len(commit.labels)
        self._log_pages += (4 if has_more(commit) else 1) + payload // _PAGE_BYTES + rows
        if self._early_sync is not None:
            self._early_sync.written(self._log_pages)
