"""Steps of messages to a topic, each there once for whoever reads what is committed (``isolation.level=read_committed``).

A writer sends its steps in order, each in one transaction, which also moves the writer's *mark*: the number of the step that comes next, and a digest of what the last
one said. The mark is kept where consumer groups keep their offsets, in a group of the writer's own. So a step that is tried again finds either that nothing of it is there, or all.

A writer is known by its name, which is its ``transactional.id``: whoever takes it over shuts out the one before, whose open transaction ends without a trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

from penstock.connectors.kafka import REACH_S, START, Quiet, library, partitions_of
from penstock.connectors.kafka_push import PARTITIONER
from penstock.connectors.kafka_sink import Header
from penstock.core.errors import StoreError, UnreachableError

WAIT_S = 60.0
OPEN_MS = 900_000
"""How long a transaction may be open: what brokers allow where nothing else is set."""
_SETTINGS = {"linger.ms": 5, "compression.type": "lz4"}
_UNKNOWN = -1001
"""The offset of a group that has none."""


class Keyed(NamedTuple):
    """A message."""

    key: bytes
    value: bytes
    headers: list[Header]


class Mark(NamedTuple):
    """What a writer's mark says: the step that comes next, and the digest of the one before it, where that was sent."""

    step: int
    digest: str


class Marks:
    """The marks of writers to `topic`.

    Parameters
    ----------
    settings
        Of librdkafka.

    Raises
    ------
    InputError
        There is no such topic.
    UnreachableError
        No broker answers; so do the methods.
    """

    def __init__(self, settings: Mapping[str, str], topic: str) -> None:
        from confluent_kafka import admin

        library()
        given: dict[str, Any] = {**_own(settings), "logger": Quiet()}
        self._admin: Any = admin.AdminClient(given)
        self._topic = topic
        partitions_of(self._admin, topic, owner="results")

    def of(self, writers: Sequence[str]) -> list[Mark | None]:
        """The mark of each writer, behind what is under way; None where there is none, or it was forgotten."""
        asked = self._admin.list_consumer_group_offsets
        pending = [
            asked([self._at(one, None)], require_stable=True, request_timeout=REACH_S) for one in writers
        ]
        return [
            self._mark(result)
            for one, found in zip(writers, pending, strict=True)
            for result in [self._done(found[one])]
        ]

    def begin(self, writers: Sequence[str], step: int) -> None:
        """Let these begin with `step`, of which nothing was ever sent."""
        moved = self._admin.alter_consumer_group_offsets
        pending = [moved([self._at(one, step)], request_timeout=REACH_S) for one in writers]
        for one, found in zip(writers, pending, strict=True):
            self._done(found[one])

    def _at(self, writer: str, step: int | None) -> Any:
        kafka = library()
        at = (
            kafka.TopicPartition(self._topic, 0)
            if step is None
            else kafka.TopicPartition(self._topic, 0, step)
        )
        return kafka.ConsumerGroupTopicPartitions(writer, [at])

    def _done(self, pending: Any) -> Any:
        kafka = library()
        try:
            return pending.result(2 * REACH_S)
        except kafka.KafkaException as error:
            raise _not_there(self._topic, error) from error

    def _mark(self, result: Any) -> Mark | None:
        (found,) = result.topic_partitions
        if found.error is not None:
            raise _not_there(self._topic, found.error)
        return None if found.offset == _UNKNOWN else Mark(found.offset, found.metadata or "")


