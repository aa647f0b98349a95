"""What a shard of one stage sends to a shard of the next: rows of its log in their order, and how far it has come.

Rows of all shards of a stage are in one order: by *order key*, and at equal ones by the shard's number. The key is the event time, labels before events,
and never goes back within a shard; so merging by it is merging by event time, as if all were one log.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from penstock.core.errors import CorruptionError
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, IntArray, Numeric
from penstock.plan.nodes import SourceNode

POSITION, KEY = "_stage.position", "_stage.key"
FIRST_KEY = int(np.iinfo(np.int64).min)


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A message between stages.

    Attributes
    ----------
    series
        Of which log the positions are.
    shard
        Whose it is.
    stop
        Every row for this partition that stands before this position of the log is in this message or one before it.
    key
        All rows behind have at least this order key.
    rest
        Whether the shard had nothing more to do.
    rows
        By source rows as columns, with their positions and order keys.
    """

    series: str
    shard: int
    stop: int
    key: int
    rest: bool
    rows: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """The message's value."""
        return _encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Block:
        """The block of a message; raises `CorruptionError` where it is none."""
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise CorruptionError(
                f"topic between stages: a message cannot be read ({error}). Nobody but workers may write to it."
            ) from error


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Block).decode


def order_keys(columns: Columns, source: SourceNode) -> IntArray:
    """Where rows stand among those of other shards, before the running maximum: by time, at equal times labels first.

    Rows that have come through a stage stand where they stood there, however late they were.
    """
    if KEY in columns:
        kept = columns[KEY]
        assert isinstance(kept, Numeric)
        return kept.values.astype(np.int64)
    keys: IntArray = 2 * row_times(columns, source) + int(not source.comes_first)
    return keys


def marked(columns: Columns, positions: IntArray, keys: IntArray) -> Columns:
    """Rows with their positions and order keys."""
    return columns.with_columns({POSITION: Numeric(positions), KEY: Numeric(keys)})


def unmarked(columns: Columns) -> tuple[Columns, IntArray, IntArray]:
    """What `marked` has put together: rows, which keep their keys for the stage behind, positions and keys."""
    position, key = columns[POSITION], columns[KEY]
    assert isinstance(position, Numeric) and isinstance(key, Numeric)  # noqa: PT018
    rest = {name: column for name, column in columns.columns.items() if name != POSITION}
    return Columns(columns.length, rest), position.values.astype(np.int64), key.values.astype(np.int64)
