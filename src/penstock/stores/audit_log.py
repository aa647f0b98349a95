"""The audit log of a project: who changed what in a running system, when and why. Append-only and hash-chained.

Each row holds the SHA-256 of its own content together with the hash of the row before: a row that is changed, removed or slipped
in later breaks the chain at that place. SQL triggers refuse changes, against mistakes; the chain catches whoever goes around
them. Cutting off the newest rows leaves a valid chain: whoever must detect that compares `head` with a copy kept elsewhere.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.chains import GENESIS, hash_after
from penstock.core.errors import CorruptionError, InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.core.clock import Clock

BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    sequence INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    reason TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS audit_by_subject ON audit (action, subject, sequence);
CREATE TRIGGER IF NOT EXISTS audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_never_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""
_COLUMNS = "sequence, time_us, actor, action, subject, detail, reason"
_NEWEST = f"SELECT {_COLUMNS} FROM audit WHERE action = ? AND subject = ? ORDER BY sequence DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change: `detail` is what was changed to what, as JSON text."""

    sequence: int
    time_us: int
    actor: str
    action: str
    subject: str
    detail: str
    reason: str

    def values(self) -> dict[str, Any]:
        """What `detail` says."""
        found: dict[str, Any] = json.loads(self.detail)
        return found

    def hash_after(self, previous: str) -> str:
        """The row's hash when it follows the row with hash `previous`."""
        return hash_after(previous, asdict(self))


Detail = Mapping[str, Any] | Callable[[AuditRow | None], Mapping[str, Any]]


class AuditLog:
    """The audit log in one file. Several processes may use it; SQLite's lock orders their rows.

    Parameters
    ----------
    path
        Created with the first row.
    clock
        Dates the rows. Time never runs backwards in them, even where the machine's clock does.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def append(self, action: str, subject: str, detail: Detail, *, actor: str, reason: str) -> AuditRow:
        """Add a row, durable on return.

        `detail` are JSON values, or what makes them of the newest row of this action and subject: nobody writes between.
        """
        for what, text in (("actor", actor), ("reason", reason)):
            if not text.strip():
                raise InputError(
                    f"{action} {subject}: {what} is {text!r}; needed is a text. Say who acts and why."
                )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            try:
                row = self._insert(connection, action, subject, detail, actor=actor, reason=reason)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return row

    def rows(self, *, action: str | None = None, subject: str | None = None) -> list[AuditRow]:
        """The rows, oldest first: all, or those of an action, a subject or both."""
        query = f"SELECT {_COLUMNS} FROM audit WHERE (?1 IS NULL OR action = ?1) AND (?2 IS NULL OR subject = ?2) ORDER BY sequence"
        return [AuditRow(*values) for values in self._select(query, (action, subject))]

    def newest(self, action: str, subject: str) -> AuditRow | None:
        """The newest row of an action on a subject."""
        found = self._select(_NEWEST, (action, subject))
        return AuditRow(*found[0]) if found else None

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest row; 0 and `GENESIS` when there is none."""
        found = self._select("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1", ())
        return found[0] if found else (0, GENESIS)

    def verify(self) -> int:
        """Walk the chain and return the number of rows.

        Raises
        ------
        CorruptionError
            At the first row whose number or hash is not what follows from the rows before.
        """
        previous, count = GENESIS, 0
        for *values, stored in self._select(f"SELECT {_COLUMNS}, hash FROM audit ORDER BY sequence", ()):
            row = AuditRow(*values)
            count += 1
            if row.sequence != count or row.hash_after(previous) != stored:
                raise CorruptionError(
                    f"audit log {self._path}: row {row.sequence} ({row.action} {row.subject}) does not follow from the rows "
                    "before it; the table was changed by hand. Restore it from a backup."
                )
            previous = stored
        return count

    def _insert(
        self,
        connection: sqlite3.Connection,
        action: str,
        subject: str,
        detail: Detail,
        *,
        actor: str,
        reason: str,
    ) -> AuditRow:
        if callable(detail):
            found = connection.execute(_NEWEST, (action, subject)).fetchone()
            detail = detail(AuditRow(*found) if found else None)
        newest = connection.execute(
            "SELECT sequence, time_us, hash FROM audit ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        sequence, time_us, previous = newest or (0, 0, GENESIS)
        text = json.dumps(dict(detail), sort_keys=True, allow_nan=False)
        row = AuditRow(sequence + 1, max(self._clock.now_us(), time_us), actor, action, subject, text, reason)
        values = (*asdict(row).values(), row.hash_after(previous))
        connection.execute(f"INSERT INTO audit ({_COLUMNS}, hash) VALUES (?,?,?,?,?,?,?,?)", values)
        return row

    def _select(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        if not self._path.exists():
            return []
        with self._connect() as connection:
            return connection.execute(query, parameters).fetchall()

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"audit log {self._path}: {error}. Check that the folder is writable and no other process holds it; a "
                "damaged file must be restored from a backup."
            ) from error
