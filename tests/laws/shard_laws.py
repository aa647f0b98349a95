"""A plan that is cut by key, worked on in many places that share nothing, as Spark does: in one process, without Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa

from penstock.engine.frames import to_arrow
from penstock.engine.kernel_rows import Rows
from penstock.engine.shard_rows import (
    EVENT,
    KEYS,
    Answerer,
    Copier,
    Gatherer,
    copy_schema,
    fields_read,
    out_of,
    piece_schema,
)
from penstock.engine.shards import ShardedPlan, check_keys


def sharded_features(
    sharded: ShardedPlan, rows: Mapping[str, Rows], *, parts: int, batch_rows: int, by_time: bool = False
) -> pa.Table:
    """The events of the plan's first service with their features, in the order of their positions.

    Raises `InputError` as Spark does where a view has more keys than its `max_keys`.
    """
    source = sharded.services[0].source
    tables = {name: _table(sharded, name, one) for name, one in rows.items()}
    copies = [
        copy
        for name in tables
        for copy in Copier(sharded, name, parts=parts, by_time=by_time).copies(
            _batches(tables[name], batch_rows)
        )
    ]
    events = tables[source]
    last = int(events["_row"].to_numpy().max()) + 1
    pieces = [_event_pieces(events, outs=parts, rows=last)]
    held = np.zeros(len(sharded.plan.views), np.int64)
    for part in _shuffled(copies, _all_copies(sharded), by="part", order=("time", "rank", "row", "copy")):
        for batch in Answerer(sharded, outs=parts, rows=last).answers(_batches(part, batch_rows)):
            kinds = batch["copy"].to_numpy()
            pieces.append(batch.filter(pa.array(kinds > KEYS)))
            np.add.at(held, KEYS - kinds[kinds <= KEYS], batch["row"].to_numpy()[kinds <= KEYS])
    check_keys(sharded.plan, held.tolist())
    schema = pa.unify_schemas([piece_schema(sharded), pieces[0].schema])
    gatherer = Gatherer(sharded, flags=True)
    made = [
        batch
        for part in _shuffled(pieces, schema, by="out", order=("row", "copy"))
        for batch in gatherer.gathered(_batches(part, batch_rows))
    ]
    return pa.Table.from_batches(made)


def _all_copies(sharded: ShardedPlan) -> pa.Schema:
    return pa.unify_schemas(
        [copy_schema(sharded, name) for name in dict.fromkeys(c.source for c in sharded.copies)]
    )


def _table(sharded: ShardedPlan, source: str, rows: Rows) -> pa.Table:
    columns = {f.name: to_arrow(rows.columns[f.name], f.dtype) for f in fields_read(sharded, source)}
    return pa.table({**columns, "_row": pa.array(rows.positions), "_time": pa.array(rows.positions)})


def _event_pieces(events: pa.Table, *, outs: int, rows: int) -> pa.RecordBatch:
    (own,) = events.drop(["_row", "_time"]).combine_chunks().to_batches()
    count = events.num_rows
    numbers = events["_row"].to_numpy()
    return pa.record_batch(
        {
            "out": pa.array(out_of(numbers, rows, outs=outs), pa.int32()),
            "row": pa.array(numbers),
            "copy": pa.array(np.full(count, EVENT, np.int32)),
            "event": own.to_struct_array(),
            "service": pa.array(np.zeros(count, np.int32)),
        }
    )


def _batches(table: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches as Spark gives them: of so many rows, and an empty one."""
    yield pa.RecordBatch.from_pylist([], schema=table.schema)
    for start in range(0, table.num_rows, rows):
        yield from table.slice(start, rows).combine_chunks().to_batches()


def _shuffled(
    batches: list[pa.RecordBatch], schema: pa.Schema, *, by: str, order: tuple[str, ...]
) -> Iterator[pa.Table]:
    """The rows of all batches, brought together by a column and put in order."""
    whole = [
        pa.table(
            {f.name: b[f.name] if f.name in b.schema.names else pa.nulls(len(b), f.type) for f in schema}
        )
        for b in batches
    ]
    table = pa.concat_tables(whole).combine_chunks()
    place = np.lexsort([table[name].to_numpy() for name in reversed((by, *order))])
    table = table.take(pa.array(place))
    values = table[by].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield table.slice(start, stop - start)
