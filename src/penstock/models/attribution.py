"""How much each feature contributed to a score.

Contributions add up, in the space in which the model adds: log-odds for boosted trees and logistic regression, the logarithm
for count models, the score itself for forests and linear regression. ``base + sum(contributions)`` is the model's raw sum,
and the link turns that into the score that was served.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from penstock.core.errors import ArtifactError, ModelError
from penstock.models.basis import Basis, Linear, read_basis
from penstock.models.booster import Booster
from penstock.models.export_xgboost import ensemble_of
from penstock.models.links import LinkName, link_of
from penstock.models.runtimes import check_vectors
from penstock.models.tree_shap import TreeShap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.export_sklearn import TreeParts
    from penstock.models.forest import Forest
    from penstock.models.manifest import ModelFiles

Contributions: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.float64]]"
"""Of rows, float64 [n, features], what each feature adds to the raw sum, in the same shape."""
Ways: TypeAlias = "tuple[Contributions, float, LinkName]"
"""Contributions, the base that they are added to, and the link that turns the sum into the score."""

SPACES: dict[LinkName, str] = {"identity": "score", "logit": "log-odds", "log": "logarithm"}
_ROUNDING = 1e-3
"""How far the served float32 sum may be from the exact one, relative to the size of what is added; beyond it something is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Contributions of features to the raw sums of rows.

    Attributes
    ----------
    values
        float64, shape [n, features].
    base
        What the model says of an average row of its training data.
    link
        Turns the raw sum into the score; `space` names what the sum is.
    kept_negatives
        The share of negatives that the model was fitted on, for which the score is corrected after the link. Where the sum is of log-odds,
        `base` has the correction in it.
    """

    values: NDArray[np.float64]
    base: float
    link: LinkName
    kept_negatives: float = 1.0
    ranked: NDArray[np.float64] | None = None
    """Of a detector the scores themselves: how few of its past raw scores were as great, which is no formula of the sum."""
    ranks: str = "distance"
    """What is ranked then."""

    @property
    def space(self) -> str:
        """What is added up: ``log-odds``, ``logarithm``, ``score``, or of a detector ``distance`` or ``raw score``."""
        return SPACES[self.link] if self.ranked is None else self.ranks

    def scores(self) -> NDArray[np.float64]:
        """The scores that the contributions add up to, shape [n]."""
        if self.ranked is not None:
            return self.ranked
        return link_of(self.link, self.kept_negatives)(self.base + self.values.sum(axis=1))


class Explainer:
    """Contributions for one model version.

    Raises
    ------
    ModelError
        Where the version cannot be explained: a pipeline mixes features, the estimator is of another kind, or it was
        registered before reasons were kept.
    """

    def __init__(self, files: ModelFiles) -> None:
        manifest = files.manifest
        self._columns = len(manifest.features)
        has_basis = "basis" in files.contents
        basis = read_basis(files["basis"], features=self._columns) if has_basis else None
        self.quantiles: NDArray[np.float64] | None = None if basis is None else basis.quantiles
        self._raw, self._base, self._link = self._ways(files, basis)
        self._kept = manifest.kept_negatives
        if self._link == "logit":
            self._base, self._kept = self._base + math.log(self._kept), 1.0

    def explain(self, vectors: NDArray[np.float64]) -> Attribution:
        """The contributions to the scores of `vectors`, float64 [n, features]; NaN is null."""
        rows = check_vectors(vectors, columns=self._columns)
        return Attribution(self._raw(rows), self._base, self._link, self._kept)

    def _ways(self, files: ModelFiles, basis: Basis | None) -> Ways:
        manifest = files.manifest
        if manifest.engine == "xgboost":
            return *boosted_ways(files["ubj"], features=self._columns), manifest.link
        if basis is None or basis.model is None:
            why = (
                "it was registered before reasons were kept"
                if basis is None
                else "its estimator or a step is of another kind"
            )
            raise ModelError(
                f"Model {manifest.name!r}: its score cannot be taken apart: {why}. What can be: XGBoost, scikit-learn's "
                "trees, forests, boosted trees and linear models, behind imputers and scalers. Train it again, or go without."
            )
        return ways_of_basis(basis, basis.model, features=self._columns)


def ways_of_basis(basis: Basis, model: Linear | TreeParts, *, features: int) -> Ways:
    """How a model's raw sums are taken apart, whose steps and numbers are known."""
    return (
        _linear_ways(basis, model)
        if isinstance(model, Linear)
        else _tree_ways(basis, model, features=features)
    )


def _tree_ways(basis: Basis, parts: TreeParts, *, features: int) -> Ways:
    shap = TreeShap(parts.ensemble, features=features)
    forest = _float32_forest(parts, features=features)

    def trees(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = basis.prepared(rows)
        values = shap.contributions(_rounded(seen) if parts.rounds_input else seen) / parts.divisor
        return values if forest is None else _spread(values, shap.base, forest.sums(seen).astype(np.float64))

    return trees, shap.base / parts.divisor, parts.link


def boosted_ways(ubj: bytes, *, features: int) -> tuple[Contributions, float]:
    """What gives the contributions of XGBoost's trees to their margins, and the base."""
    booster = Booster(ubj, features=features)
    shap = TreeShap(ensemble_of(booster.document(), features=features), features=features)

    def boosted(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        values = shap.contributions(_rounded(rows))
        return _spread(values, shap.base, booster.margins(rows).astype(np.float64))

    return boosted, shap.base


def _float32_forest(parts: TreeParts, *, features: int) -> Forest | None:
    """What adds as the model does, where that is in float32 (XGBoost in a pipeline)."""
    if parts.ensemble.dtype is not np.float32:
        return None
    from penstock.models.forest import Forest

    return Forest(parts.ensemble, features=features)


def _linear_ways(basis: Basis, model: Linear) -> Ways:
    def linear(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(model.weights * (basis.prepared(rows) - model.means), np.float64)

    return linear, model.intercept + float(model.weights @ model.means), model.link


def _rounded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the library sees them, which rounds to float32 before it compares."""
    return rows.astype(np.float32).astype(np.float64)


def _spread(values: NDArray[np.float64], base: float, served: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` so that they add up to the sum as it was served.

    XGBoost adds in float32. What its rounding leaves, a few millionths, is spread over the contributions by their size.
    """
    left = served - base - values.sum(axis=1)
    sizes = np.abs(values)
    whole = sizes.sum(axis=1)
    if (np.abs(left) > _ROUNDING * np.maximum(whole, 1.0)).any():
        raise ArtifactError(
            f"XGBoost model: its contributions add up to something else than its score, by {np.abs(left).max():.3g}. Report "
            "this as a defect, with the model."
        )
    shares: NDArray[np.float64] = np.divide(
        sizes, whole[:, None], out=np.full_like(sizes, 1 / sizes.shape[1]), where=whole[:, None] > 0
    )
    spread: NDArray[np.float64] = values + left[:, None] * shares
    return spread
