"""Rows that a DuckDB query makes of files. Which files it reads is not known, so its one part may always have changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.connectors.files import FileBlock
from penstock.core.errors import InputError, MissingDependencyError
from penstock.definitions.batch_configs import DuckDBConfig
from penstock.plan.nodes import SourceNode

_PART = "query"
_ALWAYS = ""


class DuckDBBatch:
    """Runs the query on a database in memory; see `penstock.connectors.batch.BatchReader`."""

    def __init__(self, config: DuckDBConfig, root: Path, source: SourceNode) -> None:
        self._library = _library()
        self._sql = config.sql
        self._root = root
        self._owner = f"source {source.name!r}"
        self._needed = [f.name for f in source.fields if not f.optional and f.name != source.id_field]

    def parts(self) -> dict[str, str]:
        """The query's result."""
        return {_PART: _ALWAYS}

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:  # noqa: ARG002 - DuckDB's own blocks
        """The rows of the result, in any order."""
        import pyarrow as pa

        with self._library.connect() as database:
            try:
                database.execute("SET TimeZone = 'UTC'")
                database.execute("SET file_search_path = ?", [str(self._root.resolve())])
                result = database.sql(self._sql)
                self._check_columns([] if result is None else result.columns)
                for batch in pa.RecordBatchReader.from_stream(result):
                    yield FileBlock("parquet", pa.Table.from_batches([batch]))
            except self._library.Error as error:
                raise InputError(
                    f"{self._owner}: its query failed ({error}). Correct the sql of its DuckDBConfig; relative paths start at "
                    "the project folder."
                ) from error

    def _check_columns(self, found: list[str]) -> None:
        missing = [name for name in self._needed if name not in found]
        if missing:
            raise InputError(
                f"{self._owner}: its query gives the columns {', '.join(found) or 'of no rows'}; {', '.join(missing)} of its schema "
                "are missing. Select them, or take them out of the schema."
            )


def _library() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "DuckDBConfig: duckdb is not installed. Run: pip install 'penstock[duckdb]'."
        ) from error
    return duckdb
