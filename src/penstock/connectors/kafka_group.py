"""Membership of a consumer group: which partitions are ours. Nothing is read here, so that no work ever keeps the group waiting.

The group decides over the partitions of one topic; whoever is given number 3 reads partition 3 of all topics that belong together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from penstock.connectors.kafka import START, Quiet, library
from penstock.core.errors import InputError

POLL_S = 0.1
HEARTBEAT_MS, SESSION_MS = 500, 6_000

Change = Callable[[Sequence[int]], None]


class Membership:
    """One member of a group; use it as a context manager.

    Parameters
    ----------
    settings
        Of librdkafka; ``session.timeout.ms`` and ``heartbeat.interval.ms`` may be among them.
    group, topic
        The group's name, and the topic whose partitions it shares out.
    name
        Of a static member, which keeps its partitions over a restart within the session's timeout; without one, the partitions of a member
        that leaves are given to others at once.
    given
        Called with numbers of partitions that are ours from now on; must not block.
    taken
        Called with those that are another's as soon as it returns: their work must be finished then.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        group: str,
        topic: str,
        name: str | None,
        given: Change,
        taken: Change,
    ) -> None:
        self._kafka = library()
        own = {name: value for name, value in settings.items() if name != START}
        static = {} if name is None else {"group.instance.id": name}
        self._consumer = self._kafka.Consumer(
            {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                **own,
                **static,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "logger": Quiet(),
            }
        )
        self._topic, self._given, self._taken = topic, given, taken
        self._told: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()
        self.joined = False
        """Whether the group has told it what is its own, be it nothing."""
        self.failed: Exception | None = None
        """Why it is a member no more."""
        self._thread = threading.Thread(target=self._run, name="penstock-group", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def tell(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Let the group know how far we are, for its lag; reading goes by other offsets."""
        self._told = dict(offsets)

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._stop.is_set():
                _check(self._consumer.poll(POLL_S))
                self._commit()
        except Exception as error:  # noqa: BLE001 - the worker looks at it
            self.failed = error
        finally:
            self._consumer.close()

    def _on_assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        if partitions:
            self._given([one.partition for one in partitions])
        self.joined = True

    def _on_revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        if partitions:
            self._commit()
            self._taken([one.partition for one in partitions])
        consumer.incremental_unassign(partitions)

    def _commit(self) -> None:
        told, self._told = self._told, {}
        if told:
            found = [self._kafka.TopicPartition(topic, n, offset) for (topic, n), offset in told.items()]
            try:
                self._consumer.commit(offsets=found, asynchronous=True)
            except self._kafka.KafkaException:  # a rebalance is under way; the next one says more
                return


def _check(message: Any) -> None:
    """Raise where the group is over for this member; partitions are paused, so there are no messages."""
    error = None if message is None else message.error()
    if error is not None and error.fatal():
        raise InputError(f"group: {error.str()}")
