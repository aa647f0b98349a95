"""Events or labels that are inserted into a PostgreSQL table, read in the order of a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST
from penstock.definitions.postgres_configs import check_table, check_url

DEFAULT_INTERVAL = timedelta(seconds=1)
DEFAULT_LOOK_BACK = timedelta(minutes=1)
DEFAULT_LOOK_BACK_NUMBERS = 10_000


@dataclass(frozen=True, slots=True, init=False)
class PostgresStreamConfig:
    """Events are the rows of a PostgreSQL table that others insert into; needs ``penstock[postgres]``.

    Rows are read in the order of `cursor`, each once, soon after the commit of their transaction, in whatever order transactions commit.
    How far reading has come is committed with the rows. Rows that are changed afterwards are not read again unless their cursor grows,
    and then they are new events; deleted ones stay in the log.

    Parameters
    ----------
    url
        ``postgresql://user@host/database``; ``${NAME}`` stands for an environment variable, for passwords. The user needs to read the table.
    table
        ``schema.table``, a table or a partitioned one. A view has no transactions to tell its rows by: read it as a `BatchSource`.
    cursor
        The column, or columns, by which later rows are greater: ``"id"``, or ``["updated_at", "id"]``. The first is a number or a time and
        begins an index; together they should be unique. A row in which one is null is never read.
    look_back
        How much less than the greatest cursor (its first column) that of a row may be which appears only now: a timedelta for times, one
        minute by default, and a number for numbers, 10,000 by default. It has to span the time from when a transaction takes its cursor's value
        (``now()`` is its beginning, a sequence's value is taken by the insert) to its first write, not to its end.
    interval
        How long a running project waits before it looks for new rows again.
    timestamp_field
        The column with the event time; needed only where the schema has several Timestamp fields.

    Examples
    --------
    >>> PostgresStreamConfig("${SHOP}", "public.payments", ["created_at", "id"]).cursor
    ('created_at', 'id')
    """

    url: str
    table: str
    cursor: tuple[str, ...]
    look_back: timedelta | int | None
    interval: timedelta
    timestamp_field: str | None

    def __init__(
        self,
        url: str,
        table: str,
        cursor: str | Sequence[str],
        *,
        look_back: timedelta | int | None = None,
        interval: timedelta = DEFAULT_INTERVAL,
        timestamp_field: str | None = None,
    ) -> None:
        owner = f"PostgresStreamConfig {table!r}"
        check_url(url, owner=owner)
        check_table(table, owner=owner)
        _check_look_back(look_back, owner=owner)
        _check_interval(interval, owner=owner)
        values = (
            ("url", url),
            ("table", table),
            ("cursor", _cursor(cursor, owner=owner)),
            ("look_back", look_back),
            ("interval", interval),
            ("timestamp_field", timestamp_field),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)


def _cursor(given: object, *, owner: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not names or not all(isinstance(n, str) and n for n in names) or len(set(names)) < len(names):
        raise DefinitionError(
            f"{owner}: its cursor is {given!r}; allowed are columns of the table, each once. Write for example ['created_at', 'id']."
        )
    return names


def _check_look_back(given: object, *, owner: str) -> None:
    if given is None or (type(given) is int and given >= 0):
        return
    if not isinstance(given, timedelta) or not timedelta(0) <= given <= LONGEST:
        raise DefinitionError(
            f"{owner}: look_back is {given!r}; allowed is a timedelta from zero to {LONGEST.days} days for a cursor of times, and a number "
            "from zero on for one of numbers. Write for example timedelta(minutes=1), or leave it out."
        )


def _check_interval(given: object, *, owner: str) -> None:
    if not isinstance(given, timedelta) or not timedelta(milliseconds=10) <= given <= timedelta(days=1):
        raise DefinitionError(
            f"{owner}: interval is {given!r}; allowed is a timedelta from 10 milliseconds to one day. Write for example "
            "timedelta(seconds=1)."
        )
