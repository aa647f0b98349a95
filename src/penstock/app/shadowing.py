"""Shadow arms: they score what was decided, off the path of the answer, and never hold it up.

What is durable is put into a bounded queue; one thread scores and stores it. Where the queue is full, events are left out and
counted: a shadow that cannot keep up must not slow the endpoint down.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.core.errors import StoreError
from penstock.stores.shadows import ShadowScores, ShadowStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from penstock.engine.decisions import Decisions
    from penstock.engine.routing import Route, RouteArm
    from penstock.kernel.columns import IntArray

MAX_BATCHES = 1_000
MAX_BYTES = 64 << 20
"""Of the vectors that wait."""
WRITE_ROWS = 10_000
PATIENCE_S = 30.0


class _Waiting(NamedTuple):
    route: Route
    positions: IntArray
    decisions: Decisions


class Shadows:
    """Scores decided events by the shadow arms of their route.

    Parameters
    ----------
    path
        Where the scores are stored; made when the first shadow scores.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Waiting | threading.Event | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._batches = self._bytes = 0
        self._thread: threading.Thread | None = None
        self.scored: Counter[str] = Counter()
        """Events by ``endpoint/arm``."""
        self.dropped: Counter[str] = Counter()
        """Events that were left out because too many waited, by endpoint."""
        self.failed: Counter[str] = Counter()
        """Events on which a model failed, by ``endpoint/arm``."""
        self.lost: Counter[str] = Counter()
        """Events whose scores could not be stored, by ``endpoint/arm``."""
        self.problem: str | None = None
        """What went wrong last."""
        self._store: ShadowStore | None = None

    def offer(self, route: Route, positions: IntArray, decisions: Decisions, committed: Future[None]) -> None:
        """Score these events once they are durable; never waits."""
        if route.shadows and len(positions):
            committed.add_done_callback(self._enqueuer(_Waiting(route, positions, decisions)))

    def flush(self, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until everything offered so far, and durable, is scored and stored; `StoreError` after `patience_s`."""
        if self._thread is not None:
            done = threading.Event()
            self._queue.put(done)
            if not done.wait(patience_s):
                raise StoreError(
                    f"shadow arms: they are more than {patience_s:g} s behind. Remove the slow one."
                )

    def close(self) -> None:
        """Score what waits, and end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(PATIENCE_S)  # what waits longer is lost: it is the scores of shadows
            self._thread = None

    def _enqueuer(self, waiting: _Waiting) -> Callable[[Future[None]], None]:
        def enqueue(committed: Future[None]) -> None:
            if committed.exception() is None:
                self._enqueue(waiting)

        return enqueue

    def _enqueue(self, waiting: _Waiting) -> None:
        size = waiting.decisions.vectors.nbytes
        with self._lock:
            if self._batches >= MAX_BATCHES or (self._batches and self._bytes + size > MAX_BYTES):
                self.dropped[waiting.route.endpoint] += len(waiting.positions)
                return
            self._batches, self._bytes = self._batches + 1, self._bytes + size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="penstock-shadows", daemon=True)
                self._thread.start()
        self._queue.put(waiting)

    def _work(self) -> None:
        ready: list[ShadowScores] = []
        while True:
            taken = self._queue.get()
            if isinstance(taken, _Waiting):
                ready += self._score(taken)
                if self._queue.empty() or sum(len(one.positions) for one in ready) >= WRITE_ROWS:
                    ready = self._write(ready)
                continue
            ready = self._write(ready)
            if taken is None:
                if self._store is not None:
                    self._store.close()
                return
            taken.set()

    def _score(self, waiting: _Waiting) -> list[ShadowScores]:
        found = [self._scored(waiting, arm) for arm in waiting.route.shadows]
        with self._lock:
            self._batches -= 1
            self._bytes -= waiting.decisions.vectors.nbytes
        return found

    def _scored(self, waiting: _Waiting, arm: RouteArm) -> ShadowScores:
        name = f"{waiting.route.endpoint}/{arm.name}"
        try:
            scores = arm.score(waiting.decisions.vectors)
        except Exception as error:  # noqa: BLE001 - a candidate's code: whatever it does is counted, and told
            scores = np.full(len(waiting.positions), np.nan)
            self.failed[name] += len(scores)
            self.problem = f"shadow {name} failed: {type(error).__name__}: {error}"
        self.scored[name] += len(scores)
        who = arm.named
        return ShadowScores(
            waiting.route.endpoint, arm.name, who.version, who.digest, waiting.positions, scores
        )

    def _write(self, ready: list[ShadowScores]) -> list[ShadowScores]:
        try:
            if ready:
                if self._store is None:
                    self._store = ShadowStore(self._path)
                self._store.append(ready)
        except (
            StoreError
        ) as error:  # a shadow's scores are not worth a stop; what could not be stored is told
            self.problem = str(error)
            for one in ready:
                self.lost[f"{one.endpoint}/{one.arm}"] += len(one.positions)
        return []
