"""The stored decisions of a detector of anomalies as series, to be judged as a whole: NAB scores need the order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.app.measuring import Progress, scored_batches
from penstock.models.evaluation_anomaly import AnomalyReport, Series, evaluate_anomalies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.definitions.monitors import Monitor
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan


def stored_anomalies(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: Sequence[float],
    as_of_us: int | None = None,
    progress: Progress | None = None,
) -> AnomalyReport | None:
    """What all stored decisions of an endpoint came to at these thresholds; None where none has a score.

    Memory: 32 bytes a decision.
    """
    times, scores, truth = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0)]
    cards = [np.zeros(0, np.uint64)]
    for scored, labels, _ in scored_batches(store, plan, monitor, as_of_us=as_of_us, progress=progress):
        rows = np.flatnonzero(~np.isnan(scored.scores))
        times.append(scored.times_us[rows])
        scores.append(scored.scores[rows])
        truth.append(labels[rows])
        cards.append(np.zeros(len(rows), np.uint64) if scored.cards is None else scored.cards[rows])
    series = Series(
        np.concatenate(times), np.concatenate(scores), np.concatenate(truth), np.concatenate(cards)
    )
    if not len(series.scores):
        return None
    actions = [action for action, _ in monitor.endpoint.policy.actions]
    return evaluate_anomalies(series, thresholds=dict(zip(actions, thresholds, strict=True)))
