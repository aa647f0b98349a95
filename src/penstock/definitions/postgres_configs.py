"""Rows of a batch source that lie in PostgreSQL: a table as it is from time to time, or every change of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError, SettingsError
from penstock.core.time import LONGEST

_TABLE = re.compile(r"[^.\"\s]+\.[^.\"\s]+")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, init=False)
class PostgresChangesConfig:
    """Rows are the changes of a PostgreSQL table, by logical replication; needs ``penstock[postgres]``.

    A row is what the table's row was from a commit on: `timestamp_field` is no column of the table, it holds the commit's time by
    the server's clock. Of a deleted row the key stays and everything else is null, so a profile of it is null from then on. The
    rows that the table had at first count from when reading began. What a transaction did enters the log in commit order; a
    ``TRUNCATE`` is not followed.

    Parameters
    ----------
    url
        ``postgresql://user@host/database``; ``${NAME}`` stands for an environment variable, for passwords. The user needs the
        right REPLICATION, and to read the table; to make the publication, to own it.
    table
        ``schema.table``.
    key
        The columns of its primary key.
    timestamp_field
        The field of the schema with the commit's time.
    slot, publication
        Names of those made by hand; by default Penstock makes its own, which no other project uses. A slot keeps the server's log until it is read:
        drop it (``pg_drop_replication_slot``) when the source is no more wanted.

    Examples
    --------
    >>> PostgresChangesConfig(
    ...     "postgresql://localhost/shop", "public.users", ["user_id"], timestamp_field="changed_at"
    ... ).table
    'public.users'
    """

    url: str
    table: str
    key: tuple[str, ...]
    timestamp_field: str
    slot: str | None
    publication: str | None

    def __init__(
        self,
        url: str,
        table: str,
        key: Sequence[str],
        *,
        timestamp_field: str,
        slot: str | None = None,
        publication: str | None = None,
    ) -> None:
        owner = f"PostgresChangesConfig {table!r}"
        check_url(url, owner=owner)
        check_table(table, owner=owner)
        if isinstance(key, str) or not key or timestamp_field in key:
            raise DefinitionError(
                f"{owner}: key is {key!r}; allowed are columns of the table's primary key. Write for example ['user_id']."
            )
        for name in (slot, publication):
            if name is not None and not re.fullmatch(r"[a-z0-9_]{1,63}", name):
                raise DefinitionError(
                    f"{owner}: {name!r} is named; allowed are lower-case letters, digits and underscores. Name it otherwise."
                )
        values = (
            ("url", url),
            ("table", table),
            ("key", tuple(key)),
            ("timestamp_field", timestamp_field),
            ("slot", slot),
            ("publication", publication),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def data_delay(self) -> timedelta:
        """None: a change is known when it is committed."""
        return timedelta(0)


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Rows are read from a PostgreSQL table or view; needs ``penstock[postgres]``.

    Parameters
    ----------
    url
        ``postgresql://user@host/database``; ``${NAME}`` stands for an environment variable, for passwords.
    table
        ``schema.table``.
    changed_by
        A date or timestamp column that every write sets anew, ``updated_at`` for one. Then only the days of it are read again in which
        the number of rows or the newest value has changed; a write that leaves it as it was is not seen. Without, the whole
        table is read each time.
    timestamp_field, data_delay
        As for `FileConfig`.

    Examples
    --------
    >>> PostgresConfig("${SHOP}", "public.balances", changed_by="updated_at").table
    'public.balances'
    """

    url: str
    table: str
    changed_by: str | None = None
    timestamp_field: str | None = None
    data_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        owner = f"PostgresConfig {self.table!r}"
        check_url(self.url, owner=owner)
        check_table(self.table, owner=owner)
        check_delay(self.data_delay, owner=owner)


def check_url(url: object, *, owner: str) -> None:
    """Raise unless `url` can be a PostgreSQL database's."""
    if not isinstance(url, str) or not re.match(r"postgres(ql)?://|\$\{\w+\}", url):
        raise DefinitionError(
            f"{owner}: its url is {url!r}; allowed is postgresql://user@host/database, or ${{NAME}} for an environment variable. "
            "Write one of them."
        )


def check_delay(delay: object, *, owner: str) -> None:
    """Raise unless `delay` can be how long after its timestamp a row is known."""
    if not isinstance(delay, timedelta) or not timedelta(0) <= delay <= LONGEST:
        raise DefinitionError(
            f"{owner}: data_delay is {delay!r}; allowed is a timedelta from zero to {LONGEST.days} days. Write for "
            "example timedelta(hours=6)."
        )


def check_table(table: object, *, owner: str) -> None:
    """Raise unless `table` is ``schema.table``."""
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise DefinitionError(
            f"{owner}: its table is {table!r}; allowed is schema.table. Write for example 'public.users'."
        )


def with_environment(url: str, *, owner: str) -> str:
    """`url` with environment variables put in; raises `SettingsError` naming one that is not set."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise SettingsError(
                f"{owner}: the environment variable {found[1]} of its url is not set. Set it."
            )
        return os.environ[found[1]]

    return _VARIABLE.sub(value, url)
