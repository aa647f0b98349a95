"""The rows of a PostgreSQL table in the order of a cursor, each once, whatever the order in which transactions commit.

A look asks first which transactions have ended (a `Horizon`), then reads pages of

1. late rows: before the place's cursor, of transactions that had not ended at the last look;
2. new rows: behind it, of transactions that had ended when this look began. Below the floor all are taken (see `table_places`).

So what a place stands for does not depend on when it was reached, and reading again from it gives the rows that were not read. Rows are told
by the number of the transaction that wrote them (``xmin``), which PostgreSQL keeps in 32 bits: the others follow from its present end, since a
visible row's transaction is before that. The list of running transactions in a snapshot leaves out subtransactions (savepoints), so each number
is asked for by itself (``pg_xact_status``); a number is asked until its transaction has ended, so a look asks for few.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.connectors.table_columns import TableColumns, columns_of
from penstock.connectors.table_places import NOTHING_ENDED, Horizon, TablePlace, beginning
from penstock.core.errors import InputError, MissingDependencyError, UnreachableError
from penstock.definitions.postgres_configs import with_environment

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composable

    from penstock.definitions.postgres_stream_configs import PostgresStreamConfig
    from penstock.plan.nodes import SourceNode

MOST_EQUAL = 100_000
"""Most rows behind a page's end with the cursor of its last row."""
CHECK_EVERY_S = 60.0
MOST_COUNTED = 1000
_NOT_FINITE = re.compile(rb'"(?:NaN|-?Infinity)"')
_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

_HORIZON = """
WITH snapshot AS MATERIALIZED (
    SELECT pg_snapshot_xmin(s)::text::bigint AS oldest, pg_snapshot_xmax(s)::text::bigint AS ending FROM pg_current_snapshot() s
), asked AS (
    SELECT generate_series(greatest({known}, oldest), ending - 1) AS number FROM snapshot
    UNION ALL
    SELECT generate_series(greatest(lower(span), oldest), upper(span) - 1) FROM snapshot, unnest({unfinished}::int8multirange) span
)
SELECT (SELECT ending FROM snapshot), coalesce(range_agg(int8range(number, number + 1)), '{{}}')::text
FROM asked WHERE pg_xact_status(number::text::xid8) = 'in progress'
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows: as JSON, and their cursors; the places before and behind them; whether to go on at once.

    `note` is what is to be said of the table; empty where there is nothing.
    """

    lines: list[bytes]
    cursors: list[tuple[str, ...]]
    start: TablePlace
    place: TablePlace
    more: bool
    note: str = ""

    def offset_after(self, rows: int) -> str:
        """The place behind so many of the rows, as a text; among rows of equal cursors it is before them."""
        return self._place_after(rows).to_text()

    def _place_after(self, rows: int) -> TablePlace:
        while 0 < rows < len(self.cursors) and self.cursors[rows - 1] == self.cursors[rows]:
            rows -= 1
        if rows == len(self.cursors):
            return self.place
        return self.start.behind(self.cursors[rows - 1]) if rows else self.start


