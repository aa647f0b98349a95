"""Contributions: equal to Shapley values by their definition, and adding up to the score that is served."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import xgboost
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from penstock.core.errors import ArtifactError, ModelError
from penstock.models.artifacts import export_model
from penstock.models.attribution import Explainer
from penstock.models.basis import read_basis
from penstock.models.tree_shap import TreeShap
from penstock.models.trees import NO_CHILD, Ensemble
from penstock.models.verification import build_model
from tests.unit.models.conftest import FEATURES, provenance

COUNT = len(FEATURES)
CLASSIFIERS = {
    "xgboost": XGBClassifier(n_estimators=60, max_depth=5, n_jobs=1),
    "large xgboost": XGBClassifier(n_estimators=600, max_depth=6, n_jobs=1),
    "xgboost in a pipeline": make_pipeline(StandardScaler(), XGBClassifier(n_estimators=20, n_jobs=1)),
    "tree": DecisionTreeClassifier(max_depth=4, random_state=0),
    "forest": RandomForestClassifier(n_estimators=15, random_state=0),
    "forest behind an imputer": make_pipeline(
        SimpleImputer(), RobustScaler(), RandomForestClassifier(n_estimators=8, max_depth=7, random_state=0)
    ),
    "boosted": make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=20, random_state=0)),
    "histogram": HistGradientBoostingClassifier(max_iter=20, random_state=0),
    "logistic": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "logistic, scaled to a range": make_pipeline(SimpleImputer(), MinMaxScaler(), LogisticRegression()),
}
REGRESSORS = {
    "xgboost regression": XGBRegressor(n_estimators=30, n_jobs=1),
    "linear": make_pipeline(SimpleImputer(), LinearRegression()),
    "extra trees": ExtraTreesRegressor(n_estimators=5, max_depth=6, random_state=0),
    "histogram regression": HistGradientBoostingRegressor(max_iter=15, random_state=0),
}


@pytest.fixture(scope="module")
def exported(problem):
    """Each model, exported once, by name."""
    found = {}

    def export(name):
        if name not in found:
            task = "binary" if name in CLASSIFIERS else "regression"
            estimator = (CLASSIFIERS | REGRESSORS)[name]
            target = problem.labels if task == "binary" else np.nan_to_num(problem.vectors[:, 0]) * 1.5 + 3
            fitted = estimator.fit(problem.vectors, target)
            found[name] = fitted, export_model(fitted, problem.vectors, provenance=provenance(task=task))
        return found[name]

    return export


@pytest.mark.parametrize("name", CLASSIFIERS | REGRESSORS)
def test_contributions_add_up_to_the_served_score(name, exported, problem):
    _, files = exported(name)
    rows = problem.vectors[:40]
    attribution = Explainer(files).explain(rows)
    assert attribution.values.shape == (40, COUNT)
    scores = build_model(files, version="v", compiled=False).score(rows)
    assert np.abs(attribution.scores() - scores).max() < 1e-9
    if attribution.space == "log-odds":
        margins = np.log(scores / (1 - scores))
        assert np.abs(attribution.base + attribution.values.sum(axis=1) - margins).max() < 1e-6
    else:
        assert np.abs(attribution.base + attribution.values.sum(axis=1) - scores).max() < 1e-6


def test_the_space_is_said(exported):
    spaces = {
        name: Explainer(exported(name)[1]).explain(np.zeros((1, COUNT))).space
        for name in ("xgboost", "forest", "logistic", "linear")
    }
    assert spaces == {"xgboost": "log-odds", "forest": "score", "logistic": "log-odds", "linear": "score"}


@pytest.mark.parametrize("name", ["xgboost", "large xgboost"])
def test_xgboost_says_the_same(name, exported, problem):
    """Its own contributions, which are float32."""
    estimator, files = exported(name)
    rows = problem.vectors[:30]
    theirs = estimator.get_booster().predict(xgboost.DMatrix(rows), pred_contribs=True)
    ours = Explainer(files).explain(rows)
    assert np.abs(ours.values - theirs[:, :-1]).max() < 2e-4
    assert abs(ours.base - theirs[0, -1]) < 1e-4


def expected(tree, row, known, comparison, dtype):
    """A tree's value where only the features `known` are: both ways, by cover, at splits on others."""

    def walk(node):
        if tree.left[node] == NO_CHILD:
            return float(dtype(tree.value[node]))
        left, right, feature = tree.left[node], tree.right[node], tree.feature[node]
        if feature in known:
            value, threshold = row[feature], dtype(tree.threshold[node])
            goes = (
                tree.missing_left[node]
                if np.isnan(value)
                else (value < threshold if comparison == "<" else value <= threshold)
            )
            return walk(left if goes else right)
        return (tree.cover[left] * walk(left) + tree.cover[right] * walk(right)) / tree.cover[node]

    return walk(0)


