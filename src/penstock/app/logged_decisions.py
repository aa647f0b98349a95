"""An endpoint's decisions with their events and vectors, in log order, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from penstock.engine.decisions import Decisions, Flag, concat_decisions
from penstock.engine.features import FeatureState
from penstock.engine.lookup import RowReader
from penstock.engine.replay import replay

if TYPE_CHECKING:
    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import Columns, IntArray
    from penstock.plan.nodes import EndpointNode, Plan, ServiceNode

BLOCK_ROWS = 65_536
_ERASED = np.uint8(Flag.ERASED)


@dataclass(frozen=True, slots=True, eq=False)
class LoggedBlock:
    """Decisions as stored; row i of `events` is what row i was decided on."""

    positions: IntArray
    events: Columns
    decisions: Decisions


def logged_blocks(store: LogReader, plan: Plan, endpoint: EndpointNode) -> Iterator[LoggedBlock]:
    """The decisions of an endpoint in log order, without those on forgotten events.

    Small batches of decisions that were made alike are put together: what follows works on thousands of rows, however they came.
    """
    rows = RowReader(store, plan.sources)
    for positions, decisions in _joined(store, endpoint.name):
        kept = np.flatnonzero((decisions.flags & _ERASED) == 0)
        if len(kept) == len(positions):
            yield LoggedBlock(positions, rows.events(endpoint.source, positions), decisions)
        elif len(kept):
            at = positions[kept]
            yield LoggedBlock(at, rows.events(endpoint.source, at), decisions.take(kept))


def _joined(store: LogReader, endpoint: str) -> Iterator[tuple[IntArray, Decisions]]:
    held: list[tuple[IntArray, Decisions]] = []
    for batch in store.read_decisions(endpoints={endpoint}):
        decisions = Decisions.from_bytes(batch.payload)
        if held and (held[0][1].header != decisions.header or sum(len(p) for p, _ in held) >= BLOCK_ROWS):
            yield _concat(held)
            held = []
        held.append((batch.positions, decisions))
    if held:
        yield _concat(held)


def _concat(held: list[tuple[IntArray, Decisions]]) -> tuple[IntArray, Decisions]:
    return np.concatenate([positions for positions, _ in held]), concat_decisions([d for _, d in held])


class Vectors:
    """The rows of one service for events that are asked for in log order, each once.

    As logged where they were logged under the service's definitions; else recomputed from the log, which is replayed once and held
    only as far as it runs ahead.
    """

    def __init__(self, store: LogReader, plan: Plan, service: ServiceNode) -> None:
        self._store, self._plan, self._service = store, plan, service
        self._replayed: _Replayed | None = None
        self.recomputed = 0
        """How many were not logged under these definitions."""

    def of(self, block: LoggedBlock) -> npt.NDArray[np.float64]:
        """float64[n, features]; all NaN where an event is no longer in the log."""
        if block.decisions.service == self._service.fingerprint:
            return block.decisions.vectors
        self._replayed = self._replayed or _Replayed(self._store, self._plan, self._service)
        self.recomputed += len(block.positions)
        return self._replayed.at(block.positions)


class _Replayed:
    def __init__(self, store: LogReader, plan: Plan, service: ServiceNode) -> None:
        self._service = service
        self._parts = replay(store, FeatureState(plan), services=[service], exact=True)
        self._reached = 0
        self._positions = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, len(service.outputs)))

    def at(self, positions: IntArray) -> npt.NDArray[np.float64]:
        """The vectors at ascending `positions`; what stands before the last of them is forgotten."""
        self._read_to(int(positions[-1]))
        out = np.full((len(positions), self._vectors.shape[1]), np.nan)
        if len(self._positions):
            at = np.minimum(np.searchsorted(self._positions, positions), len(self._positions) - 1)
            there = self._positions[at] == positions
            out[there] = self._vectors[at[there]]
        rest = int(np.searchsorted(self._positions, positions[-1], side="right"))
        self._positions, self._vectors = self._positions[rest:].copy(), self._vectors[rest:].copy()
        return out

    def _read_to(self, position: int) -> None:
        while self._reached <= position:
            part = next(self._parts)
            self._reached = part.chunk.stop
            rows = part.chunk.rows.get(self._service.source)
            if rows is not None:
                self._positions = np.concatenate([self._positions, rows.positions])
                self._vectors = np.concatenate([self._vectors, part.features[self._service.name].values])
