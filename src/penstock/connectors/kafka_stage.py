"""The topics between stages of workers: made when they are missing, and written without gaps.

What one producer writes to a partition is there in its order and without gaps, up to where it ended: no message is given up while the producer lives,
and after an error nothing more is sent by it. So of whatever is sent again, a reader needs to know only how far it has come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.connectors.kafka import REACH_S, START, Quiet, library, partitions_of
from penstock.core.errors import InputError, UnreachableError

MOST_BYTES = 16 << 20
"""Of one message."""
_AGAIN_S = 0.05
_CONFIG = {
    "cleanup.policy": "delete",
    "max.message.bytes": str(MOST_BYTES),
    "message.timestamp.type": "LogAppendTime",  # one clock for all who write
}


def ensure_topic(settings: Mapping[str, str], topic: str, *, partitions: int) -> None:
    """Make a topic unless it is there, and wait until the brokers know of it.

    Any number of workers may do so at once: whoever comes second is told that it exists before a broker that is asked may know it.

    Raises
    ------
    InputError
        It has another number of partitions, or it may not be made or read.
    UnreachableError
        No broker answers.
    """
    kafka = library()
    from confluent_kafka import admin as admin_of

    given: dict[str, Any] = {**_own(settings), "logger": Quiet()}
    admin: Any = admin_of.AdminClient(given)
    new: Any = admin_of.NewTopic  # type: ignore[attr-defined]
    owner = f"worker: topic {topic!r} between stages"
    made = admin.create_topics([new(topic, partitions, config=_CONFIG)], operation_timeout=REACH_S)
    try:
        made[topic].result(2 * REACH_S)
    except kafka.KafkaException as error:
        code = error.args[0].code()
        if code != kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            gone = code in {kafka.KafkaError._TRANSPORT, kafka.KafkaError._TIMED_OUT}  # noqa: SLF001 - librdkafka's names
            raise (UnreachableError if gone else InputError)(
                f"{owner}: it could not be made ({error.args[0].str()}). Look at the brokers, or make it with {partitions} partitions."
            ) from error
    found = len(_seen(admin, topic, owner=owner))
    if found != partitions:
        raise InputError(
            f"{owner}: it has {found} partitions; allowed are {partitions}, as many as the stream's topic has. Delete it, if all that it holds was "
            "taken, or choose another --group."
        )


def _seen(admin: Any, topic: str, *, owner: str) -> list[int]:
    """The partitions of a topic that exists, as soon as they are known where they are asked for; see `partitions_of`."""
    give_up_s = time.monotonic() + REACH_S
    while True:
        try:
            return partitions_of(admin, topic, owner=owner)
        except InputError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(_AGAIN_S)


class StageProducer:
    """Writes to the partitions of a topic, as the module says.

    Parameters
    ----------
    settings
        Of librdkafka.
    """

    def __init__(self, settings: Mapping[str, str], topic: str) -> None:
        self._topic = topic
        self._failed = ""
        self._producer: Any = library().Producer(
            {
                "linger.ms": 0,
                "compression.type": "lz4",
                **_own(settings),
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "message.timeout.ms": 0,  # none is given up, so that none can be missing before another
                "message.max.bytes": MOST_BYTES,
                "logger": Quiet(),
            }
        )

    def send(self, partition: int, value: bytes, there: Callable[[], None]) -> None:
        """Send a message; `there` is called when it is there, by `look` or `flush`. Raises as these do."""

        def delivered(error: Any, _: Any) -> None:
            if error is None:
                there()
            else:
                self._failed = error.str()

        try:
            self._producer.produce(self._topic, value, partition=partition, on_delivery=delivered)
        except (BufferError, library().KafkaException) as error:
            self._failed = str(error)
            raise self._not_there(self._failed) from error

    def look(self) -> None:
        """See what is there, without waiting; raises `UnreachableError` where something never will be, and this producer is to be closed."""
        self._producer.poll(0)
        self._check()

    def flush(self, wait_s: float) -> bool:
        """Wait until all that was sent is there, and whether it is; raises as `look` does."""
        left = int(self._producer.flush(wait_s))
        self._check()
        return not left

    def close(self) -> None:
        """Drop what is under way."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _not_there(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"topic {self._topic!r} between stages: what was sent is not there ({why}). It is sent again; look at the brokers, and whether the "
            "topic is there."
        )

    def _check(self) -> None:
        if self._failed:
            raise self._not_there(self._failed)


def _own(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name != START}
