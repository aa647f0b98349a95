"""The guard beside the engine: watches versions that begin to decide, and takes those out of service that do it badly.

Badly is: they fail, are slow, or score otherwise than when they were tested. The model of a watched arm is wrapped: each call leaves
its time and its scores in a ring, which a thread empties. A version that passed is unwrapped again. What labels say later is
`penstock.app.guard_labels`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from penstock.app.guard_log import note, verdict_on
from penstock.app.guard_service import came_back, take_out
from penstock.core.errors import ModelError, PenstockError
from penstock.models.manifest import read_files
from penstock.monitoring.profile import ColumnProfile, parse_profile
from penstock.monitoring.watch import ScoringWatch

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.definitions.guards import Guard
    from penstock.engine.ports import Scorer
    from penstock.engine.routing import RouteArm
    from penstock.models.registry import ModelVersion

FloatArray = npt.NDArray[np.float64]
LOOK_EVERY_S = 0.25
RING = 1_024
SCORING = "scoring"
_Arm = tuple[str, str, str]
"""Endpoint, arm, digest."""


class Watched:
    """A model, and a ring of what its newest calls took and gave.

    Parameters
    ----------
    model
        What scores.
    """

    __slots__ = ("calls", "model")

    def __init__(self, model: Scorer) -> None:
        self.model = model
        self.calls: deque[tuple[int, FloatArray]] = deque(maxlen=RING)
        """Nanoseconds and scores of calls; those that nobody took in time are lost."""

    @property
    def version(self) -> str:
        """See `ScoringModel`."""
        return self.model.version

    @property
    def digest(self) -> str:
        """See `ScoringModel`."""
        return self.model.digest

    @property
    def feature_names(self) -> tuple[str, ...]:
        """See `ScoringModel`."""
        return self.model.feature_names

    def score(self, vectors: FloatArray) -> FloatArray:
        """See `ScoringModel`."""
        began = time.perf_counter_ns()
        try:
            scores = self.model.score(vectors)
        except ModelError:
            self.calls.append((time.perf_counter_ns() - began, np.full(len(vectors), np.nan)))
            raise
        self.calls.append((time.perf_counter_ns() - began, scores))
        return scores


class GuardWatch:
    """Watches the arms of a running project; use it as a context manager.

    What it cannot do is noted in `Runtime.problems` under ``guard``.

    Parameters
    ----------
    runtime
        The running project.
    every_s
        How often to look.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = LOOK_EVERY_S) -> None:
        self._runtime, self._every_s = runtime, every_s
        self._watches: dict[_Arm, ScoringWatch] = {}
        self._done: set[_Arm] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-guard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for _name, _guard, arm in self._arms():
            _unwrap(arm)  # what goes on after the run is not looked at

    def look(self) -> None:
        """Take what the watched arms did since the last look, and act on what it says."""
        for name, guard, arm in self._arms():
            key = (name, arm.name, arm.scorer.digest)
            if key in self._done:
                _unwrap(arm)
            elif key not in self._watches:
                self._begin(key, guard, arm)
            else:
                self._judge(key, arm)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except (PenstockError, OSError) as error:
                self._runtime.problems["guard"] = str(error)

    def _arms(self) -> list[tuple[str, Guard, RouteArm]]:
        """Those that decide at an endpoint with a guard."""
        project, routes = self._runtime.project, self._runtime.routes
        guards = {e.name: e.guard for e in project.endpoints.values() if e.name in routes.plan.endpoints}
        return [(name, g, arm) for name, g in guards.items() if g is not None for arm in routes[name].serving]

    def _begin(self, key: _Arm, guard: Guard, arm: RouteArm) -> None:
        """Watch a version, unless it was watched before, came back by a rollback, or is none of the registry."""
        version = self._version(arm)
        audit = self._runtime.routes.audit
        if (
            version is None
            or verdict_on(audit, key[0], version.label, what=SCORING) is not None
            or came_back(self._runtime.registry, version)
        ):
            self._done.add(key)
            return
        self._watches[key] = ScoringWatch(guard, _score_profile(version))
        _wrap(arm)

    def _judge(self, key: _Arm, arm: RouteArm) -> None:
        watch, model = self._watches[key], _wrap(arm)
        while model.calls:
            nanoseconds, scores = model.calls.popleft()
            watch.add(nanoseconds / 1e9, scores)
        alarm = watch.alarm()
        version = None if alarm is None and not watch.passed else self._version(arm)
        if version is None:
            return
        self._done.add(key)
        del self._watches[key]
        audit = self._runtime.routes.audit
        if alarm is None:
            numbers = {"events": watch.events, "failed": watch.failed}
            reason = f"{watch.events:,} events without an alarm"
            note(audit, key[0], "passed", version=version.label, what=SCORING, numbers=numbers, reason=reason)
            return
        node = self._runtime.plan.endpoints[key[0]]
        problem = take_out(
            node, arm.name, version, alarm, registry=self._runtime.registry, audit=audit, what=SCORING
        )
        if problem:
            self._runtime.problems["guard"] = problem
        self._runtime.load_routes()

    def _version(self, arm: RouteArm) -> ModelVersion | None:
        """The registered version in an arm; a learner's copies are of theirs."""
        label = arm.scorer.version.partition("+")[0]
        versions = self._runtime.registry.versions(label.rpartition(":")[0])
        return next((one for one in versions if one.label == label), None)


def _wrap(arm: RouteArm) -> Watched:
    if not isinstance(arm.scorer, Watched):
        arm.scorer = Watched(arm.scorer)  # the engine reads it once a call, so it may change between two
    return arm.scorer


def _unwrap(arm: RouteArm) -> None:
    if isinstance(arm.scorer, Watched):
        arm.scorer = arm.scorer.model


def _score_profile(version: ModelVersion) -> ColumnProfile | None:
    files = read_files(version.folder, digest=version.digest)
    if "profile" not in files.contents:
        return None
    return parse_profile(files["profile"], where=version.label).column("score")
