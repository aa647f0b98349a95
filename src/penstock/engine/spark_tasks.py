"""What runs in Spark's Python workers: the steps of `penstock.engine.shard_rows`, over a plan that each worker compiles once.

A worker is told where the definitions are, not sent them: a `Recipe` is pickled by Spark, and must be small and importable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from penstock.core.types import Field
from penstock.engine.contract import Contract
from penstock.engine.frames import believed_columns, to_arrow
from penstock.engine.shard_rows import Answerer, Copier, Gatherer
from penstock.engine.shards import ShardedPlan
from penstock.kernel.columns import Text
from penstock.kernel.hashing import encode_keys
from penstock.plan.nodes import SourceNode

Recipe = Callable[[], ShardedPlan]
"""Makes the plan; hashable, so that a worker makes it once."""
Batches = Iterable[pa.RecordBatch]
Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What Spark calls for a place."""


@lru_cache(maxsize=8)
def cooked(recipe: Recipe) -> ShardedPlan:
    """The plan of `recipe`, made once a process."""
    return recipe()


def copy_rows(
    recipe: Recipe,
    source: str,
    parts: int,
    by_time: bool,  # noqa: FBT001 - Spark gives the batches by position, after what is bound
    batches: Batches,
) -> Iterator[pa.RecordBatch]:
    """Step 1."""
    yield from Copier(cooked(recipe), source, parts=parts, by_time=by_time).copies(batches)


def answer_copies(recipe: Recipe, outs: int, rows: int, batches: Batches) -> Iterator[pa.RecordBatch]:
    """Step 2."""
    yield from Answerer(cooked(recipe), outs=outs, rows=rows).answers(batches)


def gather_pieces(
    recipe: Recipe,
    flags: bool,  # noqa: FBT001 - as above
    batches: Batches,
) -> Iterator[pa.RecordBatch]:
    """Step 3."""
    yield from Gatherer(cooked(recipe), flags=flags).gathered(batches)


def add_ids(field: Field, owner: str, batches: Batches) -> Iterator[pa.RecordBatch]:
    """Batches with the column ``_id``: what is equal exactly where the contract takes two ids for one."""
    for batch in batches:
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            keys = encode_keys([believed_columns(table, [field], owner=owner)[field.name]])
            yield _whole(table.append_column("_id", _binary(keys)))


def believe(fields: tuple[Field, ...], owner: str, batches: Batches) -> Iterator[pa.RecordBatch]:
    """The columns of `fields` as the contract takes them, with ``_row`` and ``_id``."""
    for batch in batches:
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            columns = believed_columns(table, fields, owner=owner, numbers=table.column("_row").to_numpy())
            made = {f.name: to_arrow(columns[f.name], f.dtype) for f in fields}
            yield _whole(pa.table({"_row": table.column("_row"), "_id": table.column("_id"), **made}))


def _whole(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches()
    return batch


def _binary(keys: Text) -> pa.Array:
    texts = pa.Array.from_buffers(
        pa.large_binary(), len(keys), [None, pa.py_buffer(keys.offsets), pa.py_buffer(keys.data)]
    )
    return texts.cast(pa.binary())


def decode_messages(source: SourceNode, batches: Batches) -> Iterator[pa.RecordBatch]:
    """JSON messages of a topic as rows of `source`: what passes its contract, and what does not, with the reason."""
    contract = Contract(source)
    for batch in batches:
        if not batch.num_rows:
            continue
        values = [value or b"null" for value in batch.column("value").to_pylist()]
        decoded = contract.decode_json(b"\n".join(value.replace(b"\n", b" ") for value in values))
        refused = {one.row: f"{one.reason}: {one.detail}" for one in decoded.refused}
        columns = decoded.columns
        rows = pa.StructArray.from_arrays(
            [to_arrow(columns[f.name], f.dtype) for f in source.fields], names=[f.name for f in source.fields]
        )
        place = np.full(len(values), len(rows))
        place[decoded.rows] = np.arange(len(rows))
        whole = pa.concat_arrays([rows, pa.nulls(1, rows.type)])
        yield pa.record_batch(
            {
                "_source": pa.array([source.name] * len(values)),
                "_file": batch.column("_file"),
                "_index": batch.column("_index"),
                "_refused": pa.array([refused.get(i) for i in range(len(values))], pa.string()),
                "_original": pa.array(
                    [values[i] if i in refused else None for i in range(len(values))], pa.binary()
                ),
                source.name: whole.take(pa.array(place)),
            }
        )
