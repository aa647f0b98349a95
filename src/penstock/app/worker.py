"""A worker: a member of a consumer group that has a shard of the project for each partition that it is given.

One thread takes turns with all shards; another keeps the membership; shards are opened beside both. A partition is given up only when its
shard is closed, and what a shard goes on with stands in its own store, so no event is lost or decided twice, whoever has the shard.

A worker that was frozen thaws as one whose shards others have taken over: its commits fail, and it works on with what the group gives it then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from penstock.app.kafka_inputs import client_settings
from penstock.app.running import Observe
from penstock.app.runtime import Runtime, state_folder
from penstock.app.settings import load_settings
from penstock.app.shards import Shard, Topics, is_lost
from penstock.app.storing import has_run
from penstock.connectors.kafka_group import Membership
from penstock.core.errors import PenstockError, StoreError
from penstock.definitions.project import load_project

IDLE_S = 0.05
REPORT_S = 1.0
GIVE_UP_S = 60.0
OPENED_AT_ONCE = 4


class ShardStatus(msgspec.Struct, frozen=True):
    """A shard of a worker: length of its log, and messages of its topics that were not taken yet."""

    log_length: int
    lag: int


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker says of itself."""

    pid: int
    shards: dict[str, ShardStatus]
    opening: list[int]
    problems: dict[str, str]


class Worker:
    """Works on the shards that the group gives it.

    Parameters
    ----------
    root
        The project.
    group
        The group's name; default: the project's.
    name
        Makes it a static member; see `penstock.connectors.kafka_group.Membership`.
    observing
        Called with each shard's runtime when it is opened; gives what is called with each of its micro-batches, as `Runner`'s `observe`.
    """

    def __init__(
        self,
        root: Path,
        *,
        group: str | None = None,
        name: str | None = None,
        observing: Callable[[Runtime], Observe | None] = lambda _: None,
    ) -> None:
        self._root = root
        self._observing = observing
        self._project = load_project(root)
        self._settings = load_settings(root)
        has_run(root)  # a database that cannot be reached at the start is told at once
        self._topics = Topics(self._project, self._settings)
        config = self._topics.configs[self._topics.main]
        self._member = Membership(
            client_settings(config, self._settings.kafka),
            group=group or f"penstock-{self._project.name}",
            topic=config.topic_names[0],
            name=name,
            given=self._given,
            taken=self._taken,
        )
        self._file = state_folder(root) / "workers" / f"{name or os.getpid()}.json"
        self._changed = threading.Condition()
        self._wanted: set[int] = set()
        self._lost: set[int] = set()  # ours as far as we know, and another process works on them
        self._opening: dict[int, Future[Shard]] = {}
        self._pool = ThreadPoolExecutor(OPENED_AT_ONCE, "penstock-open")
        self._arrived = threading.Event()
        self.shards: dict[int, Shard] = {}
        """Those that are open, by partition."""
        self.source = self._topics.main
        """The stream whose topic is shared out."""
        self.status = WorkerStatus(os.getpid(), {}, [], {})
        """How it stood a moment ago."""
        self.problems: dict[str, str] = {}
        """What does not work, besides problems of shards."""

    def run(self, stop: threading.Event, *, watch: Callable[[WorkerStatus], None] = lambda _: None) -> None:
        """Work until stopped, then close all shards and leave the group; raises what stops a shard."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._topics.tell(self._arrived.set)
        try:
            with self._member:
                try:
                    with self._reporting(watch):
                        self._work(stop)
                finally:
                    self._give_up_all()
        finally:
            self._pool.shutdown()
            self._topics.close()
            self._file.unlink(missing_ok=True)

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._settle()
            moved = [self._turn(shard, shard.step) for shard in list(self.shards.values())]
            if not any(moved):
                for shard in list(self.shards.values()):
                    self._turn(shard, shard.runtime.engine.flush)
                self._arrived.wait(IDLE_S)
                self._arrived.clear()

    @contextmanager
    def _reporting(self, watch: Callable[[WorkerStatus], None]) -> Iterator[None]:
        """While open, a thread says each second how it stands: also while all work waits for a database that is away."""
        ended = threading.Event()

        def report() -> None:
            while not ended.is_set():
                try:
                    self._report(watch)
                except (OSError, PenstockError) as error:  # the next one says more
                    self.problems["status"] = str(error)
                else:
                    self.problems.pop("status", None)
                ended.wait(REPORT_S)

        thread = threading.Thread(target=report, name="penstock-status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _turn(self, shard: Shard, work: Callable[[], bool | None]) -> bool | None:
        """What `work` gives; a shard that another process took over is closed."""
        try:
            return work()
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
        self._arrived.set()

    def _taken(self, numbers: Sequence[int]) -> None:
        """In the member's thread: return when the shards are closed."""
        with self._changed:
            self._wanted -= set(numbers)
            self._arrived.set()
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
            self._root,
            number,
            project=self._project,
            topics=self._topics,
            wanted=lambda: number in self._wanted,
            take_over=number not in self._lost,
            problems=self.problems,
            patience_s=self._settings.store.patience_s,
            observing=self._observing,
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

    def _report(self, watch: Callable[[WorkerStatus], None]) -> None:
        offsets: dict[tuple[str, int], int] = {}
        for shard in list(self.shards.values()):
            offsets |= shard.offsets()
        self._member.tell(offsets)
        status = self.status = self._status()
        aside = self._file.with_suffix(".part")
        aside.write_bytes(msgspec.json.encode(status))
        aside.replace(self._file)
        watch(status)

    def _status(self) -> WorkerStatus:
        lags = {name: reader.lag() for name, reader in self._topics.readers.items()}
        open_now = dict(self.shards)
        shards = {
            str(number): ShardStatus(
                shard.runtime.engine.position,
                sum(lags[one.source].get(one.partition, 0) for one in shard.inputs),
            )
            for number, shard in open_now.items()
        }
        problems = {
            f"shard {number}, {what}": text
            for number, shard in open_now.items()
            for what, text in dict(shard.runtime.problems).items()
        }
        problems |= {
            f"source {name}": one.problem for name, one in self._topics.readers.items() if one.problem
        }
        problems |= self.problems
        return WorkerStatus(os.getpid(), shards, sorted(self._opening), problems)


def worker_statuses(root: Path) -> list[WorkerStatus]:
    """What the workers of a project say of themselves that have its folder; those that ended without a word are left out."""
    found = []
    for file in sorted((state_folder(root) / "workers").glob("*.json")):
        try:
            status = msgspec.json.decode(file.read_bytes(), type=WorkerStatus)
            os.kill(status.pid, 0)
        except (OSError, msgspec.DecodeError):
            continue
        found.append(status)
    return found
