"""One writer a store: a session's advisory lock, and an epoch that every commit checks.

The lock goes with its session. A writer that is frozen keeps it, so one that must take over ends the other's session, and the
epoch keeps the other from writing when it thaws. The same row counts the commits: where an answer to COMMIT was lost, the
count says whether it took place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.core.errors import BusyError, StoreError
from penstock.stores.postgres.session import this_process

if TYPE_CHECKING:
    from penstock.stores.postgres.session import Session
    from penstock.stores.postgres.target import Target

WAIT_S = 5.0
"""How long a new writer waits for one whose end the server has not noticed yet."""

TAKE_OVER_S = 0.5
"""How long one that takes over lets the holder go by itself."""

_POLL_S = 0.05
_KEY = "hashtextextended('penstock ' || ?::text, 0)"
_HOLDER = f"""SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = {_KEY}"""


class Fence:
    """The exclusive right to write to a store."""

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target
        self._backend = -1
        self._epoch = -1
        self.commits = 0
        """How many commits this writer knows of, its own and those before it."""

    def lock(self, *, take_over: bool) -> None:
        """Take the lock, before there are tables; with `take_over`, from another writer.

        Raises `BusyError` naming the process that holds it.
        """
        give_up = time.monotonic() + (TAKE_OVER_S if take_over else WAIT_S)
        while not self._locked():
            holder = self._holder()
            late = time.monotonic() > give_up
            if take_over and late and holder is not None:
                self._end(holder)
            elif late and not take_over:
                raise BusyError(
                    f"store {self._target}: {self._name_of(holder)} is writing to it, and only one may. Stop that process "
                    "first; `penstock status` and `penstock audit` read beside it."
                )
            time.sleep(_POLL_S)
        self._backend = self._session.backend

    @property
    def epoch(self) -> int:
        """Which writer this is, counted from the first; -1 before `begin`."""
        return self._epoch

    def begin(self) -> None:
        """Let every commit of writers before this one fail from now on."""
        row = self._session.execute(
            "UPDATE writer SET epoch = epoch + 1, holder = ? RETURNING epoch, commits", (this_process(),)
        ).fetchone()
        self._epoch, self.commits = row or (0, 0)

    def pass_commit(self) -> None:
        """Count a commit, in its transaction; raises `BusyError` where another took over."""
        done = self._session.execute(
            "UPDATE writer SET commits = commits + 1 WHERE epoch = ? AND commits = ?",
            (self._epoch, self.commits),
        )
        if done.rowcount != 1:
            raise self._lost()

    def regain(self, *, until_s: float) -> bool:
        """Take the lock again over a new connection; whether a commit of which no answer came did take place.

        The server has ended the former session by then, so that nothing of it can come later.
        """
        self._check_epoch()
        while not self._locked():
            self._check_epoch()
            if self._holder() == self._backend:
                self._end(self._backend)
            elif time.monotonic() > until_s:
                raise BusyError(
                    f"store {self._target}: {self._name_of(self._holder())} is writing to it, and only one may."
                )
            time.sleep(_POLL_S)
        self._backend = self._session.backend
        landed = self._check_epoch() - self.commits
        if landed not in {0, 1}:
            raise StoreError(
                f"store {self._target}: {self.commits} commits were acknowledged, and {self.commits + landed} are there: the "
                "database was put back to an older state. Restore the newest one, or open the project again to go on from this."
            )
        return landed == 1

    def _locked(self) -> bool:
        row = self._session.execute(f"SELECT pg_try_advisory_lock({_KEY})", (self._target.schema,)).fetchone()
        return bool(row and row[0])

    def _holder(self) -> int | None:
        row = self._session.execute(_HOLDER, (self._target.schema,)).fetchone()
        return None if row is None else int(row[0])

    def _end(self, backend: int) -> None:
        self._session.execute("SELECT pg_terminate_backend(?)", (backend,))

    def _name_of(self, backend: int | None) -> str:
        row = self._session.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid = ?", (backend,)
        ).fetchone()
        return row[0].removeprefix("penstock: ") if row else "another process"

    def _check_epoch(self) -> int:
        """The number of commits, if no other took over."""
        row = self._session.execute("SELECT commits FROM writer WHERE epoch = ?", (self._epoch,)).fetchone()
        if row is None:
            raise self._lost()
        return int(row[0])

    def _lost(self) -> BusyError:
        row = self._session.execute("SELECT holder FROM writer").fetchone()
        return BusyError(
            f"store {self._target}: {row[0] if row else 'another process'} took over writing to it, and only one may. Nothing "
            "more was stored by this process; open the project again where it shall run."
        )
