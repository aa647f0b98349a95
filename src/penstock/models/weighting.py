"""What counts how much in training: classes against their imbalance, and labelled rows for those that have no label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEGATIVES_PER_POSITIVE = 10
"""How many negatives under-sampling keeps: as much as makes training quick, and leaves calibration little noise."""


def weigh_classes(estimator: Any, targets: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Weight the classes in the estimator's own way, or else give sample weights, shape [n]."""
    positives = int(targets.sum())
    ratio = (len(targets) - positives) / positives
    last = last_step(estimator)
    known = last.get_params(deep=False)
    if hasattr(last, "get_booster"):
        last.set_params(scale_pos_weight=ratio)
        return None
    if "class_weight" in known:
        last.set_params(class_weight="balanced")
        return None
    from sklearn.utils import compute_sample_weight

    check_takes_weights(
        estimator,
        'imbalance is "weight", but it takes neither class_weight nor sample_weight. Leave imbalance out',
    )
    weights: NDArray[np.float64] = compute_sample_weight("balanced", targets)
    return weights


def check_takes_weights(estimator: Any, why: str) -> None:
    """Refuse an estimator that cannot weight its rows."""
    from sklearn.utils.validation import has_fit_parameter

    last = last_step(estimator)
    if not has_fit_parameter(last, "sample_weight"):
        raise ModelError(f"Estimator {type(last).__name__}: {why} or choose another estimator.")


def weight_argument(estimator: Any, weights: NDArray[np.float64] | None) -> dict[str, Any]:
    """Row weights as what to pass to ``fit``."""
    if weights is None:
        return {}
    prefix = "" if last_step(estimator) is estimator else f"{estimator.steps[-1][0]}__"
    return {f"{prefix}sample_weight": weights}


def undersampled(labels: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """All positives and some negatives: ascending indices, and the share of negatives that was kept.

    The draw is the same each time. What a model learns from such rows is corrected by the share (`penstock.models.links.corrected`).

    >>> rows, kept = undersampled(np.array([1.0] + [0.0] * 40))
    >>> len(rows), kept
    (11, 0.25)
    """
    positives, negatives = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    count = min(NEGATIVES_PER_POSITIVE * len(positives), len(negatives))
    if not count or count == len(negatives):
        return np.arange(len(labels)), 1.0
    chosen = np.random.default_rng(0).choice(negatives, count, replace=False)
    return np.sort(np.concatenate([positives, chosen])), count / len(negatives)


def last_step(estimator: Any) -> Any:
    """The estimator itself, or the last of a pipeline."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
