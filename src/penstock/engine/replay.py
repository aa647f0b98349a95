"""Replay: the committed log through the same features as live, from any state, in chunks of bounded size.

Recovery, audit and training sets are replays that do different things with the rows. Replay never decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.records import LabelRecords, LogBatch
from penstock.engine.assembly import FeatureRows
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.engine.labels import EVENT, FIRST, concat_labels, entering_rows, label_values, take_labels
from penstock.engine.lookup import ERASED, RowReader, conformed
from penstock.engine.ports import LogReader
from penstock.kernel.columns import Columns, Numeric, concat
from penstock.plan.nodes import Plan, ServiceNode, SourceNode

CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A stretch of the log: per source the rows that enter features, and the positions it spans."""

    start: int
    stop: int
    rows: Mapping[str, Rows]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A chunk and the feature rows of each service whose source is in it."""

    chunk: Chunk
    features: Mapping[str, FeatureRows]


def replay(
    store: LogReader,
    state: FeatureState,
    *,
    start: int = 0,
    stop: int | None = None,
    services: Sequence[ServiceNode] = (),
    chunk_rows: int = CHUNK_ROWS,
    exact: bool = False,
) -> Iterator[Replayed]:
    """Move `state`, which must stand at `start`, over the log up to `stop`, yielding the rows of `services`.

    `exact` also gives integer features as integers.
    """
    end = store.next_position if stop is None else min(stop, store.next_position)
    for chunk in read_chunks(store, state.plan, start=start, stop=end, chunk_rows=chunk_rows):
        yield Replayed(
            chunk, state.advance(chunk.rows, services=list(services), exact=exact, skip_failing=True)
        )


def read_chunks(
    store: LogReader, plan: Plan, *, start: int, stop: int, chunk_rows: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """The log from `start` to `stop` as chunks: erased events left out, labels joined to their events."""
    reader = _Chunks(store, plan)
    gathered: list[LogBatch] = []
    at, rows = start, 0
    for batch in store.read_log(start, stop, sources=set(plan.sources)):
        if rows >= chunk_rows and int(batch.positions[0]) > max(int(b.positions[-1]) for b in gathered):
            boundary = int(batch.positions[0])
            yield reader.chunk(gathered, at, boundary)
            gathered, at, rows = [], boundary, 0
        gathered.append(batch)
        rows += len(batch.positions)
    if gathered or at < stop:
        yield reader.chunk(gathered, at, stop)


class _Chunks:
    """Decodes log batches and joins labels as the live engine did."""

    def __init__(self, store: LogReader, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._rows = RowReader(store, plan.sources)
        self._labels = {
            name: source
            for name, source in plan.sources.items()
            if source.label_of is not None and any(view.source == name for view in plan.views)
        }

    def chunk(self, batches: Sequence[LogBatch], start: int, stop: int) -> Chunk:
        by_source: dict[str, list[Rows]] = {}
        for batch in batches:
            source = self._plan.sources[batch.source]
            by_source.setdefault(batch.source, []).append(_rows_between(batch, source, start, stop))
        rows: dict[str, Rows] = {}
        for name, parts in by_source.items():
            if self._plan.sources[name].label_of is None:
                merged = _merge(parts)
                if merged.columns.length:
                    rows[name] = merged
        for name, label in self._labels.items():
            entering = self._entering(label, by_source.get(name, []), rows.get(str(label.label_of)))
            if entering is not None:
                rows[name] = entering
        return Chunk(start, stop, rows)

    def _entering(self, label: SourceNode, parts: Sequence[Rows], events: Rows | None) -> Rows | None:
        """The rows of label views in this chunk: labels after their event, and events after their label."""
        records = [_late(part, label) for part in parts if part.columns.length]
        if events is not None and self._store.counters().get("labels_early", 0):
            records.append(_early(self._store.labels_of(events.positions)))
        entering = concat_labels(records)
        if not len(entering):
            return None
        columns = self._rows.events(str(label.label_of), entering.event_positions)
        if ERASED in columns:
            kept = np.flatnonzero(~columns[ERASED].values.astype(np.bool_))  # type: ignore[union-attr]
            columns, entering = columns.take(kept), take_labels(entering, kept)
        names = [f.name for f in self._plan.sources[str(label.label_of)].fields]
        return entering_rows(entering, columns.select(names), label)


def _rows_between(batch: LogBatch, source: SourceNode, start: int, stop: int) -> Rows:
    columns = conformed(Columns.from_bytes(batch.payload), source)
    keep = (batch.positions >= start) & (batch.positions < stop)
    if ERASED in columns:
        keep &= ~columns[ERASED].values.astype(np.bool_)  # type: ignore[union-attr]
        columns = Columns(columns.length, {n: c for n, c in columns.columns.items() if n != ERASED})
    if keep.all():
        return Rows(columns, batch.positions)
    at = np.flatnonzero(keep)
    return Rows(columns.take(at), batch.positions[at])


def _merge(parts: Sequence[Rows]) -> Rows:
    return Rows(concat([p.columns for p in parts]), np.concatenate([p.positions for p in parts]))


def _late(rows: Rows, label: SourceNode) -> LabelRecords:
    """First labels that came after their event, as the log has them."""
    event, first = rows.columns[EVENT], rows.columns[FIRST]
    assert isinstance(event, Numeric) and isinstance(first, Numeric)  # noqa: PT018
    known = rows.columns[label.time_field]
    assert isinstance(known, Numeric)
    records = LabelRecords(
        event_positions=event.values.astype(np.int64),
        label_positions=rows.positions,
        values=label_values(rows.columns, label),
        known_at_us=known.values.astype(np.int64),
    )
    positions = records.event_positions
    return take_labels(
        records,
        np.flatnonzero(first.values.astype(np.bool_) & (positions >= 0) & (positions < rows.positions)),
    )


def _early(records: LabelRecords) -> LabelRecords:
    """First labels that came before their event, of events sorted by (event, label) position."""
    _, first = np.unique(records.event_positions, return_index=True)
    before = records.label_positions[first] < records.event_positions[first]
    return take_labels(records, first[before])
