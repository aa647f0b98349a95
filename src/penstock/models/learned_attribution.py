"""How much each feature contributed to a score of a model that goes on learning, by one of its published copies.

Linear models are exact: weight times distance from the mean that the copy's scaler had learned (from 0 without a scaler); a null is the mean, and
contributes nothing. Boosted trees have exact Shapley values, as those that are trained in batches.

`NearestNeighbours` says how far an event is from its neighbours, and takes a null for the mean; half-space trees send a null down the more used branch. So a feature
can be left out by making it null, and what each adds to the raw score of an event of which nothing is known is its Shapley value over all ways to leave features out:
exact, for up to `MOST_FEATURES` of them.

The mean of several models is a mean of scores. So the parts of each member are first said in its score: all of a member's parts by one factor, so that
they add up to its score less its base; what a feature contributes is the mean of its parts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.attribution import Attribution, boosted_ways
from penstock.models.fitted_attribution import fitted_ways
from penstock.models.links import LINKS
from penstock.models.published import Boosted, Constant, Linear, Mean, Near, Object, Tailed, scores_of
from penstock.models.runtimes import check_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from penstock.models.attribution import Contributions, Ways
    from penstock.models.links import LinkName
    from penstock.models.published import Form, Scores

MOST_FEATURES = 10
_NEAR = 1e-6
"""Raw sums so close to the base: the link's slope is taken at the base, since their difference says too little of it."""


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
        self._columns, self._ranks = features, "distance"
        self._ranked: Callable[[NDArray[np.float64]], NDArray[np.float64] | None] = lambda _: None
        summed = form.detector if isinstance(form, Tailed) else form
        try:
            self._raw, self._base, self._link = _ways_of(summed, features=features)
        except ModelError as error:
            raise ModelError(f"model {name!r}: {error}") from error
        if isinstance(form, Tailed):
            self._ranked = scores_of(form, features=features)
            self._ranks = "distance" if isinstance(summed, Near) else "raw score"

    def explain(self, vectors: NDArray[np.float64]) -> Attribution:
        """The contributions to the scores of `vectors`, float64 [n, features]; NaN is null."""
        rows = check_vectors(vectors, columns=self._columns)
        return Attribution(
            self._raw(rows), self._base, self._link, ranked=self._ranked(rows), ranks=self._ranks
        )


def _ways_of(form: Form, *, features: int) -> Ways:
    """How the raw sums of a copy are taken apart; `ModelError` says why they cannot be."""
    match form:
        case Linear():
            return _linear_ways(form)
        case Boosted(ubj, link):
            return *boosted_ways(ubj, features=features), link
        case Near():
            return _ways_by_nulls(scores_of(form, features=features), features)
        case Tailed(detector, _):  # a member of several; above it only ranks
            _ways_of(detector, features=features)
            return _ways_by_nulls(scores_of(form, features=features), features)
        case Mean(members):
            return _mean_ways(members, features)
        case Object():
            return _object_ways(form, features)
        case Constant():
            raise ModelError("it had learned nothing yet: its score was the same for every event.")
    raise ModelError("a copy of this kind cannot be taken apart.")


def _linear_ways(form: Linear) -> Ways:
    mean, scale, weights = (np.frombuffer(data) for data in (form.mean, form.scale, form.weights))

    def raw(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = np.isfinite(rows) & (scale != 0.0)
        away = np.divide(rows - mean, scale, out=np.zeros(rows.shape), where=counts)
        return np.asarray(away * weights + 0.0, np.float64)  # no -0.0

    return raw, form.intercept, "logit" if form.logistic else "identity"


def _object_ways(form: Object, features: int) -> Ways:
    from penstock.models.learners_refitted import Fitted
    from penstock.models.learners_river import RiverLearner
    from penstock.models.online_state import load

    learner = load(form.learner)
    if isinstance(learner, Fitted):
        return fitted_ways(learner, features=features)
    if isinstance(learner, RiverLearner) and learner.takes_nulls:
        return _ways_by_nulls(learner.score, features)
    if isinstance(learner, RiverLearner) and learner.detects:
        raise ModelError(
            "a detector of this kind says how rare an event is as a whole, and takes no nulls by which features could be left out. "
            "NearestNeighbours and half-space trees have reasons."
        )
    raise ModelError(
        "its copies are evaluated by their own library (trees of River, naive Bayes, pipelines that mix features), which keeps no counts that exact "
        "contributions need. Linear models (LogisticRegression, LinearRegression, SGD), XGBoost, LightGBM and scikit-learn's trees that go on "
        "learning have reasons."
    )


def _ways_by_nulls(score: Scores, features: int) -> Ways:
    if features > MOST_FEATURES:
        raise ModelError(
            f"it has {features} features; the reasons of a detector try all ways to leave some out, for up to {MOST_FEATURES}. "
            "Give it fewer, or go without."
        )
    base = float(score(np.full((1, features), np.nan))[0])
    return lambda rows: shapley_values(score, rows), base, "identity"


def _mean_ways(members: Sequence[Form], features: int) -> Ways:
    """In the space of scores, which all members share, whatever space each adds up in."""
    each = []
    for number, member in enumerate(members, 1):
        try:
            each.append(_constant_ways(member) or _in_scores(*_ways_of(member, features=features)))
        except ModelError as error:
            raise ModelError(
                f"it is the mean of {len(members)} models, and of number {number}: {error}"
            ) from error

    def raw(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.mean([contributions(rows) for contributions, _ in each], axis=0), np.float64)

    return raw, float(np.mean([base for _, base in each])), "identity"


def _constant_ways(form: Form) -> tuple[Contributions, float] | None:
    """A member that has learned nothing yet gives every event the same score; none of a member that has no score yet."""
    if isinstance(form, Constant) and math.isfinite(form.score):
        return lambda rows: np.zeros(rows.shape), form.score
    return None


def _in_scores(raw: Contributions, base: float, link: LinkName) -> tuple[Contributions, float]:
    """Contributions to the score itself, and its base.

    All of a row's contributions by one factor, the mean slope of the link between base and sum: signs and order stay, and they add up
    to the score less the base's.
    """
    turn = LINKS[link]
    start = float(turn(np.array([base]))[0])

    def scaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        values = raw(rows)
        away = values.sum(axis=1)
        around = turn(np.array([base + _NEAR, base - _NEAR]))
        slope = np.full(len(rows), (around[0] - around[1]) / (2 * _NEAR))
        np.divide(turn(base + away) - start, away, out=slope, where=np.abs(away) > _NEAR)
        return np.asarray(values * slope[:, None], np.float64)

    return scaled, start


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
