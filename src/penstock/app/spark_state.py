"""The kernel's state between the micro-batches of a Spark stream: a snapshot a place and micro-batch, in the checkpoint folder.

A micro-batch that Spark repeats after a failure finds the state that it began with, so it makes the same bits again. A worker keeps what it
wrote last in memory, and reads only what another worker wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import StoreError
from penstock.engine.recovery import decode_state, encode_state, schema_hash
from penstock.engine.shard_rows import Answerer
from penstock.engine.spark_tasks import Batches, Recipe, cooked
from penstock.stores.snapshots import Snapshot, SnapshotStore

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.engine.features import FeatureState
    from penstock.engine.shards import ShardedPlan

_kept: dict[Path, tuple[int, list[FeatureState]]] = {}


@dataclass(frozen=True)
class Checkpoint:
    """Where the states of a stream are kept, and the micro-batch that they are wanted for."""

    folder: str
    batch: int

    def store(self, part: int) -> SnapshotStore:
        """The snapshots of place `part`; their position is the number of micro-batches behind them."""
        folder = Path(self.folder)
        return SnapshotStore(folder / f"{part:06d}", store_id=hashlib.sha256(b"spark").hexdigest()[:32])


def answer_stream(
    recipe: Recipe, checkpoint: Checkpoint, outs: int, batches: Batches
) -> Iterator[pa.RecordBatch]:
    """Step 2 of a micro-batch: go on from the state before it, and keep the state behind it."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None, "a task of Spark has a context"
    part, sharded = context.partitionId(), cooked(recipe)
    folder = Path(checkpoint.folder) / f"{part:06d}"
    states = _states(sharded, checkpoint, part)
    _kept.pop(folder, None)  # while they are moved they are neither the ones before nor the ones behind
    answerer = Answerer(sharded, outs=outs, rows=0, states=states, skip_failing=True)
    yield from answerer.answers(batches)
    behind = checkpoint.batch + 1
    state = msgspec.msgpack.encode([encode_state(one) for one in answerer.states])
    hashed = schema_hash(sharded.plan)
    checkpoint.store(part).save(
        Snapshot(position=behind, fingerprint=sharded.plan.fingerprint, schema_hash=hashed, state=state)
    )
    _kept[folder] = behind, answerer.states


def _states(sharded: ShardedPlan, checkpoint: Checkpoint, part: int) -> list[FeatureState] | None:
    """The states before a micro-batch; None before the first."""
    if checkpoint.batch == 0:
        return None
    behind, states = _kept.get(Path(checkpoint.folder) / f"{part:06d}", (-1, []))
    if behind == checkpoint.batch:
        return states
    found = checkpoint.store(part).newest_good(
        fingerprint=sharded.plan.fingerprint,
        schema_hash=schema_hash(sharded.plan),
        next_position=checkpoint.batch,
    )
    snapshot = found.snapshot
    if snapshot is None or snapshot.position != checkpoint.batch:
        why = "; ".join(one.reason for one in found.skipped) or "there is none of it"
        raise StoreError(
            f"stream: the state of place {part} before micro-batch {checkpoint.batch} is not in {checkpoint.folder} ({why}). "
            "Restore the checkpoint folder, or begin anew with another one."
        )
    if snapshot.fingerprint != sharded.plan.fingerprint:
        raise StoreError(
            f"stream: the state in {checkpoint.folder} is of other definitions; allowed are those that it began with. Begin "
            "anew with another checkpoint folder."
        )
    parts = msgspec.msgpack.decode(snapshot.state, type=list[bytes])
    return [decode_state(shard.plan, data) for shard, data in zip(sharded.shards, parts, strict=True)]
