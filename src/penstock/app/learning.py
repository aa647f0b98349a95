"""A model that goes on learning, beside the stream: a process of its own that folds labels as they are committed.

It reads the log through a reader of its own, saves what it knows where a copy is published, and writes published copies to its
standard output. It is the only one who writes the version's state. It ends when its standard input does.

    python -m penstock.app.learning DEFINITIONS FOLDER MODEL VERSION
"""

from __future__ import annotations

import hashlib
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

import penstock
from penstock.app.arrivals import Arrivals
from penstock.app.child import stand_back
from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
from penstock.app.served_vectors import ServedVectors
from penstock.core.errors import ArtifactError, ModelError, PenstockError
from penstock.definitions.project import load_project
from penstock.models.artifacts import library_versions
from penstock.models.copies_log import CopiesLog
from penstock.models.fold import Fold, State, parse_state
from penstock.models.learners import description, learner_of
from penstock.models.learning_model import (
    COPY_NAME,
    STATE_NAME,
    Description,
    read_copy,
    read_sealed,
    states_of,
    write_sealed,
)
from penstock.models.online_state import seal, sealing_key
from penstock.models.published import encode

if TYPE_CHECKING:
    from penstock.definitions.models import Model
    from penstock.models.published import Published
    from penstock.models.registry import ModelVersion
    from penstock.plan.nodes import Plan
    from penstock.stores.reader import ProjectReader

_description_decoder = msgspec.json.Decoder(Description)

STRETCH_ROWS = 16_384
_NEAR_ROWS = 4 * STRETCH_ROWS
_IDLE_S, _SAVE_S, _SAVING_SHARE, _TELL_S, _COPY_S = 0.1, 1.0, 0.05, 0.5, 60.0
_NICE = 5
LIBRARIES = ("river", "lightgbm")


class Progress(msgspec.Struct, frozen=True):
    """Where a learner stands.

    Attributes
    ----------
    labels, refused, unknown, taken_back
        As in `penstock.models.fold.Counts`.
    waiting
        Labels whose batch is not full.
    behind
        Rows of the log that it has not looked at.
    started_from
        What it began with: ``"nothing"``, ``"state"``, or why a state was not used.
    problem
        Why the newest fit failed, where it did; the one before it stays in force.
    error
        What the learner ended of.
    """

    labels: int = 0
    refused: int = 0
    unknown: int = 0
    taken_back: int = 0
    waiting: int = 0
    behind: int = 0
    started_from: str = ""
    problem: str = ""
    error: str = ""


class Message(msgspec.Struct, frozen=True):
    """What the process tells: its progress, and a copy, when there is a new one."""

    progress: Progress
    copy: bytes | None = None


