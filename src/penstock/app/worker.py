"""A worker: one of those that share out the partitions of a project's topics, for each stage of the project.

One thread takes turns with all shards of all stages: threads that each do a little would take the interpreter from each other all the time, and each
change of hands costs more than what is done (ADR 0039). Shards are opened, memberships kept and micro-batches committed beside it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from penstock.app.applied import AppliedHistory
from penstock.app.in_force import InForce
from penstock.app.running import Observe, short_turns
from penstock.app.runtime import Runtime, state_folder
from penstock.app.settings import load_settings
from penstock.app.stage_worker import ShardStatus, StageWorker
from penstock.app.storing import has_run
from penstock.app.worker_stages import worker_stages
from penstock.core.errors import InputError, PenstockError
from penstock.definitions.project import load_project

REPORT_S = 1.0
IDLE_S = 0.05


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker says of itself; shards by name, those of a stage as ``COLUMN-NUMBER``; the version of the definitions that it began with."""

    pid: int
    shards: dict[str, ShardStatus]
    opening: list[str]
    problems: dict[str, str]
    version: int = 0


_worker_status_decoder = msgspec.json.Decoder(WorkerStatus)


class Worker:
    """Works on the shards that the group gives it, of each stage.

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
        version = AppliedHistory(state_folder(root)).newest_version()  # before the files are read
        project, settings = load_project(root), load_settings(root)
        if settings.kafka.repartition_by:
            _check_alike(root, version)
        has_run(root)  # a database that cannot be reached at the start is told at once
        self._file = state_folder(root) / "workers" / f"{name or os.getpid()}.json"
        self.problems: dict[str, str] = {}
        """What does not work, besides problems of shards."""
        stages = worker_stages(project, settings, group=group or f"penstock-{project.name}")
        in_force = InForce(project, version)
        self._arrived = threading.Event()
        self.stages = [
            StageWorker(
                in_force,
                settings,
                stage,
                name=name,
                observing=observing,
                arrived=self._arrived.set,
                problems=self.problems,
            )
            for stage in stages
        ]
        self.source = stages[0].topics.main
        """The stream whose topic is shared out."""
        self._version = version
        self.status = WorkerStatus(os.getpid(), {}, [], {}, version)
        """How it stood a moment ago."""

    @property
    def is_ready(self) -> bool:
        """Whether its groups know it, and all shards that it was given are open: the next worker may be stopped then."""
        return all(stage.is_ready for stage in self.stages)

    def run(self, stop: threading.Event, *, watch: Callable[[WorkerStatus], None] = lambda _: None) -> None:
        """Work until stopped, then close all shards and leave the groups; raises what stops a shard."""
        short_turns()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._reporting(watch), ExitStack() as working:
                for stage in self.stages:
                    working.enter_context(stage.working())
                while not stop.is_set():
                    moved = [stage.turn() for stage in self.stages]
                    if not any(moved):
                        self._arrived.wait(IDLE_S)
                        self._arrived.clear()
        finally:
            self._file.unlink(missing_ok=True)

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

    def _report(self, watch: Callable[[WorkerStatus], None]) -> None:
        shards: dict[str, ShardStatus] = {}
        problems: dict[str, str] = {}
        for stage in self.stages:
            shards |= stage.report(problems)
        opening = [name for stage in self.stages for name in stage.opening]
        status = self.status = WorkerStatus(
            os.getpid(), shards, opening, problems | self.problems, self._version
        )
        aside = self._file.with_suffix(".part")
        aside.write_bytes(msgspec.json.encode(status))
        aside.replace(self._file)
        watch(status)


def worker_statuses(root: Path) -> list[WorkerStatus]:
    """What the workers of a project say of themselves that have its folder; those that ended without a word are left out."""
    found = []
    for file in sorted((state_folder(root) / "workers").glob("*.json")):
        try:
            status = _worker_status_decoder.decode(file.read_bytes())
            os.kill(status.pid, 0)
        except (OSError, msgspec.DecodeError):
            continue
        found.append(status)
    return found


def _check_alike(root: Path, version: int) -> None:
    """Raise where workers of this folder send events on that were begun under other definitions.

    A stage computes features for the next one, so all of them change together.
    """
    others = [one for one in worker_statuses(root) if one.version != version]
    if others:
        raise InputError(
            f"worker: version {version} of the definitions is in force, and process {others[0].pid} sends events on by version "
            f"{others[0].version}; allowed is one version for all stages (repartition_by of [kafka]). End those workers first, then start all anew."
        )
