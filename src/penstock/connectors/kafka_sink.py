"""Messages to Kafka, of which is known when the brokers have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.connectors.kafka import START, Quiet, library
from penstock.connectors.kafka_push import PARTITIONER
from penstock.core.errors import UnreachableError

WAIT_S = 30.0
Header = tuple[str, bytes]


class KafkaSink:
    """Sends messages with an idempotent producer.

    Parameters
    ----------
    settings
        Of librdkafka.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._producer: Any = library().Producer(
            {
                "linger.ms": 5,
                **{name: value for name, value in settings.items() if name != START},
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "message.timeout.ms": int(WAIT_S * 1000),
                "logger": Quiet(),
            }
        )
        self._failed = ""

    def send(self, topic: str, key: bytes, value: bytes, headers: list[Header]) -> None:
        """Send a message; it is there when `flush` has returned."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
            except BufferError:  # as much is under way as may be
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Return when all that was sent is there; raises `UnreachableError` where something is not."""
        left = self._producer.flush(WAIT_S + 1)
        failed, self._failed = self._failed, ""
        if left or failed:
            raise UnreachableError(
                f"topics of [kafka]: results could not be sent ({failed or 'no broker answers'}). They are sent again; look at the brokers, and "
                "whether the topics are there."
            )

    def close(self) -> None:
        """Drop what is under way; whoever sent it has no word that it is there."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed = f"topic {message.topic()!r}: {error.str()}"
