"""Feature vectors of events as they were served: from their decisions, else from the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from penstock.engine.decisions import Flag
from penstock.engine.history import feature_parts
from penstock.engine.lookup import RowReader
from penstock.models.prequential_scores import Held

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.engine.history import LoggedFeatures
    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import Plan, ServiceNode

_GONE = Flag.ERASED.value


class ServedVectors:
    """The vectors of one service's events, each asked for once, roughly in log order.

    Events with a decision on the same features have their vector in it. Those that were loaded as history have none; their
    features are recomputed from the log, in one pass that goes as far as is asked for.
    """

    def __init__(self, store: LogReader, plan: Plan, service: ServiceNode) -> None:
        self._store, self._plan, self._service = store, plan, service
        self._rows = RowReader(store, plan.sources)
        self._endpoints = [e.name for e in plan.endpoints.values() if e.source == service.source]
        self._history: _History | None = None

    def at(self, positions: IntArray) -> npt.NDArray[np.float64]:
        """float64[n, features]; all infinite where an event's features cannot be had any more."""
        out = np.full((len(positions), len(self._service.outputs)), np.inf)
        there = self._decided(positions, out)
        missing = np.flatnonzero(~there)
        if len(missing):
            wanted = positions[missing]
            if self._history is None or int(wanted.max()) >= self._history.stop:
                self._history = _History(self._store, self._plan, self._service)
            recomputed = np.full((len(wanted), out.shape[1]), np.inf)
            self._history.fill(wanted, recomputed)
            out[missing] = recomputed
        return out

    def _decided(self, positions: IntArray, out: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        there = np.zeros(len(positions), np.bool_)
        order = np.argsort(positions)
        for endpoint in self._endpoints:
            for at, decisions in self._rows.decisions(endpoint, positions):
                if decisions.service != self._service.fingerprint:
                    continue
                kept = (decisions.flags & _GONE) == 0
                rows = order[np.searchsorted(positions, at[kept], sorter=order)]
                out[rows], there[rows] = decisions.vectors[kept], True
        return there


class _History:
    """A pass over the log, and the vectors that nobody has asked for yet."""

    def __init__(self, store: LogReader, plan: Plan, service: ServiceNode) -> None:
        self.stop = store.next_position
        self._parts: Iterator[LoggedFeatures] = feature_parts(store, plan, service, stop=self.stop)
        self._held = Held()
        self._upto = -1

    def fill(self, wanted: IntArray, out: npt.NDArray[np.float64]) -> None:
        while self._upto < int(wanted.max()) and (part := next(self._parts, None)) is not None:
            self._held.add(part.positions, np.ascontiguousarray(part.features.values))
            self._upto = int(part.positions[-1])
        self._held.fill(wanted, out)
