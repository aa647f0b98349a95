"""Signs that a model in Production is out of date: drift of its endpoint, and its figures where labels had their time.

Drift is what the watch tells that goes on beside a run (`penstock.app.drift_watch`); where none goes on, it is caught up with here. Figures take a pass
over the newest decisions, so they are read again only after the log has grown by a tenth of what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from penstock.app.drift_watch import DriftWatch, following, read_state
from penstock.app.measuring import monitor_of, scored_batches
from penstock.app.retraining_data import newest_time, position_since
from penstock.core.time import to_us
from penstock.definitions.retraining import FLOORS
from penstock.monitoring.prequential import Prequential
from penstock.monitoring.regression import PrequentialRegression

if TYPE_CHECKING:
    from penstock.definitions.models import Model
    from penstock.definitions.monitors import Monitor
    from penstock.definitions.project import Project
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.models.triggers import Figures
    from penstock.plan.nodes import Plan
    from penstock.stores.reader import ProjectReader

LEAST_NEW_ROWS = 1_000
Found = TypeVar("Found")


class Signs:
    """What the decisions and labels of a model's endpoint say about it.

    Parameters
    ----------
    project, plan, store, registry, model
        Whose they are.
    """

    def __init__(
        self, project: Project, plan: Plan, store: ProjectReader, registry: ModelRegistry, model: Model
    ) -> None:
        self._project, self._plan, self._store, self._registry, self._model = (
            project,
            plan,
            store,
            registry,
            model,
        )
        self._watch = DriftWatch(project, plan, store, registry)
        endpoint = next((e.name for e in project.endpoints.values() if e.model.name == model.name), None)
        self._monitor = None if endpoint is None else monitor_of(project, endpoint)
        self._known: dict[str, tuple[int, str, Any]] = {}

    def drifted(self, since: int) -> tuple[str, ...]:
        """What changed against the training data of the version in Production, by alarms from log position `since` on."""
        live = self._live()
        if self._monitor is None or live is None:
            return ()
        with following(self._project.root) as mine:
            if mine:
                self._watch.catch_up()
        state = read_state(self._project.root, self._monitor.endpoint.name)
        return () if state is None or state.version != live.label else state.changes_since(since)

    def figures(self) -> Figures:
        """The figures of the version in Production over the newest window whose labels had their time; None: not known."""
        return self._read("figures", self._figures, {})

    def _read(self, what: str, read: Callable[[Monitor, str], Found], nothing: Found) -> Found:
        live = self._live()
        if self._monitor is None or live is None:
            return nothing
        position, version, value = self._known.get(what, (0, "", nothing))
        end = self._store.next_position
        if version != live.label or end - position >= max(LEAST_NEW_ROWS, position // 10):
            value = read(self._monitor, live.label)
            self._known[what] = (end, live.label, value)
        return value  # type: ignore[no-any-return]

    def _live(self) -> ModelVersion | None:
        return next((v for v in self._registry.versions(self._model.name) if v.stage == "Production"), None)

    def _figures(self, monitor: Monitor, version: str) -> Figures:
        delay, width = to_us(monitor.delay), to_us(monitor.windows[0])
        newest = newest_time(self._store, self._plan, self._model, stop=self._store.next_position)
        if newest is None:
            return {}
        cell: Any = Prequential() if self._model.task == "binary" else PrequentialRegression()
        start = self._start(width + delay)
        for scored, labels, decisions in scored_batches(self._store, self._plan, monitor, start=start):
            old = scored.times_us <= newest - delay
            recent = scored.times_us > newest - delay - width
            rows = np.flatnonzero(
                old & recent & decisions.of_version(version) & ~np.isnan(labels) & ~np.isnan(scored.scores)
            )
            cell.decided(len(rows))
            cell.add(scored.scores[rows], labels[rows])
        found = cell.summary()
        return {name: getattr(found, name, None) for name in FLOORS}

    def _start(self, width_us: int) -> int:
        """The log position from which on the newest `width_us` lie, with room for late events."""
        stop = self._store.next_position
        newest = newest_time(self._store, self._plan, self._model, stop=stop)
        late = self._plan.sources[self._plan.services[self._model.features.name].source].allowed_lateness_us
        since = (newest or 0) - width_us - late
        return position_since(self._store, self._plan, self._model, since_us=since, stop=stop)
