"""A PostgreSQL table or view, read with psycopg. Its parts are the days of the column that says when a row was changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from penstock.connectors.files import FileBlock
from penstock.core.errors import InputError, MissingDependencyError
from penstock.definitions.postgres_configs import PostgresConfig, with_environment
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    import psycopg

_WHOLE = "table"
_ALWAYS = ""
_NEVER = "never"  # the part of rows whose column is null


class PostgresBatch:
    """Reads a table as it is now; see `penstock.connectors.batch.BatchReader`. Rows come as JSON, made by the server."""

    def __init__(self, config: PostgresConfig, source: SourceNode) -> None:
        _library()
        self._config = config
        self._owner = f"source {source.name!r}"
        self._names = [f.name for f in source.fields if f.name != source.id_field]

    def parts(self) -> dict[str, str]:
        """The days of `changed_by`, each with its number of rows and its newest value; else the whole table."""
        if self._config.changed_by is None:
            return {_WHOLE: _ALWAYS}
        from psycopg import sql

        column = sql.Identifier(self._config.changed_by)
        statement = sql.SQL(
            "SELECT coalesce(({0}::date)::text, {1}), count(*) || ':' || coalesce(max({0})::text, '') FROM {2} GROUP BY 1 ORDER BY 1"
        ).format(column, sql.Literal(_NEVER), self._table(sql))
        with self._connected() as connection:
            return dict(connection.execute(statement).fetchall())

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:
        """The rows of a part."""
        from psycopg import sql

        where: sql.Composable = sql.SQL("true")
        given: tuple[str, ...] = ()
        if self._config.changed_by is not None:
            column = sql.Identifier(self._config.changed_by)
            where, given = sql.SQL("{0} >= %s::date AND {0} < %s::date + 1").format(column), (part, part)
            if part == _NEVER:
                where, given = sql.SQL("{} IS NULL").format(column), ()
        columns = sql.SQL(", ").join(map(sql.Identifier, self._names))
        statement = sql.SQL("SELECT row_to_json(one)::text FROM (SELECT {} FROM {} WHERE {}) one").format(
            columns, self._table(sql), where
        )
        with (
            self._connected() as connection,
            connection.transaction(),
            connection.cursor(name="penstock_rows") as cursor,
        ):
            cursor.execute(statement, given)
            while found := cursor.fetchmany(rows):
                yield FileBlock("ndjson", "\n".join(text for (text,) in found).encode())

    def _table(self, sql: Any) -> Any:
        return sql.SQL(".").join(map(sql.Identifier, self._config.table.split(".")))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        library = _library()
        url = with_environment(self._config.url, owner=self._owner)
        try:
            with closing(
                library.connect(
                    url,
                    autocommit=True,
                    connect_timeout=5,
                    tcp_user_timeout=60_000,
                    options="-c timezone=UTC -c default_transaction_read_only=on",
                    application_name="penstock table",
                )
            ) as connection:
                yield connection
        except library.Error as error:
            raise InputError(
                f"{self._owner}: {self._config.table} cannot be read ({str(error).strip()}). Correct its PostgresConfig or its schema, or check "
                "that the server runs and that the user may read it."
            ) from error


def _library() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingDependencyError(
            "PostgresConfig: psycopg is not installed. Run: pip install 'penstock[postgres]'."
        ) from error
    return psycopg
