"""Test, then learn of the truth: quality so far, over scores whose labels have arrived.

A decision without a label counts as pending, never as negative. Memory does not grow with the stream: labelled
scores are kept as two histograms over a transform that spreads both ends of (0, 1), so ranking figures are those of
scores rounded to 16,384 steps, within 0.001 of the exact ones. Counts at the policy's thresholds are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BINS = 1 << 14
LARGEST_LOGIT = 18.0  # scores nearer than 1.5e-8 to 0 or 1 share the last bin


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What ``score >= threshold`` was worth so far; None where a ratio is 0 / 0."""

    action: str
    threshold: float
    true_positives: int
    false_positives: int
    precision: float | None
    recall: float | None
    false_positive_rate: float | None


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality so far.

    Attributes
    ----------
    labelled, positives, pending
        Decisions with a label, those of them that are positive, and decisions that wait for theirs.
    positive_rate
        Share of positives among the labelled; None without any.
    average_precision, roc_auc
        None until both classes were seen.
    points
        One a threshold, ascending.
    """

    labelled: int
    positives: int
    pending: int
    positive_rate: float | None
    average_precision: float | None
    roc_auc: float | None
    points: tuple[OperatingPoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


class Prequential:
    """Accumulates decisions, and their labels as they arrive.

    Parameters
    ----------
    thresholds
        ``{action: threshold}`` of the policy.

    Examples
    --------
    >>> quality = Prequential({"block": 0.9})
    >>> quality.decided(5)
    >>> quality.add(np.array([0.1, 0.2, 0.95, 0.3]), np.array([0, 0, 1, 1]))
    >>> now = quality.summary()
    >>> now.labelled, now.pending, now.roc_auc, now.points[0].recall
    (4, 1, 1.0, 0.5)
    """

    def __init__(self, thresholds: Mapping[str, float] | None = None) -> None:
        ordered = sorted((thresholds or {}).items(), key=lambda item: item[1])
        self._actions = tuple(action for action, _ in ordered)
        self._thresholds = np.array([threshold for _, threshold in ordered])
        self._counts = np.zeros((2, BINS), np.int64)
        self._reached = np.zeros((2, len(ordered)), np.int64)
        self._decided = 0

    def decided(self, count: int) -> None:
        """Count decisions; each waits for its label."""
        self._decided += count

    def add(self, scores: FloatArray, labels: npt.NDArray[Any]) -> None:
        """Count the first labels of decisions, float64[n] scores (NaN: had none, left out) and n labels (0 or 1)."""
        self._count(scores, np.asarray(labels) > 0, sign=1)

    def replace(self, scores: FloatArray, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
        """Correct the labels of decisions: what was counted as `before` counts as `after`."""
        self._count(scores, np.asarray(before) > 0, sign=-1)
        self._count(scores, np.asarray(after) > 0, sign=1)

    def curves(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """False-positive rate, recall and precision at every bin that holds scores, from the highest down.

        Empty until both classes were seen.
        """
        hits, alarms = (np.cumsum(row[::-1]) for row in self._counts[::-1])
        if not hits[-1] or not alarms[-1]:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        held = np.flatnonzero(self._counts.sum(axis=0)[::-1])
        hits, alarms = hits[held], alarms[held]
        return alarms / alarms[-1], hits / hits[-1], hits / (hits + alarms)

    def summary(self) -> Quality:
        """The figures so far."""
        negatives, positives = self._counts.sum(axis=1).tolist()
        labelled = negatives + positives
        alarms, recall, precision = self.curves()
        steps = np.diff(recall, prepend=0.0)
        area = np.trapezoid([0.0, *recall], [0.0, *alarms]) if len(recall) else None
        return Quality(
            labelled=labelled,
            positives=positives,
            pending=self._decided - labelled,
            positive_rate=_ratio(positives, labelled),
            average_precision=float(steps @ precision) if len(recall) else None,
            roc_auc=None if area is None else float(area),
            points=tuple(
                self._point(index, positives, negatives=negatives) for index in range(len(self._actions))
            ),
        )

    def _point(self, index: int, positives: int, *, negatives: int) -> OperatingPoint:
        alarms, hits = self._reached[:, index].tolist()
        return OperatingPoint(
            self._actions[index],
            float(self._thresholds[index]),
            hits,
            alarms,
            precision=_ratio(hits, hits + alarms),
            recall=_ratio(hits, positives),
            false_positive_rate=_ratio(alarms, negatives),
        )

    def _count(self, scores: FloatArray, positive: npt.NDArray[np.bool_], *, sign: int) -> None:
        known = ~np.isnan(scores)
        scores, positive = scores[known], positive[known]
        bins = bin_of(scores)
        for label in (0, 1):
            mine = positive == bool(label)
            self._counts[label] += sign * np.bincount(bins[mine], minlength=BINS)
            self._reached[label] += sign * (scores[mine, None] >= self._thresholds).sum(axis=0)


def bin_of(scores: FloatArray) -> IntArray:
    """The bin of each score: by its logit, so that 0.0001 and 0.0002 stand as far apart as 0.5 and 0.67."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(scores) - np.log1p(-scores)
    place = (np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT) / LARGEST_LOGIT + 1) / 2
    bins: IntArray = np.minimum((place * BINS).astype(np.int64), BINS - 1)
    return bins


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
