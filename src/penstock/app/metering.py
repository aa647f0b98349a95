"""Live metrics of a running project: what micro-batches counted, how long they took, what their labels say.

Scores of labelled events are looked up by position in the stored decisions, so memory does not grow with the time that
labels take, and a restart goes on with the same figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from penstock.app.runtime import Runtime
from penstock.core.records import LabelRecords
from penstock.engine.decisions import Decisions
from penstock.engine.local import Processed
from penstock.engine.ports import LogReader
from penstock.kernel.columns import IntArray
from penstock.models.dataset import labels_at
from penstock.monitoring.live import LiveMetrics, LiveSummary
from penstock.monitoring.prequential import Prequential, Quality
from penstock.plan.nodes import EndpointNode

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
        self.quality = stored_quality(self._store, self._endpoint)

    def watch(self, processed: Processed, *, handed_in_s: float) -> None:
        """Count a micro-batch that was handed in at a time of `time.perf_counter`."""
        waiting = _Waiting(processed, handed_in_s)
        processed.committed.add_done_callback(waiting.mark)
        self._waiting.append(waiting)
        self.metrics.add(processed.counters, at_s=perf_counter())
        self.quality.decided(sum(len(o.decisions) for o in processed.outcomes if o.decisions is not None))
        self._settle()

    def finish(self) -> None:
        """Wait for what is under way, and count it."""
        for waiting in self._waiting:
            waiting.processed.wait()
        self._settle()

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
        self.quality.add(self._scores(labels.event_positions), labels.values)

    def _learn_again(self, labels: LabelRecords) -> None:
        """Labels of which some correct or repeat earlier ones: truth before this batch, and now."""
        every = self._store.labels_of(labels.event_positions)
        older = ~np.isin(every.label_positions, labels.label_positions)
        now = _truth(every, np.ones(len(every), np.bool_))
        before = _truth(every, older)
        events = np.array(list(now), np.int64)
        scores, after = self._scores(events), np.array(list(now.values()))
        known = np.isin(events, list(before))
        was = np.array([before.get(event, np.nan) for event in events.tolist()])
        self.quality.add(scores[~known], after[~known])
        self.quality.replace(scores[known], was[known], after[known])

    def _scores(self, positions: IntArray) -> FloatArray:
        """The score of each event, NaN where nothing was decided or no model was there."""
        scores = np.full(len(positions), np.nan)
        for at, decisions in self._rows.decisions(self._endpoint.name, positions):
            order = np.minimum(np.searchsorted(at, positions), len(at) - 1)
            there = at[order] == positions
            scores[there] = decisions.scores[order[there]]
        return scores


def stored_quality(store: LogReader, endpoint: EndpointNode) -> Prequential:
    """Quality so far, from the stored decisions of `endpoint` and their labels as known now."""
    quality = Prequential(dict(zip(endpoint.actions[1:], endpoint.thresholds, strict=True)))
    for positions, decisions, labels in labelled_decisions(store, endpoint.name):
        quality.decided(len(positions))
        known = ~np.isnan(labels)
        quality.add(decisions.scores[known], labels[known])
    return quality


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
