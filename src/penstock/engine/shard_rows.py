"""The three steps of a plan that is cut by key, on Arrow batches: copies go out, are answered, and are put together again.

Each step takes batches and gives batches, and knows nothing of who carries them from one step to the next: Spark does
(`penstock.engine.spark`). Between the steps rows are

1. copies, brought together by ``part`` and put in the order of ``time, rank, row, copy``;
2. pieces, brought together by ``out`` and put in the order of ``row, copy``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.core.errors import CorruptionError
from penstock.core.types import ArrayType, Field
from penstock.engine.arrays import Lists
from penstock.engine.assembly import Assembler, FeatureRows
from penstock.engine.feature_frame import append_features
from penstock.engine.features import FeatureState
from penstock.engine.frames import arrow_column, arrow_type, believed_columns, table_columns, to_arrow
from penstock.engine.kernel_rows import Rows, ViewPreparer, encoded_keys
from penstock.engine.shards import Copy, ShardedPlan
from penstock.engine.times import row_times
from penstock.engine.training_set import SPINE
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric
from penstock.kernel.hashing import hash_text
from penstock.kernel.state import Output
from penstock.plan.nodes import Selected, ServiceNode, SourceNode

EVENT = -1
"""The copy of an event that only carries its own columns."""
KEYS = -2
"""Piece ``KEYS - i`` says in its ``row`` how many keys view i holds."""
_SEED = 0x51A7
_RANKS = 1 << 16


def has_own_column(selected: Selected) -> bool:
    """Whether a value travels as a column of its own: texts and lists; the others are 64 bits in a piece."""
    return selected.dtype.kind in {"text", "array"}


def column_name(copy: Copy, at: int) -> str:
    """The column in which value `at` of what a copy is told travels."""
    return f"value_{copy.index}_{at}"


def copy_schema(sharded: ShardedPlan, source: str) -> pa.Schema:
    """The columns of `copies`."""
    fields = [(f.name, arrow_type(f.dtype)) for f in fields_sent(sharded, source)]
    return pa.schema(
        [
            ("part", pa.int32()),
            ("time", pa.int64()),
            ("rank", pa.int32()),
            ("row", pa.int64()),
            ("copy", pa.int32()),
            ("to", pa.list_(pa.int64())),
            (source_column(sharded, source), pa.struct(fields)),
        ]
    )


def source_column(sharded: ShardedPlan, source: str) -> str:
    """The column in which the rows of `source` travel."""
    return f"source_{list(sharded.plan.sources).index(source)}"


def piece_schema(sharded: ShardedPlan) -> pa.Schema:
    """The columns of `answers`."""
    own = [
        (column_name(copy, at), arrow_type(one.dtype))
        for copy in sharded.copies
        if copy.service is not None
        for at, one in enumerate(sharded.selected(copy))
        if has_own_column(one)
    ]
    return pa.schema(
        [("out", pa.int32()), ("row", pa.int64()), ("copy", pa.int32()), ("piece", pa.binary()), *own]
    )


def fields_sent(sharded: ShardedPlan, source: str) -> tuple[Field, ...]:
    """The columns of `source` that any of its copies needs."""
    return tuple({f.name: f for copy in sharded.copies_of(source) for f in copy.fields}.values())


def fields_read(sharded: ShardedPlan, source: str) -> tuple[Field, ...]:
    """The columns of `source` that are held to its contract: all but a batch source's digest, which is made.

    Labels come with the columns of their events.
    """
    node = sharded.plan.sources[source]
    if node.label_of is not None:
        return next(view.columns for view in sharded.plan.views if view.source == source)
    return tuple(f for f in node.fields if not (node.is_batch and f.name == node.id_field))


class Copier:
    """Step 1: makes the copies of one source's rows.

    Parameters
    ----------
    parts
        How many places there are.
    by_time
        Whether rows count in the order of event time, labels and batch rows first at equal times; else in that of their columns
        ``_time`` and ``_row``.
    """

    def __init__(self, sharded: ShardedPlan, source: str, *, parts: int, by_time: bool) -> None:
        self._node: SourceNode = sharded.plan.sources[source]
        self._sharded, self._source = sharded, source
        self._parts, self._by_time = parts, by_time
        self._rank = _rank(sharded, source, by_time=by_time)
        self._copies = sharded.copies_of(source)
        self._sent = fields_sent(sharded, source)
        self._preparers = {copy.index: self._preparer(copy) for copy in self._copies if copy.enters}
        self._schema = copy_schema(sharded, source)

    def _preparer(self, copy: Copy) -> ViewPreparer:
        """What makes the keys of rows that enter; the views of a shard find them alike."""
        shard = self._sharded.shards[copy.shard]
        state = FeatureState(shard.plan)
        at = next(i for i, view in enumerate(shard.plan.views) if view.source == copy.source)
        return ViewPreparer(shard.plan.views[at], state.views[at])

    def copies(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The copies of rows that have the source's columns, ``_row``, where they answer for others ``_to``, and where not by time ``_time``."""
        for batch in batches:
            if batch.num_rows:
                yield from self._copied(pa.Table.from_batches([batch]))

    def _copied(self, table: pa.Table) -> Iterator[pa.RecordBatch]:
        rows = table.column("_row").to_numpy()
        fields = fields_read(self._sharded, self._source)
        columns = believed_columns(table, fields, owner=f"rows of {self._source!r}", numbers=rows)
        times = row_times(columns, self._node) if self._by_time else table.column("_time").to_numpy()
        sent = [to_arrow(columns[f.name], f.dtype) for f in self._sent]
        struct = pa.StructArray.from_arrays(sent, names=[f.name for f in self._sent])
        to = table.column("_to").combine_chunks() if "_to" in table.column_names else None
        for copy in self._copies:
            part = self._part(copy, columns, rows)
            count = len(rows)
            yield pa.record_batch(
                [
                    pa.array(part, pa.int32()),
                    pa.array(times),
                    pa.array(np.full(count, self._rank, np.int32)),
                    pa.array(rows),
                    pa.array(np.full(count, copy.index, np.int32)),
                    pa.nulls(count, pa.list_(pa.int64())) if to is None else to,
                    struct,
                ],
                schema=self._schema,
            )

    def _part(self, copy: Copy, columns: Columns, rows: IntArray) -> IntArray:
        present: BoolArray | None
        if copy.enters:
            prepared = self._preparers[copy.index].prepare(Rows(columns, rows))
            keys, present = prepared.keys, prepared.keys.valid
        else:
            keys, present = encoded_keys(columns, copy.key_columns)
        part = (hash_text(keys, _SEED) % np.uint64(self._parts)).astype(np.int64)
        # A row without a key meets nobody, so any place will do; the bytes of its key may be anything.
        return part if present is None else np.where(present, part, rows % self._parts)


