"""Messages of Kafka's partitions, read in a thread of its own into bounded buffers.

A reader belongs to no consumer group: it reads what it is told to, from the offsets that it is told, and who reads which partition is
decided elsewhere (`penstock.connectors.kafka_group`). Offsets are kept where the decisions are. A partition is paused while too much of it is
buffered; what librdkafka itself holds ahead is bounded, too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from penstock.core.errors import InputError, MissingDependencyError, UnreachableError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

MOST_MESSAGES = 50_000
MOST_BYTES = 64 << 20
HALF = 0.5
AT_ONCE = 5_000
"""Messages taken from librdkafka in one call."""
POLL_S = 0.05
REACH_S = 10.0
START = "auto.offset.reset"
_AHEAD = {"queued.min.messages": "20000", "queued.max.messages.kbytes": "16384", "fetch.wait.max.ms": "100"}


WorkT = TypeVar("WorkT")


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class _Buffer:
    """What was read of a partition, and not taken yet."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.position: int | None = None
        """The offset behind what was taken last; None while reading stands where it began."""
        self.at_end = False
        self.end: int | None = None
        self.bytes = 0
        self.paused = False


class KafkaReader:
    """Reads partitions.

    Parameters
    ----------
    settings
        Of librdkafka; ``auto.offset.reset`` says where partitions begin that have no offset.
    owner
        Who reads, for errors.
    most
        About how many messages may wait to be taken, over all partitions; each has the same share, beyond which it is paused.
    """

    def __init__(self, settings: Mapping[str, str], *, owner: str, most: int = MOST_MESSAGES) -> None:
        kafka = library()
        self._kafka = kafka
        self._owner = owner
        self._most = most
        self._start = kafka.OFFSET_END if settings.get(START) == "latest" else kafka.OFFSET_BEGINNING
        self._consumer: Consumer = kafka.Consumer(
            {
                **_AHEAD,
                "group.id": "penstock-reads-without-a-group",
                **settings,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                START: "error",  # an offset that Kafka has deleted is a loss, and no reason to begin anew
                "error_cb": self._note,
                "logger": Quiet(),
            }
        )
        self._changed = threading.Condition()
        self._buffers: dict[Partition, _Buffer] = {}
        self._orders: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._tellers: list[Callable[[], None]] = []
        self._stop = False
        self._failed: Exception | None = None
        self.problem = ""
        """What is wrong with the connection now; empty where nothing is."""
        self._thread = threading.Thread(target=self._run, name="penstock-kafka", daemon=True)
        self._thread.start()

    def tell(self, arrived: Callable[[], None]) -> None:
        """Call `arrived` from the reading thread whenever something has come; it must not block."""
        self._tellers.append(arrived)

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions; raises `InputError` where there is none, `UnreachableError` where no broker answers."""
        return self._order(lambda: partitions_of(self._consumer, topic, owner=self._owner))

    def read_from(self, partition: Partition, offset: int | None) -> None:
        """Read `partition` from `offset` on (None: where its messages begin), unless reading stands there already."""
        buffer = self._buffers.get(partition)
        if buffer is None or buffer.position != offset:
            self._order(lambda: self._begin(partition, offset))

    def leave(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""

        def end() -> None:
            for one in partitions:
                self._end(one)

        self._order(end)

    def take(self, partition: Partition, most: int) -> list[Message]:
        """Up to `most` messages of a partition, in order; raises what ended its reading."""
        with self._changed:
            if self._failed is not None:
                raise self._failed
            buffer = self._buffers[partition]
            waiting = buffer.messages
            if len(waiting) <= most:
                found = list(waiting)
                waiting.clear()
            else:
                found = [waiting.popleft() for _ in range(most)]
            if found:
                buffer.position = behind(found[-1])
                buffer.bytes -= sum(map(_size, found))
        return found

    def is_at_end(self, partition: Partition) -> bool:
        """Whether all that the partition had when last looked at was read and taken."""
        buffer = self._buffers.get(partition)
        return buffer is None or (buffer.at_end and not buffer.messages)

    def has(self, partition: Partition) -> bool:
        """Whether something of the partition waits to be taken, or why nothing ever will."""
        buffer = self._buffers.get(partition)
        return self._failed is not None or (buffer is not None and bool(buffer.messages))

    def count(self, partition: Partition) -> int:
        """How many messages of the partition wait to be taken."""
        buffer = self._buffers.get(partition)
        return 0 if buffer is None else len(buffer.messages)

    def wait(self, partition: Partition, seconds: float) -> None:
        """Wait until something of `partition` is there, or its end; at most `seconds`."""

        def ready() -> bool:
            buffer = self._buffers.get(partition)
            return self._failed is not None or buffer is None or bool(buffer.messages) or buffer.at_end

        with self._changed:
            self._changed.wait_for(ready, seconds)

    def lag(self) -> dict[Partition, int]:
        """By partition how many messages are there that were not taken, as far as is known."""
        return self._order(self._lag)

    def _lag(self) -> dict[Partition, int]:
        found = {}
        for partition, buffer in list(self._buffers.items()):
            at = self._kafka.TopicPartition(*partition)
            try:
                low, high = self._consumer.get_watermark_offsets(at, cached=True)
            except self._kafka.KafkaException:
                continue
            if high >= 0:
                begin = max(low, 0) if buffer.position is None else buffer.position
                end = high if buffer.end is None or high > buffer.end else buffer.end
                found[partition] = 0 if self.is_at_end(partition) else max(end - begin, 0)
        return found

    def close(self) -> None:
        """End reading."""
        if not self._stop:
            self._stop = True
            with self._changed:
                self._changed.notify_all()
            self._thread.join()
            self._consumer.close()
            self._refuse_orders()

    def _refuse_orders(self) -> None:
        """Let nobody wait for what is not done any more."""
        with self._changed:
            while self._orders:
                _, done = self._orders.popleft()
                done.set_exception(UnreachableError(f"{self._owner}: reading has ended."))

    def _order(self, work: Callable[[], WorkT]) -> WorkT:
        """What `work` gives, done by the reading thread between two of its calls.

        So nothing of before comes after it, and one thread alone calls librdkafka: another one would wait for it without end.
        """
        done: Future[WorkT] = Future()
        self._orders.append((work, done))
        with self._changed:
            self._changed.notify_all()
        if not self._thread.is_alive():
            self._refuse_orders()
        try:
            return done.result(2 * REACH_S)
        except TimeoutError as error:
            raise UnreachableError(f"{self._owner}: {self._failed or 'Kafka does not answer'}.") from error

    def _begin(self, partition: Partition, offset: int | None) -> None:
        self._end(partition)
        buffer = _Buffer()
        buffer.position = offset
        with self._changed:
            self._buffers[partition] = buffer
        start = self._start if offset is None else offset
        self._consumer.incremental_assign([self._kafka.TopicPartition(*partition, start)])

    def _end(self, partition: Partition) -> None:
        with self._changed:
            buffer = self._buffers.pop(partition, None)
        if buffer is not None:
            self._consumer.incremental_unassign([self._kafka.TopicPartition(*partition)])

    def _run(self) -> None:
        try:
            while not self._stop:
                self._obey()
                self._hold_back()
                self._fetch()
        except Exception as error:  # noqa: BLE001 - whoever takes next is told
            self._fail(error)
        while not self._stop:  # what is asked of it is still answered
            with self._changed:
                self._changed.wait_for(lambda: self._stop or self._orders, 1.0)
            self._obey()

    def _obey(self) -> None:
        while self._orders:
            work, done = self._orders.popleft()
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where the work was ordered
                done.set_exception(error)

    def _hold_back(self) -> None:
        """Pause partitions of which enough waits, and go on with those of which half was taken.

        Each has its own share of the room: were it one for all, it could fill with what is to come after a partition that finds no room.
        """
        share = 1 / max(len(self._buffers), 1)
        for partition, buffer in self._buffers.items():
            filled = max(len(buffer.messages) / (self._most * share), buffer.bytes / (MOST_BYTES * share))
            if buffer.paused and filled < HALF:
                self._consumer.resume([self._kafka.TopicPartition(*partition)])
                buffer.paused = False
            elif not buffer.paused and filled >= 1:
                self._consumer.pause([self._kafka.TopicPartition(*partition)])
                buffer.paused = True

    def _fetch(self) -> None:
        """Wait for a message, then take what else is there: a call for many would wait until they are many."""
        first = self._consumer.poll(POLL_S)
        if first is None:
            return
        self._keep([first, *self._consumer.consume(AT_ONCE, 0)])

    def _keep(self, messages: Sequence[Message]) -> None:
        newest: dict[Partition, Message] = {}
        with self._changed:
            for message in messages:
                error = message.error()
                partition = Partition(message.topic() or "", message.partition() or 0)
                buffer = self._buffers.get(partition)
                if error is not None:
                    self._heed(error, partition, buffer, message)
                elif buffer is not None:
                    buffer.messages.append(message)
                    buffer.at_end = False
                    buffer.bytes += _size(message)
                    newest[partition] = message
            for partition, message in newest.items():
                self._buffers[partition].at_end |= behind(message) >= self._high(partition)
            self.problem = "" if newest else self.problem
            self._changed.notify_all()
        for arrived in self._tellers:
            arrived()

    def _high(self, partition: Partition) -> int:
        """Where a partition ended when last fetched: known at once, while its end is told only after the next, empty fetch."""
        at = self._kafka.TopicPartition(*partition)
        high = int(self._consumer.get_watermark_offsets(at, cached=True)[1])
        return high if high >= 0 else 1 << 62

    def _heed(
        self, error: KafkaError, partition: Partition, buffer: _Buffer | None, message: Message
    ) -> None:
        code, codes = error.code(), self._kafka.KafkaError
        if code == codes._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes have such names
            if buffer is not None:
                buffer.at_end, buffer.end = True, message.offset()
        elif code == codes._AUTO_OFFSET_RESET:  # noqa: SLF001 - as above
            self._fail(
                InputError(
                    f"{self._owner}: Kafka no longer has what comes next of topic {partition.topic!r}, partition {partition.number} "
                    f"({error.str()}). Give topics a longer retention; to go on without what is lost, see docs/kafka.md."
                )
            )
        elif error.fatal() or code in {
            codes.UNKNOWN_TOPIC_OR_PART,
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes._UNKNOWN_PARTITION,  # noqa: SLF001 - as above
        }:
            self._fail(
                InputError(f"{self._owner}: topic {partition.topic!r} cannot be read ({error.str()}).")
            )
        else:
            self.problem = error.str()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failed = error
            self._changed.notify_all()
        for arrived in self._tellers:
            arrived()

    def _note(self, error: KafkaError) -> None:
        self.problem = error.str()


class Quiet:
    """Takes librdkafka's log lines, which repeat each failed attempt to connect; what goes on is told elsewhere."""

    def log(self, *_: object) -> None:
        """Nothing."""


