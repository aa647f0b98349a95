"""The learners beside a running project: one process for each version that goes on learning and is in Production or in an arm.

What they publish reaches whoever serves the version in this process. Use it as a context manager around a run:

    with LearnersBeside(runtime) as learners:
        ...
        learners.finish()
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import msgspec

from penstock.app.child import Child
from penstock.app.learning import Message, Progress
from penstock.app.runtime import learned_path
from penstock.core.errors import PenstockError
from penstock.models.learning_model import LearningModel, served_from, states_of
from penstock.models.online_state import sealing_key, unseal
from penstock.models.published import decode

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

_message_decoder = msgspec.msgpack.Decoder(Message)

_END_S = 5.0
_LOOK_EVERY_S, _PAUSE_S = 0.25, 1.0
_SILENT_S = 600.0
"""Longer than any fit should take; a learner that steps tells where it stands twice a second."""
_LENGTH_BYTES = 8


class LearnersBeside:
    """Starts the learners of a project, goes along with its routes, and ends them with the run.

    Parameters
    ----------
    runtime
        The open project.
    every_s
        How often to look which versions are wanted.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = _LOOK_EVERY_S) -> None:
        self._runtime, self._every_s = runtime, every_s
        self._learners: dict[str, _Learner] = {}
        self._production: tuple[object, frozenset[str]] | None = None
        self._changing, self._stop = threading.Lock(), threading.Event()
        self._watching = threading.Thread(target=self._watch, name="penstock-learners", daemon=True)

    def __enter__(self) -> Self:
        try:
            self.reconcile()
        except BaseException:
            self._end()
            raise
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_watching()
        self._end()

    @property
    def progress(self) -> dict[str, Progress]:
        """Where each stands, by version."""
        return {learner.label: learner.progress for learner in list(self._learners.values())}

    def look(self) -> str:
        """What they have learned, in a few words; empty where no model goes on learning."""
        return " · ".join(learner.text() for learner in list(self._learners.values()))

    def finish(self) -> None:
        """Wait until all that is committed now is learned, and let them end."""
        self._stop_watching()
        self.reconcile()
        for learner in self._learners.values():
            learner.finish()

    def reconcile(self) -> None:
        """Start learners of the versions that any arm holds or that are in Production, and end the others."""
        wanted = self._wanted()
        with self._changing:
            for label in sorted(self._learners.keys() - wanted):
                self._learners.pop(label).end()
            for label in sorted(wanted - self._learners.keys()):
                self._runtime.store.index_labels()
                self._learners[label] = _Learner.start(self._runtime.project.root, label)

    def _wanted(self) -> frozenset[str]:
        head = self._runtime.registry.head(), self._runtime.project
        if self._production is None or self._production[0] != head:
            self._production = (head, _in_production(self._runtime))
        held = {model.label for model in self._runtime.routes.models() if isinstance(model, LearningModel)}
        return self._production[1] | held

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.reconcile()
                self._runtime.problems.pop("learners", None)
            except (PenstockError, OSError) as error:
                self._runtime.problems["learners"] = str(error)

    def _stop_watching(self) -> None:
        self._stop.set()
        self._watching.join()

    def _end(self) -> None:
        for learner in self._learners.values():
            learner.end()


@dataclass(slots=True, eq=False)
class _Learner:
    """One process, and the thread that hears it."""

    label: str
    states: Path
    child: Child
    progress: Progress = field(default_factory=Progress)
    heard_s: float = field(default_factory=time.monotonic)
    _hearing: threading.Thread | None = None

    @classmethod
    def start(cls, root: Path, label: str) -> _Learner:
        states = learned_path(root)
        key = sealing_key(states)
        name, _, version = label.partition(":")
        child = Child("penstock.app.learning", str(root), str(root), name, version, speaks=True)
        learner = cls(label, states, child)
        learner._hearing = threading.Thread(
            target=learner._hear, args=(key,), name="penstock-learner", daemon=True
        )
        learner._hearing.start()
        return learner

    def text(self) -> str:
        if self.progress.error:
            return f"{self.label} stopped learning: {self.progress.error}"
        served = served_from(states_of(self.states, self.label))
        newest = None if served is None else served.newest
        shown = self.label if newest is None else newest.version
        taken_back = f", {self.progress.taken_back:,} batches taken back" if self.progress.taken_back else ""
        behind = f", {self.progress.behind:,} rows behind" if self.progress.behind else ""
        anew = self.progress.started_from
        why = "" if anew in {"", "nothing", "state"} or not self.progress.behind else f" ({anew})"
        problem = f" (its newest fit failed: {self.progress.problem})" if self.progress.problem else ""
        return f"{shown}: {self.progress.labels:,} labels learned{behind}{taken_back}{why}{problem}"

    def finish(self) -> None:
        self.child.tell(b".")
        assert self._hearing is not None
        while self._hearing.is_alive():
            self._hearing.join(_PAUSE_S)
            if time.monotonic() - self.heard_s > _SILENT_S:
                self.child.end(0)  # what is saved is whole
                self._hearing.join()
                self._fail(
                    f"it said nothing for {_SILENT_S:g} s and was ended; the rest is learned next time"
                )
        self.child.wait()

    def end(self) -> None:
        self.child.end(_END_S)  # what is saved is whole; the rest is learned next time
        assert self._hearing is not None
        self._hearing.join()

    def _hear(self, key: bytes) -> None:
        with self.child.stdout as pipe:
            while (data := _frame(pipe)) is not None:
                self._take(data, key)
        self.child.wait()
        if self.child.returncode and not self.progress.error:
            self._fail(f"its process ended with code {self.child.returncode}")

    def _take(self, data: bytes, key: bytes) -> None:
        self.heard_s = time.monotonic()
        try:
            opened = unseal(data, key=key, what=f"message of the learner of {self.label}")
            message = _message_decoder.decode(opened)
            served = served_from(states_of(self.states, self.label))
            if message.copy is not None and served is not None:
                served.put(decode(message.copy))
        except Exception as error:  # noqa: BLE001 - a copy is opened by its own library; the thread goes on hearing
            known = isinstance(error, PenstockError)
            self._fail(str(error) if known else f"{type(error).__name__}: {error}")
        else:
            self.progress = message.progress

    def _fail(self, why: str) -> None:
        self.progress = msgspec.structs.replace(self.progress, error=why)


def _frame(pipe: IO[bytes]) -> bytes | None:
    """The next message; None where the pipe has ended."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    data = pipe.read(size)
    return data if len(data) == size else None


def _in_production(runtime: Runtime) -> frozenset[str]:
    models = [name for name, model in runtime.project.models.items() if model.learning is not None]
    versions = (version for name in models for version in runtime.registry.versions(name))
    return frozenset(
        version.label
        for version in versions
        if version.stage == "Production" and version.manifest().engine == "online"
    )
