"""What alerts have to tell: a follower of the log in a file of its own. Rows and cursor change in one transaction.

A row leaves the state ``waiting`` when its receiver has taken it (``sent``), when it is given up (``dead``), or at once where the alert is
silenced (``silenced``). A power cut may take the newest transactions back, with their cursor: then they are made again, under the same keys.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

BUSY_TIMEOUT_S = 10.0
STATES = ("waiting", "sent", "silenced", "dead")
KEPT_ROWS = 100_000
"""Rows that were sent or silenced are kept up to this number, for the log; dead and waiting ones are always."""
_TIDY_EVERY = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS alerts (name TEXT PRIMARY KEY, since INTEGER NOT NULL, state TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE IF NOT EXISTS silences (alert TEXT PRIMARY KEY, until_us INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS groups (alert TEXT NOT NULL, label TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (alert, label)) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    alert TEXT NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    positions TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_us INTEGER NOT NULL,
    done_us INTEGER,
    error TEXT NOT NULL DEFAULT '',
    UNIQUE (key, target)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (target, due_us, id) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS outbox_by_state ON outbox (alert, state, id);
"""
_INSERT = (
    "INSERT INTO outbox (key, alert, target, kind, created_us, expires_us, body, positions, state, due_us)"
    " VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
)


class Outgoing(NamedTuple):
    """A message to one receiver.

    Attributes
    ----------
    key
        The idempotency key.
    positions
        The events that it tells of, so that it can be taken out when they are forgotten.
    silenced
        Whether it is only noted.
    """

    key: str
    alert: str
    target: str
    kind: str
    created_us: int
    expires_us: int
    body: bytes
    positions: Sequence[int] = ()
    silenced: bool = False


class Due(NamedTuple):
    """A message that waits for its next attempt."""

    id: int
    key: str
    alert: str
    body: bytes
    attempts: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class LogRow:
    """A message and what became of it."""

    id: int
    key: str
    alert: str
    target: str
    kind: str
    created_us: int
    state: str
    attempts: int
    due_us: int
    done_us: int | None
    error: str


_LOG_COLUMNS = "id, key, alert, target, kind, created_us, state, attempts, due_us, done_us, error"


@dataclass(slots=True)
class Changes:
    """What one step of the follower changes, all or nothing.

    Attributes
    ----------
    cursor
        Up to which log position decisions were looked at.
    states
        States of alerts, by name.
    groups
        Open groups by ``(alert, label)``; None where one is closed.
    """

    cursor: int
    messages: list[Outgoing] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    groups: dict[tuple[str, str], str | None] = field(default_factory=dict)