@pytest.mark.parametrize("name", ["xgboost", "tree", "forest behind an imputer", "histogram"])
def test_contributions_are_shapley_values_by_their_definition(name, exported, problem):
    """All subsets of features, weighted as Shapley weights them, on a few trees."""
    from penstock.models.booster import Booster
    from penstock.models.export_xgboost import ensemble_of

    _, files = exported(name)
    if name == "xgboost":
        whole = ensemble_of(Booster(files["ubj"], features=COUNT).document(), features=COUNT)
    else:
        whole = read_basis(files["basis"], features=COUNT).model.ensemble
    few = Ensemble(whole.trees[:3], whole.comparison, whole.dtype)
    rows = problem.vectors[:4].astype(np.float32).astype(np.float64)
    found = TreeShap(few, features=COUNT).contributions(rows)
    for row, contributions in zip(rows, found, strict=True):
        for feature in range(COUNT):
            others = [f for f in range(COUNT) if f != feature]
            value = 0.0
            for size in range(COUNT):
                weight = factorial(size) * factorial(COUNT - size - 1) / factorial(COUNT)
                for subset in combinations(others, size):
                    gains = [
                        expected(tree, row, {*subset, feature}, few.comparison, few.dtype)
                        - expected(tree, row, set(subset), few.comparison, few.dtype)
                        for tree in few.trees
                    ]
                    value += weight * sum(gains)
            assert contributions[feature] == pytest.approx(value, abs=1e-12)


def test_a_linear_contribution_is_weight_times_distance_from_the_mean(problem):
    vectors = problem.without_nulls
    fitted = LogisticRegression().fit(vectors, problem.labels)
    attribution = Explainer(export_model(fitted, vectors, provenance=provenance())).explain(vectors[:5])
    assert np.allclose(attribution.values, fitted.coef_[0] * (vectors[:5] - vectors.mean(axis=0)), atol=1e-12)


@pytest.mark.parametrize(
    "estimator",
    [GaussianNB(), make_pipeline(StandardScaler(), PCA(n_components=3), LogisticRegression())],
)
def test_what_cannot_be_taken_apart_is_said(estimator, problem):
    fitted = estimator.fit(problem.without_nulls, problem.labels)
    files = export_model(fitted, problem.without_nulls, provenance=provenance())
    with pytest.raises(ModelError, match="its score cannot be taken apart"):
        Explainer(files)


def test_a_damaged_basis_is_refused(exported):
    data = exported("forest")[1]["basis"]
    for damaged in (b"", data[:100], b"x" * 50):
        with pytest.raises(ArtifactError, match="Basis of reasons"):
            read_basis(damaged, features=COUNT)
    with pytest.raises(ArtifactError, match="the manifest lists 2"):
        read_basis(data, features=2)


def test_equal_models_have_equal_files(exported, problem):
    fitted, files = exported("forest")
    assert export_model(fitted, problem.vectors, provenance=provenance()).digest == files.digest
