"""How much each feature contributed to a score of a model that goes on learning, by one of its published copies.

Linear models are exact: weight times distance from the mean that the copy's scaler had learned (from 0 without a scaler); a null is the mean, and
contributes nothing. Boosted trees have exact Shapley values, as those that are trained in batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.attribution import Attribution, boosted_ways
from penstock.models.published import Boosted, Constant, Linear, Mean, Near, Object, Tailed
from penstock.models.runtimes import check_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.models.links import LinkName
    from penstock.models.published import Form


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
        if isinstance(form, Linear):
            self._form = form
            self._base, self._raw, self._link = form.intercept, self._linear, _link_of(form)
        elif isinstance(form, Boosted):
            self._raw, self._base = boosted_ways(form.ubj, features=features)
            self._link = form.link
        else:
            raise ModelError(f"model {name!r}: {_why_not(form)}")

    def explain(self, vectors: NDArray[np.float64]) -> Attribution:
        """The contributions to the scores of `vectors`, float64 [n, features]; NaN is null."""
        return Attribution(self._raw(check_vectors(vectors, columns=self._columns)), self._base, self._link)

    def _linear(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        form = self._form
        mean, scale, weights = (np.frombuffer(data) for data in (form.mean, form.scale, form.weights))
        counts = np.isfinite(rows) & (scale != 0.0)
        away = np.divide(rows - mean, scale, out=np.zeros(rows.shape), where=counts)
        return np.asarray(away * weights + 0.0, np.float64)  # no -0.0


def _link_of(form: Linear) -> LinkName:
    return "logit" if form.logistic else "identity"


def _why_not(form: Form) -> str:
    """Why copies of this kind have no reasons."""
    linear = "Linear models (LogisticRegression, LinearRegression, SGD) and XGBoost that go on learning have reasons."
    match form:
        case Near() | Tailed():
            return (
                "a detector says how rare an event is as a whole, by its neighbours or its paths through random trees; such a score is no sum "
                "over features, and parts of it would not add up. It has no reasons."
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
