"""The changes of a PostgreSQL table, by logical replication: first its rows as they are, then every change in commit order.

1. The slot is made first. It says from where on changes come, and exports what the table held there.
2. The rows of that moment are read; they count from the moment at which reading began.
3. Changes come over a connection of their own, whole transactions at a time, each with the place behind it.
4. The server keeps what is not confirmed. Only what is durable with us is confirmed, so that nothing is lost on either side.
"""

from __future__ import annotations

import re
import select
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.connectors.pgoutput import Changes, Row, Transaction
from penstock.core.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import psycopg

    from penstock.definitions.postgres_configs import PostgresChangesConfig

CONFIRM_EVERY_S = 1.0
_KEEPALIVE, _DATA, _REPLY = b"k", b"w", b"r"
_WAIT_FOR_SLOT_S = 10.0
_WAIT_FOR_END_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Beginning:
    """From where on changes come, when reading began, and the snapshot with what the table held there ("": as it is now)."""

    place: int
    time_us: int
    snapshot: str


class TableChanges:
    """Reads the changes of one table. One thread at a time may use it.

    Parameters
    ----------
    config, url
        Which table, and its database with environment variables put in.
    source
        Whose rows they become.
    reader
        What tells this project from others that read the table: it names slot and publication, where the config does not.
    """

    def __init__(self, config: PostgresChangesConfig, *, url: str, source: str, reader: str) -> None:
        _library()
        self._config = config
        self._url = url
        self._owner = owner = f"source {source!r}"
        name = f"penstock_{re.sub('[^a-z0-9_]', '_', source.lower())[:40]}_{reader[:8]}"
        self.slot = config.slot or name
        self.publication = config.publication or name
        self._stream: psycopg.Connection[Any] | None = None
        self._changes = Changes(owner, config.table, config.key)
        self._confirmed_s = 0.0
        self._sent = 0  # by the server, as far as we know
        self._quiet = True  # no transaction is half received

    def close(self) -> None:
        """Leave the slot as it is."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @contextmanager
    def begin(self) -> Iterator[Beginning]:
        """Make publication and slot, and hold what the table contains at the slot's beginning while open.

        A slot of ours from a beginning that was not completed is made anew. Of one made by hand it is not known what the table held when
        it was made: the table counts as it is now, and changes from before have their own times. Raises `InputError` where server, table or rights are not
        as they must be.
        """
        with self._errors("beginning"), closing(self._connect()) as plain:
            self._check_server(plain)
            (time_us,) = _row(
                plain.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            )
            self._publish(plain)
            place = self._slot_place(plain)
            if place is not None and self._config.slot is not None:
                yield Beginning(place, time_us, "")
                return
            if place is not None:
                self._drop(plain)
            with closing(self._connect(replication=True)) as stream:
                made = f"CREATE_REPLICATION_SLOT \"{self.slot}\" LOGICAL pgoutput (SNAPSHOT 'export')"
                row = _row(stream.execute(made))
                yield Beginning(place_of(row[1]), time_us, row[2])

    def rows(self, beginning: Beginning, size: int) -> Iterator[list[Row]]:
        """The rows of the table at the beginning, as texts, up to `size` at a time."""
        from psycopg import sql

        with self._errors("reading the table"), closing(self._connect()) as plain:
            plain.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if beginning.snapshot:
                plain.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(beginning.snapshot)))
            looked = plain.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(self._table(sql)))
            names = [column.name for column in looked.description or ()]
            texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
            with plain.cursor(name="penstock_rows") as cursor:
                cursor.execute(sql.SQL("SELECT {} FROM {}").format(texts, self._table(sql)))
                while rows := cursor.fetchmany(size):
                    yield [dict(zip(names, row, strict=True)) for row in rows]

    def transactions(self, place: int, *, whole: bool) -> Iterator[Transaction]:
        """The transactions behind `place` that the server has sent by now; goes on where the last call ended.

        With `whole`, those that it has not sent yet, too, up to its present end.

        Raises `InputError` where the slot is gone, or somebody else reads from it.
        """
        with self._errors("reading changes"):
            stream = self._stream or self._start(place)
            end = self._end() if whole else 0
            give_up = time.monotonic() + _WAIT_FOR_END_S
            while True:
                for message in self._messages(stream):
                    transaction = self._changes.take(message)
                    self._quiet = message[:1] != b"B" and (self._quiet or transaction is not None)
                    give_up = time.monotonic() + _WAIT_FOR_END_S
                    if transaction is not None and transaction.end > place:
                        yield transaction
                if self._sent >= end:
                    return
                if time.monotonic() > give_up:
                    raise InputError(
                        f"{self._owner}: the server sent nothing for {_WAIT_FOR_END_S:g} s. Try again."
                    )
                self._answer(stream, place, ask=True)
                select.select([stream.pgconn.socket], [], [], _POLL_S)

    @property
    def confirmation_due(self) -> bool:
        """Whether it is time to tell the server what is durable."""
        return self._stream is not None and time.monotonic() - self._confirmed_s >= CONFIRM_EVERY_S

    def confirm(self, place: int, *, read_to: int) -> None:
        """Let the server forget what is before `place`, which is durable.

        Where that is all that was read, it may forget all that it has looked at: other tables' changes, for one.
        """
        if self._stream is None:
            return
        with self._errors("confirming"):
            upto = max(place, self._sent) if place >= read_to and self._quiet else place
            self._answer(self._stream, upto, ask=False)
            self._confirmed_s = time.monotonic()

    def _answer(self, stream: psycopg.Connection[Any], upto: int, *, ask: bool) -> None:
        """Tell the server what it may forget; `ask`: to be told how far it has come."""
        stream.pgconn.put_copy_data(_REPLY + struct.pack(">QQQqB", upto, upto, upto, 0, int(ask)))
        stream.pgconn.flush()

    def _end(self) -> int:
        """The present end of the server's log."""
        with closing(self._connect()) as plain:
            return place_of(_row(plain.execute("SELECT pg_current_wal_flush_lsn()::text"))[0])

    def _messages(self, stream: psycopg.Connection[Any]) -> Iterator[bytes]:
        """What the server has sent, without waiting for more."""
        while True:
            size, data = stream.pgconn.get_copy_data(1)
            if size == 0:
                stream.pgconn.consume_input()
                size, data = stream.pgconn.get_copy_data(1)
                if size == 0:
                    return
            if size < 0:
                raise _library().OperationalError(
                    stream.pgconn.error_message.decode() or "the server ended the stream"
                )
            message = bytes(data)
            if message[:1] == _DATA:
                yield message[25:]
            elif message[:1] == _KEEPALIVE:
                (self._sent,) = struct.unpack_from(">Q", message, 1)
                if message[17]:
                    self._confirmed_s = 0.0

    def _start(self, place: int) -> psycopg.Connection[Any]:
        give_up = time.monotonic() + _WAIT_FOR_SLOT_S
        stream = self._connect(replication=True)
        options = f"proto_version '1', publication_names '{self.publication}'"
        command = f'START_REPLICATION SLOT "{self.slot}" LOGICAL {shown_place(place)} ({options})'
        from psycopg.pq import ExecStatus

        while True:
            result = stream.pgconn.exec_(command.encode())
            if result.status == ExecStatus.COPY_BOTH:
                break
            said = result.error_message.decode().strip()
            if "is active" not in said or time.monotonic() > give_up:
                stream.close()
                raise self._not_started(said)
            time.sleep(0.1)  # a server notices late that a killed reader is gone
        stream.pgconn.nonblocking = 1
        self._stream, self._sent, self._quiet = stream, 0, True
        self._changes = Changes(self._owner, self._config.table, self._config.key)
        return stream

    def _not_started(self, said: str) -> InputError:
        advice = "Stop the other reader, or give this one a slot of its own."
        if "does not exist" in said:
            advice = (
                "Changes since it was dropped are lost to it: rename the source, so that the table is read anew, or make the "
                "publication again if it is that."
            )
        return InputError(f"{self._owner}: reading from slot {self.slot!r} failed: {said}. {advice}")

    def _publish(self, plain: psycopg.Connection[Any]) -> None:
        from psycopg import sql

        known = plain.execute(
            "SELECT 1 FROM pg_publication WHERE pubname = %s", (self.publication,)
        ).fetchone()
        if known is None:
            plain.execute(
                sql.SQL(
                    "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete')"
                ).format(sql.Identifier(self.publication), self._table(sql))
            )
        inside = plain.execute(
            "SELECT 1 FROM pg_publication_tables WHERE pubname = %s AND schemaname || '.' || tablename = %s",
            (self.publication, self._config.table),
        ).fetchone()
        if inside is None:
            raise InputError(
                f"{self._owner}: the publication {self.publication!r} does not hold {self._config.table}. Run: ALTER PUBLICATION "
                f"{self.publication} ADD TABLE {self._config.table}."
            )

    def _check_server(self, plain: psycopg.Connection[Any]) -> None:
        (level,) = _row(plain.execute("SHOW wal_level"))
        if level != "logical":
            raise InputError(
                f"{self._owner}: the server's wal_level is {level!r}; allowed is 'logical'. Run: ALTER SYSTEM SET wal_level = logical, "
                "then restart the server."
            )
        table = self._config.table
        there = plain.execute(
            "SELECT relreplident IN ('f', 'i') OR EXISTS (SELECT 1 FROM pg_index WHERE indrelid = c.oid AND indisprimary) "
            "FROM pg_class c WHERE oid = to_regclass(%s)",
            (table,),
        ).fetchone()
        if there is None:
            raise InputError(f"{self._owner}: there is no table {table}. Correct the table of its config.")
        if not there[0]:
            raise InputError(
                f"{self._owner}: {table} has no primary key, and publishing it would forbid its updates; allowed is a table whose rows "
                f"have an identity. Give it a primary key, or run: ALTER TABLE {table} REPLICA IDENTITY FULL."
            )

    def _slot_place(self, plain: psycopg.Connection[Any]) -> int | None:
        """From where on the slot has changes; None where there is no slot."""
        found = plain.execute(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (self.slot,)
        ).fetchone()
        return None if found is None else place_of(found[0])

    def _drop(self, plain: psycopg.Connection[Any]) -> None:
        plain.execute("SELECT pg_drop_replication_slot(%s)", (self.slot,))

    def _table(self, sql: Any) -> Any:
        return sql.SQL(".").join(map(sql.Identifier, self._config.table.split(".")))

    def _connect(self, *, replication: bool = False) -> psycopg.Connection[Any]:
        more = {"replication": "database"} if replication else {}
        connection: psycopg.Connection[Any] = _library().Connection.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            tcp_user_timeout=30_000,
            options="-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1 -c lock_timeout=30s",
            application_name="penstock changes",
            cursor_factory=_library().ClientCursor,
            **more,
        )
        return connection

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _library().Error as error:
            self.close()
            raise InputError(
                f"{self._owner}: {doing} of {self._config.table} failed ({str(error).strip()}). Check that the server runs, and that the "
                "user may read the table and has the right REPLICATION."
            ) from error


def _row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    """The one row of a statement that always has one."""
    row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None
    return row


def place_of(text: str) -> int:
    """A place in the server's log (LSN) as a number.

    >>> place_of("1/A0")
    4294967456
    """
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def shown_place(place: int) -> str:
    """The LSN of `place_of`.

    >>> shown_place(4294967456)
    '1/A0'
    """
    return f"{place >> 32:X}/{place & 0xFFFF_FFFF:X}"


def _library() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingDependencyError(
            "PostgresConfig and PostgresChangesConfig: psycopg is not installed. Run: pip install 'penstock[postgres]'."
        ) from error
    return psycopg
