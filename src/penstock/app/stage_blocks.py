"""What a shard of one stage sends to a shard of the next: rows of its log in their order, and how far it has come.

Rows of all shards of a stage are in one order. Their place is the event time, labels before events, which never goes back within a shard of the first
stage; at equal ones that shard's number, and the position in its log. So merging by place is merging by event time as one engine does it that reads all
partitions, however many stages rows have come through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from penstock.core.errors import CorruptionError
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, IntArray, Numeric
from penstock.plan.nodes import SourceNode

POSITION, KEY, ORIGIN = "_stage.position", "_stage.key", "_stage.origin"
SHARD_BITS = 44
"""An origin is a shard's number, times two to the power of this, plus a position."""

Place = tuple[int, int]
"""An order key and an origin."""
FIRST: Place = (int(np.iinfo(np.int64).min), 0)
LAST: Place = (int(np.iinfo(np.int64).max), int(np.iinfo(np.int64).max))


class Places(NamedTuple):
    """Where rows stand: int64[n] order keys and origins."""

    keys: IntArray
    origins: IntArray

    def take(self, rows: IntArray | slice) -> Places:
        """The places of these rows."""
        return Places(self.keys[rows], self.origins[rows])

    def up_to(self, bound: Place) -> int:
        """How many of places that ascend are at most `bound`."""
        if not len(self.keys) or (self.keys[-1], self.origins[-1]) <= bound:
            return len(self.keys)
        if (self.keys[0], self.origins[0]) > bound:
            return 0
        low, high = (
            np.searchsorted(self.keys, bound[0], "left"),
            np.searchsorted(self.keys, bound[0], "right"),
        )
        return int(low + np.searchsorted(self.origins[low:high], bound[1], "right"))

    def ascending(self, before: Place) -> Places:
        """Each the largest so far, from `before` on."""
        keys = np.concatenate([[before[0]], self.keys])
        origins = np.concatenate([[before[1]], self.origins])
        order = np.lexsort((origins, keys))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        largest = order[np.maximum.accumulate(rank)][1:]
        return Places(keys[largest], origins[largest])

    def ranks(self) -> IntArray:
        """Which of them stands first, second, ..., as numbers that grow with the places; equal places keep their order."""
        order = np.lexsort((self.origins, self.keys))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank

    @classmethod
    def concat(cls, parts: Sequence[Places]) -> Places:
        """The places of all parts, one after another."""
        return cls(np.concatenate([p.keys for p in parts]), np.concatenate([p.origins for p in parts]))


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
    place
        No row behind stands before this.
    rest
        Whether the shard had nothing more to do.
    rows
        By source rows as columns, with their positions and places.
    """

    series: str
    shard: int
    stop: int
    place: Place
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


def places_of(columns: Columns, source: SourceNode, positions: IntArray, *, shard: int) -> Places:
    """Where logged rows stand, as their own times say; those that have come through a stage stand where they stood there."""
    if KEY in columns:
        return Places(_ints(columns, KEY), _ints(columns, ORIGIN))
    return Places(
        2 * row_times(columns, source) + int(not source.comes_first), (shard << SHARD_BITS) + positions
    )


def marked(columns: Columns, positions: IntArray, places: Places) -> Columns:
    """Rows with their positions and places."""
    marks = {POSITION: positions, KEY: places.keys, ORIGIN: places.origins}
    return columns.with_columns({name: Numeric(values) for name, values in marks.items()})


def unmarked(columns: Columns) -> tuple[Columns, IntArray, Places]:
    """What `marked` has put together; the rows keep their places, for the stage behind."""
    rest = {name: column for name, column in columns.columns.items() if name != POSITION}
    places = Places(_ints(columns, KEY), _ints(columns, ORIGIN))
    return Columns(columns.length, rest), _ints(columns, POSITION), places


def _ints(columns: Columns, name: str) -> IntArray:
    column = columns[name]
    assert isinstance(column, Numeric)
    return column.values.astype(np.int64)
