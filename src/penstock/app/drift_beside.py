"""The watch over drift beside a running project: a process of its own, of the lowest priority, that follows the log.

It ends when whoever started it ends, and goes on where it stood (`penstock.app.drift_watch`). Whatever happens to it, scoring goes on.

    python -m penstock.app.drift_beside PROJECT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.app.applied import AppliedHistory
from penstock.app.child import Child, stand_back, told
from penstock.app.drift_watch import DriftWatch, following, read_state, watched_monitors
from penstock.app.runtime import open_reader, plan_of, registry_of, state_folder
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import PenstockError
from penstock.definitions.project import load_project

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 30.0
"""So long after it ended by itself the process is started again."""
_END_S, _TEXT_EVERY_S = 1.0, 1.0
FINISH = b"."
"""Sent to the process: take in all that is committed now, then end."""

Wait = Callable[[float], str]
"""Wait for up to so many seconds: ``"go on"``, ``"finish"`` or ``"end"``."""


def follow(root: Path, *, wait: Wait, clock: Clock) -> None:
    """Follow the log of the project in `root` until told to end; definitions that are applied meanwhile are taken over."""
    applied = AppliedHistory(state_folder(root))
    word = "go on"
    with open_reader(root, patient=True) as store:
        while word == "go on":
            version, project = applied.newest_version(), load_project(root)
            watch = DriftWatch(project, plan_of(project), store, registry_of(root, clock=clock))
            while word == "go on" and applied.newest_version() == version:
                word = _catch_up(root, watch, wait)
                if word == "go on":
                    word = wait(LOOK_EVERY_S)
        if word == "finish":
            with following(root) as mine:
                if mine:
                    watch.catch_up()


def _catch_up(root: Path, watch: DriftWatch, wait: Wait) -> str:
    """A stretch after the other until nothing is left or somebody has something to say."""
    said = "go on"

    def interrupted() -> bool:
        nonlocal said
        said = wait(0.0)
        return said != "go on"

    with following(root) as mine:
        if mine:
            watch.catch_up(wait=interrupted)
    return said


@dataclass(slots=True, eq=False)
class DriftBeside:
    """Starts the watch of a project, where anything is to be watched, and ends it with the run; use it as a context manager.

    Parameters
    ----------
    runtime
        The open project.
    """

    runtime: Runtime
    now_s: Callable[[], float] = time.monotonic
    _child: Child | None = None
    _ended_s: float | None = None
    _looked_s: float = float("-inf")
    _text: str = ""
    _is_over: bool = False

    def __enter__(self) -> Self:
        if watched_monitors(self.runtime.project):
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end(_END_S)  # what it keeps is whole; the rest is read next time

    def look(self) -> str:
        """What drifts now, in a few words; empty where nothing does. Starts the process when it is first wanted, and if it fell."""
        now = self.now_s()
        if self._is_over or now - self._looked_s < _TEXT_EVERY_S:
            return self._text
        self._looked_s = now
        ended = ""
        if self._child is None:
            if not watched_monitors(self.runtime.project):
                return ""
            self._start()
        elif self._child.returncode is not None:
            self._ended_s = now if self._ended_s is None else self._ended_s
            ended = f"drift watch ended with code {self._child.returncode}"
            if now - self._ended_s >= AGAIN_AFTER_S:
                self._child.wait()
                self._start()
        text = " · ".join(filter(None, [*self._texts(), ended]))
        if not self._is_over:
            self._text = text
        return self._text

    def finish(self) -> None:
        """Wait until it has taken in all that is committed now, and let it end."""
        if self._child is None:
            return
        self._is_over = (
            True  # from now on `look`, which another thread may be in, says nothing of an ended process
        )
        self._child.tell(FINISH)
        self._child.wait()
        self._child = None
        self._text = " · ".join(self._texts())

    def _start(self) -> None:
        self.runtime.store.index_labels()
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._child = Child("penstock.app.drift_beside", str(self.runtime.project.root), environment=threads)
        self._ended_s = None

    def _texts(self) -> list[str]:
        root = self.runtime.project.root
        names = [monitor.endpoint.name for monitor in watched_monitors(self.runtime.project)]
        return [text for name in names if (text := _text(root, name))]


def _text(root: Path, endpoint: str) -> str:
    state = read_state(root, endpoint)
    look = None if state is None else state.newest_look
    if look is None or not look.drifted:
        return ""
    more = f" and {len(look.drifted) - 3} more" if len(look.drifted) > 3 else ""
    return f"drift of {endpoint}: {', '.join(look.drifted[:3])}{more}"


def _told(seconds: float) -> str:
    word = told(seconds)
    if word is None:
        return "go on"
    return "finish" if word == FINISH else "end"


def main(root: Path) -> int:
    """Follow until stdin is closed."""
    stand_back()
    try:
        follow(root, wait=_told, clock=SystemClock())
    except (PenstockError, OSError) as error:
        sys.stderr.write(f"penstock: drift watch: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
