"""Events with their features appended, as the kinds of frames that people work with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError, MissingDependencyError
from penstock.core.types import ArrayType
from penstock.engine.assembly import FeatureRows
from penstock.engine.frames import arrow_type, to_chunks
from penstock.engine.parquet_files import regrouped, write_parquet
from penstock.plan.nodes import Selected, ServiceNode

if TYPE_CHECKING:
    import pyarrow as pa


class FeatureFrame:
    """Events with their features; hand it on as the frame you work with."""

    def __init__(self, table: pa.Table, feature_names: Sequence[str]) -> None:
        self._table = table
        self.feature_names = tuple(feature_names)
        """The appended columns, ``view__feature``."""

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def to_arrow(self) -> pa.Table:
        """A pyarrow Table."""
        return self._table

    def batches(self, *, rows: int = 1 << 16) -> Iterator[pa.RecordBatch]:
        """Record batches of `rows` rows; the last may be shorter."""
        for table in regrouped([self.to_arrow()], rows):
            yield from table.to_batches()

    def to_parquet(self, path: Path | str) -> int:
        """Write a Parquet file, which appears when it is complete; how many rows it has."""
        table = self.to_arrow()
        return write_parquet([table], Path(path), schema=table.schema)

    def to_pandas(self) -> Any:
        """A pandas DataFrame."""
        try:
            return self.to_arrow().to_pandas()
        except ImportError as error:
            raise _missing("pandas") from error

    def to_polars(self) -> Any:
        """A polars DataFrame."""
        try:
            import polars as pl
        except ImportError as error:
            raise _missing("polars") from error
        return pl.from_arrow(self.to_arrow())

    def to_numpy(self) -> npt.NDArray[np.float64]:
        """The features alone: float64[n, F], NaN for null; texts and arrays are not numbers and raise `InputError`."""
        columns = []
        for name in self.feature_names:
            column = self.to_arrow().column(name)
            if str(column.type) in {"string", "large_string"}:
                raise InputError(f"feature {name!r} is text; encode it as a number, or use to_arrow().")
            if str(column.type).startswith("list"):
                raise InputError(f"feature {name!r} is an array; select others, or use to_arrow().")
            columns.append(column.cast("float64").to_numpy().astype(np.float64))
        return np.column_stack(columns) if columns else np.zeros((len(self), 0))


def append_features(table: pa.Table, service: ServiceNode, parts: Sequence[FeatureRows]) -> FeatureFrame:
    """`table` with the exact features of its rows, which come in parts, appended as ``view__feature``."""
    names = [output.name.replace(".", "__") for output in service.outputs]
    for i, (name, output) in enumerate(zip(names, service.outputs, strict=True)):
        if name in table.column_names:
            raise InputError(f"events: column {name!r} has the name of a feature. Rename the column.")
        column = _column_of(parts, i, output)
        table = table.append_column(name, column)
    return FeatureFrame(table, names)


def _column_of(parts: Sequence[FeatureRows], index: int, output: Selected) -> pa.ChunkedArray:
    if not isinstance(output.dtype, ArrayType):
        return to_chunks([part.columns[index] for part in parts], output.dtype)
    import pyarrow as pa

    arrays = [part.arrays[index].to_arrow(output.dtype) for part in parts]
    return pa.chunked_array(arrays, arrow_type(output.dtype))


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"feature frame: {name} is not installed. Run: pip install 'penstock[{name}]', or use to_arrow()."
    )
