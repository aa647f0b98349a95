"""What a shard of one stage has committed, to the shards of the next: a follower of its log, which never holds up the engine.

1. It reads a stretch of the log, gives each row the partition of its key in the next stage, and sends each partition one block.
2. Up to where all was sent is noted with the next micro-batch, in the shard's own store. Whoever goes on from an older note sends some rows again, with
   the same positions, and readers leave out what they have.
3. Partitions that get no rows are told how far the shard has come, so that nobody waits for it in vain.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.app.runtime import open_reader
from penstock.app.stage_blocks import FIRST, KEY, POSITION, Block, Place, Places, marked, places_of
from penstock.connectors.kafka_stage import MOST_BYTES, StageProducer
from penstock.core.errors import PenstockError
from penstock.engine.labels import EVENT
from penstock.engine.lookup import ERASED, RowReader, conformed
from penstock.kernel.columns import Columns, IntArray, Numeric, concat
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.plan.nodes import SourceNode
from penstock.stores.reader import ProjectReader

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.core.records import LogBatch
    from penstock.plan.stages import Stage

PROBLEM = "stage"
SENT = "stage:sent"
"""Under which name it is noted up to where all was sent."""
STRETCH_ROWS = 4_096
LOOK_S, AGAIN_S, FLUSH_S, LATE_S = 0.25, 1.0, 1.0, 1.0
MOST_UNDER_WAY = 64
TELL_S = 1.0
"""How often a partition is told at least that the shard is there."""
SEED = 0x5747
"""Of the hash that parts keys; another one would part them anew."""


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """Up to which log position all was sent, and the place there."""

    position: int = 0
    place: Place = FIRST


_sent_decoder = msgspec.json.Decoder(Sent)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of one source in a stretch, with the partition that each goes to."""

    source: str
    columns: Columns
    positions: IntArray
    places: Places
    partitions: IntArray


@dataclass(slots=True, eq=False)
class _Stretch:
    """What is under way: up to where, since when, and how many messages are not there yet."""

    end: Sent
    sent_s: float
    left: int = 0

    def one_there(self) -> None:
        """Called when one of its messages is there."""
        self.left -= 1


