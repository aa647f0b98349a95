"""How much each feature contributed to a score of an estimator that is fitted again and again: LightGBM, and what scikit-learn has of trees and linear models.

LightGBM computes exact Shapley values of its trees itself (path-dependent TreeSHAP, ``pred_contrib``), which add up to its raw score. Others
are taken apart as models that are trained in batches; a linear model's parts are counted from where its scaler puts the mean, or from 0.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.attribution import ways_of_basis
from penstock.models.basis import QUANTILES, Basis, linear_of, steps_of
from penstock.models.export_sklearn import has_trees, tree_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.attribution import Ways
    from penstock.models.learners_refitted import Fitted
    from penstock.models.links import LinkName

_LINKS: dict[str, LinkName] = {
    **dict.fromkeys(("binary", "cross_entropy"), "logit"),
    **dict.fromkeys(
        ("regression", "regression_l1", "huber", "fair", "quantile", "mape"),
        "identity",
    ),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "log"),
}
"""What LightGBM does with its raw score, by objective."""


def has_reasons(estimator: Any) -> bool:
    """Whether the scores of a fitted estimator or pipeline can be taken apart."""
    *before, last = _steps(estimator)
    if steps_of(before) is None:
        return False
    if _is_lightgbm(last):
        return not _lightgbm_problem(last)
    return has_trees(last) or linear_of(last, np.zeros((1, 1))) is not None


def fitted_ways(fitted: Fitted, *, features: int) -> Ways:
    """How the raw sums of a fitted estimator are taken apart.

    Raises
    ------
    ModelError
        Where they cannot be; the message says why.
    """
    *before, last = _steps(fitted.estimator)
    steps = steps_of(before)
    if steps is None:
        raise ModelError("a step before its estimator mixes features, or is not known here.")
    basis = Basis(np.full((features, len(QUANTILES)), np.nan), steps)
    if _is_lightgbm(last):
        raw, base, link = _lightgbm_ways(last, basis, features=features)
    else:
        model = tree_parts(last) or linear_of(last, np.zeros((1, features)))
        if model is None:
            raise ModelError(f"{type(last).__name__} has none that would be exact.")
        raw, base, link = ways_of_basis(basis, model, features=features)
    return lambda rows: raw(fitted.seen(rows)), base, link


def _lightgbm_ways(last: Any, basis: Basis, *, features: int) -> Ways:
    problem = _lightgbm_problem(last)
    if problem:
        raise ModelError(problem)
    link = _LINKS[str(last.objective_)]
    stretched = float(last.get_params().get("sigmoid", 1.0)) if last.objective_ == "binary" else 1.0

    def whole(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(last.predict(basis.prepared(rows), pred_contrib=True), np.float64) * stretched

    base = float(whole(np.zeros((1, features)))[0, -1])
    return lambda rows: whole(rows)[:, :-1], base, link


def _lightgbm_problem(last: Any) -> str:
    """Why the raw score of a model of LightGBM cannot be taken apart; empty where it can."""
    given = last.get_params()
    if not isinstance(last.objective_, str) or last.objective_ not in _LINKS:
        return (
            f"LightGBM with the objective {last.objective_!r} says its scores in no space that is known here."
        )
    kinds = [name for name in ("boosting_type", "boosting") if given.get(name) in {"rf", "random_forest"}]
    if kinds or given.get("linear_tree") or given.get("reg_sqrt"):
        return "LightGBM's random forests, linear trees and reg_sqrt have no contributions that add up to their scores."
    return ""


def _is_lightgbm(last: Any) -> bool:
    library = sys.modules.get("lightgbm")
    return library is not None and isinstance(last, library.LGBMModel)


def _steps(estimator: Any) -> list[Any]:
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
