"""Quality before its labels are there: what calibrated scores let one expect (CBPE, confidence-based estimation).

If a score of 0.8 means that 8 of 10 such events are positive, scores alone say how many of the alerts are right. Scores
of most models do not mean that, so they are calibrated first, on the decisions whose labels have come: the share of
positives by score, made ascending (isotonic regression). The estimate sees a change of the scores. It does not see that
the same scores come to mean something else; then it is wrong, and differs from the truth when that comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_POSITIVES = 20
"""With fewer positives, or negatives, there is nothing to calibrate on: scores are taken as they are."""


@dataclass(frozen=True, slots=True)
class EstimatedPoint:
    """What ``score >= threshold`` is expected to be worth; None where a ratio is 0 / 0."""

    action: str
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    false_positive_rate: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected quality.

    Attributes
    ----------
    decided
        Decisions with a score that it is of, labelled or not.
    positives
        How many positives are expected among them.
    calibrated_on
        Positives that the calibration knew; 0: scores were taken as they are.
    average_precision, roc_auc
        None where nothing was decided.
    points
        One a threshold, ascending.
    """

    decided: int
    positives: float
    calibrated_on: int
    average_precision: float | None
    roc_auc: float | None
    points: tuple[EstimatedPoint, ...]


def calibrated_chances(negatives: IntArray, positives: IntArray, centres: FloatArray) -> FloatArray | None:
    """The chance of a positive by bin of scores, never descending; None where there are too few labels to say.

    Bins that hold no label take a value between those of their neighbours.
    """
    if positives.sum() < MIN_POSITIVES or negatives.sum() < MIN_POSITIVES:
        return None
    from sklearn.isotonic import isotonic_regression

    labelled = negatives + positives
    held = np.flatnonzero(labelled)
    shares = isotonic_regression(positives[held] / labelled[held], sample_weight=labelled[held])
    return np.interp(np.arange(len(centres)), held, np.asarray(shares, np.float64))


def expected_quality(
    decided: IntArray,
    chances: FloatArray,
    *,
    thresholds: Sequence[tuple[str, float, int]],
    calibrated_on: int,
) -> Estimate:
    """What decisions with these scores are expected to be worth.

    Parameters
    ----------
    decided
        Decisions by bin of their score, ascending.
    chances
        The chance of a positive in each bin.
    thresholds
        Action, threshold, and the first bin that reaches it.
    """
    hits = np.cumsum((decided * chances)[::-1])
    alarms = np.cumsum((decided * (1 - chances))[::-1])
    total = int(decided.sum())
    found, good = (float(hits[-1]), float(alarms[-1])) if total else (0.0, 0.0)
    both = found > 0 and good > 0
    recall, fallout = hits / (found or 1.0), alarms / (good or 1.0)
    flagged = hits + alarms
    precision = np.divide(hits, flagged, out=np.zeros(len(hits)), where=flagged > 0)
    return Estimate(
        decided=total,
        positives=found,
        calibrated_on=calibrated_on,
        average_precision=float(np.diff(recall, prepend=0.0) @ precision) if found else None,
        roc_auc=float(np.trapezoid([0.0, *recall], [0.0, *fallout])) if both else None,
        points=tuple(
            _point(action, threshold, hits[::-1], alarms[::-1], first=first)
            for action, threshold, first in thresholds
        ),
    )


def _point(
    action: str, threshold: float, hits: FloatArray, alarms: FloatArray, *, first: int
) -> EstimatedPoint:
    hit, alarm, found, good = (float(v) for v in (hits[first], alarms[first], hits[0], alarms[0]))
    return EstimatedPoint(
        action,
        threshold,
        precision=_ratio(hit, hit + alarm),
        recall=_ratio(hit, found),
        f1=_ratio(2 * hit, hit + alarm + found),
        false_positive_rate=_ratio(alarm, good),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
