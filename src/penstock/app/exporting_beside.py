"""The export beside a running project: a process of its own, so that making tables never holds up an answer.

What fails is written into a file, counted, and tried again. It ends when whoever started it ends: each table is complete up to some
position, from which the next export goes on.

    python -m penstock.app.exporting_beside PROJECT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from penstock.app.applied import AppliedHistory
from penstock.app.child import Child, stand_back, told
from penstock.app.exporting import exporter_of
from penstock.app.runtime import plan_of, state_folder
from penstock.app.settings import load_settings
from penstock.core.errors import PenstockError
from penstock.definitions.project import load_project
from penstock.engine.recovery import Progress, no_progress

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.plan.nodes import Plan

FILE = "export.json"
PROBLEM = "offline"
START_AFTER_S = 2.0
"""A run that is over sooner exports at its end."""
_LOOK_S, _END_S, _LOCK_S = 1.0, 2.0, 1.0

Wait = Callable[[float], bool]
"""Wait for up to so many seconds; whether to end."""


class Exported(msgspec.Struct, frozen=True):
    """What the export beside a run did: rows appended, how often it failed, what is wrong now, and up to where tables are complete."""

    rows: int = 0
    failures: int = 0
    problem: str = ""
    position: int = 0


_exported_decoder = msgspec.json.Decoder(Exported)


def follow(root: Path, *, wait: Wait) -> None:
    """Export what is committed in the project in `root` every few seconds, until told to end.

    Definitions that are applied meanwhile are taken over.
    """
    applied = AppliedHistory(state_folder(root))
    done = Exported()
    ended = False
    while not ended:
        version, plan = applied.newest_version(), plan_of(load_project(root))
        while applied.newest_version() == version and not ended:
            ended = wait(load_settings(root).offline.interval_s)
            if not ended:
                done = _export(root, plan, done, stop=lambda: wait(0))
                _save(root, done)


def export_rest(
    runtime: Runtime, *, progress: Progress = no_progress, stop: Callable[[], bool] = bool
) -> None:
    """Export what is left at the end of a run; a failure stands in the project's problems."""
    if exports(runtime):
        done = _export(runtime.project.root, runtime.plan, Exported(), stop=stop, progress=progress)
        _note(runtime, done.problem)


def _note(runtime: Runtime, problem: str) -> None:
    if problem:
        runtime.problems[PROBLEM] = problem
    else:
        runtime.problems.pop(PROBLEM, None)


def _export(
    root: Path, plan: Plan, done: Exported, *, stop: Callable[[], bool], progress: Progress = no_progress
) -> Exported:
    from pyarrow import ArrowException

    try:
        with exporter_of(root, plan, wait_s=_LOCK_S) as exporter:
            synced = exporter.sync(progress=progress, stop=stop)
    except (PenstockError, OSError, ArrowException) as error:
        failures = done.failures + 1
        problem = f"export failed {failures} times, lately: {error}"
        return Exported(done.rows, failures, problem, done.position)
    position = synced.position if synced.complete else done.position
    return Exported(done.rows + synced.total, done.failures, synced.problem or "", position)


def _save(root: Path, done: Exported) -> None:
    path = state_folder(root) / FILE
    aside = path.with_suffix(".tmp")
    aside.write_bytes(msgspec.json.encode(done))
    aside.replace(path)


def exported(root: Path) -> Exported:
    """What the export beside the newest run did."""
    try:
        return _exported_decoder.decode((state_folder(root) / FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return Exported()


def exports(runtime: Runtime) -> bool:
    """Whether the project exports while it runs: where the settings say so and deltalake is installed."""
    return runtime.settings.offline.export and find_spec("deltalake") is not None


@dataclass(slots=True, eq=False)
class ExportBeside:
    """Starts the export once a run has lasted a while, and ends it with the run; use it as a context manager.

    Parameters
    ----------
    runtime
        The open project; what is wrong stands in its problems under ``offline``.
    """

    runtime: Runtime
    start_after_s: float = START_AFTER_S
    now_s: Callable[[], float] = time.monotonic
    _due_s: float = field(default=float("inf"))
    _child: Child | None = None

    def __enter__(self) -> Self:
        (state_folder(self.runtime.project.root) / FILE).unlink(missing_ok=True)  # of the run before
        if exports(self.runtime):
            self._due_s = self.now_s() + self.start_after_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end(_END_S)

    def look(self) -> str:
        """Start it when it is due, and see to its problems; it has nothing else to say."""
        now = self.now_s()
        if now < self._due_s:
            return ""
        self._due_s = now + _LOOK_S
        root = self.runtime.project.root
        if self._child is None:
            self._child = Child("penstock.app.exporting_beside", str(root))
        ended = self._child.returncode
        _note(
            self.runtime, exported(root).problem if ended is None else f"the export ended with code {ended}"
        )
        return ""


def main(root: Path) -> int:
    """Export until stdin is closed."""
    stand_back()
    try:
        follow(root, wait=lambda seconds: told(seconds) is not None)
    except (PenstockError, OSError) as error:
        _save(root, Exported(problem=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
