"""An index of the changes of lists: members and history by page and by key, at a cost that does not grow with the list.

The log is the truth, and this file a fold of it that is brought up to date where somebody asks: only what the log got since is read. It
may be lost, and is made anew where it cannot be of this log: of another store, of other keys, or before something was forgotten.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.app.key_lists import Change, Key, changes_from, key_names
from penstock.app.storing import state_folder
from penstock.core.errors import StoreError
from penstock.core.time import from_us, to_us

if TYPE_CHECKING:
    from penstock.plan.nodes import SourceNode
    from penstock.stores.reader import ProjectReader

FORMAT = 1
BUSY_TIMEOUT_S = 30.0
ROWS = 20_000
"""About how many changes are taken in by one transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lists(
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, shape TEXT NOT NULL, position INTEGER NOT NULL, version INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS changes(
    list INTEGER NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT, listed INTEGER NOT NULL, changed_us INTEGER,
    expires_us INTEGER, actor TEXT, reason TEXT, asked INTEGER NOT NULL, PRIMARY KEY (list, version)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changes_by_key ON changes(list, key, version);
CREATE INDEX IF NOT EXISTS changes_asked ON changes(list, version) WHERE asked = 1;
CREATE TABLE IF NOT EXISTS members(
    list INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (list, key)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_by_version ON members(list, version);
"""
_COLUMNS = "c.version, c.position, c.key, c.listed, c.changed_us, c.expires_us, c.actor, c.reason, c.asked"
_MEMBERS = f"SELECT {_COLUMNS} FROM members m JOIN changes c ON c.list = m.list AND c.version = m.version WHERE m.list = ?"  # noqa: S608 - constants
_CHANGES = f"SELECT {_COLUMNS} FROM changes c WHERE c.list = ?"  # noqa: S608 - constants
_FILES = ("", "-wal", "-shm")
_KEYS_AT_ONCE = 500


def index_path(root: Path) -> Path:
    """The index of the project in `root`."""
    return state_folder(root) / "lists" / "index.db"


def discard_index(root: Path) -> None:
    """Remove the index, with what it knows of keys that are to be forgotten."""
    for ending in _FILES:
        with suppress(FileNotFoundError):
            index_path(root).with_name(f"index.db{ending}").unlink()


@contextmanager
def list_index(root: Path, store: ProjectReader, source: SourceNode) -> Iterator[ListIndex]:
    """The index of a list, as the log stands now.

    Raises
    ------
    StoreError
        The file cannot be written, or another process holds it.
    """
    path = index_path(root)
    try:
        with _connected(path) as connection:
            index = _up_to_date(connection, store, source)
            yield index
    except sqlite3.DatabaseError as error:
        if not isinstance(error, sqlite3.OperationalError):
            discard_index(root)  # damaged: it is made anew
        raise StoreError(
            f"index of lists {path}: {error}. Check that the folder is writable, then try again; the index is made anew from the log."
        ) from error


def _place_for(path: Path) -> str:
    """The file; where this process may not write, the memory: it is made anew for each look then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ":memory:"
    places = (path, path.parent) if path.exists() else (path.parent,)
    return str(path) if all(os.access(place, os.W_OK) for place in places) else ":memory:"


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    place = _place_for(path)
    with closing(sqlite3.connect(place, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(_SCHEMA)
        yield connection


@dataclass(frozen=True, slots=True)
class ListIndex:
    """The changes of one list.

    Attributes
    ----------
    version
        How many changes there are.
    """

    connection: sqlite3.Connection
    source: SourceNode
    number: int
    version: int

    def members(
        self,
        *,
        keys: Collection[Key] | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[Change]:
        """Keys that are listed, each with the change that listed it, in the order of these: of versions between `after` and `before`."""
        return self._selected(_MEMBERS, "m", keys, after, before, limit=limit, newest_first=newest_first)

    def changes(
        self, *, keys: Collection[Key] | None = None, before: int | None = None, limit: int
    ) -> list[Change]:
        """Changes of versions below `before`, the newest first."""
        return self._selected(_CHANGES, "c", keys, 0, before, limit=limit, newest_first=True)

    def count_members(self, keys: Collection[Key] | None = None) -> int:
        """How many keys are listed, or how many of `keys`."""
        return self._count("members", keys)

    def count_changes(self, keys: Collection[Key] | None = None) -> int:
        """How many changes there are, or how many of `keys`."""
        return self.version if keys is None else self._count("changes", keys)

    def asked_after(self, version: int, *, limit: int) -> list[Change]:
        """The changes that somebody asked for through Penstock, of versions above `version`, oldest first; of forgotten keys none."""
        return self._found(
            f"{_CHANGES} AND c.asked = 1 AND c.version > ? ORDER BY c.version LIMIT ?",
            (self.number, version, limit),
        )

    def version_at(self, time_us: int) -> int:
        """The newest version that somebody asked for at a time, or before."""
        query = (
            "SELECT coalesce(max(version), 0) FROM changes WHERE list = ? AND asked = 1 AND changed_us <= ?"
        )
        return int(self.connection.execute(query, (self.number, time_us)).fetchone()[0])

    def _selected(
        self,
        query: str,
        table: str,
        keys: Collection[Key] | None,
        after: int,
        before: int | None,
        *,
        limit: int,
        newest_first: bool,
    ) -> list[Change]:
        upto = self.version + 1 if before is None else before
        order = f"ORDER BY {table}.version {'DESC' if newest_first else 'ASC'} LIMIT ?"
        ranged = f"{query} AND {table}.version > ? AND {table}.version < ?"
        if keys is None:
            return self._found(f"{ranged} {order}", (self.number, after, upto, limit))
        found: list[Change] = []
        for some in _parts(keys):
            places = ", ".join("?" * len(some))
            found += self._found(
                f"{ranged} AND {table}.key IN ({places}) {order}", (self.number, after, upto, *some, limit)
            )
        return sorted(found, key=lambda one: one.version, reverse=newest_first)[:limit]

    def _count(self, table: str, keys: Collection[Key] | None) -> int:
        query = f"SELECT count(*) FROM {table} WHERE list = ?"  # noqa: S608 - constants
        if keys is None:
            return int(self.connection.execute(query, (self.number,)).fetchone()[0])
        return sum(
            int(
                self.connection.execute(
                    f"{query} AND key IN ({', '.join('?' * len(some))})", (self.number, *some)
                ).fetchone()[0]
            )
            for some in _parts(keys)
        )

    def _found(self, query: str, parameters: Sequence[Any]) -> list[Change]:
        return [_change(row) for row in self.connection.execute(query, parameters)]


def _parts(keys: Collection[Key]) -> Iterator[list[str]]:
    texts = [_text(key) for key in dict.fromkeys(keys)]
    for first in range(0, len(texts), _KEYS_AT_ONCE):
        yield texts[first : first + _KEYS_AT_ONCE]


def _text(key: Key) -> str:
    return msgspec.json.encode(key).decode()


def _change(row: tuple[Any, ...]) -> Change:
    version, position, key, listed, changed_us, expires_us, actor, reason, asked = row
    return Change(
        version=version,
        position=position,
        key=None if key is None else tuple(msgspec.json.decode(key)),
        listed=bool(listed),
        changed_at=None if changed_us is None else from_us(changed_us),
        expires_at=None if expires_us is None else from_us(expires_us),
        actor=actor,
        reason=reason,
        asked=bool(asked),
    )


def _up_to_date(connection: sqlite3.Connection, store: ProjectReader, source: SourceNode) -> ListIndex:
    """Take in what the log got since; some rows a transaction, so that others who wait have their turn."""
    shape, target = _shape(store, source), store.next_position
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            number, position, version = _place(connection, source.name, shape)
            stop = store.next_position  # behind the lock: what others took in is before it
            if position > stop:  # of a log that was put back to an older state
                number, position, version = _afresh(connection, source.name, shape)
            reached, taken = _take_in(
                connection, store, source, number=number, span=(position, stop), version=version
            )
            connection.execute(
                "UPDATE lists SET position = ?, version = ? WHERE number = ?",
                (reached, version + taken, number),
            )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        if reached >= target:
            return ListIndex(connection, source, number, version + taken)


def _shape(store: ProjectReader, source: SourceNode) -> str:
    """What an index must be of: this store, these keys, what was forgotten, and the way it is kept."""
    types = {one.name: one.dtype.name for one in source.fields}
    erasures = store.erasures()
    last = erasures[-1].erased_us if erasures else 0
    keys = [(name, types[name]) for name in key_names(source)]
    return _text((FORMAT, store.store_id, keys, len(erasures), last))


def _place(connection: sqlite3.Connection, name: str, shape: str) -> tuple[int, int, int]:
    """Number of the list, up to where its log was read, and how many changes that were."""
    row = connection.execute(
        "SELECT number, position, version FROM lists WHERE name = ? AND shape = ?", (name, shape)
    ).fetchone()
    return _afresh(connection, name, shape) if row is None else tuple(row)


def _afresh(connection: sqlite3.Connection, name: str, shape: str) -> tuple[int, int, int]:
    row = connection.execute("SELECT number FROM lists WHERE name = ?", (name,)).fetchone()
    if row is not None:
        for table in ("changes", "members"):
            connection.execute(f"DELETE FROM {table} WHERE list = ?", row)  # noqa: S608 - constants
        connection.execute(
            "UPDATE lists SET shape = ?, position = 0, version = 0 WHERE number = ?", (shape, *row)
        )
        return int(row[0]), 0, 0
    made = connection.execute(
        "INSERT INTO lists(name, shape, position, version) VALUES (?, ?, 0, 0)", (name, shape)
    )
    return int(made.lastrowid or 0), 0, 0


def _take_in(
    connection: sqlite3.Connection,
    store: ProjectReader,
    source: SourceNode,
    *,
    number: int,
    span: tuple[int, int],
    version: int,
) -> tuple[int, int]:
    """Take in changes of a span of the log, the first of them at least; up to where, and how many."""
    (position, stop), taken = span, 0
    for batch in store.read_log(position, stop, sources={source.name}):
        fresh = [
            one for one in changes_from(batch, source, version + taken) if position <= one.position < stop
        ]
        _insert(connection, number, fresh)
        taken += len(fresh)
        if taken >= ROWS and fresh:
            return fresh[-1].position + 1, taken
    return stop, taken


def _insert(connection: sqlite3.Connection, number: int, changes: Sequence[Change]) -> None:
    connection.executemany(
        "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (_row(number, one) for one in changes)
    )
    for key, last in _newest(changes):
        connection.execute("DELETE FROM members WHERE list = ? AND key = ?", (number, key))
        if last.listed:
            connection.execute("INSERT INTO members VALUES (?, ?, ?)", (number, key, last.version))


def _newest(changes: Iterable[Change]) -> Iterable[tuple[str, Change]]:
    return {_text(one.key): one for one in changes if one.key is not None}.items()


def _row(number: int, one: Change) -> tuple[Any, ...]:
    return (
        number,
        one.version,
        one.position,
        None if one.key is None else _text(one.key),
        int(one.listed),
        None if one.changed_at is None else to_us(one.changed_at),
        None if one.expires_at is None else to_us(one.expires_at),
        one.actor,
        one.reason,
        int(one.asked),
    )
