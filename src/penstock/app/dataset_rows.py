"""The rows of a training set: events with their features and labels, and the digest of them all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.types import Bool, DataType, Field, Float32, Float64, Int32, Int64, String, Timestamp
from penstock.engine.feature_stream import part_table, stream_schema
from penstock.engine.frames import arrow_column, empty_table, to_arrow
from penstock.engine.labels import take_labels
from penstock.engine.ordered_log import labels_before
from penstock.kernel.columns import BoolArray, IntArray, Numeric, Text
from penstock.models.dataset import labels_at
from penstock.stores.labels import newest
from penstock.stores.offline import POSITION

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.core.records import LabelRecords
    from penstock.engine.history import LoggedFeatures
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan, ServiceNode, SourceNode

LABEL = "_label"
LABEL_KNOWN_AT = "_label_known_at"

_DATA_TYPES = {
    "int32": Int32,
    "int64": Int64,
    "float": Float32,
    "double": Float64,
    "bool": Bool,
    "string": String,
    "timestamp[us, tz=UTC]": Timestamp,
}
_NUMBER = Field("x", Int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a training set is asked for.

    Attributes
    ----------
    as_of
        ``"served"``: features in arrival order, rows in log order. ``"corrected"``: both in event-time order.
    position
        The log's length: what came later is not seen.
    label
        The label source; None for features alone.
    start_us, end_us
        Event times, from inclusive to exclusive; None: all.
    label_delay_us
        Only labels that were known at most so long after their event count; None: all that the log holds.
    """

    as_of: str
    position: int
    label: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    label_delay_us: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A service, alone in its plan; the label source, if any; and all sources that the data set is made from."""

    plan: Plan
    service: ServiceNode
    label: SourceNode | None
    sources: Mapping[str, SourceNode]

    @property
    def stream(self) -> SourceNode:
        """The source of the events."""
        return self.plan.sources[self.service.source]


def dataset_tables(
    log: LogReader, wanted: Wanted, question: Question, *, parts: Iterable[LoggedFeatures]
) -> Iterator[pa.Table]:
    """The rows that `question` asks for, from the features of all events before its position."""
    for part in parts:
        kept = _within(_times(part, wanted.stream), question)
        chosen = part if kept.all() else part.take(np.flatnonzero(kept))
        if len(chosen.positions):
            table = part_table(chosen, wanted.stream, wanted.service)
            table = table.add_column(0, POSITION, to_arrow(Numeric(chosen.positions), Int64))
            yield table if wanted.label is None else _labelled(table, log, wanted, question, part=chosen)


def dataset_schema(wanted: Wanted) -> pa.Schema:
    """Position, the events' own columns, features, and the label with the time from which it was known."""
    schema = stream_schema(wanted.stream, wanted.service).insert(0, _field(POSITION, Int64))
    if wanted.label is None:
        return schema
    return schema.append(_field(LABEL, _label_type(wanted.label))).append(_field(LABEL_KNOWN_AT, Timestamp))


class DatasetDigest:
    """SHA-256 over the values of tables with `schema`, whichever way they are cut into tables and chunks.

    Each column is digested by its nulls and its values (64-bit numbers; texts by length and bytes; a null as zero or
    empty), lists by their lengths and all their values, and then names, types, the number of rows and the digests of all
    columns together.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._names = [[name, str(kind)] for name, kind in zip(schema.names, schema.types, strict=True)]
        self._columns = [_digest_of(kind) for kind in schema.types]

    def update(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        self.rows += table.num_rows
        for column, chunks in zip(self._columns, table.columns, strict=True):
            column.update(chunks)

    def hexdigest(self) -> str:
        """The digest of everything added."""
        columns = [column.hexdigests() for column in self._columns]
        return sha256(json.dumps([self._names, self.rows, columns]).encode()).hexdigest()


class _ColumnDigest:
    """Of a column with one value a row."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._nulls, self._values, self._data = sha256(), sha256(), sha256()

    def update(self, chunks: pa.ChunkedArray) -> None:
        column = arrow_column(chunks, self._field, owner="data set")
        present = np.ones(len(column), np.uint8) if column.valid is None else column.valid.astype(np.uint8)
        self._nulls.update(present.tobytes())
        if isinstance(column, Text):
            self._values.update(np.diff(column.offsets).astype("<i8").tobytes())
            self._data.update(column.data.tobytes())
        else:
            wide = np.float64 if column.values.dtype.kind == "f" else np.int64
            self._values.update(column.values.astype(wide).tobytes())

    def hexdigests(self) -> list[str]:
        return [one.hexdigest() for one in (self._nulls, self._values, self._data)]


class _ListDigest:
    """Of a column of lists, none of which is null."""

    def __init__(self, field: Field) -> None:
        self._lengths, self._values = _ColumnDigest(_NUMBER), _ColumnDigest(field)

    def update(self, chunks: pa.ChunkedArray) -> None:
        import pyarrow.compute as pc

        self._lengths.update(pc.list_value_length(chunks))
        self._values.update(pc.list_flatten(chunks))

    def hexdigests(self) -> list[str]:
        return self._lengths.hexdigests() + self._values.hexdigests()


def _digest_of(kind: pa.DataType) -> _ColumnDigest | _ListDigest:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _ListDigest(Field("x", _DATA_TYPES[str(kind.value_type)]))
    return _ColumnDigest(Field("x", _DATA_TYPES[str(kind)]))


def _within(times: IntArray, question: Question) -> BoolArray:
    kept = np.ones(len(times), np.bool_)
    if question.start_us is not None:
        kept &= times >= question.start_us
    if question.end_us is not None:
        kept &= times < question.end_us
    return kept


def _labelled(
    table: pa.Table, log: LogReader, wanted: Wanted, question: Question, *, part: LoggedFeatures
) -> pa.Table:
    assert wanted.label is not None
    order = np.argsort(part.positions)
    positions, times = part.positions[order], _times(part, wanted.stream)[order]
    records = labels_known(log, positions, times, stop=question.position, delay_us=question.label_delay_us)
    values, known = labels_at(positions, records)
    back = np.argsort(order)
    valid = ~np.isnan(values)
    dtype = _label_type(wanted.label)
    filled: Any = np.where(valid, values, 0.0)
    if dtype.kind != "float":
        filled = filled.astype(np.bool_ if dtype.kind == "bool" else np.int64)
    known = np.where(valid, known, 0)
    table = table.append_column(LABEL, to_arrow(Numeric(filled, valid).take(back), dtype))
    return table.append_column(LABEL_KNOWN_AT, to_arrow(Numeric(known, valid).take(back), Timestamp))


def labels_known(
    log: LogReader, positions: IntArray, times: IntArray, *, stop: int, delay_us: int | None
) -> LabelRecords:
    """The label of each event that counts at log length `stop`: the one known last, of those known soon enough.

    `positions` are ascending; `times` are the events' times.
    """
    records = labels_before(log, positions, stop)
    if delay_us is not None:
        after = records.known_at_us - times[positions.searchsorted(records.event_positions)]
        records = take_labels(records, after <= delay_us)
    return newest(records)


def _times(part: LoggedFeatures, source: SourceNode) -> IntArray:
    column = part.events[source.time_field]
    assert isinstance(column, Numeric)
    return column.values.astype(np.int64, copy=False)


def _label_type(label: SourceNode) -> DataType:
    return next(f.dtype for f in label.fields if f.name == label.label_field)


def _field(name: str, dtype: DataType) -> pa.Field:
    return empty_table([(name, dtype)]).schema.field(0)
