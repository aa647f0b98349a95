"""What a stretch of the log teaches a model: the labels that joined its events in it, or, without labels, the events themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.models.fold import Arrived

if TYPE_CHECKING:
    from penstock.core.records import LabelRecords
    from penstock.definitions.models import Model
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import Plan
    from penstock.stores.reader import ProjectReader


class Arrivals:
    """What a model is taught, in the order in which it came.

    Labels of other streams' events are no matter of the model. A detector of anomalies is taught each event of its stream, at the
    event's own position: what it learns of it, it learns after it was scored.

    Parameters
    ----------
    store
        The log.
    plan, model
        The definitions.
    """

    def __init__(self, store: ProjectReader, plan: Plan, model: Model) -> None:
        self._store, self._unlabelled = store, model.task == "anomaly"
        self._stream = plan.services[model.features.name].source
        streams = {source.label_of for source in plan.sources.values() if source.label_of is not None}
        self._mixed = len(streams) > 1

    def labels(self, start: int, stop: int) -> LabelRecords:
        """The first label of each of the stream's events that joined its event in ``[start, stop)``."""
        labels = self._store.labels_arrived(start, stop)
        if not self._mixed or not len(labels):
            return labels
        return labels.take(np.flatnonzero(self._are_own(labels.event_positions)))

    def between(self, start: int, stop: int) -> Arrived:
        """What is to be learned of the log's rows ``[start, stop)``."""
        return self._events(start, stop) if self._unlabelled else arrived_of(self.labels(start, stop))

    def _events(self, start: int, stop: int) -> Arrived:
        parts = [np.zeros(0, np.int64)]
        parts += [batch.positions for batch in self._store.read_log(start, stop, sources={self._stream})]
        positions = np.sort(np.concatenate(parts))
        positions = positions[(positions >= start) & (positions < stop)]
        return Arrived(positions, positions, positions, np.zeros(len(positions)))

    def _are_own(self, positions: IntArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        own = [np.zeros(0, np.int64)]
        own += [
            batch.positions for batch in self._store.log_batches_at(positions) if batch.source == self._stream
        ]
        return np.isin(positions, np.concatenate(own))


def arrived_of(labels: LabelRecords) -> Arrived:
    """Labels from the store as what a fold takes."""
    return Arrived(
        np.maximum(labels.event_positions, labels.label_positions),
        labels.label_positions,
        labels.event_positions,
        labels.values,
    )
