"""Detectors of anomalies as learners: taught by events alone, each after it was scored.

A detector gives raw scores, the higher the stranger; `TailLearner` makes probabilities of them. The detectors here look at rows
through the mean and covariance of the past, which are forgotten by and by: features count alike whatever their units, and values
that usually go together are strange apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types

from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.learning import Ensemble
from penstock.kernel.jit import entry
from penstock.models.learners import UNKNOWN_SCORE, learner_of
from penstock.models.online_state import dump, load
from penstock.models.published import Constant, Object
from penstock.models.tails import Tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.learning import Online
    from penstock.models.learners import Learner
    from penstock.models.published import Form

_ROWS = types.Array(types.float64, 2, "C", readonly=True)
_NUMBERS = types.Array(types.float64, 1, "C", readonly=True)
_MATRIX, _VECTOR = types.float64[:, ::1], types.float64[::1]
_SHRUNK, _LEAST_ROWS, _FAR = 0.01, 50, 3.0
_REMEMBERED = 10_000
"""Past scores among which a score is ranked, at most: a copy holds them all."""


def detector_of(estimator: Any, *, features: tuple[str, ...], online: Online) -> Learner:
    """A detector that begins as `estimator` does; its scores are raw."""
    if isinstance(estimator, Ensemble):
        from penstock.models.learners_several import EnsembleLearner

        members = {
            name: learner_of(member, features=features, task="anomaly", online=online)
            for name, member in estimator.members
        }
        return EnsembleLearner(members, choose="mean", half_life=estimator.half_life, task="anomaly")
    if isinstance(estimator, NearestNeighbours):
        return NeighboursLearner(estimator, columns=len(features))
    from penstock.models.learners_river import RiverLearner

    return RiverLearner(estimator, features=features, task="anomaly")


class TailLearner:
    """A detector whose scores are how few of its own past scores were as high; see `penstock.models.learners.Learner`."""

    def __init__(self, detector: Learner, *, remembered: int) -> None:
        self._detector, self._tail = detector, Tail(min(remembered, _REMEMBERED))

    @property
    def problem(self) -> str:
        """The detector's."""
        return self._detector.problem

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Score the rows, remember the scores, then teach the rows."""
        self._tail.add(self._detector.score(vectors))
        self._detector.learn(vectors, labels)

    def settle(self) -> None:
        """From here on scores are among those that were made until now."""
        self._detector.settle()
        self._tail.settle()

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that a past score is below; `UNKNOWN_SCORE` while little is known."""
        if not self._tail.known:
            return np.full(len(vectors), UNKNOWN_SCORE)
        return self._tail.below(self._detector.score(vectors))

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Whether the detector is."""
        return self._detector.sound(vectors)

    def form(self) -> Form:
        """The object."""
        return Object(dump(self)) if self._tail.known else Constant(UNKNOWN_SCORE)

    def keep(self) -> bytes:
        """The detector's, and the past scores."""
        return dump((self._detector.keep(), self._tail))

    def go_back(self, kept: bytes) -> None:
        """Both as they were."""
        detector, self._tail = load(kept)
        self._detector.go_back(detector)


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
        whitener = np.zeros((0, 0)) if self.whitener is None else self.whitener
        _accumulate(
            np.ascontiguousarray(vectors), whitener, self._keep, self._weight, self.mean, self._covariance
        )
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
        out = np.empty(vectors.shape)
        _whiten(np.ascontiguousarray(vectors), self.mean, self.whitener, out)
        return out


class NeighboursLearner:
    """See `penstock.definitions.detectors.NearestNeighbours`."""

    problem = ""

    def __init__(self, definition: NearestNeighbours, *, columns: int) -> None:
        self._seen = Correlations(columns, half_life=definition.window)
        self._neighbours = definition.neighbours
        self._rows, self._added = np.zeros((definition.window, columns)), 0
        self._whitened = np.zeros((0, columns))

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:  # noqa: ARG002
        """Remember the rows instead of the oldest."""
        self._seen.add(vectors)
        self._rows[(self._added + np.arange(len(vectors))) % len(self._rows)] = vectors[-len(self._rows) :]
        self._added += len(vectors)

    def settle(self) -> None:
        """Compare with what was remembered until now."""
        self._seen.settle()
        if self._seen.whitener is not None:
            self._whitened = self._seen.whiten(self._rows[: min(self._added, len(self._rows))])

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean distance from the nearest rows; not a number before there are enough."""
        if len(self._whitened) <= self._neighbours:
            return np.full(len(vectors), np.nan)
        out = np.empty(len(vectors))
        _near(self._seen.whiten(vectors), self._whitened, np.empty(self._neighbours), out)
        return out

    def sound(self, vectors: NDArray[np.float64]) -> bool:  # noqa: ARG002
        """Whether all remembered rows are finite numbers."""
        return bool(np.isfinite(self._whitened).all())

    def form(self) -> Form:
        """The object."""
        return Object(dump(self))

    def keep(self) -> bytes:
        """All of it."""
        return dump((self._seen, self._rows, self._added, self._whitened))

    def go_back(self, kept: bytes) -> None:
        """As it was."""
        self._seen, self._rows, self._added, self._whitened = load(kept)


@entry(types.void, _ROWS, _ROWS, types.float64, _VECTOR, _VECTOR, _MATRIX)
def _accumulate(  # noqa: PLR0917 - compiled
    vectors: NDArray[np.float64],
    whitener: NDArray[np.float64],
    keep: float,
    weight: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> None:
    """Row by row: West's update of a weighted mean and covariance."""
    columns = len(mean)
    for i in range(len(vectors)):
        pull = 1.0
        if len(whitener):
            total = 0.0
            for j in range(columns):
                z = 0.0
                for k in range(j + 1):
                    away = vectors[i, k] - mean[k]
                    if away - away == 0.0:
                        z += whitener[j, k] * away
                total += z * z
            distance = np.sqrt(total / columns)
            if distance > _FAR:
                pull = _FAR / distance
        weight[0] = keep * weight[0] + 1.0
        share = 1.0 / weight[0]
        for j in range(columns):
            a = (vectors[i, j] - mean[j]) * pull
            if a - a != 0.0:
                a = 0.0
            for k in range(columns):
                b = (vectors[i, k] - mean[k]) * pull
                if b - b != 0.0:
                    b = 0.0
                covariance[j, k] = (1.0 - share) * (covariance[j, k] + share * a * b)
        for j in range(columns):
            a = (vectors[i, j] - mean[j]) * pull
            if a - a == 0.0:
                mean[j] += share * a


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
