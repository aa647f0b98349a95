"""Copies of SQLite files that others may be writing to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from penstock.core.errors import CorruptionError
from penstock.stores.connection import connect, translated


def copy_database(path: Path, copy: Path) -> None:
    """Copy the database at `path` as it is at one moment; its writer is not held up.

    The copy is one file without a write-ahead log, and SQLite has checked its structure. Raises `StoreError` where it cannot be read or
    written, `CorruptionError` where it is damaged.
    """
    with (
        translated(path, "copying"),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        found = target.execute("PRAGMA quick_check(3)").fetchall()
    if found != [("ok",)]:
        what = "; ".join(str(row[0]) for row in found)
        raise CorruptionError(f"{path}: it is damaged ({what}). Restore the newest backup: penstock restore.")


def is_database(path: Path) -> bool:
    """Whether a file is SQLite's."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def held(path: Path) -> bool:
    """Whether a database is whole: SQLite finds no damage in its structure."""
    with translated(path, "checking"), closing(connect(path, access="read")) as connection:
        return [tuple(row) for row in connection.execute("PRAGMA quick_check(1)").fetchall()] == [("ok",)]
