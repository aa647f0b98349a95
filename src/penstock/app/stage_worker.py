"""The shards of one stage that a worker has: a member of a consumer group, with a shard for each partition that it is given.

The worker's thread takes turns with all shards; another keeps the membership; shards are opened beside both. A partition is given up only when its
shard is closed, and what a shard goes on with stands in its own store, so no event is lost or decided twice, whoever has the shard.

A worker that was frozen thaws as one whose shards others have taken over: its commits fail, and it works on with what the group gives it then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import msgspec

from penstock.app.in_force import InForce
from penstock.app.running import Observe
from penstock.app.runtime import Runtime
from penstock.app.settings import Settings
from penstock.app.shards import Shard, is_lost
from penstock.app.stage_sending import SendingOn
from penstock.app.worker_stages import WorkerStage
from penstock.connectors.kafka_group import Membership
from penstock.core.errors import StoreError

GIVE_UP_S = 60.0
OPENED_AT_ONCE = 4


class ShardStatus(msgspec.Struct, frozen=True):
    """A shard of a worker: length of its log, messages of its topics that were not taken yet, and the version of the definitions that it decides by."""

    log_length: int
    lag: int
    version: int = 0


class StageWorker:
    """Works on the shards of a stage that the group gives it.

    Parameters
    ----------
    in_force, settings, stage
        The project's definitions, and which of its stages.
    name
        Makes it a static member; see `penstock.connectors.kafka_group.Membership`.
    observing
        See `penstock.app.worker.Worker`.
    arrived
        Called when there may be something to do.
    problems
        What does not work, besides problems of shards.
    """

    def __init__(
        self,
        in_force: InForce,
        settings: Settings,
        stage: WorkerStage,
        *,
        name: str | None,
        observing: Callable[[Runtime], Observe | None],
        arrived: Callable[[], None],
        problems: dict[str, str],
    ) -> None:
        self._in_force, self._settings, self._stage = in_force, settings, stage
        self._observing, self._problems = observing, problems
        self._topics = stage.topics
        self._member = Membership(
            self._topics.client,
            group=stage.group,
            topic=self._topics.topic,
            name=name,
            given=self._given,
            taken=self._taken,
        )
        self._changed = threading.Condition()
        self._wanted: set[int] = set()
        self._lost: set[int] = set()  # ours as far as we know, and another process works on them
        self._opening: dict[int, Future[Shard]] = {}
        self._pool = ThreadPoolExecutor(OPENED_AT_ONCE, "penstock-open")
        self._arrived = arrived
        self._ended = False
        self._sending = _sending_on(stage)
        self.shards: dict[int, Shard] = {}
        """Those that are open, by partition."""
        self.name = stage.name
        """The column that parts its events; empty where there is one stage only."""

    @property
    def is_ready(self) -> bool:
        """Whether the group knows it, and all shards that it was given are open."""
        return self._member.joined and not self._wanted - set(self.shards) - self._lost

    @contextmanager
    def working(self) -> Iterator[None]:
        """While open, the group gives shards; at the end all are closed, and the group is left."""
        self._topics.tell(self._arrived)
        try:
            with self._member:
                try:
                    yield
                finally:
                    self._ended = True
                    self._give_up_all()
        finally:
            self._pool.shutdown()
            if self._sending is not None:
                self._sending.close()
            self._topics.close()

    @property
    def opening(self) -> list[str]:
        """The shards that are being opened."""
        return [self._stage.shard(number) for number in sorted(self._opening)]

    def report(self, problems: dict[str, str]) -> dict[str, ShardStatus]:
        """How its shards stand, by name, with what does not work added to `problems`; the group is told, too."""
        open_now = dict(self.shards)
        if self._ended:
            return {}
        offsets: dict[tuple[str, int], int] = {}
        for shard in open_now.values():
            offsets |= shard.offsets()
        self._member.tell(offsets)
        lags = {name: reader.lag() for name, reader in self._topics.readers.items()}
        for number, shard in open_now.items():
            for what, text in dict(shard.runtime.problems).items():
                problems[f"shard {self._stage.shard(number)}, {what}"] = text
        for name, reader in self._topics.readers.items():
            if reader.problem:
                problems[f"source {name}"] = reader.problem
        return {
            self._stage.shard(number): ShardStatus(
                shard.runtime.engine.position,
                sum(lags[one.source].get(one.partition, 0) for one in shard.inputs),
                shard.runtime.version,
            )
            for number, shard in open_now.items()
        }

    def turn(self) -> bool:
        """Let each shard process a micro-batch, and send on what they have committed; whether there was any. Raises what stops a shard."""
        self._settle()
        moved = [self._step(shard) for shard in list(self.shards.values())]
        if self._sending is not None:
            moved.append(self._sending.turn())
        return any(moved)

    def _step(self, shard: Shard) -> bool:
        """Whether a shard had a micro-batch; one that another process took over is closed."""
        try:
            return shard.step()
        except StoreError as error:
            if not is_lost(error):
                raise
            self._lost.add(shard.number)
            self._close(shard.number)
            return False

    def _given(self, numbers: Sequence[int]) -> None:
        with self._changed:
            self._wanted |= set(numbers)
            self._lost -= set(numbers)
        self._arrived()

    def _taken(self, numbers: Sequence[int]) -> None:
        """In the member's thread: return when the shards are closed."""
        with self._changed:
            self._wanted -= set(numbers)
            self._arrived()
            self._changed.wait_for(lambda: not self._has(numbers), GIVE_UP_S)

    def _has(self, numbers: Sequence[int]) -> bool:
        return any(number in self.shards or number in self._opening for number in numbers)

    def _settle(self) -> None:
        """Open what is given, close what is taken."""
        if self._member.failed is not None:
            raise StoreError(
                f"worker: it is in its group no more ({self._member.failed})."
            ) from self._member.failed
        for number in sorted(self._wanted - set(self.shards) - set(self._opening)):
            self._opening[number] = self._pool.submit(self._open, number)
        for number, future in list(self._opening.items()):
            if future.done():
                self._take_over(number, future)
        for number in set(self.shards) - self._wanted:
            self._close(number)

    def _take_over(self, number: int, future: Future[Shard]) -> None:
        try:
            self.shards[number] = future.result()
        except StoreError:
            if number in self._wanted:
                raise
        finally:
            with self._changed:
                del self._opening[number]
                self._changed.notify_all()

    def _open(self, number: int) -> Shard:
        return Shard.open(
            self._in_force.root,
            number,
            in_force=self._in_force,
            stage=self._stage,
            wanted=lambda: number in self._wanted,
            take_over=number not in self._lost,
            problems=self._problems,
            patience_s=self._settings.store.patience_s,
            observing=self._observing,
            arrived=self._arrived,
            sending=self._sending,
        )

    def _close(self, number: int) -> None:
        shard = self.shards[number]
        try:
            shard.close()
            self._member.tell(shard.offsets())
        except StoreError as error:
            if not is_lost(error):
                raise
        finally:
            with self._changed:
                del self.shards[number]
                self._changed.notify_all()

    def _give_up_all(self) -> None:
        """Close every shard, whatever goes wrong with another: the group waits for each."""
        with self._changed:
            self._wanted.clear()
        with ExitStack() as each:
            for number in list(self.shards):
                each.callback(self._close, number)
            for number, future in list(self._opening.items()):
                each.callback(self._end_opening, number, future)

    def _end_opening(self, number: int, future: Future[Shard]) -> None:
        future.exception()
        self._take_over(number, future)
        if number in self.shards:
            self._close(number)


def _sending_on(stage: WorkerStage) -> SendingOn | None:
    """What sends the shards' rows to the next stage, if there is one."""
    if stage.next_topic is None or stage.stage is None:
        return None
    topics = stage.topics
    return SendingOn(
        stage.stage,
        topics.main,
        settings=topics.client,
        topic=stage.next_topic,
        partitions=topics.partitions,
    )
