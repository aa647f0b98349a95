"""What a shard of one stage has committed, to the shards of the next: a follower of its log, which never holds up the engine.

1. It reads a stretch of the log, gives each row the partition of its key in the next stage, and sends each partition one block.
2. Up to where all was sent is noted with the next micro-batch, in the shard's own store. Whoever goes on from an older note sends some rows again, with
   the same positions, and readers leave out what they have.
3. Partitions that get no rows are told how far the shard has come, so that nobody waits for it in vain.
"""

from __future__ import annotations

import threading
import time
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
POLL_S, AGAIN_S, FLUSH_S = 0.02, 1.0, 1.0
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
    send, flush
        Send ``(partition, value)``; whether all that was sent is there.
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
        send: Callable[[int, bytes], None],
        flush: Callable[[], bool],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        assert stage.following is not None
        self._log, self._column, self._source = log, stage.following, source
        self._shard, self._partitions = shard, partitions
        self._send, self._flush, self._now_s = send, flush, now_s
        self._nodes = {
            name: node for name, node in stage.plan.sources.items() if source in {name, node.label_of}
        }
        self._reader = RowReader(log, stage.plan.sources)
        self._told: list[tuple[bool, float]] = [(False, -TELL_S)] * partitions
        self._under_way: Sent | None = None
        self.sent = sent
        """Up to where all was sent, and is there."""

    def step(self, *, rest_at: int | None) -> bool:
        """Send the next stretch, where the one before is there; whether there was any.

        Parameters
        ----------
        rest_at
            The length of the log at which the shard had nothing more to do; None while it has.
        """
        if self._under_way is None:
            self._under_way = self._send_stretch(rest_at)
        if not self._flush():
            return True
        moved = self._under_way.position > self.sent.position
        self.sent, self._under_way = self._under_way, None
        return moved

    @property
    def is_waiting(self) -> bool:
        """Whether what was sent last is not there yet."""
        return self._under_way is not None

    def say_goodbye(self) -> None:
        """Tell all partitions that the shard is on its way to another worker, who will have more to say."""
        mark = Block(
            self._log.store_id, self._shard, self.sent.position, self.sent.place, rest=False, rows={}
        )
        for partition in range(self._partitions):
            self._send(partition, mark.to_bytes())

    def _send_stretch(self, rest_at: int | None) -> Sent:
        start, stop = self.sent.position, min(self._log.next_position, self.sent.position + STRETCH_ROWS)
        while True:
            found, place = self._stretch(start, stop) if stop > start else ([], self.sent.place)
            rest = rest_at == stop
            blocks = [self._block(n, found, stop, place, rest=rest) for n in range(self._partitions)]
            if stop - start < 2 or max(map(len, blocks)) < MOST_BYTES // 2:
                break
            stop = start + (stop - start) // 2
        filled = {int(n) for rows in found for n in rows.partitions}
        for partition, value in enumerate(blocks):
            rested, told_s = self._told[partition]
            news = partition in filled or rest != rested or (stop > start and not rest)
            if news or self._now_s() - told_s >= TELL_S:
                self._send(partition, value)
                self._told[partition] = (rest, self._now_s())
        return Sent(stop, place)

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
            return [], self.sent.place
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
                np.maximum(np.maximum.accumulate(places.keys), self.sent.place[0]), places.origins
            )
        return places.ascending(self.sent.place)

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


class SentOn:
    """The thread of a `StageSender`; what goes wrong stands in `Runtime.problems` under ``stage``, and is tried again.

    Parameters
    ----------
    settings, topic, partitions
        Of librdkafka, and where the next stage reads.
    rest_at
        See `StageSender.step`.
    """

    def __init__(
        self,
        runtime: Runtime,
        stage: Stage,
        source: str,
        *,
        shard: int,
        settings: Mapping[str, str],
        topic: str,
        partitions: int,
        rest_at: Callable[[], int | None],
    ) -> None:
        self._problems, self._settings, self._topic = runtime.problems, settings, topic
        self._rest_at, self._stage, self._source = rest_at, stage, source
        self._shard, self._partitions = shard, partitions
        self._log = open_reader(runtime.project.root, runtime.shard)
        noted = runtime.store.offsets().get(SENT)
        sent = Sent() if noted is None else _sent_decoder.decode(noted)
        self._producer = StageProducer(settings, topic)
        self._sender = self._sender_from(sent)
        self._stop, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-stage", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        self._news.set()

    def noted(self) -> dict[str, str]:
        """Up to where all was sent, to be kept with the next micro-batch."""
        return {SENT: msgspec.json.encode(self._sender.sent).decode()}

    def close(self) -> None:
        """End; the next one to have the shard goes on."""
        self._stop.set()
        self._news.set()
        self._thread.join()
        try:
            self._sender.say_goodbye()
            self._producer.flush(FLUSH_S)
        except PenstockError:  # whoever waits has a patience
            pass
        finally:
            self._producer.close()
            self._log.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = POLL_S
            try:
                wait_s = 0.0 if self._sender.step(rest_at=self._rest_at()) else POLL_S
                if self._sender.is_waiting:
                    self._problems[PROBLEM] = (
                        f"topic {self._topic!r} between stages: no broker takes what is sent. It is sent when one does."
                    )
                else:
                    self._problems.pop(PROBLEM, None)
            except PenstockError as error:
                self._problems[PROBLEM], wait_s = str(error), AGAIN_S
                self._begin_anew()
            self._news.wait(wait_s)
            self._news.clear()

    def _sender_from(self, sent: Sent) -> StageSender:
        producer = self._producer
        return StageSender(
            self._log,
            self._stage,
            self._source,
            shard=self._shard,
            partitions=self._partitions,
            sent=sent,
            send=producer.send,
            flush=lambda: producer.flush(FLUSH_S),
        )

    def _begin_anew(self) -> None:
        """With another producer: what the one before had under way is sent again, and nothing of it comes later."""
        self._producer.close()
        self._producer = StageProducer(self._settings, self._topic)
        self._sender = self._sender_from(self._sender.sent)
