"""Where the rows of a batch source lie: files, a Delta table, or whatever a DuckDB query makes of files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.definitions.postgres_configs import PostgresChangesConfig, PostgresConfig, check_delay

FILE_FORMATS = ("parquet", "csv", "ndjson")


@dataclass(frozen=True, slots=True)
class FileConfig:
    """Rows are read from a file, or from the files of a folder in the order of their names.

    Parameters
    ----------
    uri
        A path; relative paths start at the project folder.
    file_format
        ``"parquet"``, ``"csv"`` or ``"ndjson"``.
    timestamp_field
        The column with the event time; needed only where the schema has several Timestamp fields.
    data_delay
        Of batch sources: how long after its timestamp a row is known. It counts from then on.
    """

    uri: str
    file_format: str
    timestamp_field: str | None = None
    data_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.file_format not in FILE_FORMATS:
            raise DefinitionError(
                f"FileConfig {self.uri!r}: file_format is {self.file_format!r}; allowed are "
                f"{', '.join(FILE_FORMATS)}. Choose one, or convert the file."
            )
        check_delay(self.data_delay, owner=f"FileConfig {self.uri!r}")


@dataclass(frozen=True, slots=True)
class DeltaConfig:
    """Rows are read from a Delta table; needs ``penstock[delta]``.

    Parameters
    ----------
    uri
        The table: a path (relative paths start at the project folder) or a URL of an object store.
    timestamp_field, data_delay
        As for `FileConfig`.
    """

    uri: str
    timestamp_field: str | None = None
    data_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        check_delay(self.data_delay, owner=f"DeltaConfig {self.uri!r}")


@dataclass(frozen=True, slots=True)
class DuckDBConfig:
    """Rows are what a DuckDB query gives; needs ``penstock[duckdb]``.

    Parameters
    ----------
    sql
        A query over files, like ``SELECT * FROM 'users/*.parquet'``; relative paths start at the project folder. Its
        result may be in any order.
    timestamp_field, data_delay
        As for `FileConfig`.
    """

    sql: str
    timestamp_field: str | None = None
    data_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        sql: object = self.sql
        if not isinstance(sql, str) or not sql.strip():
            raise DefinitionError(
                f"DuckDBConfig: its sql is {sql!r}; allowed is a query over files. Write one that reads a file, like the example."
            )
        check_delay(self.data_delay, owner="DuckDBConfig")


@dataclass(frozen=True, slots=True)
class ByHand:
    """There is no table: rows are sent to the project one by one, as the changes of a `KeyList` are."""

    timestamp_field: str | None = None
    data_delay: timedelta = timedelta(0)


BatchConfig = FileConfig | DeltaConfig | DuckDBConfig | PostgresConfig | PostgresChangesConfig | ByHand


def check_batch_config(config: object, *, owner: str) -> None:
    """Raise unless `config` says where batch rows lie."""
    if not isinstance(config, BatchConfig):
        raise DefinitionError(
            f"{owner}: batch_config is {config!r}; allowed are FileConfig, DeltaConfig, DuckDBConfig, PostgresConfig and PostgresChangesConfig. Write for "
            'example FileConfig("users.parquet", "parquet").'
        )
