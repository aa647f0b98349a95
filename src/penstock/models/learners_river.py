"""River's models and pipelines as learners.

A null is left out of the row that River sees, which is its own way to say so: a scaler goes on without it, a linear model takes
the feature as its mean, a tree sends it down the more used branch.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.models.learners import UNKNOWN_SCORE
from penstock.models.online_state import dump, load
from penstock.models.published import Object, is_finite, linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.manifest import Task
    from penstock.models.published import Form, Linear


class RiverLearner:
    """Any classifier, regressor or anomaly detector of River, a pipeline, an ensemble or a selector.

    See `penstock.models.learners.Learner`. A detector is told no labels, and learns rows without nulls only.
    """

    problem = ""
    """Each step is taken back where it fails: nothing is put off."""

    def __init__(self, estimator: Any, *, features: tuple[str, ...], task: Task) -> None:
        self._estimator = estimator.clone()
        self._features, self._binary, self._detects = features, task == "binary", task == "anomaly"

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Row by row, in order."""
        learn_one = self._estimator.learn_one
        if self._detects:  # half-space trees take the features of their first row for all that there are
            for row in self._as_rows(vectors[np.isfinite(vectors).all(axis=1)]):
                learn_one(row)
            return
        truths = (labels > 0).tolist() if self._binary else labels.tolist()
        for row, truth in zip(self._as_rows(vectors), truths, strict=True):
            learn_one(row, truth)

    def settle(self) -> None:
        """Nothing is put off."""

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of True, prediction, or how strange a row is."""
        if not self._binary:
            predict = self._estimator.score_one if self._detects else self._estimator.predict_one
            return np.fromiter(map(predict, self._as_rows(vectors)), np.float64, len(vectors))
        predict_proba = self._estimator.predict_proba_one
        found = (predict_proba(row).get(True, UNKNOWN_SCORE) for row in self._as_rows(vectors))
        return np.fromiter(found, np.float64, len(vectors))

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Of a linear model all its numbers, of others some scores."""
        form = self._linear()
        return bool(np.isfinite(self.score(vectors)).all()) if form is None else is_finite(form)

    def form(self) -> Form:
        """Numbers where a linear model answers, behind a scaler or not; else the object."""
        return self._linear() or Object(dump(self))

    def keep(self) -> bytes:
        """The estimator."""
        return dump(self._estimator)

    def go_back(self, kept: bytes) -> None:
        """The estimator as it was."""
        self._estimator = load(kept)

    @property
    def detects(self) -> bool:
        """Whether it is a detector of anomalies."""
        return self._detects

    @property
    def takes_nulls(self) -> bool:
        """Whether it is a detector that says of a row with nulls what is known of it: half-space trees, which go on down the more used branch."""
        if not self._detects:
            return False
        from river import anomaly

        return type(_steps_of(self._estimator)[-1]) is anomaly.HalfSpaceTrees

    def _as_rows(self, vectors: NDArray[np.float64]) -> list[dict[str, float]]:
        names, known = self._features, np.isfinite(vectors)
        rows = [dict(zip(names, row, strict=True)) for row in vectors.tolist()]
        for i in np.flatnonzero(~known.all(axis=1)).tolist():
            rows[i] = {
                name: x for name, x, there in zip(names, vectors[i].tolist(), known[i], strict=True) if there
            }
        return rows

    def _linear(self) -> Linear | None:
        if self._detects:
            return None
        from river import linear_model, optim, preprocessing

        *steps, last = _steps_of(self._estimator)
        wanted, losses = (
            (linear_model.LogisticRegression, (optim.losses.Log, optim.losses.CrossEntropy))
            if self._binary
            else (
                linear_model.LinearRegression,
                (optim.losses.Squared, optim.losses.Absolute, optim.losses.Huber),
            )
        )
        if type(last) is not wanted or not isinstance(last.loss, losses) or len(steps) > 1:
            return None
        weights = [last.weights.get(name, 0.0) for name in self._features]
        count = len(weights)
        mean, scale = list(repeat(0.0, count)), list(repeat(1.0, count))
        if steps:
            scaler = steps[0]
            if (
                type(scaler) is not preprocessing.StandardScaler
                or scaler.window_size is not None
                or not scaler.with_std
            ):
                return None
            mean = [scaler.means.get(name, 0.0) for name in self._features]
            scale = [scaler.vars.get(name, 0.0) ** 0.5 for name in self._features]
        return linear(mean, scale, weights, intercept=last.intercept, logistic=self._binary)


def _steps_of(estimator: Any) -> list[Any]:
    """What a row passes when it is scored, in order: of a selector or bandit of River the model that answers now."""
    from river import compose
    from river.model_selection.base import ModelSelector

    if isinstance(estimator, compose.Pipeline):
        *before, last = estimator.steps.values()
        return [*before, *_steps_of(last)]
    if isinstance(estimator, ModelSelector):
        best = estimator.best_model
        return _steps_of(estimator.models[0] if best is None else best)
    return [estimator]