class AlertStore:
    """The outbox of a project's alerts. Safe to use from several threads, and by several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._since_tidy = 0
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)

    def begin(self, store_id: str, names: Iterable[str], end: int, *, since: int) -> int:
        """Start following a log of length `end`, and return the position to go on at.

        Alerts that are new see what comes from `since` on; those that are no more there are new when they come again. A file of another project's log starts anew. A log that has become shorter (a power
        cut took what was not synced) is followed from its end: what comes there is new.
        """
        defined = list(names)
        with self._transaction():
            facts = dict(self._connection.execute("SELECT name, value FROM facts"))
            known = facts.get("store_id") == store_id
            if not known:
                for table in ("alerts", "groups"):
                    self._connection.execute(f"DELETE FROM {table}")
            cursor = min(int(facts["cursor"]), end) if known else end
            self._connection.executemany(
                "INSERT INTO facts VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [("store_id", store_id), ("cursor", str(cursor))],
            )
            self._connection.execute("UPDATE alerts SET since = ?1 WHERE since > ?1", (end,))
            self._connection.executemany(
                "INSERT INTO alerts (name, since) VALUES (?,?) ON CONFLICT DO NOTHING",
                [(name, since) for name in defined],
            )
            marks = ",".join("?" * len(defined))
            self._connection.execute(f"DELETE FROM alerts WHERE name NOT IN ({marks})", defined)
        return cursor

    def since(self) -> dict[str, int]:
        """From which log position on each alert sees decisions."""
        return dict(self._select("SELECT name, since FROM alerts"))

    def states(self) -> dict[str, str]:
        """The states of alerts, by name, as they were committed."""
        return dict(self._select("SELECT name, state FROM alerts WHERE state <> ''"))

    def groups(self) -> list[str]:
        """The open groups."""
        return [content for (content,) in self._select("SELECT content FROM groups ORDER BY rowid")]

    def cursor(self) -> int:
        """Up to which log position decisions were looked at."""
        found = self._select("SELECT value FROM facts WHERE name = 'cursor'")
        return int(found[0][0]) if found else 0

    def commit(self, changes: Changes) -> None:
        """Store what a step changes."""
        with self._transaction():
            run = self._connection
            run.execute("UPDATE facts SET value = ? WHERE name = 'cursor'", (str(changes.cursor),))
            run.executemany(_INSERT, [_row(message) for message in changes.messages])
            run.executemany("UPDATE alerts SET state = ?2 WHERE name = ?1", list(changes.states.items()))
            run.executemany(
                "INSERT INTO groups VALUES (?,?,?) ON CONFLICT (alert, label) DO UPDATE SET content = excluded.content",
                [(*key, content) for key, content in changes.groups.items() if content is not None],
            )
            run.executemany(
                "DELETE FROM groups WHERE alert = ? AND label = ?",
                [key for key, content in changes.groups.items() if content is None],
            )
            self._since_tidy += len(changes.messages)
            if self._since_tidy >= _TIDY_EVERY:
                self._since_tidy = 0
                run.execute(
                    "DELETE FROM outbox WHERE state IN ('sent', 'silenced') AND id <= (SELECT max(id) FROM outbox) - ?",
                    (KEPT_ROWS,),
                )

    def due(self, target: str, now_us: int, *, limit: int = 50) -> list[Due]:
        """Messages to a receiver whose next attempt is due, the longest waiting first."""
        query = (
            "SELECT id, key, alert, body, attempts, expires_us FROM outbox WHERE state = 'waiting' AND target = ? AND due_us <= ?"
            " ORDER BY due_us, id LIMIT ?"
        )
        return [Due(*row) for row in self._select(query, (target, now_us, limit))]

    def due_count(self, targets: Sequence[str], now_us: int) -> int:
        """How many messages to these receivers are due."""
        marks = ",".join("?" * len(targets))
        query = f"SELECT count(*) FROM outbox WHERE state = 'waiting' AND due_us <= ? AND target IN ({marks})"
        return int(self._select(query, (now_us, *targets))[0][0])

    def sent(self, id_: int, now_us: int) -> None:
        """A message was taken."""
        self._change(
            "UPDATE outbox SET state = 'sent', attempts = attempts + 1, done_us = ?, error = '' WHERE id = ?",
            (now_us, id_),
        )

    def failed(self, id_: int, error: str, *, due_us: int) -> None:
        """An attempt failed; the next is due at a time."""
        self._change(
            "UPDATE outbox SET attempts = attempts + 1, error = ?, due_us = ? WHERE id = ? AND state = 'waiting'",
            (error, due_us, id_),
        )

    def dead(self, id_: int, error: str, now_us: int) -> None:
        """The last attempt failed; the message is put aside."""
        self._change(
            "UPDATE outbox SET state = 'dead', attempts = attempts + 1, error = ?, done_us = ? WHERE id = ?",
            (error, now_us, id_),
        )

    def expire(self, now_us: int) -> None:
        """Put aside what waited for too long, such as for a receiver that is no more defined."""
        self._change(
            "UPDATE outbox SET state = 'dead', done_us = ?1, error = 'not taken in time; lately: ' || error"
            " WHERE state = 'waiting' AND expires_us <= ?1",
            (now_us,),
        )

    def revive(self, alert: str, now_us: int, *, give_up_after_us: int) -> int:
        """Let dead messages of an alert wait again; how many there were."""
        return self._change(
            "UPDATE outbox SET state = 'waiting', attempts = 0, due_us = ?2, expires_us = ?2 + ?3, done_us = NULL"
            " WHERE state = 'dead' AND alert = ?1",
            (alert, now_us, give_up_after_us),
        )

    def silence(self, alert: str, until_us: int) -> None:
        """Only note what an alert has to tell, until a time."""
        self._change(
            "INSERT INTO silences VALUES (?,?) ON CONFLICT (alert) DO UPDATE SET until_us = excluded.until_us",
            (alert, until_us),
        )

    def silences(self, now_us: int) -> dict[str, int]:
        """Until when which alerts are silenced."""
        return dict(self._select("SELECT alert, until_us FROM silences WHERE until_us > ?", (now_us,)))

    def counts(self) -> dict[str, dict[str, int]]:
        """How many messages of each alert are in each state."""
        found: dict[str, dict[str, int]] = {}
        for alert, state, count in self._select(
            "SELECT alert, state, count(*) FROM outbox GROUP BY alert, state"
        ):
            found.setdefault(alert, {})[state] = count
        return found

    def log(
        self,
        *,
        alert: str | None = None,
        state: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[LogRow]:
        """The newest messages, newest first: all, or those with an id less than `before`."""
        query = (
            f"SELECT {_LOG_COLUMNS} FROM outbox WHERE (?1 IS NULL OR alert = ?1) AND (?2 IS NULL OR state = ?2)"
            " AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?3"
        )
        return [LogRow(*row) for row in self._select(query, (alert, state, limit, before))]

    def erase(self, positions: Iterable[int]) -> int:
        """Take forgotten events out of messages and groups; how many of these were changed.

        A message of which nothing is left goes; of a group the others stay.
        """
        gone, changed = set(positions), 0
        with self._transaction():
            run = self._connection
            for id_, held, body in run.execute(
                "SELECT id, positions, body FROM outbox WHERE positions <> '[]'"
            ).fetchall():
                left = _without(json.loads(held), gone, json.loads(body))
                if left is None:
                    continue
                changed += 1
                kept, content = left
                if kept:
                    run.execute(
                        "UPDATE outbox SET positions = ?, body = ? WHERE id = ?",
                        (json.dumps(kept), _json(content), id_),
                    )
                else:
                    run.execute("DELETE FROM outbox WHERE id = ?", (id_,))
            for alert, label, text in run.execute("SELECT alert, label, content FROM groups").fetchall():
                group = json.loads(text)
                left = _without(group["positions"], gone, {"data": group})
                if left is None:
                    continue
                changed += 1
                run.execute("DELETE FROM groups WHERE alert = ? AND label = ?", (alert, label))
                if left[0]:
                    group["positions"] = left[0]
                    run.execute("INSERT INTO groups VALUES (?,?,?)", (alert, label, _json(group).decode()))
        if changed:
            with self._guarded(), self._lock:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return changed

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _select(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._guarded(), self._lock:
            return self._connection.execute(query, parameters).fetchall()

    def _change(self, statement: str, parameters: Sequence[Any]) -> int:
        with self._guarded(), self._lock:
            return self._connection.execute(statement, parameters).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guarded(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"alerts {self._path}: {error}. Check that the folder is writable and the disk not full; decisions are not affected, "
                "and what is to be told waits."
            ) from error


def _row(message: Outgoing) -> tuple[Any, ...]:
    state = "silenced" if message.silenced else "waiting"
    return (*message[:7], json.dumps(list(message.positions)), state, message.created_us)


def _without(
    positions: list[int], gone: set[int], content: dict[str, Any]
) -> tuple[list[int], Mapping[str, Any]] | None:
    """Positions that are left, and the content without the events at the others; None where nothing is to go."""
    kept = [i for i, position in enumerate(positions) if position not in gone]
    if len(kept) == len(positions):
        return None
    data = content["data"]
    if "events" in data:
        data["events"] = [data["events"][i] for i in kept]
    return [positions[i] for i in kept], content


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
