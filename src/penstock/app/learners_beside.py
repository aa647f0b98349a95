"""The learners beside a running project: one process for each version in Production that goes on learning.

What they publish reaches whoever serves the version in this process. Use it as a context manager around a run:

    with LearnersBeside(runtime) as learners:
        ...
        learners.finish()
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import msgspec

from penstock.app.learning import Message, Progress
from penstock.app.runtime import learned_path
from penstock.core.errors import ArtifactError
from penstock.models.learning_model import served_from, states_of
from penstock.models.online_state import sealing_key, unseal
from penstock.models.published import decode

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.models.registry import ModelVersion

_END_S = 5.0
_LENGTH_BYTES = 8


class LearnersBeside:
    """Starts the learners of a project, and ends them with the run.

    Parameters
    ----------
    runtime
        The open project.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._learners: list[_Learner] = []

    def __enter__(self) -> Self:
        for version in _in_production(self._runtime):
            self._runtime.store.index_labels()
            self._learners.append(_Learner.start(self._runtime.project.root, version))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for learner in self._learners:
            learner.end()

    @property
    def progress(self) -> dict[str, Progress]:
        """Where each stands, by version."""
        return {learner.version.label: learner.progress for learner in self._learners}

    def look(self) -> str:
        """What they have learned, in a few words; empty where no model goes on learning."""
        return " · ".join(learner.text() for learner in self._learners)

    def finish(self) -> None:
        """Wait until all that is committed now is learned, and let them end."""
        for learner in self._learners:
            learner.finish()


@dataclass(slots=True, eq=False)
class _Learner:
    """One process, and the thread that hears it."""

    version: ModelVersion
    states: Path
    child: subprocess.Popen[bytes]
    progress: Progress = field(default_factory=Progress)
    _hearing: threading.Thread | None = None

    @classmethod
    def start(cls, root: Path, version: ModelVersion) -> _Learner:
        command = [sys.executable, "-P", "-m", "penstock.app.learning"]
        child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [*command, str(root), str(root), version.name, str(version.version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run; the learner ends when its stdin does
        )
        learner = cls(version, learned_path(root), child)
        learner._hearing = threading.Thread(target=learner._hear, name="penstock-learner", daemon=True)
        learner._hearing.start()
        return learner

    def text(self) -> str:
        if self.progress.error:
            return f"{self.version.name} stopped learning: {self.progress.error}"
        served = served_from(states_of(self.states, self.version.label))
        newest = None if served is None else served.newest
        shown = self.version.label if newest is None else newest.version
        taken_back = f", {self.progress.taken_back:,} batches taken back" if self.progress.taken_back else ""
        behind = f", {self.progress.behind:,} rows behind" if self.progress.behind else ""
        anew = self.progress.started_from
        why = "" if anew in {"", "nothing", "state"} or not self.progress.behind else f" ({anew})"
        return f"{shown}: {self.progress.labels:,} labels learned{behind}{taken_back}{why}"

    def finish(self) -> None:
        assert self.child.stdin is not None
        with suppress(OSError):  # it has ended
            self.child.stdin.write(b".")
            self.child.stdin.flush()
        assert self._hearing is not None
        self._hearing.join()
        self.child.wait()

    def end(self) -> None:
        assert self.child.stdin is not None
        with suppress(OSError):  # it has ended
            self.child.stdin.close()
        try:
            self.child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.child.kill()  # what is saved is whole; the rest is learned next time
            self.child.wait()
        assert self._hearing is not None
        self._hearing.join()

    def _hear(self) -> None:
        key = sealing_key(self.states)
        assert self.child.stdout is not None
        with self.child.stdout as pipe:
            while (data := _frame(pipe)) is not None:
                self._take(data, key)
        if self.child.wait() and not self.progress.error:
            ended = f"its process ended with code {self.child.returncode}"
            self.progress = msgspec.structs.replace(self.progress, error=ended)

    def _take(self, data: bytes, key: bytes) -> None:
        try:
            opened = unseal(data, key=key, what=f"message of the learner of {self.version.label}")
            message = msgspec.msgpack.decode(opened, type=Message)
            served = served_from(states_of(self.states, self.version.label))
            if message.copy is not None and served is not None:
                served.put(decode(message.copy))
        except ArtifactError as error:
            self.progress = msgspec.structs.replace(self.progress, error=str(error))
        else:
            self.progress = message.progress


def _frame(pipe: IO[bytes]) -> bytes | None:
    """The next message; None where the pipe has ended."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    data = pipe.read(size)
    return data if len(data) == size else None


def _in_production(runtime: Runtime) -> list[ModelVersion]:
    models = [name for name, model in runtime.project.models.items() if model.learning is not None]
    versions = (version for name in models for version in runtime.registry.versions(name))
    return [version for version in versions if version.stage == "Production"]
