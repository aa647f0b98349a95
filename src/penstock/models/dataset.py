"""From point-in-time features and labels to the arrays that a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.time import DAY_US
from penstock.models.manifest import Feature
from penstock.models.training import TrainingData, TrainingSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.core.records import LabelRecords
    from penstock.definitions.models import Model
    from penstock.definitions.policies import Policy
    from penstock.plan.nodes import ServiceNode

NOT_KNOWN_US = np.iinfo(np.int64).max


def training_spec(model: Model, policy: Policy | None = None, *, top_k: int = 100) -> TrainingSpec:
    """What `model` says about its training, judged at the thresholds and costs of `policy`."""
    return TrainingSpec(
        name=model.name,
        estimator=model.estimator,
        split=model.split,
        task=model.task,  # type: ignore[arg-type]
        imbalance=model.imbalance,  # type: ignore[arg-type]
        thresholds={} if policy is None else dict(policy.actions),
        costs=None if policy is None else policy.costs,
        top_k=top_k,
        chosen=() if policy is None else policy.chosen,
    )


def training_data(
    service: ServiceNode,
    vectors: NDArray[np.float64],
    *,
    times_us: NDArray[np.int64],
    labels: NDArray[np.float64],
    known_at_us: NDArray[np.int64],
    entities: NDArray[Any] | None = None,
    eligible: NDArray[np.bool_] | None = None,
    columns: Mapping[str, NDArray[np.float64]] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> TrainingData:
    """The training data of a feature service: `vectors` in the order of its features.

    Parameters
    ----------
    times_us, labels, known_at_us
        Event times; labels (NaN: none) and when they became known, shape [n].
    entities
        The entity whose Card Precision is wanted, shape [n]; days are UTC days of `times_us`.
    eligible
        Rows that may be tested on.
    columns
        Columns that costs name.
    weights
        What each label counts for.
    """
    return TrainingData(
        vectors=vectors,
        labels=labels,
        times_us=times_us,
        known_at_us=known_at_us,
        features=tuple(Feature(output.name, output.dtype.name) for output in service.outputs),
        service_fingerprint=service.fingerprint,
        eligible=eligible,
        days=None if entities is None else times_us // DAY_US,
        entities=entities,
        columns=columns or {},
        weights=weights,
    )


def labels_at(
    positions: NDArray[np.int64], labels: LabelRecords
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The label of the event at each position (NaN: none), and when it became known.

    `positions` and `labels.event_positions` are ascending.
    """
    values = np.full(len(positions), np.nan)
    known = np.full(len(positions), NOT_KNOWN_US)
    if len(labels):
        at = np.searchsorted(labels.event_positions, positions)
        at[at == len(labels)] = 0
        there = labels.event_positions[at] == positions
        values[there], known[there] = labels.values[at[there]], labels.known_at_us[at[there]]
    return values, known
