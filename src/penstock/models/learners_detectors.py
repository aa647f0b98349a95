"""Detectors of anomalies as learners: taught by events alone, each after it was scored.

A detector gives raw scores, the higher the stranger; `TailLearner` makes probabilities of them. The detectors here look at rows
through the mean and covariance of the past, which are forgotten by and by: features count alike whatever their units, and values
that usually go together are strange apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.learning import Ensemble
from penstock.models.learners import UNKNOWN_SCORE, learner_of
from penstock.models.neighbours import Correlations, distances
from penstock.models.online_state import dump, load
from penstock.models.published import Constant, Near, Tailed
from penstock.models.tails import Tail, below

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.learning import Online
    from penstock.models.learners import Learner
    from penstock.models.published import Form, TailNumbers

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
        self._numbers: TailNumbers | None = None

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
        self._numbers = self._tail.numbers()

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that a past score is below; `UNKNOWN_SCORE` while little is known."""
        if self._numbers is None:
            return np.full(len(vectors), UNKNOWN_SCORE)
        return below(self._numbers, self._detector.score(vectors))

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Whether the detector is."""
        return self._detector.sound(vectors)

    def form(self) -> Form:
        """The detector's, with the numbers that make its scores probabilities."""
        if self._numbers is None:
            return Constant(UNKNOWN_SCORE)
        return Tailed(self._detector.form(), self._numbers)

    def keep(self) -> bytes:
        """The detector's, and the past scores."""
        return dump((self._detector.keep(), self._tail, self._numbers))

    def go_back(self, kept: bytes) -> None:
        """Both as they were."""
        detector, self._tail, self._numbers = load(kept)
        self._detector.go_back(detector)


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
        newest = vectors[-len(self._rows) :]
        self._added += len(vectors)
        self._rows[(self._added - len(newest) + np.arange(len(newest))) % len(self._rows)] = newest

    def settle(self) -> None:
        """Compare with what was remembered until now."""
        self._seen.settle()
        if self._seen.whitener is not None:
            self._whitened = self._seen.whiten(self._rows[: min(self._added, len(self._rows))])

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean distance from the nearest rows; not a number before there are enough."""
        if len(self._whitened) < self._neighbours:
            return np.full(len(vectors), np.nan)
        return distances(self._seen.whiten(vectors), self._whitened, neighbours=self._neighbours)

    def sound(self, vectors: NDArray[np.float64]) -> bool:  # noqa: ARG002
        """Whether all remembered rows are finite numbers."""
        return bool(np.isfinite(self._whitened).all())

    def form(self) -> Form:
        """Its numbers."""
        seen = self._seen
        if seen.whitener is None or len(self._whitened) < self._neighbours:
            return Constant(np.nan)
        return Near(seen.mean.tobytes(), seen.whitener.tobytes(), self._whitened.tobytes(), self._neighbours)

    def keep(self) -> bytes:
        """All of it."""
        return dump((self._seen, self._rows, self._added, self._whitened))

    def go_back(self, kept: bytes) -> None:
        """As it was."""
        self._seen, self._rows, self._added, self._whitened = load(kept)