class TableRows:
    """Reads one table. One thread at a time may use it.

    Parameters
    ----------
    config
        Which table, and its database.
    source
        Whose rows they become. One with event ids is read anew where the table was made anew, since the log knows the rows that it has.
    """

    def __init__(self, config: PostgresStreamConfig, source: SourceNode) -> None:
        _library()
        self._config = config
        self.source = source
        self._owner = f"source {source.name!r}"
        self._floats = [f.name for f in source.fields if f.dtype.kind == "float"]
        self._connection: psycopg.Connection[Any] | None = None
        self._columns: TableColumns | None = None
        self._complete: TablePlace | None = None
        self._checked_s = float("-inf")
        self._unread = ""

    def close(self) -> None:
        """End the connection; the next page makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def page(self, place: TablePlace | None, rows: int, *, go_on: bool) -> Page:
        """The next rows behind `place` (None: from the start), about `rows` of them at most; `go_on` within a look that has more.

        Raises
        ------
        UnreachableError
            The server is away, or does not let us in.
        InputError
            The table is not as it must be, or may not be read.
        """
        with self._errors():
            connection, columns = self._connected()
            if not go_on or place is None:
                place = self._looking(connection, columns, place)
            if place == self._complete:
                return self._ended(place)
            if place.now is not None:
                found = self._rows(connection, columns, self._late(columns, place), rows)
                if found:
                    settled = len(found) < rows
                    end = place.settled() if settled else place.behind(found[-1][1:])
                    return self._paged(found, place, end, more=True)
                place = place.settled()
            found = self._rows(connection, columns, self._new(columns, place), rows)
            if not found:
                self._complete = place
                return self._ended(place)
            return self._paged(found, place, place.behind(found[-1][1:]), more=len(found) >= rows)

    def _ended(self, place: TablePlace) -> Page:
        return Page([], [], place, place, more=False, note=self._note())

    def _paged(
        self, found: Sequence[tuple[Any, ...]], start: TablePlace, end: TablePlace, *, more: bool
    ) -> Page:
        if not more:
            self._complete = end
        lines = [self._line(row[0]) for row in found]
        return Page(lines, [row[1:] for row in found], start, end, more, self._note())

    def _note(self) -> str:
        assert self._columns is not None
        found = [text for text in (self._columns.note, self._unread) if text]
        return f"{self._owner}: of {self._config.table} {'; '.join(found)}" if found else ""

    def _line(self, line: bytes) -> bytes:
        """A row as JSON; what is no number among its numbers stands there as in Python's JSON, not as a text."""
        if not self._floats or not _NOT_FINITE.search(line):
            return line
        row = json.loads(line)
        for name in self._floats:
            if isinstance(row[name], str):
                row[name] = _NUMBERS.get(row[name], row[name])
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()

    def _looking(
        self, connection: psycopg.Connection[Any], columns: TableColumns, place: TablePlace | None
    ) -> TablePlace:
        """The place from which a look begins; the very same as at the end of the last one where no transaction ended since."""
        if time.monotonic() >= self._checked_s + CHECK_EVERY_S:
            self._unread = self._uncounted(connection, columns)
            self._checked_s = time.monotonic()
        newest = self._newest(connection, columns)
        now = self._horizon(connection, NOTHING_ENDED if place is None else place.seen)
        if place is None:
            return beginning(columns.table, now, newest)
        if place.table != columns.table:
            return self._made_anew(columns, now, newest)
        if now.end < place.seen.end:  # another server took over, which had not come so far
            place = TablePlace(
                place.table, NOTHING_ENDED, place.older, place.older._replace(number=0), place.after
            )
            now = self._horizon(connection, NOTHING_ENDED)
        if place == self._complete and now == place.seen:
            return place
        if place.now is not None:
            return place  # late rows are being read: they are those of that look
        return place.looking(now, newest)

    def _made_anew(self, columns: TableColumns, now: Horizon, newest: str | None) -> TablePlace:
        if self.source.id_field is None:
            raise InputError(
                f"{self._owner}: {self._config.table} was dropped and made anew since it was last read, and without event ids it is not known "
                "which of its rows the log has. Rename the source to read all of it, or give it an event_id_field."
            )
        return beginning(columns.table, now, newest)

    def _horizon(self, connection: psycopg.Connection[Any], seen: Horizon) -> Horizon:
        from psycopg.sql import SQL, Literal

        statement = SQL(_HORIZON).format(known=Literal(seen.end), unfinished=Literal(seen.unfinished))
        return Horizon(*connection.execute(statement).fetchone())  # type: ignore[misc]

    def _newest(self, connection: psycopg.Connection[Any], columns: TableColumns) -> str | None:
        """The greatest cursor of the table (its first column); what lies in the future does not count."""
        from psycopg.sql import SQL

        first, statement = self._names()[0], "SELECT {0}::text FROM {1} r WHERE {2} ORDER BY {0} DESC LIMIT 1"
        read = SQL(statement).format(first, self._table(), self._present(columns))
        found = connection.execute(read).fetchone()
        return None if found is None else found[0]

    def _uncounted(self, connection: psycopg.Connection[Any], columns: TableColumns) -> str:
        """What is to be said of rows without a cursor, and of those that lie in the future."""
        from psycopg.sql import SQL, Identifier, Literal

        told, minute = [], SQL("now() + interval '1 minute'")
        asked = [(name, SQL("{} IS NULL").format(Identifier("r", name)), "null") for name in columns.nullable]
        if columns.ordered_by_time:
            ahead = SQL("{} > {}").format(self._names()[0], minute)
            asked.append(
                (self._config.cursor[0], ahead, "ahead of the server's clock, and they wait for that time")
            )
        statement = "SELECT count(*) FROM (SELECT 1 FROM {} r WHERE {} LIMIT {}) counted"
        for name, where, what in asked:
            limit = Literal(MOST_COUNTED)
            row = connection.execute(SQL(statement).format(self._table(), where, limit)).fetchone()
            count = 0 if row is None else row[0]
            if count:
                more = " or more" if count == MOST_COUNTED else ""
                told.append(f"{count}{more} rows are not read, since their {name} is {what}")
        return "; ".join(told)

    def _rows(
        self,
        connection: psycopg.Connection[Any],
        columns: TableColumns,
        where: Composable,
        rows: int,
    ) -> list[tuple[Any, ...]]:
        from psycopg.sql import SQL, Identifier, Literal

        values = SQL(", ").join(
            SQL("{0}::timestamp AS {1}" if f.name in columns.dates else "{0} AS {1}").format(
                Identifier("r", f.name), Identifier(f.name)
            )
            for f in self.source.fields
        )
        statement = SQL(
            "SELECT * FROM (SELECT convert_to((SELECT row_to_json(one) FROM (SELECT {values}) one)::text, 'UTF8') AS line, {keys} "
            "FROM {table} r WHERE {where} AND {present} ORDER BY {names} FETCH FIRST {rows} ROWS WITH TIES) page LIMIT {most}"
        ).format(
            values=values,
            keys=SQL(", ").join(
                SQL("{}::text AS {}").format(name, Identifier(f"key{number}"))
                for number, name in enumerate(self._names())
            ),
            table=self._table(),
            where=where,
            present=self._present(columns),
            names=SQL(", ").join(self._names()),
            rows=Literal(rows),
            most=Literal(rows + MOST_EQUAL + 1),
        )
        found = connection.execute(statement, binary=True).fetchall()
        if len(found) > rows + MOST_EQUAL:
            raise InputError(
                f"{self._owner}: more than {MOST_EQUAL} rows of {self._config.table} have one cursor, {found[-1][1:]}, so they cannot be read page "
                f"by page. Add a column to the cursor that tells them apart, the primary key for one: {[*self._config.cursor, 'id']}."
            )
        return found

    def _new(self, columns: TableColumns, place: TablePlace) -> Composable:
        """Which rows are new."""
        from psycopg.sql import SQL

        known = self._ended_in(place.seen)
        if place.floor is not None:
            known = SQL("({} < {} OR {})").format(self._names()[0], self._floor(columns, place.floor), known)
        if place.after is None:
            return known
        return SQL("{} > {} AND {}").format(self._cursor(), self._value(columns, place.after), known)

    def _late(self, columns: TableColumns, place: TablePlace) -> Composable:
        """Which rows are late."""
        from psycopg.sql import SQL

        assert place.after is not None
        assert place.now is not None
        found = [
            SQL("{} <= {}").format(self._cursor(), self._value(columns, place.after)),
            self._ended_in(place.now),
            SQL("NOT {}").format(self._ended_in(place.seen)),
        ]
        if place.floor is not None:
            found.append(SQL("{} >= {}").format(self._names()[0], self._floor(columns, place.floor)))
        if place.late is not None:
            found.append(SQL("{} > {}").format(self._cursor(), self._value(columns, place.late)))
        return SQL(" AND ").join(found)

    def _ended_in(self, horizon: Horizon) -> Composable:
        """Whether a row's transaction is among those that had ended."""
        from psycopg.sql import SQL, Literal

        ending = SQL("(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)")
        number = SQL("({0} + ((r.xmin::text::bigint - {0}) & 4294967295) - 4294967296)").format(ending)
        return SQL("({0} < {1} AND NOT {0} <@ {2}::int8multirange)").format(
            number, Literal(horizon.end), Literal(horizon.unfinished)
        )

    def _present(self, columns: TableColumns) -> Composable:
        """Whether a row has a cursor, and its time has come."""
        from psycopg.sql import SQL, Identifier

        found = [SQL("{} IS NOT NULL").format(Identifier("r", name)) for name in columns.nullable]
        if columns.ordered_by_time:
            found.append(SQL("{} <= now()").format(self._names()[0]))
        return SQL(" AND ").join(found) if found else SQL("true")

    def _floor(self, columns: TableColumns, newest: str) -> Composable:
        from psycopg.sql import SQL, Literal

        if columns.ordered_by_time:
            text = "({0}::{1} - make_interval(secs => {2}))"
            return SQL(text).format(Literal(newest), SQL(columns.cursor[0]), Literal(columns.look_back))
        return SQL("({}::bigint - {}::bigint)").format(Literal(newest), Literal(columns.look_back))

    def _value(self, columns: TableColumns, cursor: tuple[str, ...]) -> Composable:
        from psycopg.sql import SQL, Literal

        pairs = zip(cursor, columns.cursor, strict=True)
        values = [SQL("{}::{}").format(Literal(value), SQL(kind)) for value, kind in pairs]
        return SQL("({})").format(SQL(", ").join(values))

    def _cursor(self) -> Composable:
        from psycopg.sql import SQL

        return SQL("({})").format(SQL(", ").join(self._names()))

    def _names(self) -> list[Composable]:
        from psycopg.sql import Identifier

        return [Identifier("r", name) for name in self._config.cursor]

    def _table(self) -> Composable:
        from psycopg.sql import Identifier

        return Identifier(*self._config.table.split(".", 1))

    def _connected(self) -> tuple[psycopg.Connection[Any], TableColumns]:
        if self._connection is not None and self._columns is not None:
            return self._connection, self._columns
        url = with_environment(self._config.url, owner=self._owner)
        connection = _library().connect(
            url,
            autocommit=True,
            client_encoding="utf8",
            connect_timeout=5,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            prepare_threshold=None,
            application_name="penstock stream",
            options="-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c default_transaction_read_only=on "
            "-c statement_timeout=120s -c lock_timeout=30s",
        )
        try:
            self._columns = columns_of(connection, self._config, list(self.source.fields), owner=self._owner)
        except BaseException:
            connection.close()
            raise
        self._connection, self._checked_s = connection, float("-inf")
        return connection, self._columns

    @contextmanager
    def _errors(self) -> Iterator[None]:
        library = _library()
        try:
            yield
        except (library.OperationalError, library.InterfaceError) as error:
            self.close()
            raise UnreachableError(
                f"{self._owner}: the database of {self._config.table} does not answer ({_first_line(error)}). Check that it runs, and its "
                "PostgresStreamConfig; reading goes on where it stands."
            ) from error
        except library.Error as error:
            self.close()
            raise InputError(
                f"{self._owner}: {self._config.table} cannot be read ({_first_line(error)}). Correct its PostgresStreamConfig or its schema, and "
                "check that the user may read it."
            ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _library() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingDependencyError(
            "PostgresStreamConfig: psycopg is not installed. Run: pip install 'penstock[postgres]'."
        ) from error
    return psycopg