class StageSender:
    """Sends a shard's log to the next stage.

    Parameters
    ----------
    log
        A reader of its own.
    stage, source
        What the shard computes, and the stream whose events it takes.
    shard, partitions
        The shard's number, and how many the next stage has.
    sent
        Where to begin.
    send
        Sends ``(partition, value, there)``; `there` is called when it is there.
    """

    def __init__(
        self,
        log: ProjectReader,
        stage: Stage,
        source: str,
        *,
        shard: int,
        partitions: int,
        sent: Sent,
        send: Callable[[int, bytes, Callable[[], None]], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        assert stage.following is not None
        self._log, self._column, self._source = log, stage.following, source
        self._shard, self._partitions = shard, partitions
        self._send, self._now_s = send, now_s
        self._nodes = {
            name: node for name, node in stage.plan.sources.items() if source in {name, node.label_of}
        }
        self._reader = RowReader(log, stage.plan.sources)
        self._told: list[tuple[bool, float]] = [(False, -TELL_S)] * partitions
        self._under_way: deque[_Stretch] = deque()
        self._reached = sent
        self.sent = sent
        """Up to where all was sent, and is there."""

    def send_next(self, *, rest_at: int | None) -> bool:
        """Send the next stretch; whether there were rows in it.

        Parameters
        ----------
        rest_at
            The length of the log at which the shard had nothing more to do; None while it has.
        """
        self.settle()
        if len(self._under_way) >= MOST_UNDER_WAY:
            return False
        before = self._reached.position
        self._send_stretch(rest_at)
        return self._reached.position > before

    def settle(self) -> None:
        """Note up to where all is there."""
        while self._under_way and not self._under_way[0].left:
            self.sent = self._under_way.popleft().end

    @property
    def waits_since_s(self) -> float | None:
        """Since when something is under way that is not known to be there."""
        return self._under_way[0].sent_s if self._under_way else None

    def say_goodbye(self) -> None:
        """Tell all partitions that the shard is on its way to another worker, who will have more to say."""
        end = self._reached
        mark = Block(self._log.store_id, self._shard, end.position, end.place, rest=False, rows={})
        for partition in range(self._partitions):
            self._send(partition, mark.to_bytes(), lambda: None)

    def _send_stretch(self, rest_at: int | None) -> None:
        start = self._reached.position
        stop = max(start, min(self._log.next_position, start + STRETCH_ROWS))
        while True:
            found, place = self._stretch(start, stop) if stop > start else ([], self._reached.place)
            rest = rest_at == stop
            blocks = [self._block(n, found, stop, place, rest=rest) for n in range(self._partitions)]
            if stop - start < 2 or max(map(len, blocks)) < MOST_BYTES // 2:
                break
            stop = start + (stop - start) // 2
        filled = {int(n) for rows in found for n in rows.partitions}
        stretch = _Stretch(Sent(stop, place), self._now_s())
        for partition, value in enumerate(blocks):
            rested, told_s = self._told[partition]
            news = partition in filled or rest != rested or (stop > start and not rest)
            if news or self._now_s() - told_s >= TELL_S:
                stretch.left += 1
                self._send(partition, value, stretch.one_there)
                self._told[partition] = (rest, self._now_s())
        self._reached = stretch.end
        self._under_way.append(stretch)

    def _block(self, partition: int, found: Sequence[_Rows], stop: int, place: Place, *, rest: bool) -> bytes:
        rows: dict[str, list[Columns]] = {}
        for one in found:
            at = np.flatnonzero(one.partitions == partition)
            if len(at):
                part = marked(one.columns.take(at), one.positions[at], one.places.take(at))
                rows.setdefault(one.source, []).append(part)
        payloads = {source: _in_order(parts).to_bytes() for source, parts in rows.items()}
        return Block(self._log.store_id, self._shard, stop, place, rest, payloads).to_bytes()

    def _stretch(self, start: int, stop: int) -> tuple[list[_Rows], Place]:
        """The rows of a stretch of the log, and the place at its end."""
        batches: list[tuple[SourceNode, Columns, IntArray]] = []
        for batch in self._log.read_log(start, stop, sources=set(self._nodes)):
            node = self._nodes[batch.source]
            columns, positions = _between(batch, node, start, stop)
            if len(positions):
                batches.append((node, columns, positions))
        if not batches:
            return [], self._reached.place
        positions = np.concatenate([one[2] for one in batches])
        own = [places_of(columns, node, at, shard=self._shard) for node, columns, at in batches]
        order = np.argsort(positions)
        running = self._running(Places.concat(own).take(order), is_first=KEY not in batches[0][1])
        places = running.take(np.argsort(order))
        found: list[_Rows] = []
        at = 0
        for node, columns, mine in batches:
            part = places.take(slice(at, at + len(mine)))
            at += len(mine)
            found += self._parted(node, columns, mine, part)
        return found, (int(running.keys[-1]), int(running.origins[-1]))

    def _running(self, places: Places, *, is_first: bool) -> Places:
        """Places that do not go back; in the first stage late rows stand behind the row before them, each for itself."""
        if is_first:
            places = Places(
                np.maximum(np.maximum.accumulate(places.keys), self._reached.place[0]), places.origins
            )
        return places.ascending(self._reached.place)

    def _parted(
        self, node: SourceNode, columns: Columns, positions: IntArray, places: Places
    ) -> Iterator[_Rows]:
        if node.label_of is None:
            partitions = self._partition_of(columns)
            yield _Rows(node.name, columns, positions, places, partitions)
            yield from self._waited(positions, places, partitions)
            return
        event = columns[EVENT]
        assert isinstance(event, Numeric)
        there = np.flatnonzero(event.values.astype(np.int64) >= 0)  # the others go with their events
        if len(there):
            events = self._reader.events(self._source, event.values[there].astype(np.int64))
            columns = columns.select([f.name for f in node.fields]).take(there)
            yield _Rows(node.name, columns, positions[there], places.take(there), self._partition_of(events))

    def _waited(self, positions: IntArray, places: Places, partitions: IntArray) -> Iterator[_Rows]:
        """The labels that had waited for events: they go where these go, with them."""
        if not self._log.counters().get("labels_early", 0):
            return
        records = self._log.labels_of(positions)
        early = np.flatnonzero(records.label_positions < records.event_positions)
        labels, events = records.label_positions[early], records.event_positions[early]
        source_of = self._reader.sources_at(labels) if len(labels) else {}
        for source in dict.fromkeys(source_of.values()):
            mine = np.flatnonzero([source_of[at] == source for at in labels.tolist()])
            columns = self._reader.events(source, labels[mine])
            waited = np.flatnonzero(columns[EVENT].values < 0)  # type: ignore[union-attr, operator]
            rows = np.searchsorted(positions, events[mine[waited]])
            columns = columns.select([f.name for f in self._nodes[source].fields]).take(waited)
            yield _Rows(source, columns, positions[rows], places.take(rows), partitions[rows])

    def _partition_of(self, columns: Columns) -> IntArray:
        hashes = hash_text(encode_keys([columns[self._column]]), SEED)
        found: IntArray = (hashes % np.uint64(self._partitions)).astype(np.int64)
        return found


def _between(batch: LogBatch, node: SourceNode, start: int, stop: int) -> tuple[Columns, IntArray]:
    """The rows of a logged batch in a stretch that were not erased."""
    columns, positions = conformed(Columns.from_bytes(batch.payload), node), batch.positions
    keep = (positions >= start) & (positions < stop)
    if ERASED in columns:
        keep &= ~columns[ERASED].values.astype(np.bool_)  # type: ignore[union-attr]
        columns = Columns(columns.length, {n: c for n, c in columns.columns.items() if n != ERASED})
    at = np.flatnonzero(keep)
    return columns.take(at), positions[at]


def _in_order(parts: Sequence[Columns]) -> Columns:
    """Rows of one source by position; of one position as they came."""
    if len(parts) == 1:
        return parts[0]
    whole = concat(parts)
    return whole.take(np.argsort(whole[POSITION].values, kind="stable"))  # type: ignore[union-attr]


class SendingOn:
    """Sends on what the shards of a stage commit, in the thread that takes turns with them, and waits for nothing.

    A thread of its own would take the interpreter from those that score, and they from it: each change of hands costs more than what it does.

    Parameters
    ----------
    stage, source
        What the shards compute, and the stream whose events they take.
    settings, topic, partitions
        Of librdkafka, and where the next stage reads.
    """

    def __init__(
        self, stage: Stage, source: str, *, settings: Mapping[str, str], topic: str, partitions: int
    ) -> None:
        self.stage, self.source, self.topic, self.partitions = stage, source, topic, partitions
        self._settings = settings
        self._producer = StageProducer(settings, topic)
        self._shards: list[SentOn] = []
        self._again_s = 0.0

    def send(self, partition: int, value: bytes, there: Callable[[], None]) -> None:
        """Send a message of a shard."""
        self._producer.send(partition, value, there)

    def add(self, shard: SentOn) -> None:
        """Send on what a shard commits."""
        self._shards.append(shard)

    def remove(self, shard: SentOn) -> None:
        """A shard goes to another worker."""
        try:
            self._producer.flush(FLUSH_S)
            shard.sender.say_goodbye()
            self._producer.flush(FLUSH_S)
        except PenstockError as error:  # whoever waits has a patience
            self._begin_anew(str(error))
        self._shards.remove(shard)

    def turn(self) -> bool:
        """Send on what there is; whether there was any."""
        if time.monotonic() < self._again_s:
            return False
        try:
            self._producer.look()
        except PenstockError as error:
            self._begin_anew(str(error))
            return False
        moved = [shard.step() for shard in self._shards]
        return any(moved)

    def close(self) -> None:
        """End, once all shards are removed."""
        self._producer.close()

    def _begin_anew(self, why: str) -> None:
        """With another producer: what the one before had under way is sent again, and nothing of it comes later."""
        self._producer.close()
        self._producer = StageProducer(self._settings, self.topic)
        self._again_s = time.monotonic() + AGAIN_S
        for shard in self._shards:
            shard.begin_anew(why)


class SentOn:
    """A shard whose rows are sent on; what goes wrong stands in `Runtime.problems` under ``stage``, and is tried again.

    Parameters
    ----------
    sending
        Sends them.
    rest_at
        See `StageSender.send_next`.
    """

    def __init__(
        self, runtime: Runtime, sending: SendingOn, *, shard: int, rest_at: Callable[[], int | None]
    ) -> None:
        self._problems, self._sending = runtime.problems, sending
        self._shard, self._rest_at = shard, rest_at
        self._log = open_reader(runtime.project.root, runtime.shard)
        noted = runtime.store.offsets().get(SENT)
        self.sender = self._sender_from(Sent() if noted is None else _sent_decoder.decode(noted))
        self._news, self._look_s = True, 0.0
        sending.add(self)

    def wake(self) -> None:
        """There is something to send; any thread may say so."""
        self._news = True

    def noted(self) -> dict[str, str]:
        """Up to where all was sent, to be kept with the next micro-batch."""
        self.sender.settle()
        return {SENT: msgspec.json.encode(self.sender.sent).decode()}

    def close(self) -> None:
        """End; the next one to have the shard goes on."""
        self._sending.remove(self)
        self._log.close()

    def step(self) -> bool:
        """Send the next stretch where there may be one; whether there was."""
        now_s = time.monotonic()
        if not self._news and now_s < self._look_s:
            return False
        self._news, self._look_s = False, now_s + LOOK_S
        try:
            moved = self.sender.send_next(rest_at=self._rest_at())
        except PenstockError as error:
            self._problems[PROBLEM], self._look_s = str(error), now_s + AGAIN_S
            return False
        since_s = self.sender.waits_since_s
        if since_s is not None and now_s - since_s > LATE_S:
            self._problems[PROBLEM] = (
                f"topic {self._sending.topic!r} between stages: no broker takes what is sent. It is sent when one does."
            )
        else:
            self._problems.pop(PROBLEM, None)
        self._news |= moved
        return moved

    def begin_anew(self, why: str) -> None:
        """What was under way is to be sent again."""
        self._problems[PROBLEM] = why
        self.sender = self._sender_from(self.sender.sent)
        self._news = True

    def _sender_from(self, sent: Sent) -> StageSender:
        return StageSender(
            self._log,
            self._sending.stage,
            self._sending.source,
            shard=self._shard,
            partitions=self._sending.partitions,
            sent=sent,
            send=self._sending.send,
        )
