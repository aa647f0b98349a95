"""Estimators that only have ``fit`` as learners: fitted on a window of the newest labels, at given numbers of labels.

Fitting is put off until somebody asks what is known, so that of the fits of a long past only the last is done. XGBoost and LightGBM
may go on with the trees that they have a few times before they are fitted anew; then nothing is put off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.models.learners import UNKNOWN_SCORE
from penstock.models.online_state import dump
from penstock.models.published import Boosted, Constant, Object

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.learning import Online
    from penstock.models.manifest import Task
    from penstock.models.published import Form

_LARGEST = float(np.finfo(np.float32).max)
"""Trees compute in float32; what does not fit counts as null."""


class RefittedLearner:
    """Any estimator in scikit-learn's way; see `penstock.models.learners.Learner`."""

    def __init__(self, estimator: Any, *, features: tuple[str, ...], task: Task, online: Online) -> None:
        self._blank, self._binary, self._online = estimator, task == "binary", online
        self._window = _Window(len(features), online.window, keep=online.negatives if self._binary else 1)
        self._since_fit, self._fits = 0, 0
        self._due: _Rows | None = None
        self._fitted: Any = None
        self.problem = ""
        """Why the newest fit failed; empty where it did not. Until the next one the fit before it stays in force."""

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Remember the rows."""
        self._window.add(np.where(np.abs(vectors) < _LARGEST, vectors, np.nan), labels)
        self._since_fit += len(labels)

    def settle(self) -> None:
        """Note that it is to be fitted on the window as it is now, when it is time."""
        if self._since_fit < self._online.refit_every and self._fits:
            return
        rows = self._window.newest(self._online.window)
        if self._binary and len(np.unique(rows.labels)) < 2:
            return  # the labels of one class alone say nothing about the other
        if self._online.continued and self._fits % (self._online.continued + 1):
            self._fit()
            self._refit(self._window.newest(self._since_fit), goes_on=True)
        else:
            self._due = rows
        if self._online.continued:
            self._fit()
        self._since_fit, self._fits = 0, self._fits + 1

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the last fit."""
        self._fit()
        if self._fitted is None:
            return np.full(len(vectors), UNKNOWN_SCORE)
        from penstock.models.artifacts import predict_scores

        return predict_scores(
            self._fitted, np.where(np.abs(vectors) < _LARGEST, vectors, np.nan), task=_task(self._binary)
        )

    def sound(self, vectors: NDArray[np.float64]) -> bool:  # noqa: ARG002 - of all learners
        """Yes: rows are finite or null, and each fit begins from nothing."""
        return True

    def keep(self) -> bytes:
        """Nothing: see `sound`."""
        return b""

    def go_back(self, kept: bytes) -> None:
        """Nothing is to be undone."""

    def form(self) -> Form:
        """XGBoost's trees, or the object without its window."""
        self._fit()
        if self._fitted is None:
            return Constant(UNKNOWN_SCORE)
        if hasattr(self._fitted, "get_booster"):
            from penstock.models.export_xgboost import export_xgboost

            made = export_xgboost(self._fitted, features=self._window.columns)
            return Boosted(made.ubj, made.link)
        from penstock.models.fitted_attribution import has_reasons

        return Object(dump(Fitted(self._fitted, binary=self._binary)), has_reasons(self._fitted))

    def _fit(self) -> None:
        if self._due is not None:
            rows, self._due = self._due, None
            self._refit(rows)

    def _refit(self, rows: _Rows, *, goes_on: bool = False) -> None:
        """Fit on `rows`, or add trees to those that are there; where the library fails, the fit before stays."""
        from sklearn.base import clone

        more: dict[str, Any] = {}
        if goes_on:
            before = "xgb_model" if hasattr(self._fitted, "get_booster") else "init_model"
            more = {before: self._fitted}
        try:
            self._fitted = _fitted(clone(self._blank), rows, binary=self._binary, more=more)
        except Exception as error:  # noqa: BLE001 - a user's estimator may raise anything
            self.problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        else:
            self.problem = ""


class Fitted:
    """A fitted estimator that scores and does not learn."""

    def __init__(self, estimator: Any, *, binary: bool) -> None:
        self._estimator, self._binary = estimator, binary

    @property
    def estimator(self) -> Any:
        """The library's own."""
        return self._estimator

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its scores."""
        from penstock.models.artifacts import predict_scores

        return predict_scores(self._estimator, self.seen(vectors), task=_task(self._binary))

    @staticmethod
    def seen(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """`vectors` as the estimator is given them."""
        return np.where(np.abs(vectors) < _LARGEST, vectors, np.nan)


class _Rows:
    """Rows to fit on: vectors, labels and weights."""

    def __init__(
        self, vectors: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        self.vectors, self.labels, self.weights = vectors, labels, weights


class _Window:
    """The newest rows, of whose negatives one in `keep` is kept; positives count once, a kept negative for all of its `keep`.

    Rows lie in one array that is moved to its front when it is full.
    """

    def __init__(self, columns: int, size: int, *, keep: int) -> None:
        self.columns, self._keep, self._size = columns, keep, size
        self._vectors, self._labels = np.empty((1024, columns)), np.empty(1024)
        self._at = np.empty(1024, np.int64)
        self._length = self._seen = self._negatives = 0

    def add(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Add rows, in order."""
        at = self._seen + np.arange(len(labels))
        kept = np.ones(len(labels), np.bool_)
        if self._keep > 1:
            negative = labels <= 0
            numbers = self._negatives + np.cumsum(negative)
            kept = ~negative | (numbers % self._keep == 0)
            self._negatives += int(negative.sum())
        self._seen += len(labels)
        self._make_room(int(kept.sum()))
        rows = slice(self._length, self._length + int(kept.sum()))
        self._vectors[rows], self._labels[rows], self._at[rows] = vectors[kept], labels[kept], at[kept]
        self._length = rows.stop

    def newest(self, count: int) -> _Rows:
        """Those of the newest `count` labels that are kept."""
        first = int(np.searchsorted(self._at[: self._length], self._seen - count))
        rows = slice(first, self._length)
        labels = self._labels[rows].copy()
        weights = np.where(labels <= 0, float(self._keep), 1.0)
        return _Rows(self._vectors[rows].copy(), labels, weights)

    def _make_room(self, count: int) -> None:
        if self._length + count <= len(self._labels):
            return
        first = int(np.searchsorted(self._at[: self._length], self._seen - self._size))
        kept = slice(first, self._length)
        size = max(2 * (self._length - first + count), 1024)
        for name in ("_vectors", "_labels", "_at"):
            old = getattr(self, name)
            new = np.empty((size, *old.shape[1:]), old.dtype)
            new[: self._length - first] = old[kept]
            setattr(self, name, new)
        self._length -= first


def _fitted(estimator: Any, rows: _Rows, *, binary: bool, more: dict[str, Any] | None = None) -> Any:
    from sklearn.utils.validation import has_fit_parameter

    labels: NDArray[Any] = rows.labels.astype(np.int64) if binary else rows.labels
    weights = {"sample_weight": rows.weights} if has_fit_parameter(estimator, "sample_weight") else {}
    return estimator.fit(rows.vectors, labels, **weights, **(more or {}))


def _task(binary: bool) -> Any:  # noqa: FBT001 - one word
    return "binary" if binary else "regression"
