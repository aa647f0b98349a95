"""With which definitions a worker opens a shard: those in force now, which may be later than those that it began with."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.applied import Applied, AppliedHistory
from penstock.app.changing import watching_of
from penstock.app.runtime import plan_of, state_folder
from penstock.core.errors import PenstockError
from penstock.definitions.project import Project, load_project
from penstock.plan.describe import describe
from penstock.plan.diff import differences

if TYPE_CHECKING:
    from penstock.app.worker_stages import WorkerStage


class InForce:
    """The definitions of a project that other processes may apply anew.

    A shard that is open takes them over by itself (`penstock.app.adopting`). One that is opened begins with them, so that events which follow
    decisions by a version are not decided by one before it.

    Parameters
    ----------
    project, version
        What the worker began with.
    """

    def __init__(self, project: Project, version: int) -> None:
        self.root: Path = project.root
        self._history = AppliedHistory(state_folder(project.root))
        self._project, self._version = project, version
        self._looked_at = version
        self._lock = threading.Lock()

    def now(self, stage: WorkerStage) -> tuple[Project, int]:
        """The definitions to open a shard of `stage` with, and their version.

        Those of before, where the newest cannot be taken: the shard goes on with them, and says why (`Adoption`).
        """
        with self._lock:
            newest = self._history.newest_version()
            if newest > self._looked_at:
                self._looked_at = newest
                found = self._loaded(newest, stage)
                if found is not None:
                    self._project, self._version = found, newest
            return self._project, self._version

    def _loaded(self, version: int, stage: WorkerStage) -> Project | None:
        try:
            applied, project = self._history.newest(), load_project(self.root)
            plan = stage.planned(project)
        except PenstockError:
            return None
        if (
            applied is None
            or applied.version != version
            or not set(stage.topics.readers) <= set(plan.sources)
        ):
            return None
        return project if _is(applied, project) else None


def _is(applied: Applied, project: Project) -> bool:
    """Whether the files still say what was applied."""
    return not differences(applied.description, describe(plan_of(project)) | watching_of(project))
