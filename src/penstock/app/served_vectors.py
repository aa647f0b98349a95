"""Feature vectors of events as they were served: from their decisions, else from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.engine.decisions import Flag
from penstock.engine.features import FeatureState
from penstock.engine.lookup import RowReader
from penstock.engine.replay import replay
from penstock.models.prequential_scores import Held

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import Plan, ServiceNode

_GONE = Flag.ERASED.value


class ServedVectors:
    """The vectors of one service's events, each asked for once, roughly in log order.

    Events with a decision on the same features have their vector in it. Of those that were loaded as history, and of models that
    no endpoint serves, features are recomputed from the log, which is read once; vectors are held until they are asked for.
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
            self._history = self._history or _History(self._store, self._plan, self._service)
            recomputed = np.full((len(missing), out.shape[1]), np.inf)
            self._history.fill(positions[missing], recomputed)
            out[missing] = recomputed
        return out

    def _decided(self, positions: IntArray, out: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        there = np.zeros(len(positions), np.bool_)
        order = np.argsort(positions)
        for endpoint in self._endpoints:
            for at, decisions in self._rows.decisions(endpoint, positions):
                columns = self._plan.columns_of(
                    endpoint, logged=decisions.service, wanted=self._service.fingerprint
                )
                if columns is None:
                    continue
                kept = (decisions.flags & _GONE) == 0
                rows = order[np.searchsorted(positions, at[kept], sorter=order)]
                out[rows], there[rows] = decisions.vectors[kept][:, list(columns)], True
        return there


class _History:
    """The features' state as far as the log was read, and the vectors that nobody has asked for yet."""

    def __init__(self, store: LogReader, plan: Plan, service: ServiceNode) -> None:
        self._store, self._service = store, service
        self._state = FeatureState(plan)
        self._held = Held()
        self._read = 0

    def fill(self, wanted: IntArray, out: npt.NDArray[np.float64]) -> None:
        """Write the rows at `wanted` into `out`, reading on in the log where it must."""
        if int(wanted.max()) >= self._read:
            end = self._store.next_position
            for part in replay(
                self._store, self._state, start=self._read, stop=end, services=[self._service], exact=True
            ):
                rows = part.chunk.rows.get(self._service.source)
                if rows is not None:
                    vectors = np.ascontiguousarray(part.features[self._service.name].values)
                    self._held.add(rows.positions, vectors)
            self._read = end
        self._held.fill(wanted, out)
