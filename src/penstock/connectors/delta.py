"""Delta tables, read with delta-rs. Each data file is a part; a table's files never change, new ones come with each version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.connectors.files import FileBlock
from penstock.core.errors import InputError, MissingDependencyError
from penstock.definitions.batch_configs import DeltaConfig
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

_ONCE = "written"
"""What is said of a data file: it does not change."""


class DeltaBatch:
    """Reads a Delta table as it is now; see `penstock.connectors.batch.BatchReader`."""

    def __init__(self, config: DeltaConfig, root: Path, source: SourceNode) -> None:
        self._library = _library()
        self._source = source
        self._owner = f"source {source.name!r}"
        self._uri = config.uri if "://" in config.uri else str((root / config.uri).resolve())

    def parts(self) -> dict[str, str]:
        """The table's data files."""
        return dict.fromkeys(self._fragments(), _ONCE)

    def blocks(self, part: str, rows: int) -> Iterator[FileBlock]:
        """The rows of a data file."""
        import pyarrow as pa

        dataset = self._dataset()
        fragment = self._fragments(dataset).get(part)
        if fragment is None:
            return  # a newer version of the table has no such file
        names = [f.name for f in self._source.fields if f.name in dataset.schema.names]
        try:
            for batch in fragment.to_batches(schema=dataset.schema, columns=names, batch_size=rows):
                yield FileBlock("parquet", pa.Table.from_batches([batch]))
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _fragments(self, dataset: Dataset | None = None) -> dict[str, Any]:
        found = self._dataset() if dataset is None else dataset
        return {fragment.path: fragment for fragment in sorted(found.get_fragments(), key=lambda f: f.path)}

    def _dataset(self) -> Dataset:
        from deltalake.exceptions import DeltaError

        try:
            return self._library.DeltaTable(self._uri).to_pyarrow_dataset()
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"{self._owner}: {self._uri} is not a Delta table that can be read ({error}). Correct the uri of its DeltaConfig; "
            "relative paths start at the project folder."
        )


def _library() -> Any:
    try:
        import deltalake
    except ImportError as error:
        raise MissingDependencyError(
            "DeltaConfig: deltalake is not installed. Run: pip install 'penstock[delta]'."
        ) from error
    return deltalake
