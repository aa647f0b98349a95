"""Live metrics of a running project: what micro-batches counted, how long they took, what their labels say.

Scores of labelled events are looked up by position in the stored decisions, so memory does not grow with the time that
labels take, and a restart goes on with the same figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt

from penstock.app.measuring import counted_board, monitor_of
from penstock.app.runtime import Runtime
from penstock.app.scored import Describer
from penstock.app.version_thresholds import VersionThresholds
from penstock.core.errors import InputError
from penstock.core.records import LabelRecords
from penstock.engine.decisions import Decisions
from penstock.engine.local import Processed
from penstock.engine.ports import LogReader
from penstock.kernel.columns import IntArray
from penstock.models.dataset import labels_at
from penstock.monitoring.live import LiveMetrics, LiveSummary
from penstock.monitoring.prequential import Prequential, Quality

FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A micro-batch on its way to the disk."""

    processed: Processed
    handed_in_s: float
    durable_s: float | None = None

    def mark(self, committed: Future[None]) -> None:
        """Note the time; called by the thread that committed."""
        if committed.exception() is None:
            self.durable_s = perf_counter()


class Meter:
    """Watches the micro-batches of one endpoint.

    Parameters
    ----------
    runtime
        The open project.
    endpoint
        The endpoint's name.
    """

    def __init__(self, runtime: Runtime, endpoint: str) -> None:
        self._store = runtime.store
        self._rows = runtime.engine.rows
        self._endpoint = runtime.plan.endpoints[endpoint]
        self._waiting: deque[_Waiting] = deque()
        self.metrics = LiveMetrics(perf_counter(), default_action=self._endpoint.actions[0])
        self._monitor = monitor_of(runtime.project, endpoint)
        thresholds = VersionThresholds(self._endpoint, runtime.routes.registry)
        self._describe = Describer(runtime.plan, self._monitor, thresholds=thresholds)
        self._stored = partial(counted_board, self._store, runtime.plan, self._monitor, thresholds=thresholds)
        self.board, self._counts = self._stored()
        """Quality by version, arm, segment and window: what `penstock metrics` makes anew from the store."""

    @property
    def quality(self) -> Prequential:
        """Quality since the beginning, of an endpoint that classifies."""
        total = self.board.total()
        if not isinstance(total, Prequential):
            raise InputError(
                f"Endpoint {self._endpoint.name!r}: its model is a regression; allowed is one that classifies. Use `board`."
            )
        return total

    def watch(self, processed: Processed, *, handed_in_s: float) -> None:
        """Count a micro-batch that was handed in at a time of `time.perf_counter`."""
        waiting = _Waiting(processed, handed_in_s)
        processed.committed.add_done_callback(waiting.mark)
        self._waiting.append(waiting)
        self.metrics.add(processed.counters, at_s=perf_counter())
        for outcome in processed.outcomes:
            if outcome.decisions is not None and outcome.admitted.source.name == self._describe.source:
                scored = self._describe(outcome.admitted.columns, outcome.decisions)
                self.board.decide(scored)
                self._counts.add(scored)
        self._settle()

    def finish(self) -> None:
        """Wait for what is under way, and count it; where other values of a segment are the most frequent by now, from the store."""
        for waiting in self._waiting:
            waiting.processed.wait()
        self._settle()
        if self.board.unsettled(self._counts.frequent(self._monitor.max_segments)):
            self.board, self._counts = self._stored()

    def summary(self) -> tuple[LiveSummary, Quality]:
        """The figures now."""
        self._settle()
        return self.metrics.summary(perf_counter()), self.quality.summary()

    def _settle(self) -> None:
        while self._waiting and self._waiting[0].durable_s is not None:
            done = self._waiting.popleft()
            assert done.durable_s is not None
            self.metrics.add_latency(done.durable_s - done.handed_in_s, at_s=done.durable_s)
            labels = done.processed.labels
            if labels is not None and len(labels):
                counted = done.processed.counters
                again = counted.get("labels_corrected", 0) + counted.get("labels_repeated", 0)
                self._learn_again(labels) if again else self._learn(labels)

    def _learn(self, labels: LabelRecords) -> None:
        """First labels of their events."""
        order = np.argsort(labels.event_positions)
        events, values = labels.event_positions[order], labels.values[order]
        for positions, scored in self._describe.at(self._rows, events):
            self.board.learn(scored, values[np.searchsorted(events, positions)])

    def _learn_again(self, labels: LabelRecords) -> None:
        """Labels of which some correct or repeat earlier ones: truth before this batch, and now."""
        every = self._store.labels_of(labels.event_positions)
        older = ~np.isin(every.label_positions, labels.label_positions)
        now = _truth(every, np.ones(len(every), np.bool_))
        before = _truth(every, older)
        for positions, scored in self._describe.at(self._rows, np.array(sorted(now), np.int64)):
            after = np.array([now[event] for event in positions.tolist()])
            was = np.array([before.get(event, np.nan) for event in positions.tolist()])
            first = np.isnan(was)
            self.board.learn(scored.take(np.flatnonzero(first)), after[first])
            self.board.relearn(scored.take(np.flatnonzero(~first)), was[~first], after[~first])


def labelled_decisions(store: LogReader, endpoint: str) -> Iterable[tuple[IntArray, Decisions, FloatArray]]:
    """The decisions of an endpoint in log order, batch by batch: positions, decisions, labels (NaN: none yet)."""
    for batch in store.read_decisions(endpoints={endpoint}):
        first, last = int(batch.positions[0]), int(batch.positions[-1])
        labels, _ = labels_at(batch.positions, store.latest_labels(first, last + 1))
        yield batch.positions, Decisions.from_bytes(batch.payload), labels


def _truth(labels: LabelRecords, chosen: npt.NDArray[np.bool_]) -> dict[int, float]:
    """The newest of the `chosen` labels of each event."""
    order = np.lexsort((labels.label_positions, labels.known_at_us, labels.event_positions))
    order = order[chosen[order]]
    return dict(zip(labels.event_positions[order].tolist(), labels.values[order].tolist(), strict=True))
