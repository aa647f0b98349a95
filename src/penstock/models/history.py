"""An append-only, hash-chained table: who did what to which version, when and why.

Each row holds the SHA-256 of its own content together with the hash of the row before, so that a row changed, removed or
slipped in later breaks the chain at that place. SQL triggers refuse UPDATE and DELETE, against mistakes; the chain
catches whoever goes around them. Cutting off the newest rows leaves a valid chain: whoever must detect that compares
`head` with a copy kept elsewhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from penstock.core.chains import GENESIS, hash_after
from penstock.core.errors import CorruptionError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    sequence INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    digest TEXT NOT NULL,
    hash TEXT NOT NULL,
    gate TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS history_by_name ON history (name, sequence);
CREATE TRIGGER IF NOT EXISTS history_is_never_changed BEFORE UPDATE ON history
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER IF NOT EXISTS history_is_never_deleted BEFORE DELETE ON history
BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
"""

_COLUMNS = "sequence, time_us, actor, action, name, version, stage, reason, digest, gate"
_ADD_GATE = "ALTER TABLE history ADD COLUMN gate TEXT NOT NULL DEFAULT ''"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One event in the life of a version; `stage` is the stage that it has from then on.

    `gate` is the SHA-256 of the gate's report that allowed a promotion, ``skipped:`` with the reason, or empty.
    """

    sequence: int
    time_us: int
    actor: str
    action: str
    name: str
    version: int
    stage: str
    reason: str
    digest: str
    gate: str = ""

    def hash_after(self, previous: str) -> str:
        """The row's hash when it follows the row with hash `previous`."""
        values = asdict(self)
        if not self.gate:  # rows of before there were gates keep their hashes
            del values["gate"]
        return hash_after(previous, values)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table where there is none, and give an older one its newest column."""
    connection.executescript(SCHEMA)
    if "gate" not in {column[1] for column in connection.execute("PRAGMA table_info(history)")}:
        connection.execute(_ADD_GATE)


def append(connection: sqlite3.Connection, row: HistoryRow) -> str:
    """Add `row` as the newest, within the caller's transaction; its hash."""
    _, previous = head(connection)
    hashed = row.hash_after(previous)
    values = (*asdict(row).values(), hashed)
    connection.execute(f"INSERT INTO history ({_COLUMNS}, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?)", values)  # noqa: S608
    return hashed


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Sequence number and hash of the newest row; 0 and `GENESIS` when there is none."""
    found = connection.execute("SELECT sequence, hash FROM history ORDER BY sequence DESC LIMIT 1").fetchone()
    return found or (0, GENESIS)


def rows(connection: sqlite3.Connection, *, name: str | None = None) -> Iterator[HistoryRow]:
    """All rows in order, or those of one model."""
    query = f"SELECT {_COLUMNS} FROM history WHERE ?1 IS NULL OR name = ?1 ORDER BY sequence"  # noqa: S608 - constants
    for values in connection.execute(query, (name,)):
        yield HistoryRow(*values)


def verify_chain(connection: sqlite3.Connection) -> int:
    """Walk the chain and return the number of rows.

    Raises
    ------
    CorruptionError
        At the first row whose number or hash is not what follows from the rows before.
    """
    previous = GENESIS
    count = 0
    for *values, stored in connection.execute(f"SELECT {_COLUMNS}, hash FROM history ORDER BY sequence"):  # noqa: S608
        row = HistoryRow(*values)
        count += 1
        if row.sequence != count or row.hash_after(previous) != stored:
            raise CorruptionError(
                f"Model history: row {row.sequence} ({row.action} {row.name} version {row.version}) does not follow from "
                "the rows before it; the table was changed by hand. Restore the registry from a backup."
            )
        previous = stored
    return count
