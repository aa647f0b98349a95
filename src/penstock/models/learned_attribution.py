"""How much each feature contributed to a score of a model that goes on learning, by one of its published copies.

Linear models are exact: weight times distance from the mean that the copy's scaler had learned (from 0 without a scaler); a null is the mean, and
contributes nothing. Boosted trees have exact Shapley values, as those that are trained in batches.

`NearestNeighbours` says how far an event is from its neighbours, and takes a null for the mean. So a feature can be left out by making it null, and what
each adds to the distance of an average event is its Shapley value over all ways to leave features out: exact, for up to `MOST_FEATURES` of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.attribution import Attribution, boosted_ways
from penstock.models.published import Boosted, Constant, Linear, Mean, Near, Object, Tailed, scores_of
from penstock.models.runtimes import check_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.models.links import LinkName
    from penstock.models.published import Form, Scores

MOST_FEATURES = 10


class LearnedExplainer:
    """Contributions by one published copy; see `penstock.models.attribution.Explainer`.

    Parameters
    ----------
    form
        What scored.
    features
        How many columns a vector has.
    name
        The copy's name, for messages.

    Raises
    ------
    ModelError
        Where a copy of this kind cannot be explained; the message says why.
    """

    quantiles = None
    """How features are distributed is not kept while a model learns: reasons say values, not what is usual."""

    def __init__(self, form: Form, *, features: int, name: str) -> None:
        self._columns = features
        self._raw: Callable[[NDArray[np.float64]], NDArray[np.float64]]
        self._link: LinkName
        self._ranked: Callable[[NDArray[np.float64]], NDArray[np.float64] | None] = lambda _: None
        if isinstance(form, Linear):
            self._form = form
            self._base, self._raw, self._link = form.intercept, self._linear, _link_of(form)
        elif isinstance(form, Tailed) and isinstance(form.detector, Near):
            self._detector(form, form.detector, name=name)
        elif isinstance(form, Boosted):
            self._raw, self._base = boosted_ways(form.ubj, features=features)
            self._link = form.link
        else:
            raise ModelError(f"model {name!r}: {_why_not(form)}")

    def explain(self, vectors: NDArray[np.float64]) -> Attribution:
        """The contributions to the scores of `vectors`, float64 [n, features]; NaN is null."""
        rows = check_vectors(vectors, columns=self._columns)
        return Attribution(self._raw(rows), self._base, self._link, ranked=self._ranked(rows))

    def _detector(self, form: Tailed, near: Near, *, name: str) -> None:
        if self._columns > MOST_FEATURES:
            raise ModelError(
                f"model {name!r}: it has {self._columns} features; the reasons of a detector try all ways to leave some out, for up to {MOST_FEATURES}. "
                "Give it fewer, or go without."
            )
        distance = scores_of(near, features=self._columns)
        self._raw = lambda rows: shapley_values(distance, rows)
        self._base = float(distance(np.full((1, self._columns), np.nan))[0])
        self._link = "identity"
        self._ranked = scores_of(form, features=self._columns)

    def _linear(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        form = self._form
        mean, scale, weights = (np.frombuffer(data) for data in (form.mean, form.scale, form.weights))
        counts = np.isfinite(rows) & (scale != 0.0)
        away = np.divide(rows - mean, scale, out=np.zeros(rows.shape), where=counts)
        return np.asarray(away * weights + 0.0, np.float64)  # no -0.0


def shapley_values(value: Scores, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each feature adds to `value`, on average over all orders in which features become known, float64 [n, features].

    A feature that is not known is null. The sum is what the value of a row is above that of a row of nulls.

    >>> shapley_values(lambda rows: np.nan_to_num(rows).sum(axis=1), np.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0]]
    """
    columns = rows.shape[1]
    subsets = np.arange(1 << columns)
    known = (subsets[:, None] >> np.arange(columns) & 1).astype(np.bool_)
    sizes = known.sum(axis=1)
    share = np.array([1.0 / (columns * math.comb(columns - 1, size)) for size in range(columns)])
    out = np.empty(rows.shape)
    for i, row in enumerate(rows):
        values = value(np.where(known, row, np.nan))
        for j in range(columns):
            without = subsets[~known[:, j]]
            out[i, j] = np.sum(share[sizes[without]] * (values[without | 1 << j] - values[without]))
    return out


def _link_of(form: Linear) -> LinkName:
    return "logit" if form.logistic else "identity"


def _why_not(form: Form) -> str:
    """Why copies of this kind have no reasons."""
    linear = "Linear models (LogisticRegression, LinearRegression, SGD) and XGBoost that go on learning have reasons."
    match form:
        case Near() | Tailed():
            return (
                "a detector of this kind says how rare an event is as a whole, and takes no nulls by which features could be left out. "
                "NearestNeighbours has reasons."
            )
        case Mean():
            return f"the mean of several models' scores adds up in no space that all of them share. {linear}"
        case Constant():
            return "it had learned nothing yet: its score was the same for every event."
        case Object():
            return (
                "its copies are evaluated by their own library (trees of River, pipelines that mix features), which keeps no counts that exact "
                f"contributions need. {linear}"
            )
    return f"a copy of this kind cannot be taken apart. {linear}"