def partitions_of(client: Any, topic: str, *, owner: str, wait_s: float = REACH_S) -> list[int]:
    """The numbers of a topic's partitions, asked of a consumer or an admin client.

    Raises
    ------
    UnreachableError
        No broker answers within `wait_s`.
    InputError
        There is no such topic, or it may not be read.
    """
    kafka = library()
    try:
        found = client.list_topics(topic, timeout=wait_s).topics[topic]
    except kafka.KafkaException as error:
        raise UnreachableError(
            f"{owner}: no Kafka broker answers within {wait_s:g} s ({error.args[0].str()}). Start it, or correct the brokers' addresses: "
            "kafka_bootstrap_servers of KafkaConfig, or bootstrap_servers of [kafka]."
        ) from error
    if found.error is not None or not found.partitions:
        why = "it has no partitions" if found.error is None else found.error.str()
        raise InputError(
            f"{owner}: topic {topic!r} cannot be read ({why}). Create it, or correct topics of its KafkaConfig."
        )
    return sorted(found.partitions)


def behind(message: Message) -> int:
    """The offset behind a message."""
    offset = message.offset()
    assert offset is not None  # what was received has one
    return offset + 1


def _size(message: Message) -> int:
    value = message.value()
    return 0 if value is None else len(value)


def library() -> Any:
    """The module `confluent_kafka`; raises `MissingDependencyError` where it is not installed."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise MissingDependencyError(
            "KafkaConfig: confluent-kafka is not installed. Run: pip install 'penstock[kafka]'."
        ) from error
    return confluent_kafka
