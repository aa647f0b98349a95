"""What a shard of a later stage reads: one partition that all shards of the stage before write to, each in its own order.

1. Rows of each of those are kept apart, and merged by their places (`stage_blocks`), as the partitions of a topic are merged by event time.
2. Rows up to a bound are taken: no shard that has more to say will send any before it. A shard that is at rest sets no bound, so at the ends of the
   topics nobody waits; one that has said nothing for a while does not count as at rest.
3. A shard that keeps others waiting and says nothing is waited for `PATIENCE_S`, since it is on its way to another worker; at the very first start,
   until each has been heard, `FIRST_S`.
4. Offsets are where the oldest message stands that is needed, and for each shard the position up to which its rows were taken: what is sent, or read, again
   is left out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.app.merging import Part, Resume
from penstock.app.stage_blocks import FIRST, LAST, Block, Place, Places, unmarked
from penstock.connectors.kafka import behind
from penstock.engine.contract import Decoded
from penstock.engine.given import completed
from penstock.engine.originals import as_json
from penstock.engine.values import to_list
from penstock.kernel.columns import Columns, IntArray

if TYPE_CHECKING:
    from confluent_kafka import Message

    from penstock.connectors.kafka import KafkaReader, Partition
    from penstock.plan.nodes import SourceNode

PATIENCE_S, FIRST_S = 5.0, 60.0
STALE_MS = 3_000
"""How long after its last word a shard counts as being at rest, by the broker's clock."""
MOST_BYTES = 64 << 20
AT_ONCE = 256
ROWS_AT_ONCE = 4_096
"""How many rows of a shard that are there a micro-batch takes, in whole messages: it does not grow with what is piled up, and is not one message."""
TIDY_MESSAGES = 1_000
"""After so many messages without rows the offset is kept all the same, since Kafka deletes what is old."""

