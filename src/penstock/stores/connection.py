"""Connections to a project's SQLite file: pragmas, transactions, and foreign errors translated once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from penstock.core.errors import CorruptionError, StoreError

Durability = Literal["power", "process"]
Row = tuple[Any, ...]

# Beyond this many pages of write-ahead log SQLite checkpoints inside COMMIT, whatever the caller does.
LAST_RESORT_CHECKPOINT_PAGES = 32_768
BUSY_TIMEOUT_MS = 5_000


class Cursor(Protocol):
    """The part of a DB-API cursor that the stores use."""

    @property
    def rowcount(self) -> int:
        """Rows changed by the last statement."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All remaining rows."""


class Connection(Protocol):
    """The part of `sqlite3.Connection` that the stores use; another driver needs no more than this."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor:
        """Run one statement for each row of parameters."""

    def close(self) -> None:
        """Close the connection."""


class ConnectionFactory(Protocol):
    """Opens a connection in autocommit mode that may be used from any thread, by one at a time."""

    def __call__(self, path: Path, /, *, access: Literal["write", "read"]) -> Connection:
        """Connect to the file; "write" creates it."""


def connect(path: Path, /, *, access: Literal["write", "read"]) -> Connection:
    """A connection of the standard library's driver."""
    mode = "rwc" if access == "write" else "ro"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )


def prepare_writer(connection: Connection) -> None:
    """Set what a writing connection needs, but for the durability of its commits (`set_durability`).

    SQLite's own checkpoints inside COMMIT are only the last resort: the store checkpoints between commits, and from the
    writing connection alone, since SQLite before 3.51.3 may corrupt a file when one connection checkpoints while
    another resets the write-ahead log.
    """
    for pragma in (
        "journal_mode=WAL",
        f"wal_autocheckpoint={LAST_RESORT_CHECKPOINT_PAGES}",
        "secure_delete=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "foreign_keys=OFF",
        "cache_size=-8192",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def set_durability(connection: Connection, durability: Durability) -> None:
    """Choose what a commit survives: "power" syncs each one, "process" leaves that to the next checkpoint."""
    synchronous = {"power": "FULL", "process": "NORMAL"}[durability]
    full = int(durability == "power")
    for pragma in (f"synchronous={synchronous}", f"fullfsync={full}", f"checkpoint_fullfsync={full}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def prepare_reader(connection: Connection) -> None:
    """Set what a reading connection needs."""
    for pragma in ("query_only=ON", f"busy_timeout={BUSY_TIMEOUT_MS}", "cache_size=-4096"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


class translated:  # noqa: N801 - used like a function
    """Raise the driver's errors as ours: what was being done to which file, and what to do next."""

    __slots__ = ("_doing", "_store")

    def __init__(self, store: Path, doing: str) -> None:
        self._store = store
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, sqlite3.DatabaseError):
            return
        doing = f"store {self._store}: {self._doing}"
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise CorruptionError(
                f"{doing} failed: the file is damaged ({error}). Restore it from a backup."
            ) from error
        raise StoreError(f"{doing} failed: {error} ({name}). {_advice(name)}") from error


def _advice(name: str) -> str:
    if name.startswith("SQLITE_FULL"):
        return "Nothing of it was stored. Free disk space and try again."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "Nothing of it was stored. Close other programs that write to this file and try again."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return "Check that the folder exists and that this user may write to it."
    if name.startswith("SQLITE_IOERR"):
        return "Check the disk, then start again: what was acknowledged before is kept."
    return "What was acknowledged before is kept."


class Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``; rolled back when the body or the commit itself fails."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
