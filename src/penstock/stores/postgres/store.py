"""The project's store in PostgreSQL: one transaction a micro-batch, fenced, and patient with a server that is away.

1. The tables are those of the SQLite store, and so are the statements; see `penstock.stores.writing`.
2. A commit counts itself in the writer's row. Where its answer was lost, the store connects again, takes the lock and reads
   whether it took place: a commit is made once, and the engine need not stop.
3. Meanwhile the writing thread waits, up to `patience_s`, and `problems` says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import AwayError
from penstock.stores import batches
from penstock.stores.connection import Transaction
from penstock.stores.postgres import migrating
from penstock.stores.postgres.decisions import DecisionTable
from penstock.stores.postgres.errors import translated
from penstock.stores.postgres.fencing import Fence
from penstock.stores.postgres.session import Session
from penstock.stores.reader import ProjectReader
from penstock.stores.writing import WritableStore, has_more

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.records import Commit, DecisionBatch, DecisionRows, LogBatch
    from penstock.stores.connection import Durability, Row
    from penstock.stores.postgres.target import Target
    from penstock.stores.schema import StoreIdentity

PROBLEM = "store"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_REBUILT = ("batches", "decisions", "labels", "pending_labels", "dead_letters")


class _Patience:
    """How long to go on asking a server that is away, with longer and longer waits between."""

    def __init__(self, seconds: float) -> None:
        self.until_s = time.monotonic() + seconds
        self._wait_s = _FIRST_WAIT_S

    def wait(self, error: AwayError) -> None:
        """Wait a little; raises `error` where it has taken too long."""
        if time.monotonic() + self._wait_s > self.until_s:
            raise error
        time.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)


class PostgresReader(ProjectReader):
    """What is committed in a project's store in PostgreSQL; see `ProjectReader`.

    A lost connection is made again, for as long as `patience_s`.
    """

    def __init__(
        self, target: Target, session: Session, identity: StoreIdentity, *, patience_s: float = 0.0
    ) -> None:
        super().__init__(Path(str(target)), session, identity)
        self._setup(target, session, patience_s)

    @classmethod
    def open(cls, target: Target, *, patience_s: float = 0.0) -> PostgresReader:
        """Open the store for reading only, whether or not a process writes to it."""
        with ExitStack() as undo, translated(target, "opening for reading"):
            session = Session(target, access="read")
            undo.callback(session.close)
            identity = migrating.check(session, target)
            reader = cls(target, session, identity, patience_s=patience_s)
            undo.pop_all()
        return reader

    def size_bytes(self) -> int:
        """How much room the store takes: its tables with their indexes."""
        rows = self._fetch(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
            "WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind = 'r'",
            (),
        )
        return int(rows[0][0])

    def _setup(self, target: Target, session: Session, patience_s: float) -> None:
        self._target = target
        self._reader_session = session
        self._patience_s = patience_s

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        patience, again = _Patience(self._patience_s), False
        while True:
            try:
                with self._reading_lock, self._translated("reading"):
                    if again:
                        self._reader_session.reopen()
                    return self._reading.execute(sql, parameters).fetchall()
            except AwayError as error:
                if again:  # a connection may have been cut off long ago: the first time is free
                    patience.wait(error)
                again = True

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return translated(self._target, doing)


class PostgresStore(PostgresReader, WritableStore):
    """The one writer of a store in PostgreSQL, and all of its reading; see `WritableStore`."""

    def __init__(
        self,
        target: Target,
        *,
        reading: Session,
        writing: Session,
        identity: StoreIdentity,
        fence: Fence,
        patience_s: float,
        max_dead_letters: int,
        max_pending_labels: int,
    ) -> None:
        self._setup(target, reading, patience_s)
        self._session = writing
        self._fence = fence
        self._decisions = DecisionTable(writing)
        self._rows_of: Callable[[DecisionBatch, Sequence[LogBatch]], DecisionRows | None] | None = None
        WritableStore.__init__(
            self,
            Path(str(target)),
            reading=reading,
            writing=writing,
            identity=identity,
            max_dead_letters=max_dead_letters,
            max_pending_labels=max_pending_labels,
        )

    @classmethod
    def open_writer(
        cls,
        target: Target,
        *,
        durability: Durability,
        take_over: bool = False,
        migrate: bool = True,
        patience_s: float = 300.0,
        max_dead_letters: int = 100_000,
        max_pending_labels: int = 1_000_000,
    ) -> PostgresStore:
        """Open the store for writing, making its tables where there are none.

        Parameters
        ----------
        take_over
            Whether to end the session of another writer, which may be frozen or cut off, instead of being refused.
        migrate
            Whether to bring older tables up to date, instead of being refused.
        patience_s
            How long a commit, or a read of the engine, waits for a server that is away.

        Raises
        ------
        StoreError
            Another process writes to it, the server cannot be reached, or the tables are a newer Penstock's.
        """
        with ExitStack() as undo, translated(target, "opening"):
            writing = Session(target, access="write", durability=durability)
            undo.callback(writing.close)
            fence = Fence(writing, target)
            fence.lock(take_over=take_over)
            if migrate:
                migrating.migrate(writing, target)
            identity = migrating.check(writing, target)
            fence.begin()
            reading = Session(target, access="read")
            undo.callback(reading.close)
            store = cls(
                target,
                reading=reading,
                writing=writing,
                identity=identity,
                fence=fence,
                patience_s=patience_s,
                max_dead_letters=max_dead_letters,
                max_pending_labels=max_pending_labels,
            )
            undo.pop_all()
        return store

    @property
    def epoch(self) -> int:
        """See `WritableStore.epoch`."""
        return self._fence.epoch

    def close(self) -> None:
        """End the connections; another process may write then."""
        with self._writing_lock:
            try:
                super().close()
            finally:
                self._session.close()

    def describe_decisions(
        self, rows_of: Callable[[DecisionBatch, Sequence[LogBatch]], DecisionRows | None]
    ) -> None:
        """Keep decisions as rows, too, from the next commit on; `rows_of` takes batches apart."""
        self._rows_of = rows_of

    def commit(self, commit: Commit) -> None:
        """See `WritableStore.commit`; a server that is away is waited for."""
        patience = _Patience(self._patience_s)
        while True:
            try:
                super().commit(commit)
            except AwayError as error:
                self.problems[PROBLEM] = str(error)
                if self._landed(patience, error):
                    return
            else:
                self.problems.pop(PROBLEM, None)
                return

    def tidy(self) -> None:
        """Nothing: the server keeps its own house."""

    def purge(self) -> None:
        """Rebuild the tables, so that nothing erased remains in them; backups and replicas are not ours.

        Takes time and free disk space in proportion to the tables, and waits for readers.
        """
        with self._writing_lock, self._translated("purging"), self._session.unhurried():
            self._session.execute("VACUUM (FULL) " + ", ".join(_REBUILT))

    def index_labels(self) -> None:
        """See `WritableStore.index_labels`."""
        with self._session.unhurried():
            super().index_labels()

    def _landed(self, patience: _Patience, error: AwayError) -> bool:
        """Connect again, however long it may take; whether the commit that failed did take place."""
        while True:
            patience.wait(error)
            try:
                with self._writing_lock, self._translated("connecting again"):
                    self._session.reopen()
                    self._decisions.forget_days()
                    landed = self._fence.regain(until_s=patience.until_s)
            except AwayError as again:
                error = again
                continue
            if landed:
                self._fence.commits += 1
                self._load()
            self.problems.pop(PROBLEM, None)
            return landed

    def _write(
        self,
        commit: Commit,
        stored: Sequence[batches.StoredBatch],
        *,
        span: range,
        totals: str,
        letters_dropped: int,
        surplus: int,
    ) -> None:
        try:
            with Transaction(self._writing):
                self._fence.pass_commit()
                batches.insert(self._writing, stored, commit.ids, commit=span, totals=totals)
                if has_more(commit):
                    self._write_rest(commit, letters_dropped, surplus)
                if self._rows_of is not None:
                    for batch in commit.decisions:
                        rows = self._rows_of(batch, commit.log)
                        if rows is not None:
                            self._decisions.add(rows)
        except BaseException:
            self._decisions.forget_days()
            raise
        self._fence.commits += 1

    def _rewrite_decisions(self, batch: DecisionBatch) -> None:
        super()._rewrite_decisions(batch)
        if self._rows_of is None:
            return
        found = batches.batches_at(self._fetch_writing, batches.LOG, batch.positions)
        rows = self._rows_of(batch, [self._log_batch(one) for one in found])
        if rows is not None:
            self._decisions.replace(rows)

    def _fetch_writing(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return self._session.execute(sql, parameters).fetchall()
