"""A shard of a project: the keys of one partition, with an engine and a store of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from penstock.app.guarding import GuardWatch
from penstock.app.kafka_following import sending_results
from penstock.app.kafka_inputs import (
    KafkaInput,
    client_settings,
    kafka_sources,
    reader_of,
    registry_settings,
)
from penstock.app.merging import Resume
from penstock.app.route_watch import RouteWatch
from penstock.app.running import Observe, Runner
from penstock.app.runtime import Runtime, plan_of
from penstock.app.settings import Settings
from penstock.app.shard_plans import main_stream
from penstock.app.stage_inputs import StageInput
from penstock.app.stage_sending import SendingOn, SentOn
from penstock.connectors.kafka import KafkaReader, Partition
from penstock.connectors.kafka_values import Values, values_of
from penstock.core.errors import AwayError, BusyError, InputError, PenstockError
from penstock.definitions.project import Project

if TYPE_CHECKING:
    from concurrent.futures import Future

    from penstock.app.in_force import InForce
    from penstock.app.worker_stages import WorkerStage
    from penstock.engine.local import Processed

AGAIN_S, AWAY_S = 0.05, 0.5


def is_lost(error: BaseException) -> bool:
    """Whether an error of a shard says that another process has it now."""
    return isinstance(error, BusyError) or isinstance(error.__cause__, BusyError)


class Topics:
    """The topics that a worker reads: of each source one, all with the same number of partitions."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project, self.plan = project, plan_of(project)
        configs = kafka_sources(project, self.plan)
        for name, config in configs.items():
            if len(config.topic_names) > 1:
                raise InputError(
                    f"worker: source {name!r} has the topics {config.topics}; allowed is one, whose partitions are shards. Join them."
                )
        self.main = main_stream(project, self.plan)
        """The source whose topic the group shares out: the one that is decided on."""
        self.configs = configs
        self.client = client_settings(configs[self.main], settings.kafka)
        """Settings of librdkafka."""
        self.topic = configs[self.main].topic_names[0]
        """The topic that the group shares out."""
        self.readers: dict[str, KafkaReader] = {}
        self.values: dict[str, Values | None] = {}
        try:
            for name, config in configs.items():
                self.readers[name] = reader_of(name, config, settings.kafka)
                registry = registry_settings(config, settings.kafka)
                self.values[name] = values_of(config, project.root, registry)
            counts = {n: len(self.readers[n].partitions(c.topic_names[0])) for n, c in configs.items()}
            if len(set(counts.values())) > 1:
                found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
                raise InputError(
                    f"worker: the topics have {found} partitions; allowed is the same number, so that the events of a key and their labels meet. "
                    "Create them anew with one number."
                )
        except PenstockError:
            self.close()
            raise
        self.partitions = counts[self.main]

    def tell(self, arrived: Callable[[], None]) -> None:
        """Call `arrived` when something comes."""
        for reader in self.readers.values():
            reader.tell(arrived)

    def inputs(self, number: int, problems: dict[str, str]) -> list[KafkaInput]:
        """The inputs of a shard."""
        return [
            KafkaInput(
                name,
                Partition(config.topic_names[0], number),
                self.readers[name],
                self.values[name],
                problems,
            )
            for name, config in self.configs.items()
        ]

    def close(self) -> None:
        """End reading."""
        for reader in self.readers.values():
            reader.close()