class OnceProducer:
    """Sends the steps of one writer; use it as a context manager. Whoever had its name before is shut out from then on.

    No message has a word of its own that it is there: a transaction with one that is not cannot be committed.

    Parameters
    ----------
    settings
        Of librdkafka.
    """

    def __init__(self, settings: Mapping[str, str], topic: str, writer: str) -> None:
        self._settings, self._topic, self._writer = settings, topic, writer
        self._kafka = library()
        self._producer: Any = self._kafka.Producer(
            {
                **_SETTINGS,
                **_own(settings),
                "transactional.id": writer,
                "transaction.timeout.ms": OPEN_MS,
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "logger": Quiet(),
            }
        )

    def __enter__(self) -> Self:
        self._call(self._producer.init_transactions)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(self._kafka.KafkaException):  # of one that was shut out
            self._producer.purge()
            self._producer.flush(1.0)

    def send(self, step: int, messages: Iterable[Keyed]) -> int:
        """Send `messages`, which are all of `step`, unless they are there; how many were sent.

        Raises
        ------
        StoreError
            What is there does not fit: it is of a later step, this step said something else, or the mark was forgotten.
        UnreachableError
            The brokers do not take it; nothing of it is there, or all: try again.
        """
        (mark,) = Marks(self._settings, self._topic).of([self._writer])
        if mark is None or mark.step not in {step, step + 1}:
            raise self._lost(step, mark)
        if mark.step == step + 1:
            self._compare(step, mark.digest, messages)
            return 0
        sent = None
        try:
            self._producer.begin_transaction()
            sent = self._send(step, messages)
        except self._kafka.KafkaException as error:
            raise _not_there(self._topic, error) from error
        finally:
            if sent is None:
                self._abort()
        return sent

    def _abort(self) -> None:
        with suppress(self._kafka.KafkaException):  # then it ends when the name is taken over
            self._producer.purge()
            self._producer.abort_transaction(WAIT_S)

    def _send(self, step: int, messages: Iterable[Keyed]) -> int:
        digest, count = hashlib.sha256(), 0
        for message in messages:
            _add(digest, message)
            self._produce(message)
            count += 1
        own = {**_own(self._settings), "group.id": self._writer, "logger": Quiet()}
        member = self._kafka.Consumer(own)
        try:
            mark = self._kafka.TopicPartition(self._topic, 0, step + 1, digest.hexdigest())
            group = member.consumer_group_metadata()
            self._call(lambda wait_s: self._producer.send_offsets_to_transaction([mark], group, wait_s))
            self._call(self._producer.commit_transaction)
        finally:
            member.close()
        return count

    def _produce(self, message: Keyed) -> None:
        key, value, headers = message
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=headers)
            except BufferError:  # as much is under way as may be
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _call(self, call: Any) -> None:
        """Until it is done; what may be tried again, is once."""
        try:
            call(WAIT_S)
        except self._kafka.KafkaException as error:
            if not error.args[0].retriable():
                raise _not_there(self._topic, error) from error
            try:
                call(WAIT_S)
            except self._kafka.KafkaException as again:
                raise _not_there(self._topic, again) from again

    def _compare(self, step: int, there: str, messages: Iterable[Keyed]) -> None:
        digest = hashlib.sha256()
        for message in messages:
            _add(digest, message)
        if digest.hexdigest() != there:
            raise StoreError(
                f"topic {self._topic!r}: step {step} of {self._writer} is there, and says something else than is sent now; allowed is "
                "what was sent before. Restore the checkpoint, or begin anew with another one and another topic."
            )

    def _lost(self, step: int, mark: Mark | None) -> StoreError:
        found = "no mark" if mark is None else f"a mark for step {mark.step}"
        return StoreError(
            f"topic {self._topic!r}: Kafka has {found} of {self._writer}, and step {step} was begun; so whether it is there "
            "is not known. A mark is forgotten offsets.retention.minutes after it was set. See docs/spark.md, Kafka."
        )


def _add(digest: Any, message: Keyed) -> None:
    for part in (message.key, message.value):
        digest.update(len(part).to_bytes(8, "big") + part)


def _not_there(topic: str, why: object) -> UnreachableError:
    said = why.args[0].str() if isinstance(why, Exception) and why.args else str(why)
    return UnreachableError(
        f"topic {topic!r}: results could not be sent ({said}). They are sent again when it is tried again; look at the brokers, and "
        "whether the topic may be written."
    )


def _own(settings: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != START}
