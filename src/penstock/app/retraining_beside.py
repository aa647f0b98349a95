"""Retraining beside a running project: a process of its own, of the lowest priority, that looks, trains and promotes.

The guard looks at labels here, too.

It reads the project's store through a reader of its own. It ends when whoever started it ends; an attempt that is ended in the
middle is not counted, and made again. Whatever happens to it, scoring goes on.

    python -m penstock.app.retraining_beside PROJECT
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.app.applied import AppliedHistory
from penstock.app.child import Child, stand_back, told
from penstock.app.guard_labels import LabelGuard, is_to_be_judged
from penstock.app.retraining import Retrainer, described, retrained_models
from penstock.app.retraining_journal import Journal
from penstock.app.runtime import audit_log_of, open_reader, plan_of, registry_of, state_folder
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import PenstockError
from penstock.definitions.project import load_project

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

LOOK_EVERY_S = 2.0
AGAIN_AFTER_S = 30.0
"""So long after it ended by itself the process is started again."""
_END_S, _TEXT_EVERY_S = 1.0, 1.0
FINISH = b"."
"""Sent to the process: look once more at all that is committed now, then end."""

Wait = Callable[[float], str]
"""Wait for up to so many seconds: ``"go on"``, ``"finish"`` or ``"end"``."""


def follow(root: Path, *, wait: Wait, clock: Clock) -> None:
    """Look again and again whether a model of the project in `root` is to be trained, until told to end.

    Definitions that are applied meanwhile are taken over.
    """
    applied = AppliedHistory(state_folder(root))
    told = "go on"
    with open_reader(root, patient=True) as store:
        while told == "go on":
            version, project = applied.newest_version(), load_project(root)
            registry, audit = registry_of(root, clock=clock), audit_log_of(root, clock=clock)
            guard = LabelGuard(project, plan_of(project), store, registry=registry, audit=audit)
            retrainer = Retrainer(project, store, registry=registry, audit=audit, clock=clock)
            while told == "go on" and applied.newest_version() == version:
                _look(guard, retrainer, retrained_models(project))
                told = wait(LOOK_EVERY_S)
        if told == "finish":
            _look(guard, retrainer, retrained_models(project))


def _look(guard: LabelGuard, retrainer: Retrainer, models: list[str]) -> None:
    for problem in guard.look():
        sys.stderr.write(f"penstock: guard: {problem}\n")
    for name in models:
        retrainer.look(name)


@dataclass(slots=True, eq=False)
class RetrainingBeside:
    """Starts the retraining of a project, where it has any, and ends it with the run; use it as a context manager.

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

    def __enter__(self) -> Self:
        if retrained_models(self.runtime.project) or _is_guarded(self.runtime):
            self.runtime.store.index_labels()
            self._child = _start(self.runtime.project.root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end(_END_S)  # an attempt under way has no outcome: it is made again next time

    def look(self) -> str:
        """What came of the newest attempts, in a few words; empty where there were none. Starts the process again if it fell."""
        now = self.now_s()
        if self._child is None or now - self._looked_s < _TEXT_EVERY_S:
            return self._text
        self._looked_s = now
        if self._child.returncode is not None:
            self._ended_s = now if self._ended_s is None else self._ended_s
            if now - self._ended_s >= AGAIN_AFTER_S:
                self._child.wait()
                self._child, self._ended_s = _start(self.runtime.project.root), None
        ended = "" if self._ended_s is None else f"retraining ended with code {self._child.returncode}"
        self._text = " · ".join(filter(None, [*_texts(self.runtime), ended]))
        return self._text

    def finish(self) -> None:
        """Wait until it has looked at all that is committed now, and has trained what is due; not for the guard alone."""
        if self._child is None or not retrained_models(self.runtime.project):
            return
        self._child.tell(FINISH)
        self._child.wait()
        self._child = None
        self._text = " · ".join(_texts(self.runtime))


def _is_guarded(runtime: Runtime) -> bool:
    """Whether the guard has still to judge a champion by its labels."""
    registry, audit = runtime.registry, runtime.routes.audit
    return any(
        is_to_be_judged(endpoint, registry, audit) is not None
        for endpoint in runtime.project.endpoints.values()
    )


def _texts(runtime: Runtime) -> list[str]:
    return [text for name in retrained_models(runtime.project) if (text := _newest(runtime, name))]


def _newest(runtime: Runtime, name: str) -> str:
    attempts = Journal(runtime.routes.audit, name).attempts()
    return f"retraining {name}: {described(attempts[-1])}" if attempts else ""


def _start(root: Path) -> Child:
    threads = str(max((os.cpu_count() or 1) - 1, 1))  # one processor is for scoring
    return Child(
        "penstock.app.retraining_beside",
        str(root),
        environment={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
    )


def _told(seconds: float) -> str:
    word = told(seconds)
    if word is None:
        return "go on"
    return "finish" if word == FINISH else "end"


def main(root: Path) -> int:
    """Retrain until stdin is closed."""
    stand_back()
    try:
        follow(root, wait=_told, clock=SystemClock())
    except (PenstockError, OSError) as error:
        sys.stderr.write(f"penstock: retraining: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
