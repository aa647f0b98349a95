"""The tables of a project's store, and the check that a file holds them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import StoreError
from penstock.stores.connection import Connection, Transaction

APPLICATION_ID = 0x504E534B  # "PNSK"
SCHEMA_VERSION = 2

# Batches are keyed by `position of their first row << KEY_BITS | what they are << NAME_BITS | number of their source or
# endpoint`: in log order, unique, and a rowid, so that a commit adds at the right edge of one table and touches one page.
NAME_BITS = 12
KEY_BITS = NAME_BITS + 1
NOBODY = 0  # the number in the row of a commit that stores no batch

# Large values stand last in a row, so that reading the others does not follow their overflow pages.
TABLES = (
    """CREATE TABLE meta(store_id TEXT NOT NULL, hash_seed INTEGER NOT NULL)""",
    """CREATE TABLE names(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)""",
    """CREATE TABLE batches(
        id INTEGER PRIMARY KEY, commit_start INTEGER NOT NULL, commit_stop INTEGER NOT NULL,
        last_position INTEGER NOT NULL, rows INTEGER NOT NULL, checksum INTEGER NOT NULL, ingest_time_us INTEGER NOT NULL,
        totals TEXT, positions BLOB, ids_checksum INTEGER, id_positions BLOB, id_hashes BLOB, payload BLOB NOT NULL)""",
    """CREATE TABLE labels(
        event_position INTEGER NOT NULL, label_position INTEGER NOT NULL, value REAL NOT NULL,
        known_at_us INTEGER NOT NULL, PRIMARY KEY (event_position, label_position)) WITHOUT ROWID""",
    """CREATE TABLE pending_labels(
        label_position INTEGER PRIMARY KEY, event_hash INTEGER NOT NULL, source TEXT NOT NULL,
        event_id TEXT NOT NULL, value REAL NOT NULL, known_at_us INTEGER NOT NULL)""",
    """CREATE INDEX pending_labels_by_event ON pending_labels(event_hash)""",
    """CREATE TABLE dead_letters(
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, received_us INTEGER NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL)""",
    """CREATE TABLE offsets(source TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE erasures(
        id INTEGER PRIMARY KEY, entity TEXT NOT NULL, key_hash BLOB NOT NULL, position INTEGER NOT NULL,
        erased_us INTEGER NOT NULL)""",
)


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Who a store is: a random id, and the seed with which its event ids are hashed (0 … 2**63 - 1)."""

    store_id: str
    hash_seed: int


def is_empty(connection: Connection) -> bool:
    """Whether the file holds nothing yet."""
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return not (tables or _pragma(connection, "application_id") or _pragma(connection, "user_version"))


def create(connection: Connection) -> None:
    """Create the tables in an empty file, in one transaction."""
    with Transaction(connection):
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?, ?)", (secrets.token_hex(16), secrets.randbits(63)))
        connection.execute("INSERT INTO batches VALUES (0,0,0,0,0,0,0,'{}',NULL,NULL,NULL,NULL,'')")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def check(connection: Connection, path: Path) -> StoreIdentity:
    """The identity of the store; raises `StoreError` for a foreign file or another schema version."""
    found = _pragma(connection, "application_id")
    if found != APPLICATION_ID:
        raise StoreError(
            f"store {path}: this is a SQLite file of another program (application_id {found:#x}, expected "
            f"{APPLICATION_ID:#x}). Move it away or choose another folder."
        )
    version = _pragma(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {path}: written by a newer Penstock (schema version {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Upgrade with `pip install -U penstock`."
        )
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"store {path}: schema version {version} found, {SCHEMA_VERSION} needed, and there is no way to convert it. "
            "Move the folder away and start afresh."
        )
    return StoreIdentity(*connection.execute("SELECT store_id, hash_seed FROM meta").fetchone())


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
