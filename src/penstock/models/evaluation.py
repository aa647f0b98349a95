"""What a model is worth on data it has not seen: one frozen report, all of it plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.costs import RowCosts, row_costs
from penstock.models.evaluation_anomaly import AnomalyReport
from penstock.models.manifest import json_value
from penstock.models.ranking import CardPrecision, card_precision_at_k

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from penstock.definitions.policies import CostMatrix

CALIBRATION_QUANTILES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
"""Where bins of scores end: finer towards the top, where rare positives and all decisions lie."""

__all__ = [
    "BinaryReport",
    "CalibrationBin",
    "CardPrecision",
    "EvaluationReport",
    "RankedEntities",
    "RegressionReport",
    "ThresholdReport",
    "calibration_bins",
    "card_precision_at_k",
    "evaluate_binary",
    "evaluate_regression",
]


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """The confusion matrix of ``score >= threshold`` and what follows from it; None where a ratio is 0 / 0."""

    action: str
    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    precision: float | None
    recall: float | None
    f1: float | None
    false_positive_rate: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows with scores in [lower, upper]: what was predicted on average, and what happened."""

    lower: float
    upper: float
    rows: int
    mean_score: float
    positive_rate: float


@dataclass(frozen=True, slots=True)
class BinaryReport:
    """Evaluation of a binary model.

    `roc_auc`, `average_precision` and `log_loss` are None when the test holds one class only. `idle_cost` is what doing
    nothing costs, under the same costs as the thresholds'.
    """

    rows: int
    positives: int
    base_rate: float
    roc_auc: float | None
    average_precision: float | None
    log_loss: float | None
    brier: float
    thresholds: tuple[ThresholdReport, ...]
    calibration: tuple[CalibrationBin, ...]
    idle_cost: float | None
    card_precision: CardPrecision | None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"task": "binary", **json_value(asdict(self))}


@dataclass(frozen=True, slots=True)
class RegressionReport:
    """Evaluation of a regression model; `r2` is None for fewer than two rows or constant truth."""

    rows: int
    mae: float
    rmse: float
    r2: float | None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"task": "regression", **json_value(asdict(self))}


EvaluationReport: TypeAlias = BinaryReport | RegressionReport | AnomalyReport


@dataclass(frozen=True, slots=True, eq=False)
class RankedEntities:
    """Day and entity of each test row, for Card Precision at `k`."""

    days: NDArray[Any]
    entities: NDArray[Any]
    k: int = 100


def evaluate_binary(
    labels: NDArray[Any],
    scores: NDArray[np.float64],
    *,
    thresholds: Mapping[str, float] | None = None,
    costs: CostMatrix | None = None,
    columns: Mapping[str, NDArray[np.float64]] | None = None,
    ranked: RankedEntities | None = None,
) -> BinaryReport:
    """Evaluate probabilities against truth.

    Parameters
    ----------
    labels
        0 or 1 (or bool), shape [n].
    scores
        Probabilities of the positive class, float64, shape [n].
    thresholds
        ``{action: threshold}`` of the policy.
    costs
        What wrong decisions cost; its column of amounts is looked up in `columns`.
    columns
        Columns of the test rows, shape [n] each.
    ranked
        For Card Precision.

    Raises
    ------
    ModelError
        When shapes differ, a label is neither 0 nor 1, or a score is not a probability.
    """
    from sklearn import metrics

    truth = _binary_labels(labels, scores)
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    priced = None if costs is None else row_costs(costs, columns or {}, len(truth))
    reports = tuple(
        _at_threshold(truth, scores, action=action, threshold=float(threshold), priced=priced)
        for action, threshold in sorted((thresholds or {}).items(), key=lambda item: item[1])
    )
    return BinaryReport(
        rows=len(truth),
        positives=positives,
        base_rate=positives / len(truth),
        roc_auc=float(metrics.roc_auc_score(truth, scores)) if both else None,
        average_precision=float(metrics.average_precision_score(truth, scores)) if both else None,
        log_loss=float(metrics.log_loss(truth, scores)) if both else None,
        brier=float(np.mean((scores - truth) ** 2)),
        thresholds=reports,
        calibration=calibration_bins(truth, scores),
        idle_cost=None if priced is None else float(priced.missed[truth].sum()),
        card_precision=None
        if ranked is None
        else card_precision_at_k(ranked.days, ranked.entities, scores, truth, k=ranked.k),
    )


def evaluate_regression(truth: NDArray[np.float64], predictions: NDArray[np.float64]) -> RegressionReport:
    """Evaluate predicted values against the true ones, both float64 of shape [n]."""
    if truth.shape != predictions.shape or truth.ndim != 1 or not len(truth):
        raise ModelError(
            f"Evaluation: truth has shape {truth.shape} and predictions {predictions.shape}; allowed are equal shapes [n] "
            "with at least one row."
        )
    errors = predictions - truth
    spread = float(np.sum((truth - truth.mean()) ** 2))
    squared = float(np.sum(errors**2))
    return RegressionReport(
        rows=len(truth),
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt(squared / len(truth))),
        r2=1.0 - squared / spread if len(truth) > 1 and spread > 0 else None,
    )


def calibration_bins(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[CalibrationBin, ...]:
    """Bins of scores between `CALIBRATION_QUANTILES`; rows with equal scores share a bin, so there may be fewer."""
    edges = np.unique(np.quantile(scores, CALIBRATION_QUANTILES, method="inverted_cdf"))
    # Bin i holds (edge i, edge i+1]; the smallest score goes with the first bin.
    codes = np.maximum(np.searchsorted(edges, scores, side="left") - 1, 0)
    found = []
    for code in range(max(len(edges) - 1, 1)):
        rows = codes == code
        if rows.any():
            inside = scores[rows]
            found.append(
                CalibrationBin(
                    lower=float(inside.min()),
                    upper=float(inside.max()),
                    rows=int(rows.sum()),
                    mean_score=float(inside.mean()),
                    positive_rate=float(truth[rows].mean()),
                )
            )
    return tuple(found)


def _at_threshold(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    *,
    action: str,
    threshold: float,
    priced: RowCosts | None,
) -> ThresholdReport:
    flagged = scores >= threshold
    hits, alarms = int((flagged & truth).sum()), int((flagged & ~truth).sum())
    passed, misses = int((~flagged & ~truth).sum()), int((~flagged & truth).sum())
    precision, recall = _ratio(hits, hits + alarms), _ratio(hits, hits + misses)
    return ThresholdReport(
        action=action,
        threshold=threshold,
        true_positives=hits,
        false_positives=alarms,
        true_negatives=passed,
        false_negatives=misses,
        precision=precision,
        recall=recall,
        f1=_ratio(2 * hits, 2 * hits + alarms + misses),
        false_positive_rate=_ratio(alarms, alarms + passed),
        cost=None if priced is None else priced.total(flagged, truth),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _binary_labels(labels: NDArray[Any], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    values = np.asarray(labels)
    if values.shape != scores.shape or values.ndim != 1 or not len(values):
        raise ModelError(
            f"Evaluation: labels have shape {values.shape} and scores {scores.shape}; allowed are equal shapes [n] with at "
            "least one row."
        )
    if not np.isin(values, (0, 1)).all():
        raise ModelError(
            f"Evaluation: labels hold {np.setdiff1d(values, (0, 1))[:3].tolist()}; allowed are 0 and 1. Leave out rows "
            "without a label."
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ModelError(
            f"Evaluation: scores range from {scores.min():g} to {scores.max():g}; allowed are probabilities."
        )
    return values.astype(np.bool_)