def _rank(sharded: ShardedPlan, source: str, *, by_time: bool) -> int:
    """The place of a source's rows among rows of the same time: labels and tables, then events, then bare keys.

    In the order of arrival a label stands where it and its event were both there, behind the event, which does not see it.
    """
    node = sharded.plan.sources[source]
    first = int(not node.comes_first) if by_time else int(node.label_of is not None)
    return (2 if source == SPINE else first) * _RANKS + list(sharded.plan.sources).index(source)


class Answerer:
    """Step 2: folds the copies of one place in their order, and says what each is told.

    Parameters
    ----------
    states
        By shard the state to go on from; default: empty ones.
    outs, rows
        How many places the pieces go to, and how many events there are, numbered from 0; see `out_of`.
    skip_failing
        See `FeatureState.advance`.
    """

    def __init__(
        self,
        sharded: ShardedPlan,
        *,
        outs: int,
        rows: int,
        states: Sequence[FeatureState] | None = None,
        skip_failing: bool = False,
    ) -> None:
        self._sharded = sharded
        self._outs, self._rows = outs, rows
        self._skip_failing = skip_failing
        self.states = (
            [FeatureState(shard.plan) for shard in sharded.shards] if states is None else list(states)
        )
        self._schema = piece_schema(sharded)
        self._position = 0

    def answers(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The pieces of copies that come in order; at the end how many keys each view holds."""
        for batch in batches:
            if batch.num_rows:
                yield from self._answered(batch)
        yield self._held()

    def _answered(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        positions = self._positions(batch)
        kinds = batch.column("copy").to_numpy()
        found = {copy.index: np.flatnonzero(kinds == copy.index) for copy in self._sharded.copies}
        for shard, state in enumerate(self.states):
            copies = [c for c in self._sharded.copies if c.shard == shard and len(found[c.index])]
            if not copies:
                continue
            entering = {c.stands_for: self._rows_of(batch, c, found[c.index], positions) for c in copies}
            asked = [state.plan.services[c.answers_as] for c in copies if c.service is not None]
            made = state.advance(entering, services=asked, exact=True, skip_failing=self._skip_failing)
            for copy in copies:
                if copy.service is not None:
                    yield self._pieces(batch, copy, found[copy.index], made[copy.answers_as])

    def _positions(self, batch: pa.RecordBatch) -> IntArray:
        """The places of a batch's rows; copies of one row have the same."""
        keys = [batch.column(name).to_numpy() for name in ("time", "rank", "row")]
        another = np.ones(batch.num_rows, np.bool_)
        another[1:] = False
        for key in keys:
            another[1:] |= key[1:] != key[:-1]
        positions = self._position + np.cumsum(another)
        self._position = int(positions[-1])
        return positions

    def _rows_of(self, batch: pa.RecordBatch, copy: Copy, at: IntArray, positions: IntArray) -> Rows:
        struct = batch.column(source_column(self._sharded, copy.source)).take(pa.array(at))
        names = [struct.type.field(i).name for i in range(struct.type.num_fields)]
        table = pa.table({name: struct.field(i) for i, name in enumerate(names)})
        return Rows(table_columns(table, copy.fields, owner=copy.source), positions[at])

    def _pieces(
        self, batch: pa.RecordBatch, copy: Copy, at: IntArray, features: FeatureRows
    ) -> pa.RecordBatch:
        rows = batch.column("row").to_numpy()[at]
        to = batch.column("to").take(pa.array(at))
        if to.null_count < len(to):  # some rows answer for several, or for others
            several = [
                [row] if one is None else one for row, one in zip(rows.tolist(), to.to_pylist(), strict=True)
            ]
            features = features.take(np.repeat(np.arange(len(rows)), [len(one) for one in several]))
            rows = np.array([row for one in several for row in one], np.int64)
        selected = self._sharded.selected(copy)
        columns: dict[str, pa.Array] = {
            "out": pa.array(out_of(rows, self._rows, outs=self._outs), pa.int32()),
            "row": pa.array(rows),
            "copy": pa.array(np.full(len(rows), copy.index, np.int32)),
            "piece": packed(features, selected),
        }
        for i, one in enumerate(selected):
            if has_own_column(one):
                columns[column_name(copy, i)] = _own_column(features, i, one)
        arrays = [columns.get(f.name, pa.nulls(len(rows), f.type)) for f in self._schema]
        return pa.record_batch(arrays, schema=self._schema)

    def _held(self) -> pa.RecordBatch:
        views = [
            (view, state.views[i].stats.keys + state.views[i].evicted_keys)
            for shard, state in zip(self._sharded.shards, self.states, strict=True)
            for i, view in enumerate(shard.views)
        ]
        rows = [{"out": 0, "row": keys, "copy": KEYS - view} for view, keys in views]
        return pa.RecordBatch.from_pylist(rows, schema=self._schema)


def out_of(rows: IntArray, count: int, *, outs: int) -> IntArray:
    """Which of `outs` places each of `rows` goes to: of `count`, neighbours together in order; with 0, any."""
    return rows * outs // count if count else rows % outs


def packed(features: FeatureRows, selected: Sequence[Selected]) -> pa.Array:
    """The values of rows that fit 64 bits, their validity, lateness and whether they are degraded, as one binary a row."""
    count = len(features)
    plain = [i for i, one in enumerate(selected) if not has_own_column(one)]
    bits = np.zeros((count, len(plain)), np.int64)
    valid = np.ones((count, len(plain)), np.uint8)
    for to, at in enumerate(plain):
        column = features.columns[at]
        assert isinstance(column, Numeric)
        values = column.values
        bits[:, to] = values.view(np.int64) if values.dtype == np.float64 else values.astype(np.int64)
        if column.valid is not None:
            valid[:, to] = column.valid
    flags = np.column_stack([features.lateness, features.degraded.astype(np.uint8)])
    data = np.concatenate([bits.view(np.uint8).reshape(count, 8 * len(plain)), valid, flags], axis=1)
    offsets = np.arange(count + 1, dtype=np.int32) * data.shape[1]
    return pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    )


