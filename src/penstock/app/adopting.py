"""A running engine takes over definitions that were applied meanwhile: prepared beside it, adopted between micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from penstock.app.applied import AppliedHistory
from penstock.app.runtime import Prepared, Runtime, state_folder
from penstock.core.errors import PenstockError, ProjectError
from penstock.definitions.project import load_project

LOOK_EVERY_S = 0.5


class Adoption:
    """Watches for applied definitions; asked between two micro-batches.

    What cannot be loaded is noted in `Runtime.problems` under ``definitions``; the engine goes on as it was.

    Parameters
    ----------
    runtime
        The running project.
    now_s
        A clock that only goes forward.
    """

    def __init__(self, runtime: Runtime, *, now_s: Callable[[], float]) -> None:
        self._runtime = runtime
        self._history = AppliedHistory(state_folder(runtime.project.root))
        self._now_s = now_s
        self._seen = runtime.version or self._history.newest_version()
        self._looked_s = now_s()
        self._stop = Event()
        self._thread = ThreadPoolExecutor(1, "penstock-prepare")
        self._job: Future[Prepared] | None = None

    def ready(self) -> Prepared | None:
        """Definitions to go on with, if there are any now; never waits."""
        if self._job is None:
            self._look()
            return None
        if not self._job.done():
            return None
        job, self._job = self._job, None
        error = job.exception()
        if error is None:
            self._runtime.problems.pop("definitions", None)
            return job.result()
        what = str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
        self._runtime.problems["definitions"] = f"version {self._seen} is not taken over: {what}"
        return None

    def close(self) -> None:
        """End what is being prepared."""
        self._stop.set()
        self._thread.shutdown(wait=True)

    def _look(self) -> None:
        if self._now_s() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = self._now_s()
        newest = self._history.newest_version()
        if newest > self._seen:
            self._seen = newest
            self._job = self._thread.submit(self._prepare, newest)

    def _prepare(self, version: int) -> Prepared:
        prepared = self._runtime.prepare(
            load_project(self._runtime.project.root), version=version, stop=self._stop.is_set
        )
        applied = self._history.newest()
        if (
            applied is not None
            and applied.version == version
            and applied.fingerprint != prepared.plan.fingerprint
        ):
            raise ProjectError("the files were changed after it was applied; run `penstock plan` again")
        return prepared
