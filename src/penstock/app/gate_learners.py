"""By what a version that goes on learning is judged at a gate: scores that were made before it knew the label.

Its newest copy has learned labels up to a position of the log, far beyond its registration. So a row counts only with the score by
which the version decided on it when it came, or, after what the copy has learned, with the score of the copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.app.retraining_data import newest_of
from penstock.engine.decisions import Decisions
from penstock.models.learning_model import newest_copy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.definitions.models import Model
    from penstock.engine.ports import LogReader
    from penstock.models.published import OnlineModel
    from penstock.models.registry import ModelVersion
    from penstock.models.training import TrainingData
    from penstock.plan.nodes import Plan


def learner_at_gate(
    store: LogReader, plan: Plan, model: Model, version: ModelVersion, data: TrainingData, *, states: Path
) -> tuple[OnlineModel | None, NDArray[np.float64]]:
    """The newest copy of a version, if there is one here, and for each row of `data` its score before it knew the label.

    Returns
    -------
    The copy, and float64[n]: NaN where the version had learned the row's label, or may have, and did not decide on it before.
    """
    copy, learned_to = newest_copy(version.files(), version=version.label, states=states)
    scores = np.full(len(data.labels), np.nan)
    if copy is not None:
        later = np.flatnonzero(_after(store, plan, model, data, learned_to))
        scores[later] = copy.score(np.ascontiguousarray(data.vectors[later]))
    if data.positions is not None and len(data.positions):
        _put_served(store, plan, version, data.positions, scores)
    return copy, scores


def _after(
    store: LogReader, plan: Plan, model: Model, data: TrainingData, learned_to: int
) -> NDArray[np.bool_]:
    """Which rows came after all that was learned: by their positions, or, where they are from elsewhere, by their times."""
    if data.positions is not None:
        return data.positions > learned_to
    source = plan.sources[plan.services[model.features.name].source]
    batches = store.read_log(0, learned_to + 1, sources={source.name})
    newest = max((newest_of(batch.payload, source.time_field) for batch in batches), default=None)
    return np.ones(len(data.times_us), np.bool_) if newest is None else data.times_us > newest


def _put_served(
    store: LogReader,
    plan: Plan,
    version: ModelVersion,
    positions: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Put in the scores by which the version decided; `positions` are ascending."""
    endpoints = {e.name for e in plan.endpoints.values() if any(arm.model == version.name for arm in e.arms)}
    for batch in store.read_decisions(int(positions[0]), int(positions[-1]) + 1, endpoints=endpoints):
        decisions = Decisions.from_bytes(batch.payload)
        own = np.flatnonzero(decisions.of_version(version.label) & np.isfinite(decisions.scores))
        at = np.searchsorted(positions, batch.positions[own])
        at_most = np.minimum(at, len(positions) - 1)
        there = positions[at_most] == batch.positions[own]
        scores[at_most[there]] = decisions.scores[own[there]]
