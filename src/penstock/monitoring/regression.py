"""Test, then learn of the truth, for predictions of numbers: exact sums, in constant memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.monitoring.exact_sum import ExactSum

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RegressionQuality:
    """Quality so far; figures are None until there is a label.

    Attributes
    ----------
    labelled, pending
        Predictions whose truth is known, and those that wait for it.
    unscored
        Decisions that were made without a prediction.
    mae, rmse
        Mean absolute error; root of the mean squared error.
    bias
        Mean of prediction minus truth.
    pinball
        Mean pinball loss at `quantile`: a truth above the prediction costs ``quantile`` a unit, one below ``1 - quantile``.
    """

    labelled: int
    pending: int
    mae: float | None
    rmse: float | None
    bias: float | None
    pinball: float | None
    quantile: float
    unscored: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


class PrequentialRegression:
    """Accumulates predictions, and the truth as it arrives.

    Examples
    --------
    >>> quality = PrequentialRegression(quantile=0.9)
    >>> quality.decided(3)
    >>> quality.add(np.array([10.0, 20.0]), np.array([11.0, 18.0]))
    >>> now = quality.summary()
    >>> now.pending, now.mae, now.pinball
    (1, 1.5, 0.55)
    """

    def __init__(self, *, quantile: float = 0.5) -> None:
        self._quantile = quantile
        self._decided = self._labelled = self._unscored = 0
        self._errors, self._absolute, self._squared = ExactSum(), ExactSum(), ExactSum()

    def decided(
        self,
        count: int,
        scores: FloatArray | None = None,
        limits: FloatArray | None = None,  # noqa: ARG002 - as of classes
    ) -> None:
        """Count predictions, each of which waits for its truth; those that are no finite number are told apart."""
        known = count if scores is None else int(np.isfinite(scores).sum())
        self._decided += known
        self._unscored += count - known

    def add(
        self,
        scores: FloatArray,
        labels: npt.NDArray[Any],
        amounts: FloatArray | None = None,  # noqa: ARG002 - as of classes
        alarm_amounts: FloatArray | None = None,  # noqa: ARG002 - as of classes
        *,
        limits: FloatArray | None = None,  # noqa: ARG002 - as of classes
    ) -> None:
        """Count the truth about predictions, float64[n] both; NaN predictions are left out."""
        self._count(scores, labels, sign=1)

    def replace(
        self,
        scores: FloatArray,
        before: npt.NDArray[Any],
        after: npt.NDArray[Any],
        amounts: FloatArray | None = None,  # noqa: ARG002 - as of classes
        alarm_amounts: FloatArray | None = None,  # noqa: ARG002 - as of classes
        *,
        limits: FloatArray | None = None,  # noqa: ARG002 - as of classes
    ) -> None:
        """Correct the truth: what was counted as `before` counts as `after`."""
        self._count(scores, before, sign=-1)
        self._count(scores, after, sign=1)

    def merge(self, other: PrequentialRegression) -> None:
        """Count what the other has counted."""
        self._decided += other._decided
        self._unscored += other._unscored
        self._labelled += other._labelled
        self._errors.merge(other._errors)
        self._absolute.merge(other._absolute)
        self._squared.merge(other._squared)

    def estimate(self, before: PrequentialRegression | None = None) -> None:
        """There is none: a prediction does not say how sure it is."""

    def summary(self) -> RegressionQuality:
        """The figures so far."""
        n, error, absolute = self._labelled, self._errors.value, self._absolute.value
        # Of truth - prediction = -error: the part above costs q, the part below 1 - q.
        above, below = (absolute - error) / 2, (absolute + error) / 2
        loss = self._quantile * above + (1 - self._quantile) * below
        return RegressionQuality(
            labelled=n,
            pending=self._decided - n,
            mae=absolute / n if n else None,
            rmse=math.sqrt(self._squared.value / n) if n else None,
            bias=error / n if n else None,
            pinball=loss / n if n else None,
            quantile=self._quantile,
            unscored=self._unscored,
        )

    def _count(self, predictions: FloatArray, truth: npt.NDArray[Any], *, sign: int) -> None:
        known = np.isfinite(predictions)
        errors = predictions[known] - np.asarray(truth, np.float64)[known]
        self._labelled += sign * len(errors)
        self._errors.add(errors, sign=sign)
        self._absolute.add(np.abs(errors), sign=sign)
        self._squared.add(errors**2, sign=sign)