Taken = tuple[list[Part], dict[str, str]]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Up to where the rows of a shard were taken: which log, and the position behind the last."""

    series: str
    position: int


_cursor_decoder = msgspec.json.Decoder(Cursor)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    columns: Columns
    positions: IntArray
    places: Places

    def split(self, count: int) -> tuple[_Rows, _Rows]:
        """The first `count` rows, and the others."""
        return self._between(slice(0, count)), self._between(slice(count, self.columns.length))

    def after(self, begin: int) -> _Rows:
        """The rows from a position of the log on."""
        return self.split(int(np.searchsorted(self.positions, begin)))[1]

    def _between(self, part: slice) -> _Rows:
        if part == slice(0, self.columns.length):
            return self
        return _Rows(self.columns.take(part), self.positions[part], self.places.take(part))


@dataclass(slots=True, eq=False)
class _Waiting:
    """Rows of one message that were not taken yet, and the place that the shard had come to."""

    offset: int
    series: str
    stop: int
    place: Place
    rows: dict[str, _Rows]
    size: int

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(rows.columns.length for rows in self.rows.values())


@dataclass(slots=True, eq=False)
class _Shard:
    """A shard of the stage before, as it is known here."""

    number: int
    taken: Cursor | None = None
    read: dict[str, int] = field(default_factory=dict)
    """By log the position behind what was read."""
    waiting: deque[_Waiting] = field(default_factory=deque)
    place: Place = FIRST
    rest: bool = False
    heard_ms: int | None = None
    waits_since_s: float | None = None
    is_away: bool = False

    def full(self) -> Place | None:
        """Up to where the rows that are there make a micro-batch, if they make more than one."""
        count = 0
        for at, one in enumerate(self.waiting):
            count += one.count
            if count >= ROWS_AT_ONCE and at + 1 < len(self.waiting):
                return one.place
        return None

    def take(self, bound: Place) -> dict[str, list[_Rows]]:
        """The rows up to `bound`, by source."""
        found: dict[str, list[_Rows]] = {}
        while self.waiting:
            first, left = self.waiting[0], {}
            for source, rows in first.rows.items():
                taken, later = rows.split(rows.places.up_to(bound))
                if taken.columns.length:
                    found.setdefault(source, []).append(taken)
                if later.columns.length:
                    left[source] = later
            if left:
                first.rows = left
                if found:
                    at = min(int(rows.positions[0]) for rows in left.values())
                    self.taken = Cursor(first.series, at)
                break
            self.taken = Cursor(first.series, first.stop)
            self.waiting.popleft()
        return found


class StageInput:
    """The rows of one partition of a topic between stages.

    Parameters
    ----------
    source
        The stream that is decided on.
    nodes
        The sources of the rows, as the stage before has them.
    shards
        How many shards the stage before has.
    problems
        Where it is noted that a shard is not waited for any more.
    """

    def __init__(
        self,
        source: str,
        partition: Partition,
        reader: KafkaReader,
        *,
        nodes: Mapping[str, SourceNode],
        shards: int,
        problems: dict[str, str],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.partition, self.reader = source, partition, reader
        self._nodes, self._problems, self._now_s = nodes, problems, now_s
        self._shards = [_Shard(number) for number in range(shards)]
        self._newest_ms = 0
        self._read_to: int | None = None
        self._kept_at = 0
        self._size = 0

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.source}:stage:{self.partition.topic}:{self.partition.number}"

    @property
    def at_rest(self) -> bool:
        """Whether nothing is there, and nobody is known to send more soon."""
        return all(self._rests(one) and not one.waiting for one in self._shards)

    @property
    def is_piled_up(self) -> bool:
        """Whether enough waits for a micro-batch that nobody would want larger."""
        return self.reader.count(self.partition) >= AT_ONCE or any(one.full() for one in self._shards)

    def step(self, offsets: Mapping[str, str]) -> Taken | None:
        """The next rows in order, and what to keep with them; no rows but something to keep; or None where there is nothing now.

        `offsets` are what was kept; they are looked at when reading begins.
        """
        if self._read_to is None:
            self._begin(offsets)
        while self._size < MOST_BYTES and (found := self.reader.take(self.partition, AT_ONCE)):
            for message in found:
                self._add(message)
        while any(one.waiting for one in self._shards):
            bound, who = self._bound()
            parts = self._take(bound)
            if parts:
                return parts, self._offsets()
            if who is None or not self._is_away(who):
                break
        assert self._read_to is not None
        return ([], self._offsets()) if self._read_to - self._kept_at >= TIDY_MESSAGES else None

    def _begin(self, offsets: Mapping[str, str]) -> None:
        at = Resume.parse(offsets.get(self.key)).at
        self._read_to = self._kept_at = 0 if at is None else int(at)
        for one in self._shards:
            kept = offsets.get(f"{self.key}:{one.number}")
            if kept is not None:
                one.taken = _cursor_decoder.decode(kept)
                one.read = {one.taken.series: one.taken.position}
        self.reader.read_from(self.partition, None if at is None else int(at))

    def _add(self, message: Message) -> None:
        """Note what a message says, and keep what it brings that is new."""
        value = message.value() or b""
        block = Block.from_bytes(value)
        one = self._shards[block.shard]
        begin = one.read.get(block.series, 0)
        one.place, one.rest = max(one.place, block.place), block.rest
        one.heard_ms = int(message.timestamp()[1])
        self._newest_ms = max(self._newest_ms, one.heard_ms)
        self._read_to = behind(message)
        if block.stop > begin or block.rest:
            one.waits_since_s, one.is_away = None, False
            self._problems.pop(f"stage {one.number}", None)
        if block.stop <= begin:
            return
        one.read[block.series] = block.stop
        rows = {}
        for source, payload in block.rows.items():
            whole = _Rows(*unmarked(Columns.from_bytes(payload)))
            new = whole if whole.positions[0] >= begin else whole.after(begin)
            if new.columns.length:
                rows[source] = new
        if rows:
            offset = message.offset()
            assert offset is not None  # what was received has one
            one.waiting.append(_Waiting(offset, block.series, block.stop, block.place, rows, len(value)))
            self._size += len(value)

    def _bound(self) -> tuple[Place, _Shard | None]:
        """Up to where rows may be taken, and the shard that sets it by what it has not sent yet."""
        bound, who = LAST, None
        for one in self._shards:
            if (full := one.full()) is not None:
                mine, waits = full, None
            elif not self._rests(one):
                mine, waits = one.place, one
            else:
                continue
            if mine < bound:
                bound, who = mine, waits
        return bound, who

    def _rests(self, one: _Shard) -> bool:
        """Whether nobody waits for what a shard may send."""
        fresh = one.heard_ms is not None and self._newest_ms - one.heard_ms <= STALE_MS
        return one.is_away or (one.rest and fresh)

    def _is_away(self, one: _Shard) -> bool:
        """Whether a shard that others wait for has used up their patience."""
        now_s = self._now_s()
        if one.waits_since_s is None:
            one.waits_since_s = now_s
        patience_s = FIRST_S if one.heard_ms is None and one.taken is None else PATIENCE_S
        if now_s - one.waits_since_s < patience_s and self._size < MOST_BYTES:
            return False
        one.is_away = True
        self._problems[f"stage {one.number}"] = (
            "the shard of this number of the stage before has said nothing for a while; others go on without it"
        )
        return True

    def _take(self, bound: Place) -> list[Part]:
        """The rows up to `bound`; where they stand among each other takes the place of their times."""
        found = [
            (source, rows)
            for one in self._shards
            for source, some in one.take(bound).items()
            for rows in some
        ]
        parts, start = [], 0
        ranks = Places.concat([rows.places for _, rows in found]).ranks() if found else None
        for source, rows in found:
            assert ranks is not None
            stop = start + rows.columns.length
            parts.append(Part(source, self._decoded(source, rows), Resume(), ranks[start:stop]))
            start = stop
        self._size = sum(waiting.size for one in self._shards for waiting in one.waiting)
        return parts

    def _decoded(self, source: str, rows: _Rows) -> Decoded:
        fields, columns = self._nodes[source].fields, completed(rows.columns, self._nodes[source])

        def original(row: int) -> bytes:
            one = columns.take(np.array([row]))
            return as_json({f.name: to_list(one[f.name], f.dtype)[0] for f in fields})

        return Decoded(columns, np.arange(columns.length), (), original, columns.length)

    def _offsets(self) -> dict[str, str]:
        assert self._read_to is not None
        oldest = min([one.waiting[0].offset for one in self._shards if one.waiting], default=self._read_to)
        self._kept_at = self._read_to
        kept = {
            f"{self.key}:{one.number}": msgspec.json.encode(one.taken).decode()
            for one in self._shards
            if one.taken is not None
        }
        return {self.key: str(Resume(str(oldest))), **kept}
