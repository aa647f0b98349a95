"""Paired bootstrap: how far two models differ on the same rows, and how sure that is.

Rows are drawn with replacement, and both models are judged on each draw. What lies between the quantiles of the
differences is the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Measure = Callable[[NDArray[np.float64]], float]

_ROW_DRAWS = 40_000_000
"""Most rows that are drawn for one average precision; large holdouts take fewer resamples, and need fewer."""
_LEAST_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """Challenger minus champion: the value itself, and the interval in which it lies."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.lower:+.4f} to {self.upper:+.4f})"


def share_difference(
    challenger: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """The difference of two shares on the same rows: of recalls, when the rows are the bad ones.

    >>> one, other = np.array([True] * 80 + [False] * 20), np.array([True] * 50 + [False] * 50)
    >>> found = share_difference(one, other, confidence=0.95, resamples=1000, rng=np.random.default_rng(0))
    >>> round(found.value, 2), found.lower > 0.15, found.upper < 0.45
    (0.3, True, True)
    """
    rows = len(challenger)
    gained, lost = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    # A draw of rows is a draw of their three kinds: gained, lost, alike.
    kinds = np.array([gained, lost, rows - gained - lost]) / rows
    drawn = rng.multinomial(rows, kinds, size=resamples)
    return _difference((gained - lost) / rows, (drawn[:, 0] - drawn[:, 1]) / rows, confidence)


def mean_difference(
    differences: NDArray[np.float64], *, confidence: float, resamples: int, rng: np.random.Generator
) -> Difference:
    """The mean of paired differences, shape [n]."""
    rows = len(differences)
    drawn = [differences[rng.integers(rows, size=rows)].mean() for _ in range(_affordable(rows, resamples))]
    return _difference(float(differences.mean()), np.array(drawn), confidence)


def precision_difference(
    truth: NDArray[np.bool_],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """The difference of the average precisions of two lists of scores, shape [n] each."""
    one, other = RankedScores(truth, challenger), RankedScores(truth, champion)
    measures = (one.average_precision, other.average_precision)
    return _ranking(measures, len(truth), confidence=confidence, resamples=resamples, rng=rng)


def ranking_difference(
    truth: NDArray[np.bool_],
    challenger: NDArray[np.float64],
    champion: NDArray[np.float64],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """The difference of the areas under the ROC curves of two lists of scores, shape [n] each.

    >>> truth = np.arange(200) % 2 == 0
    >>> good, bad = np.where(truth, 0.9, 0.1), np.linspace(0, 1, 200)
    >>> found = ranking_difference(
    ...     truth, good, bad, confidence=0.95, resamples=200, rng=np.random.default_rng(0)
    ... )
    >>> round(found.value, 1), found.lower > 0.3
    (0.5, True)
    """
    one, other = RankedScores(truth, challenger), RankedScores(truth, champion)
    measures = (one.roc_auc, other.roc_auc)
    return _ranking(measures, len(truth), confidence=confidence, resamples=resamples, rng=rng)


def _ranking(
    measures: tuple[Measure, Measure],
    rows: int,
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """The first measure less the second, under the weights that draws of rows have."""
    one, other = measures
    drawn = []
    for _ in range(_affordable(rows, resamples)):
        weights = np.bincount(rng.integers(rows, size=rows), minlength=rows).astype(np.float64)
        drawn.append(one(weights) - other(weights))
    whole = np.ones(rows)
    return _difference(one(whole) - other(whole), np.array(drawn), confidence)


class RankedScores:
    """Scores, sorted once, whose average precision and area under the ROC curve are asked for under many weights.

    >>> ranked = RankedScores(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    >>> round(ranked.average_precision(np.ones(3)), 4), ranked.roc_auc(np.ones(3))
    (0.8333, 0.5)
    """

    __slots__ = ("_ends", "_order", "_truth")

    def __init__(self, truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._truth = truth[self._order].astype(np.float64)
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal scores rank as one

    def average_precision(self, weights: NDArray[np.float64]) -> float:
        """The sum over ranks of precision times gained recall; 0 where no positive has weight."""
        drawn = weights[self._order]
        found = np.cumsum(drawn * self._truth)[self._ends]
        flagged = np.cumsum(drawn)[self._ends]
        if not found[-1]:
            return 0.0
        gained = np.diff(found, prepend=0.0)
        return float(np.sum(gained * found / np.maximum(flagged, 1.0)) / found[-1])

    def roc_auc(self, weights: NDArray[np.float64]) -> float:
        """The chance that a positive ranks above a negative, equal ranks counting half; 0.5 where one class has no weight."""
        drawn = weights[self._order]
        hits = np.cumsum(drawn * self._truth)[self._ends]
        alarms = np.cumsum(drawn * (1.0 - self._truth))[self._ends]
        if not hits[-1] or not alarms[-1]:
            return 0.5
        area = np.trapezoid(np.append(0.0, hits), np.append(0.0, alarms))
        return float(area / (hits[-1] * alarms[-1]))


def _affordable(rows: int, resamples: int) -> int:
    return max(min(resamples, _ROW_DRAWS // rows), _LEAST_RESAMPLES)


def _difference(value: float, drawn: NDArray[np.float64], confidence: float) -> Difference:
    lower, upper = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(float(value), float(lower), float(upper))
