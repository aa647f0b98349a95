"""scikit-learn's estimators with ``partial_fit`` as learners, behind preprocessors that have it too.

What is null after the preprocessors counts as 0, which behind a StandardScaler is the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.models.learners import UNKNOWN_SCORE
from penstock.models.online_state import dump, load
from penstock.models.published import Constant, Object, is_finite, linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.manifest import Task
    from penstock.models.published import Form, Linear

CLASSES = np.array([0, 1])


def goes_on(estimator: Any) -> bool:
    """Whether each step of `estimator` has ``partial_fit``."""
    return all(hasattr(step, "partial_fit") for step in _steps(estimator))


class StepLearner:
    """An estimator or pipeline that is fitted a batch at a time; see `penstock.models.learners.Learner`."""

    problem = ""
    """Each step is taken back where it fails: nothing is put off."""

    def __init__(self, estimator: Any, *, features: tuple[str, ...], task: Task) -> None:
        from sklearn.base import clone

        *self._before, self._last = _steps(clone(estimator))
        self._columns, self._binary = len(features), task == "binary"
        self._begun = False

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """One ``partial_fit`` of each step, in order."""
        rows = np.where(np.isfinite(vectors), vectors, np.nan)
        for step in self._before:
            rows = step.partial_fit(rows).transform(rows)
        rows = np.nan_to_num(rows, nan=0.0)
        if self._binary:
            self._last.partial_fit(rows, labels.astype(np.int64), classes=CLASSES)
        else:
            self._last.partial_fit(rows, labels)
        self._begun = True

    def settle(self) -> None:
        """Nothing is put off."""

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of 1, or prediction."""
        if not self._begun:
            return np.full(len(vectors), UNKNOWN_SCORE)
        rows = np.where(np.isfinite(vectors), vectors, np.nan)
        for step in self._before:
            rows = step.transform(rows)
        rows = np.nan_to_num(rows, nan=0.0)
        if self._binary:
            return np.asarray(self._last.predict_proba(rows)[:, 1], np.float64)
        return np.asarray(self._last.predict(rows), np.float64)

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Of a linear model all its numbers, of others some scores."""
        form = self._linear()
        return bool(np.isfinite(self.score(vectors)).all()) if form is None else is_finite(form)

    def form(self) -> Form:
        """Numbers where it is a linear model, behind a scaler or not; else the object."""
        if not self._begun:
            return Constant(UNKNOWN_SCORE)
        return self._linear() or Object(dump(self))

    def keep(self) -> bytes:
        """All steps."""
        return dump((self._before, self._last, self._begun))

    def go_back(self, kept: bytes) -> None:
        """All steps as they were."""
        self._before, self._last, self._begun = load(kept)

    def _linear(self) -> Linear | None:
        from sklearn.linear_model import SGDClassifier, SGDRegressor
        from sklearn.preprocessing import StandardScaler

        logistic = type(self._last) is SGDClassifier and self._last.loss == "log_loss"
        if not self._begun or not (logistic or type(self._last) is SGDRegressor) or len(self._before) > 1:
            return None
        mean, scale = np.zeros(self._columns), np.ones(self._columns)
        if self._before:
            scaler = self._before[0]
            if type(scaler) is not StandardScaler or not scaler.with_mean or not scaler.with_std:
                return None
            mean, scale = scaler.mean_, scaler.scale_
        weights = np.ravel(self._last.coef_)
        return linear(
            mean.tolist(),
            scale.tolist(),
            weights.tolist(),
            intercept=float(self._last.intercept_[0]),
            logistic=logistic,
        )


def _steps(estimator: Any) -> list[Any]:
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