class Shard:
    """A shard that is open: takes turns with others in one thread."""

    def __init__(
        self,
        number: int,
        runtime: Runtime,
        stage: WorkerStage,
        *,
        stop: Event,
        observe: Observe | None,
        arrived: Callable[[], None],
        sending: SendingOn | None,
    ) -> None:
        self.number = number
        self.runtime = runtime
        self._observe, self._arrived = observe, arrived
        self.inputs = stage.topics.inputs(number, runtime.problems)
        self._rest_at: int | None = None
        self._watching = ExitStack()
        self._sent_on: SentOn | None = None
        if sending is not None:
            self._sent_on = SentOn(runtime, sending, shard=number, rest_at=lambda: self._rest_at)
            self._watching.callback(self._sent_on.close)
        beside = dict if self._sent_on is None else self._sent_on.noted
        self.runner = Runner(
            runtime,
            [one for one in self.inputs if isinstance(one, KafkaInput)],
            stop=stop,
            observe=self._note,
            stage=next((one for one in self.inputs if isinstance(one, StageInput)), None),
            beside=beside,
        )
        self._watching.enter_context(RouteWatch(runtime))
        self._watching.enter_context(GuardWatch(runtime))
        self._watching.enter_context(sending_results(runtime))

    @classmethod
    def open(
        cls,
        root: Path,
        number: int,
        *,
        in_force: InForce,
        stage: WorkerStage,
        wanted: Callable[[], bool],
        take_over: bool,
        problems: dict[str, str],
        patience_s: float,
        arrived: Callable[[], None],
        sending: SendingOn | None,
        observing: Callable[[Runtime], Observe | None] = lambda _: None,
    ) -> Shard:
        """Open a shard, as soon as whoever had it has closed it; with `take_over`, in PostgreSQL, from one that does not.

        A database that is away is waited for, up to `patience_s`, and `problems` says so. Raises `StoreError` where the shard cannot be
        opened, `BusyError` where it is not wanted any more.
        """
        shard = stage.shard(number)
        give_up_s, problem = time.monotonic() + patience_s, f"shard {shard}, store"
        try:
            while True:
                try:
                    project, version = in_force.now(stage)
                    runtime = Runtime.open(
                        root,
                        project=project,
                        version=version,
                        shard=shard,
                        take_over=take_over,
                        planned=stage.planned,
                    )
                    break
                except BusyError:
                    if not wanted():
                        raise
                    time.sleep(AGAIN_S)
                except AwayError as error:
                    if not wanted() or time.monotonic() > give_up_s:
                        raise
                    problems[problem] = str(error)
                    time.sleep(AWAY_S)
        finally:
            problems.pop(problem, None)
        return cls(
            number,
            runtime,
            stage,
            stop=Event(),
            observe=observing(runtime),
            arrived=arrived,
            sending=sending,
        )

    def step(self) -> bool:
        """Process the next micro-batch; whether there was one. It waits for no commit, but where the next micro-batch is ready and full.

        What comes while a commit is under way makes one micro-batch: others have their turn meanwhile, and `arrived` is called at its end.
        """
        engine = self.runtime.engine
        committing = engine.is_committing
        if committing and not any(one.is_piled_up for one in self.inputs):
            return False
        if self.runner.step():
            self._rest_at = None
            return True
        if not committing:
            engine.flush()  # raises what a commit failed with
            at_rest = all(one.at_rest for one in self.inputs)
            if self._sent_on is not None and self._rest_at is None and at_rest:
                self._rest_at = engine.position
                self._sent_on.wake()
        return False

    def _note(self, processed: Processed, started_s: float) -> None:
        processed.committed.add_done_callback(self._durable)
        if self._observe is not None:
            self._observe(processed, started_s)

    def _durable(self, _: Future[None]) -> None:
        """In the committing thread."""
        if self._sent_on is not None:
            self._sent_on.wake()
        self._arrived()

    def offsets(self) -> dict[tuple[str, int], int]:
        """Up to where its partitions were processed."""
        done = self.runner.offsets
        found = {}
        for one in self.inputs:
            at = Resume.parse(done.get(one.key)).at
            if at is not None:
                found[one.partition.topic, one.partition.number] = int(at)
        return found

    def close(self) -> None:
        """Finish what is under way, write a snapshot, and let another process open it."""
        for one in self.inputs:
            one.reader.leave([one.partition])
        self._watching.close()
        try:
            self.runner.finish()
        finally:
            self.runtime.close()
