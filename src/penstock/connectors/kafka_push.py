"""Rows to Kafka topics, each under the key of its entity, so that the events of an entity keep their order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec

from penstock.connectors.kafka import Quiet, library
from penstock.core.errors import UnreachableError

if TYPE_CHECKING:
    from penstock.connectors.http_push import Pushed

PARTITIONER = "murmur2_random"
"""As Java's clients choose a partition, so that one key lands in one partition whoever writes it."""
MOST_KEYS = 1_000_000
FLUSH_S, LOOK_S = 30.0, 0.002


@dataclass(frozen=True, slots=True)
class Topic:
    """Where the rows of a source go.

    Attributes
    ----------
    name
        The topic.
    key
        The field that is the message's key; None where it is that of the event with the same id.
    ids
        The field with the event's id; None where it has none.
    settings
        Of librdkafka.
    """

    name: str
    key: str | None
    ids: str | None
    settings: tuple[tuple[str, str], ...]


class KafkaPush:
    """Sends rows of JSON; use it as a context manager. Nothing is written twice by a retry (``enable.idempotence``).

    Parameters
    ----------
    topics
        By source where its rows go.
    """

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        self._topics = topics
        producers = {topic.settings: self._producer(topic) for topic in topics.values()}
        self._producers = {name: producers[topic.settings] for name, topic in topics.items()}
        self._keys: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for producer in self._producers.values():
            producer.flush(FLUSH_S)

    async def send(self, source: str, lines: Sequence[bytes], pushed: Pushed) -> None:
        """See `penstock.app.live_sending.Target`: returns when the broker has the rows."""
        topic, producer = self._topics[source], self._producers[source]
        outcomes: Counter[str] = Counter()

        def done(error: Any, _message: object) -> None:
            outcomes["written" if error is None else "failed"] += 1
            if error is not None:
                pushed.problem = error.str()

        for line in lines:
            await self._produce(producer, topic, line, done)
        while outcomes.total() < len(lines):
            producer.poll(0)
            await asyncio.sleep(LOOK_S)
        pushed.statuses += outcomes

    async def _produce(self, producer: Any, topic: Topic, line: bytes, done: Any) -> None:
        key = self._key(topic, line)
        while True:
            try:
                producer.produce(topic.name, line, key, on_delivery=done)
            except BufferError:  # as much waits as may
                producer.poll(0)
                await asyncio.sleep(LOOK_S)
            else:
                return

    def _key(self, topic: Topic, line: bytes) -> bytes | None:
        row = msgspec.json.decode(line)
        number = None if topic.ids is None else str(row[topic.ids])
        if topic.key is None:
            return None if number is None else self._keys.get(number)
        value = row.get(topic.key)
        key = None if value is None else str(value).encode()
        if number is not None and key is not None:
            if len(self._keys) >= MOST_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[number] = key
        return key

    @staticmethod
    def _producer(topic: Topic) -> Any:
        kafka = library()
        settings = {
            **dict(topic.settings),
            "enable.idempotence": True,
            "linger.ms": 2,
            "partitioner": PARTITIONER,
            "message.timeout.ms": int(FLUSH_S * 1000),
        }
        settings.pop("auto.offset.reset", None)
        producer = kafka.Producer({**settings, "logger": Quiet()})
        try:
            producer.list_topics(timeout=10.0)
        except kafka.KafkaException as error:
            raise UnreachableError(
                f"topic {topic.name!r}: no Kafka broker answers ({error.args[0].str()}). Start it, or correct the brokers' addresses: "
                "kafka_bootstrap_servers of KafkaConfig, or bootstrap_servers of [kafka]."
            ) from error
        return producer
