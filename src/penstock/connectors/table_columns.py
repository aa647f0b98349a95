"""What a table of PostgreSQL has of what a source needs: its columns and their types, and an index that begins with the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError
from penstock.definitions.postgres_stream_configs import DEFAULT_LOOK_BACK, DEFAULT_LOOK_BACK_NUMBERS

if TYPE_CHECKING:
    import psycopg

    from penstock.core.types import Field
    from penstock.definitions.postgres_stream_configs import PostgresStreamConfig

WHOLE = ("smallint", "integer", "bigint")
TIMES = ("timestamp with time zone", "timestamp without time zone", "date")
TEXTS = ("text", "character varying", "character", "name", "citext", "uuid", "enum")
NUMBERS = (*WHOLE, "numeric", "double precision", "real")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "int": (*WHOLE, "numeric"),
    "float": NUMBERS,
    "bool": ("boolean",),
    "text": TEXTS,
    "time": (*TIMES, "bigint"),
}
"""Which types of columns hold values of a kind of field; a bigint as a time is microseconds, as everywhere."""
UNINDEXED_ROWS = 10_000
"""From how many rows on an index is missed."""

_COLUMNS = """
SELECT c.oid::bigint, c.relkind::text, c.reltuples, a.attname::text, format_type(t.oid, a.atttypmod), a.attnotnull,
    CASE b.typtype WHEN 'e' THEN 'enum' ELSE format_type(b.oid, NULL) END,
    EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typbasetype = 0 THEN t.oid ELSE t.typbasetype END
WHERE n.nspname = %s AND c.relname = %s
"""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """A table that was found fit.

    Parameters
    ----------
    table
        Its number in the database.
    cursor
        The type of each column of the cursor, as PostgreSQL writes it.
    nullable
        Those columns of the cursor that may be null.
    dates
        Fields that are times and columns of dates.
    ordered_by_time, look_back
        Whether the cursor begins with a time, and how far behind its greatest value a late row may be (seconds, or a number).
    note
        What is to be said of the table; empty where there is nothing.
    """

    table: int
    cursor: tuple[str, ...]
    nullable: tuple[str, ...]
    dates: frozenset[str]
    ordered_by_time: bool
    look_back: float
    note: str


def columns_of(
    connection: psycopg.Connection[Any], config: PostgresStreamConfig, fields: Iterable[Field], *, owner: str
) -> TableColumns:
    """Look the table of `config` up; raises `InputError` where it is none, or its columns do not fit `fields` and cursor."""
    rows = connection.execute(_COLUMNS, config.table.split(".", 1)).fetchall()
    if not rows:
        raise InputError(
            f"{owner}: there is no table {config.table}, or it has no columns. Correct the table of its PostgresStreamConfig, or create it."
        )
    table, kind, size = rows[0][:3]
    if kind not in {"r", "p"}:
        raise InputError(
            f"{owner}: {config.table} is a view or the like, whose rows tell no transaction; allowed is a table. Name the table, or read it as a "
            "BatchSource with PostgresConfig."
        )
    types = {row[3]: row[6] for row in rows}
    check = partial(_check, types, table=config.table, owner=owner)
    for field in fields:
        check(field.name, ALLOWED[field.dtype.kind], what=f"a field of type {field.dtype}")
    first, *others = config.cursor
    check(first, (*WHOLE, *TIMES), what="the beginning of the cursor")
    for name in others:
        check(name, (*WHOLE, "numeric", *TEXTS, *TIMES), what="a part of the cursor")
    by_name = {row[3]: row for row in rows}
    missed = size >= UNINDEXED_ROWS and not by_name[first][7]
    return TableColumns(
        table=table,
        cursor=tuple(by_name[name][4] for name in config.cursor),
        nullable=tuple(name for name in config.cursor if not by_name[name][5]),
        dates=frozenset(f.name for f in fields if f.dtype.kind == "time" and types[f.name] == "date"),
        ordered_by_time=types[first] in TIMES,
        look_back=_look_back(config, types[first], owner),
        note=f"no index begins with {first}, so each look reads the whole table: CREATE INDEX ON {config.table} ({', '.join(config.cursor)})"
        if missed
        else "",
    )


def _check(
    types: Mapping[str, str], name: str, allowed: tuple[str, ...], *, what: str, table: str, owner: str
) -> None:
    """Raise unless the column is there, and of a type that is allowed."""
    if name not in types:
        raise InputError(
            f"{owner}: {table} has no column {name!r}, which is {what}; it has {', '.join(sorted(types))}. Correct the schema or the "
            "cursor, or add the column."
        )
    if types[name] not in allowed:
        raise InputError(
            f"{owner}: the column {name!r} of {table} is of type {types[name]}; allowed for {what} are {', '.join(allowed)}. Change the "
            "field's type, or the column's."
        )


def _look_back(config: PostgresStreamConfig, kind: str, owner: str) -> float:
    given = config.look_back
    if kind in TIMES:
        given = DEFAULT_LOOK_BACK if given is None else given
        if isinstance(given, timedelta):
            return given.total_seconds()
    elif given is None:
        return DEFAULT_LOOK_BACK_NUMBERS
    elif not isinstance(given, timedelta):
        return given
    wanted = "a timedelta" if kind in TIMES else "a number"
    raise InputError(
        f"{owner}: look_back is {given!r}, and the cursor of {config.table} begins with {config.cursor[0]!r} of type {kind}; allowed is "
        f"{wanted}. Write one, or leave it out."
    )
