"""Batch tables: what they are made of now, and the rows of some of their parts.

A part is a file, or whatever of the table changes as a whole. A reader says of each part a text that changes when its
rows may have changed, so that only such parts are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from penstock.connectors.files import FileBlock, FileReader
from penstock.core.errors import InputError
from penstock.definitions.batch_configs import BatchConfig, ByHand, DeltaConfig, FileConfig
from penstock.definitions.postgres_configs import PostgresChangesConfig, PostgresConfig
from penstock.plan.nodes import SourceNode

ALWAYS = ""
"""What a reader says of a part that may have changed whenever one looks."""


class BatchReader(Protocol):
    """Reads one table."""

    def parts(self) -> dict[str, str]:
        """The parts that there are now, in order, each with a text that differs once it changed.

        Raises `InputError` where there is no such table.
        """

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:
        """The rows of a part as it is now, in blocks of up to about `rows` rows."""


def batch_reader(config: BatchConfig, root: Path, source: SourceNode) -> BatchReader:
    """The reader for `config`; relative paths start at `root`.

    Raises `MissingDependencyError` where its library is not installed.
    """
    if isinstance(config, FileConfig):
        return FilesBatch(config, root, source)
    if isinstance(config, ByHand):
        return NoTable()
    if isinstance(config, DeltaConfig):
        from penstock.connectors.delta import DeltaBatch

        return DeltaBatch(config, root, source)
    if isinstance(config, PostgresConfig):
        from penstock.connectors.postgres_table import PostgresBatch

        return PostgresBatch(config, source)
    if isinstance(config, PostgresChangesConfig):
        raise InputError(
            f"source {source.name!r}: its rows are the changes of {config.table}, which only a run reads. What was read is in the "
            "project's log: open the project, or give the history by hand."
        )
    from penstock.connectors.duckdb_query import DuckDBBatch

    return DuckDBBatch(config, root, source)


class NoTable:
    """A table without parts: its rows come otherwise."""

    def parts(self) -> dict[str, str]:
        """See `BatchReader.parts`."""
        return {}

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:  # noqa: ARG002 - a `BatchReader`
        """See `BatchReader.blocks`."""
        return iter(())


class FilesBatch:
    """A file, or the files of a folder; each file is a part, known by its size and the time of its last change."""

    def __init__(self, config: FileConfig, root: Path, source: SourceNode) -> None:
        self._config = config
        self._root = root
        self._source = source
        self._path = root / config.uri

    def parts(self) -> dict[str, str]:
        """See `BatchReader.parts`."""
        found = {}
        for file in FileReader(self._config, self._root, self._source).files():
            stat = file.stat()
            found[file.name] = f"{stat.st_size}:{stat.st_mtime_ns}"
        return found

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:
        """See `BatchReader.blocks`."""
        path = self._path / part if self._path.is_dir() else self._path
        if path.name != part:
            raise InputError(
                f"source {self._source.name!r}: there is no file {part!r}; there is {path.name!r}."
            )
        one = FileConfig(str(path.resolve()), self._config.file_format)
        for block, _ in FileReader(one, self._root, self._source).batches(None, rows):
            yield block