def unpacked(pieces: pa.Array, selected: Sequence[Selected]) -> tuple[IntArray, BoolArray, Any, Any]:
    """What `packed` packed: bits and validity, [n, values], lateness and degraded."""
    count, width = len(pieces), sum(not has_own_column(one) for one in selected)
    stride = 9 * width + 2
    _, offsets, data = pieces.buffers()
    start = np.frombuffer(offsets, np.int32)[pieces.offset] if count else 0
    whole = np.frombuffer(data, np.uint8)[start : start + count * stride].reshape(count, stride)
    bits = np.ascontiguousarray(whole[:, : 8 * width]).view(np.int64).reshape(count, width)
    flags = whole[:, 9 * width :]
    return bits, whole[:, 8 * width : 9 * width].astype(np.bool_), flags[:, 0], flags[:, 1]


def _own_column(features: FeatureRows, at: int, selected: Selected) -> pa.Array:
    if isinstance(selected.dtype, ArrayType):
        return features.arrays[at].to_arrow(selected.dtype)
    return to_arrow(features.columns[at], selected.dtype)


class Gatherer:
    """Step 3: puts the pieces of each event together, and computes the realtime views.

    Parameters
    ----------
    flags
        Whether to append the columns ``_lateness`` and ``_degraded`` (see `FeatureRows`).
    """

    def __init__(self, sharded: ShardedPlan, *, flags: bool = False) -> None:
        self._sharded, self._flags = sharded, flags
        states = FeatureState(sharded.plan).views
        self._assemblers = [Assembler(sharded.plan, service, states) for service in sharded.services]

    def gathered(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The events with their features, in the order of ``row``.

        ``event`` has an event's own columns and ``service`` which of the services it is told.
        """
        kept: list[pa.RecordBatch] = []
        for batch in batches:
            if not batch.num_rows:
                continue
            last = batch.column("row")[-1].as_py()
            rows = batch.column("row").to_numpy()
            whole = int(np.searchsorted(rows, last))  # more pieces of the last row may follow
            if whole:
                yield from self._put_together([*kept, batch.slice(0, whole)])
                kept = []
            kept.append(batch.slice(whole))
        if kept:
            yield from self._put_together(kept)

    def _put_together(self, batches: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = pa.Table.from_batches(batches).combine_chunks()
        kinds = table.column("copy").to_numpy()
        events = np.flatnonzero(kinds == EVENT)
        told = table.column("service").to_numpy(zero_copy_only=False)[events].astype(np.int64)
        parts, places = [], []
        for index in range(len(self._sharded.services)):
            mine = np.flatnonzero(told == index)
            if len(mine):
                parts.append(self._told(table, kinds, events[mine], index))
                places.append(mine)
        whole = pa.concat_tables(parts)
        if len(parts) > 1:
            whole = whole.take(pa.array(np.argsort(np.concatenate(places))))
        yield from whole.combine_chunks().to_batches()

    def _told(self, table: pa.Table, kinds: IntArray, events: IntArray, index: int) -> pa.Table:
        """The events that stand at `events`, with what service `index` tells them."""
        service = self._sharded.services[index]
        own = _struct_table(table.column("event"), events)
        outputs = self._outputs(table, kinds, table.column("row").to_numpy()[events], service)
        node = self._sharded.plan.sources[service.source]
        fields = [f for f in node.fields if f.name in service.request_columns]
        columns = believed_columns(own, fields, owner="events")
        features = self._assemblers[index].rows(columns, outputs, exact=True)
        if self._flags:
            own = own.append_column("_lateness", pa.array(features.lateness.astype(np.int8)))
            own = own.append_column("_degraded", pa.array(features.degraded))
        return append_features(own, service, [features]).to_arrow()

    def _outputs(
        self, table: pa.Table, kinds: IntArray, rows: IntArray, service: ServiceNode
    ) -> list[Output]:
        """What the look-ups of `service` were told for the events at `rows`."""
        outputs: dict[int, Output] = {}
        for copy in self._sharded.answering(service):
            found = np.flatnonzero(kinds == copy.index)
            at = found[np.isin(table.column("row").to_numpy()[found], rows)]
            if not np.array_equal(table.column("row").to_numpy()[at], rows):
                raise CorruptionError(
                    f"service {service.name!r}: {len(at)} answers of one kind for {len(rows)} events; there must be one for "
                    "each. The input changed while it was read: run it again."
                )
            outputs |= self._told_by(copy, table.take(pa.array(at)).combine_chunks())
        return [outputs[j] for j in range(len(service.lookups))]

    def _told_by(self, copy: Copy, pieces: pa.Table) -> dict[int, Output]:
        """The outputs of the look-ups that `copy` answers."""
        selected = self._sharded.selected(copy)
        service = next(s for s in self._sharded.services if s.name == copy.service)
        packed_values = _one_chunk(pieces.column("piece"), pa.binary())
        bits, valid, lateness, degraded = unpacked(packed_values, selected)
        made: dict[int, Output] = {}
        for j in copy.lookups:
            width = len(self._sharded.plan.views[service.lookups[j].view].output_kinds)
            made[j] = _empty_output(len(pieces), width, lateness, degraded)
        plain = 0
        for i, one in enumerate(selected):
            output = made[one.index]
            if has_own_column(one):
                assert isinstance(output.apart, dict)
                output.apart[one.column] = _carried(pieces.column(column_name(copy, i)), one)
            else:
                output.bits[:, one.column], output.valid[:, one.column] = bits[:, plain], valid[:, plain]
                plain += 1
        return made


def _empty_output(count: int, width: int, lateness: Any, degraded: Any) -> Output:
    bits = np.zeros((width, count), np.int64).T
    return Output(bits, np.zeros((width, count), np.bool_).T, lateness, {}, degraded.astype(np.bool_))


def _carried(values: pa.ChunkedArray, selected: Selected) -> Column | Lists:
    """A column of its own as the engine has it."""
    if not isinstance(selected.dtype, ArrayType):
        return arrow_column(values, Field("value", selected.dtype), owner="pieces")
    lists = _one_chunk(values, arrow_type(selected.dtype))
    offsets = np.asarray(lists.offsets).astype(np.int64)
    inner = lists.values.slice(offsets[0], offsets[-1] - offsets[0])
    field = Field("value", selected.dtype.elem)
    return Lists(offsets - offsets[0], arrow_column(pa.chunked_array([inner]), field, owner="pieces"))


def _one_chunk(values: pa.ChunkedArray, dtype: pa.DataType) -> pa.Array:
    whole = values.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], dtype)
    return whole


def _struct_table(values: pa.ChunkedArray, at: IntArray) -> pa.Table:
    """The fields of a struct column as a table."""
    whole = _one_chunk(values, values.type).take(pa.array(at))
    names = [whole.type.field(i).name for i in range(whole.type.num_fields)]
    return pa.table({name: whole.field(i) for i, name in enumerate(names)})
