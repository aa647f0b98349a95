"""A log read from versions of the offline tables: what a data set was made from, when it is made again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.offline_rows import EVENT_POSITION, FIRST_LABEL, LABEL_POSITION
from penstock.core.records import DecisionBatch, LabelRecords, LogBatch
from penstock.engine.frames import table_columns
from penstock.engine.labels import EVENT, FIRST, concat_labels, label_values, take_labels
from penstock.engine.lookup import conformed
from penstock.kernel.columns import Columns, IntArray, Numeric
from penstock.stores.labels import newest
from penstock.stores.offline import POSITION, OfflineStore, TableVersion

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.plan.nodes import SourceNode

_SCAN_ROWS = 1 << 18
_FETCH_ROWS = 1 << 12


class OfflineLog:
    """The log up to a position, as `LogReader`; it has no decisions, and only labels whose events are in it.

    Parameters
    ----------
    tables
        The versions to read; a source without a table has no rows.
    sources
        The sources whose rows are wanted, as the definitions have them now.
    position
        The log's length.
    """

    def __init__(
        self,
        store: OfflineStore,
        tables: Mapping[str, TableVersion],
        sources: Mapping[str, SourceNode],
        *,
        position: int,
    ) -> None:
        self._store = store
        self._tables = tables
        self._sources = sources
        self._position = position

    @property
    def next_position(self) -> int:
        """The length of the log."""
        return self._position

    @property
    def hash_seed(self) -> int:
        """No event ids are hashed."""
        return 0

    def counters(self) -> dict[str, int]:
        """That early labels must be looked for."""
        return {"labels_early": 1}

    def read_log(
        self, start: int = 0, stop: int | None = None, *, sources: Collection[str] | None = None
    ) -> Iterator[LogBatch]:
        """Log batches with rows in ``[start, stop)``, by first position; each holds the rows of a range of positions."""
        end = self._position if stop is None else min(stop, self._position)
        names = [name for name in self._sources if sources is None or name in sources]
        streams = [self._windows(name, start, end, _SCAN_ROWS) for name in names]
        for batches in zip(*streams, strict=True):
            yield from sorted((b for b in batches if b is not None), key=lambda b: int(b.positions[0]))

    def log_batches_at(self, positions: IntArray) -> Iterator[LogBatch]:
        """Each batch that holds one of `positions`."""
        wanted = np.unique(positions[positions < self._position])
        for window in np.unique(wanted // _FETCH_ROWS).tolist():
            first = window * _FETCH_ROWS
            stop = min(first + _FETCH_ROWS, self._position)
            for name in self._sources:
                for batch in self._windows(name, first, stop, _FETCH_ROWS):
                    if batch is not None and np.isin(wanted, batch.positions).any():
                        yield batch

    def read_decisions(
        self,
        start: int = 0,  # noqa: ARG002 - the protocol's signature
        stop: int | None = None,  # noqa: ARG002
        *,
        endpoints: Collection[str] | None = None,  # noqa: ARG002
    ) -> Iterator[DecisionBatch]:
        """None."""
        return iter(())

    def decision_batches_at(self, positions: IntArray) -> Iterator[DecisionBatch]:  # noqa: ARG002 - as above
        """None."""
        return iter(())

    def latest_labels(
        self, start: int = 0, stop: int | None = None, *, as_of_us: int | None = None
    ) -> LabelRecords:
        """The truth of each labelled event in ``[start, stop)``, as known at `as_of_us`."""
        labels = self._labels
        kept = (labels.event_positions >= start) & (labels.event_positions < (stop or self._position))
        if as_of_us is not None:
            kept &= labels.known_at_us <= as_of_us
        return newest(take_labels(labels, kept))

    def labels_of(self, positions: IntArray) -> LabelRecords:
        """Every label of these events, by (event, label) position."""
        wanted = np.unique(positions)
        events = self._labels.event_positions
        starts, stops = events.searchsorted(wanted), events.searchsorted(wanted, side="right")
        counts = stops - starts
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return take_labels(self._labels, np.repeat(starts, counts) + within)

    @cached_property
    def _labels(self) -> LabelRecords:
        """All labels, by (event, label) position: 32 bytes each."""
        parts = [
            self._label_records(table, source)
            for source in self._sources.values()
            if source.label_of is not None
            for table in self._read(source, 0, self._position, self._position)
            if table.num_rows
        ]
        records = concat_labels(parts)
        order = np.lexsort((records.label_positions, records.event_positions))
        return take_labels(records, order)

    def _label_records(self, table: pa.Table, source: SourceNode) -> LabelRecords:
        columns = conformed(table_columns(table, source.fields, owner=source.name), source)
        known = columns[source.time_field]
        assert isinstance(known, Numeric)
        return LabelRecords(
            event_positions=_positions(table, EVENT_POSITION),
            label_positions=_positions(table, LABEL_POSITION),
            values=label_values(columns, source),
            known_at_us=known.values.astype(np.int64),
        )

    def _windows(self, name: str, start: int, stop: int, rows: int) -> Iterator[LogBatch | None]:
        """The rows of a source in each range of `rows` positions; None where it has none there."""
        source = self._sources[name]
        for table in self._read(source, start, stop, rows):
            yield self._batch(source, table)

    def _read(self, source: SourceNode, start: int, stop: int, rows: int) -> Iterator[pa.Table]:
        kind = "events" if source.label_of is None else "labels"
        at = self._tables.get(f"{kind}/{source.name}")
        if at is None:
            from pyarrow import table

            return iter([table({})] * max(-(-(stop - start) // max(rows, 1)), 1))
        offline = self._store.table(f"{kind}/{source.name}")
        return offline.windows(start, stop, rows=max(rows, 1), version=at.version)

    def _batch(self, source: SourceNode, table: pa.Table) -> LogBatch | None:
        if not table.num_rows:
            return None
        there = [f for f in source.fields if f.name in table.column_names]
        columns = table_columns(table, there, owner=f"offline table of {source.name!r}")
        positions = _positions(table, POSITION)
        if source.label_of is not None:
            return self._label_batch(columns, table, source, positions)
        payload = conformed(columns, source).to_bytes()
        return LogBatch(source.name, positions, ingest_time_us=0, payload=payload)

    def _label_batch(
        self, columns: Columns, table: pa.Table, source: SourceNode, positions: IntArray
    ) -> LogBatch | None:
        """Labels that came after their event stand in the log at their own positions; the others are found by it."""
        late = np.flatnonzero(_positions(table, LABEL_POSITION) == positions)
        if not len(late):
            return None
        found = columns.with_columns(
            {
                EVENT: Numeric(_positions(table, EVENT_POSITION)),
                FIRST: Numeric(table.column(FIRST_LABEL).to_numpy()),
            }
        ).take(late)
        return LogBatch(source.name, positions[late], ingest_time_us=0, payload=found.to_bytes())


def _positions(table: pa.Table, name: str) -> IntArray:
    found: IntArray = table.column(name).to_numpy().astype(np.int64)
    return found
