"""Features as a stream of tables, for results that are larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.engine.feature_frame import FeatureFrame, append_features
from penstock.engine.frames import empty_table, to_arrow
from penstock.engine.history import LoggedFeatures, feature_parts
from penstock.engine.ordered_log import Shelf
from penstock.engine.parquet_files import regrouped, write_parquet
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from penstock.plan.nodes import Plan, ServiceNode, SourceNode

BATCH_ROWS = 1 << 16

Shelves = Callable[[], "AbstractContextManager[Shelf]"]
"""Opens a place where the log is kept aside while it is put in another order."""


class FeatureStream(FeatureFrame):
    """Events with their features, computed while they are read: each reading reads the log again.

    `batches` and `to_parquet` hold little at a time; the other methods gather everything in memory, once.
    """

    def __init__(
        self, tables: Callable[[], Iterator[pa.Table]], schema: pa.Schema, features: tuple[str, ...]
    ) -> None:
        super().__init__(None, features)
        self._tables = tables
        self.schema = schema
        """Names and Arrow types of the columns."""

    def __len__(self) -> int:
        return int(self.to_arrow().num_rows)

    def to_arrow(self) -> pa.Table:
        """A pyarrow Table of everything."""
        import pyarrow as pa

        if self._table is None:
            self._table = pa.concat_tables([self.schema.empty_table(), *self._tables()])
        return self._table

    def batches(self, *, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Record batches of `rows` rows; the last may be shorter."""
        for table in regrouped(self._tables(), rows):
            yield from table.to_batches()

    def to_parquet(self, path: Path | str) -> int:
        """Write a Parquet file, which appears when it is complete; how many rows it has."""
        return write_parquet(self._tables(), Path(path), schema=self.schema)


def logged_stream(
    store: LogReader,
    plan: Plan,
    service: ServiceNode,
    *,
    as_of: str,
    shelves: Shelves,
    progress: Progress = no_progress,
) -> FeatureStream:
    """The features of `service` for all events of its stream in the log, beside the events' own columns.

    Rows are in log order (``as_of="served"``) or in event-time order (``"corrected"``).
    """
    source = plan.sources[service.source]

    def tables() -> Iterator[Any]:
        with shelves() as shelf:
            for part in feature_parts(store, plan, service, as_of=as_of, shelf=shelf, progress=progress):
                yield part_table(part, source, service)

    schema = stream_schema(source, service)
    return FeatureStream(tables, schema, tuple(schema.names[len(source.fields) :]))


def part_table(part: LoggedFeatures, source: SourceNode, service: ServiceNode) -> pa.Table:
    """Events with their own columns and their features."""
    import pyarrow as pa

    events = pa.table({f.name: to_arrow(part.events[f.name], f.dtype) for f in source.fields})
    return append_features(events, service, [part.features]).to_arrow()


def stream_schema(source: SourceNode, service: ServiceNode) -> pa.Schema:
    """The columns of `part_table`."""
    events = [(f.name, f.dtype) for f in source.fields]
    features = [(output.name.replace(".", "__"), output.dtype) for output in service.outputs]
    return empty_table([*events, *features]).schema