def definition_of(model: Model, plan: Plan) -> str:
    """Fingerprint of what `model` learns and how: its features' meaning, label, task, estimator, and steps.

    By what labels anomalies are judged has no part in what is learned.
    """
    service = plan.services[model.features.name]
    parts = (
        service.fingerprint,
        "" if model.label is None or model.task == "anomaly" else model.label.name,
        model.task,
        description(model.estimator),
        repr(model.learning),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_definition(version: ModelVersion, model: Model, plan: Plan) -> None:
    """Whether `version` is of the definitions as they are now; else `ModelError`: to learn by others would end what it serves."""
    registered = _description_decoder.decode(version.files()["online"]).definition
    if registered != definition_of(model, plan):
        raise ModelError(
            f"Model {version.label!r}: its definition has changed since it was registered; it serves what it knew and learns no "
            f"more. Train again (penstock train {model.name}) or restore the definitions."
        )


def versions_in_use() -> dict[str, str]:
    """By what a state was made: Penstock, whose objects hold the libraries' ones, the libraries and Python, with their versions."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return library_versions(also=LIBRARIES) | {"penstock": penstock.__version__, "python": python}


def new_fold(model: Model, plan: Plan) -> Fold:
    """A fold that has learned nothing."""
    assert model.learning is not None
    names = plan.services[model.features.name].feature_names
    learner = learner_of(model.estimator, features=names, task=model.task, online=model.learning)  # type: ignore[arg-type]
    return Fold(learner, model.learning, binary=model.task == "binary")


class Learning:
    """The learner of a version, following the log.

    Parameters
    ----------
    plan, model
        The definitions.
    store
        A reader of the log.
    states
        Where the version's state is kept.
    """

    def __init__(self, plan: Plan, model: Model, *, store: ProjectReader, states: Path) -> None:
        self._store, self._states, self._model = store, states, model
        self._service = plan.services[model.features.name]
        self.definition = definition_of(model, plan)
        self._libraries = versions_in_use()
        self._erasures = len(store.erasures())
        self._vectors = ServedVectors(store, plan, self._service)
        self._arrivals = Arrivals(store, plan, model)
        self.started_from = "nothing"
        self.fold = self._resumed() or new_fold(model, plan)
        self._read = max(self.fold.cursor[0], 0)
        self._known = self.fold.cursor
        self._published: Published | None = None
        self._kept = self._copy_on_disk()
        self._copies = CopiesLog(self._states)
        self._save_after_s = time.perf_counter() + _SAVE_S
        self._copy_after_s = time.perf_counter() + _COPY_S

    @property
    def progress(self) -> Progress:
        """Where it stands."""
        found = self.fold.counts
        return Progress(
            labels=found.labels,
            refused=found.refused,
            unknown=found.unknown,
            taken_back=found.taken_back,
            waiting=self.fold.waiting,
            behind=self._store.next_position - self._read,
            started_from=self.started_from,
            problem=self.fold.problem,
        )

    def step(self, rows: int = STRETCH_ROWS) -> Published | None:
        """Look at up to `rows` more rows of the log; the newest copy, where one was published."""
        stop = min(self._store.next_position, self._read + rows)
        if stop <= self._read:
            return None
        arrived = self._arrivals.between(self._read, stop)
        fresh = (arrived.positions > self._known[0]) | (
            (arrived.positions == self._known[0]) & (arrived.label_positions > self._known[1])
        )
        arrived = arrived.take(fresh)
        vectors, fresh_copy = self._vectors.at(arrived.event_positions), False
        due = self._is_near(stop)
        for point in self.fold.learn(arrived, vectors):
            if due and not point.following:
                self._published, fresh_copy = self.copy(), True
                self._copies.add(self._published)
        self._read = stop
        if time.perf_counter() >= self._save_after_s:
            self.save()
        return self._published if fresh_copy else None

    def catch_up(self) -> Published | None:
        """Go on to the end of the log; the newest copy, where one was published since the start."""
        while self._read < self._store.next_position:
            self.step()
        return self._published

    def save(self) -> None:
        """Write the copies since the last time, the newest copy, and the state as it stands.

        The state last: what a kill leaves out is of labels behind it, which are learned again, to the same copies.
        """
        begun = time.perf_counter()
        self._copies.save()
        if self._published is not None and self._published.replaces(self._kept):
            write_sealed(self._states / COPY_NAME, encode(self._published))
            self._kept = self._published
        state = self.fold.state(
            definition=self.definition,
            libraries=self._libraries,
            erasures=self._erasures,
            log=self._store.store_id,
        )
        write_sealed(self._states / STATE_NAME, state)
        now = time.perf_counter()
        self._save_after_s = now + max(_SAVE_S, (now - begun) / _SAVING_SHARE)

    def copy(self) -> Published:
        """What is known."""
        return msgspec.structs.replace(
            self.fold.copy(), definition=self.definition, log=self._store.store_id, erasures=self._erasures
        )

    def _is_near(self, stop: int) -> bool:
        """Whether copies are worth their making: not while a long past is caught up with, but for one now and then."""
        near = self._store.next_position - stop <= _NEAR_ROWS
        if near or time.perf_counter() >= self._copy_after_s:
            self._copy_after_s = time.perf_counter() + _COPY_S
            return True
        return False

    def _copy_on_disk(self) -> Published | None:
        try:
            return read_copy(self._states)
        except (FileNotFoundError, ArtifactError, msgspec.DecodeError):
            return None

    def _resumed(self) -> Fold | None:
        """The fold as it was saved, where that is of use."""
        try:
            state = parse_state(read_sealed(self._states / STATE_NAME))
        except FileNotFoundError:
            return None
        except (ArtifactError, msgspec.DecodeError) as error:
            self.started_from = str(error)
            return None
        self.started_from = self._why_not(state) or "state"
        if self.started_from != "state":
            return None
        assert self._model.learning is not None
        try:
            return Fold.restored(state, self._model.learning, binary=self._model.task == "binary")
        except ArtifactError as error:
            self.started_from = str(error)
            return None

    def _why_not(self, state: State) -> str:
        """Why a state of ours cannot be gone on with; empty where it can."""
        if state.definition != self.definition:
            return "learned anew: the definition changed"
        if state.log != self._store.store_id or state.position >= self._store.next_position:
            return "learned anew: the state is of another log"
        if state.erasures != self._erasures:
            return "learned anew: a key was forgotten since"
        changed = [
            f"{name} {state.libraries.get(name, '-')} is now {self._libraries.get(name, '-')}"
            for name in sorted(state.libraries.keys() | self._libraries.keys())
            if state.libraries.get(name) != self._libraries.get(name)
        ]
        return f"learned anew: {', '.join(changed)}" if changed else ""


def follow(
    learning: Learning, *, ended: Callable[[float], str], tell: Callable[[Progress, Published | None], None]
) -> None:
    """Learn until `ended` says ``"stop"``, or until all is learned once it says ``"finish"``."""
    told_s, pause = float("-inf"), 0.0
    tell(learning.progress, None)
    while (asked := ended(pause)) != "stop":
        before = learning.progress.behind
        published = learning.step() if before else None
        now = time.monotonic()
        if published is not None or now - told_s >= _TELL_S:
            tell(learning.progress, published)
            told_s = now
        if not before and asked == "finish":
            break
        pause = 0.0 if before else _IDLE_S
    learning.save()
    tell(learning.progress, None)


def _asked(seconds: float, seen: list[str]) -> str:
    """What standard input says: nothing, ``finish``, or ``stop`` when it is closed."""
    ready: list[Any] = select.select([sys.stdin], [], [], seconds)[0]
    if ready:
        seen.append("finish" if os.read(sys.stdin.fileno(), 1) else "stop")
    return seen[-1] if seen else ""


class Sender:
    """Writes sealed messages to a pipe, each behind its length."""

    def __init__(self, pipe: BinaryIO, *, key: bytes) -> None:
        self._pipe, self._key = pipe, key

    def __call__(self, progress: Progress, published: Published | None) -> None:
        """Send one message."""
        message = Message(progress, None if published is None else encode(published))
        data = seal(msgspec.msgpack.encode(message), key=self._key)
        self._pipe.write(len(data).to_bytes(8, "big") + data)
        self._pipe.flush()


def main(definitions: Path, folder: Path, name: str, version: str) -> int:
    """Learn until standard input is closed."""
    stand_back(_NICE)
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get into the pipe
    tell = Sender(pipe, key=sealing_key(learned_path(folder)))
    states = states_of(learned_path(folder), f"{name}:{version}")
    try:
        project = load_project(definitions)
        plan = plan_of(project)
        with open_reader(folder, patient=True) as store:
            check_definition(registry_of(folder).get(name, version), project.models[name], plan)
            learning = Learning(plan, project.models[name], store=store, states=states)
            seen: list[str] = []
            follow(learning, ended=lambda seconds: _asked(seconds, seen), tell=tell)
    except Exception as error:  # noqa: BLE001 - the run is told of whatever ends its learner
        known = isinstance(error, PenstockError | OSError)
        tell(Progress(error=str(error) if known else f"{type(error).__name__}: {error}"), None)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
