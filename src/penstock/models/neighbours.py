"""Rows through the mean and covariance of the past, and how far they are from others there: what `NearestNeighbours` computes.

Each row is computed alone and in the same order, so it has the same bits whatever stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import types

from penstock.kernel.jit import entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.published import Near, Scores

_ROWS = types.Array(types.float64, 2, "C", readonly=True)
_NUMBERS = types.Array(types.float64, 1, "C", readonly=True)
_MATRIX, _VECTOR = types.float64[:, ::1], types.float64[::1]
_SHRUNK, _LEAST_ROWS, _FAR = 0.01, 50, 3.0


class Correlations:
    """Mean and covariance of rows, of which the older count less, and rows seen through them.

    A null counts as the mean. A row that is far out is drawn in before it counts, so that an anomaly does not become usual at once.

    Parameters
    ----------
    columns
        How many numbers a row has.
    half_life
        After how many rows a row counts half.
    """

    def __init__(self, columns: int, *, half_life: int) -> None:
        self._keep = 0.5 ** (1.0 / half_life)
        self._weight = np.zeros(1)
        self.mean, self._covariance = np.zeros(columns), np.zeros((columns, columns))
        self.rows = 0
        self.whitener: NDArray[np.float64] | None = None

    def add(self, vectors: NDArray[np.float64]) -> None:
        """Count rows, in order."""
        pulls = np.ones(len(vectors))
        if self.whitener is not None:
            far = np.sqrt(np.sum(self.whiten(vectors) ** 2, axis=1) / len(self.mean)) / _FAR
            pulls = 1.0 / np.maximum(far, 1.0)
        rows = np.ascontiguousarray(np.where(np.isfinite(vectors), vectors, np.nan))
        _accumulate(rows, pulls, self._keep, self._weight, self.mean, self._covariance)
        self.rows += len(vectors)

    def settle(self) -> None:
        """See rows through what was counted until now."""
        if self.rows < max(_LEAST_ROWS, 2 * len(self.mean)):
            return
        spread = np.sqrt(np.maximum(np.diagonal(self._covariance), 0.0))
        spread = np.where(spread > 0.0, spread, 1.0)
        alike = self._covariance / np.outer(spread, spread) * (1.0 - _SHRUNK) + _SHRUNK * np.eye(len(spread))
        self.whitener = np.ascontiguousarray(np.linalg.inv(np.linalg.cholesky(alike)) / spread)

    def whiten(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows in which all columns vary by about one and none with another, float64[n, columns]."""
        assert self.whitener is not None
        return whitened(vectors, self.mean, self.whitener)


def whitened(
    vectors: NDArray[np.float64], mean: NDArray[np.float64], whitener: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``whitener @ (row - mean)`` for each row; a null counts as the mean."""
    out = np.empty(vectors.shape)
    _whiten(np.ascontiguousarray(vectors), mean, whitener, out)
    return out


def distances(
    rows: NDArray[np.float64], others: NDArray[np.float64], *, neighbours: int
) -> NDArray[np.float64]:
    """The mean distance of each row from the nearest of the others, of which there are at least `neighbours`."""
    out = np.empty(len(rows))
    _near(rows, others, np.empty(neighbours), out)
    return out


def near_scores(form: Near) -> Scores:
    """The function that gives raw scores by what was published."""
    mean = np.frombuffer(form.mean)
    whitener = np.frombuffer(form.whitener).reshape(len(mean), len(mean))
    others = np.frombuffer(form.rows).reshape(-1, len(mean))
    return lambda vectors: distances(whitened(vectors, mean, whitener), others, neighbours=form.neighbours)


@entry(types.void, _ROWS, _NUMBERS, types.float64, _VECTOR, _VECTOR, _MATRIX)
def _accumulate(  # noqa: PLR0917 - compiled
    vectors: NDArray[np.float64],
    pulls: NDArray[np.float64],
    keep: float,
    weight: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> None:
    """Row by row: West's update of a weighted mean and covariance, with what a row is away from the mean times its pull."""
    columns = len(mean)
    for i in range(len(vectors)):
        weight[0] = keep * weight[0] + 1.0
        share = 1.0 / weight[0]
        for j in range(columns):
            away = (vectors[i, j] - mean[j]) * pulls[i]
            for k in range(j + 1):
                other = (vectors[i, k] - mean[k]) * pulls[i]
                product = away * other
                if product != product:  # one is null
                    product = 0.0
                covariance[j, k] = (1.0 - share) * (covariance[j, k] + share * product)
                covariance[k, j] = covariance[j, k]
        for j in range(columns):
            away = (vectors[i, j] - mean[j]) * pulls[i]
            if away == away:
                mean[j] += share * away


@entry(types.void, _ROWS, _NUMBERS, _ROWS, _MATRIX)
def _whiten(
    vectors: NDArray[np.float64],
    mean: NDArray[np.float64],
    whitener: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """``whitener @ (row - mean)``, added up in the same order however many rows there are."""
    for i in range(len(vectors)):
        for j in range(len(mean)):
            total = 0.0
            for k in range(j + 1):  # it is triangular
                away = vectors[i, k] - mean[k]
                if away - away == 0.0:
                    total += whitener[j, k] * away
            out[i, j] = total


@entry(types.void, _ROWS, _ROWS, _VECTOR, _VECTOR)
def _near(
    rows: NDArray[np.float64],
    others: NDArray[np.float64],
    nearest: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """The mean distance of each row from the nearest of the others; `nearest` is room for their squared distances."""
    count = len(nearest)
    for i in range(len(rows)):
        for j in range(count):
            nearest[j] = np.inf
        for other in range(len(others)):
            total = 0.0
            for k in range(rows.shape[1]):
                away = rows[i, k] - others[other, k]
                total += away * away
            if total < nearest[count - 1]:
                place = count - 1
                while place > 0 and nearest[place - 1] > total:
                    nearest[place] = nearest[place - 1]
                    place -= 1
                nearest[place] = total
        total = 0.0
        for j in range(count):
            total += np.sqrt(nearest[j])
        out[i] = total / count
