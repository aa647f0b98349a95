"""One connection to PostgreSQL, with the surface that the stores know from SQLite's driver.

1. The stores' statements are written for both: what differs between the dialects is rewritten here, once a statement.
2. Texts may hold the character NUL, which PostgreSQL's cannot: it is escaped on the way in, and back on the way out.
3. No wait is without an end: connecting, a statement on the server, and a server that does not answer at all.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.string import StrDumperUnknown, TextBinaryLoader

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg.abc import Buffer

    from penstock.stores.connection import Durability
    from penstock.stores.postgres.target import Target

PATIENCE_BEYOND_S = 5.0
"""How much longer than the server's own timeout the client waits for an answer."""

_LISTED = "IN (SELECT json_each.value FROM json_each(?))"
_ANY = "= ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text(?::json)))"


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that gives a server up which does not answer, whatever the network says."""

    answer_s = 60.0
    """How long an answer may take."""

    def wait(self, gen: Generator[Any, Any, Any], *given: Any, **named: Any) -> Any:
        """As the driver's, with an end."""
        try:
            return super().wait(_within(gen, self.answer_s), *given, **named)
        except _Silent as error:
            self.pgconn.finish()
            raise psycopg.OperationalError(str(error)) from error


class _Silent(Exception):  # noqa: N818 - on its way to become the driver's own
    pass


def _within(gen: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """`gen`, which waits for a socket, until it has waited so long at a stretch."""
    give_up = monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                give_up = monotonic() + seconds
            elif monotonic() > give_up:
                raise _Silent(f"the server gave no answer within {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value


class Session:
    """A connection in autocommit mode. One thread at a time may use it; `reopen` makes another in its place."""

    def __init__(
        self, target: Target, *, access: Literal["write", "read"], durability: Durability = "power"
    ) -> None:
        self._target = target
        self._access = access
        self._durability = durability
        self._connection = self._connected()

    @property
    def driver(self) -> psycopg.Connection[TupleRow]:
        """The driver's connection, for what only PostgreSQL has."""
        return self._connection

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; not where the connection is lost, since the server ends it then."""
        status = self._connection.info.transaction_status
        return status not in {TransactionStatus.IDLE, TransactionStatus.UNKNOWN}

    @property
    def backend(self) -> int:
        """The number of the server's process behind the connection."""
        return self._connection.info.backend_pid

    def execute(self, statement: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[TupleRow]:
        """Run one statement, written for SQLite or for both."""
        return self._connection.execute(_rewritten(statement), parameters, binary=True)

    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]], /) -> psycopg.Cursor[TupleRow]:
        """Run one statement for each row of parameters."""
        cursor = self._connection.cursor()
        cursor.executemany(_rewritten(statement), parameters)
        return cursor

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let statements take as long as they need, for what rebuilds tables and indexes."""
        usual_s, self._connection.answer_s = self._connection.answer_s, float("inf")
        self._connection.execute("SET statement_timeout = 0")
        try:
            yield
        finally:
            self._connection.answer_s = usual_s
            if not self._connection.closed:
                self._connection.execute(f"SET statement_timeout = {self._timeout_ms}")

    def reopen(self) -> None:
        """Another connection in the place of this one."""
        self._connection.close()
        self._connection = self._connected()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def _timeout_ms(self) -> int:
        return round(self._target.statement_timeout_s * 1000)

    def _connected(self) -> BoundedConnection:
        target = self._target
        silent_s = target.statement_timeout_s + PATIENCE_BEYOND_S
        connection = BoundedConnection.connect(
            make_conninfo(
                target.url,
                client_encoding="utf8",
                connect_timeout=max(2, round(target.connect_timeout_s)),
                tcp_user_timeout=round(silent_s * 1000),
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                application_name=f"penstock: {this_process()}"[:63],
            ),
            autocommit=True,
        )
        assert isinstance(connection, BoundedConnection)
        connection.answer_s = silent_s
        connection.adapters.register_dumper(str, _EscapingDumper)
        connection.adapters.register_loader("text", _EscapingLoader)
        self._configure(connection)
        return connection

    def _configure(self, connection: psycopg.Connection[TupleRow]) -> None:
        timeout = f"{self._timeout_ms}ms"
        chosen = {
            "search_path": sql.Identifier(self._target.schema).as_string(connection) + ", pg_catalog",
            "statement_timeout": timeout,
            "lock_timeout": timeout,
            "idle_in_transaction_session_timeout": f"{round(2000 * self._target.statement_timeout_s)}ms",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "client_min_messages": "warning",
            "timezone": "UTC",
            "synchronous_commit": "on" if self._durability == "power" else "off",
            "default_transaction_read_only": "on" if self._access == "read" else "off",
        }
        calls = ", ".join(["set_config(%s, %s, false)"] * len(chosen))
        connection.execute(f"SELECT {calls}", [text for pair in chosen.items() for text in pair])


def this_process() -> str:
    """The process that asks, as others may know it."""
    return f"process {os.getpid()} on {platform.node()}"


@lru_cache(maxsize=512)
def _rewritten(statement: str) -> bytes:
    """A statement of the stores as PostgreSQL and its driver take it."""
    if statement == "BEGIN IMMEDIATE":
        return b"BEGIN"
    return statement.replace(_LISTED, _ANY).replace("%", "%%").replace("?", "%s").encode()


class _EscapingDumper(StrDumperUnknown):
    """Texts as `escaped` makes them."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(escaped(obj))


class _EscapingLoader(TextBinaryLoader):
    def load(self, data: Buffer) -> str | bytes:
        text = super().load(data)
        return _unescaped(text) if isinstance(text, str) and "\x01" in text else text


def escaped(text: str) -> str:
    """A text as PostgreSQL can hold it.

    >>> escaped("a" + chr(0) + "b") == "a" + chr(1) + "0b"
    True
    """
    if "\0" in text or "\x01" in text:
        return text.replace("\x01", "\x011").replace("\0", "\x010")
    return text


def _unescaped(text: str) -> str:
    return text.replace("\x010", "\0").replace("\x011", "\x01")
