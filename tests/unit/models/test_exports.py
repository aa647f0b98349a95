"""Exported models answer as the estimators they come from: XGBoost bit for bit on both paths, trees bit for bit."""

import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

from penstock.core.errors import ModelError
from penstock.models.artifacts import predict_scores
from penstock.models.booster import Booster
from penstock.models.export_sklearn import export_sklearn
from penstock.models.export_xgboost import LINK_OF_OBJECTIVE, ensemble_of, export_xgboost
from penstock.models.forest import Forest
from penstock.models.runtimes import NATIVE_ROWS, OnnxModel, XGBoostModel

NAMES = tuple(f"f{i}" for i in range(6))
TREES = [
    DecisionTreeClassifier(max_depth=5),
    make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=2)),
    RandomForestClassifier(15, random_state=0),
    make_pipeline(StandardScaler(), RandomForestClassifier(15, random_state=0)),
    DecisionTreeRegressor(),
    RandomForestRegressor(10, random_state=0),
]
TREES_WITHOUT_NULLS = [
    GradientBoostingRegressor(n_estimators=20),
    ExtraTreesRegressor(10, random_state=0),
    CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=2),
]
SMOOTH = [
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(class_weight="balanced")
    ),
    GradientBoostingClassifier(n_estimators=20),
    HistGradientBoostingClassifier(max_iter=5),
    HistGradientBoostingRegressor(max_iter=5),
    make_pipeline(StandardScaler(), Ridge()),
]


def named(estimators):
    return pytest.mark.parametrize(
        "estimator",
        estimators,
        ids=lambda e: "-".join(type(s).__name__ for _, s in getattr(e, "steps", [("", e)])),
    )


def serve_xgboost(estimator):
    exported = export_xgboost(estimator, features=len(NAMES))
    onnx = OnnxModel(exported.onnx, version="v", digest="", feature_names=NAMES, link=exported.link)
    booster = Booster(exported.ubj, features=len(NAMES))
    forest = Forest(ensemble_of(booster.document(), features=len(NAMES)), features=len(NAMES))
    return XGBoostModel(onnx, booster=booster, link=exported.link, forest=forest)


def compare(estimator, vectors, labels):
    regression = not hasattr(estimator, "predict_proba")
    targets = np.nan_to_num(vectors[:, 0]) * 3.7 if regression else labels
    estimator.fit(vectors[:1500], targets[:1500])
    model = OnnxModel(
        export_sklearn(estimator, features=len(NAMES)),
        version="v",
        digest="",
        feature_names=NAMES,
        link="identity",
    )
    wanted = predict_scores(estimator, vectors, task="regression" if regression else "binary")
    return model.score(vectors), wanted


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"scale_pos_weight": 14.0},
        {"base_score": 0.3, "learning_rate": 0.05},
        {"base_score": 0.5, "tree_method": "exact"},
        {"num_parallel_tree": 3, "subsample": 0.6},
        {"grow_policy": "lossguide", "max_leaves": 9},
        {"gamma": 1e9},  # every tree is one leaf
    ],
    ids=str,
)
def test_xgboost_scores_do_not_depend_on_the_size_of_the_batch(parameters, problem):
    estimator = XGBClassifier(n_estimators=25, n_jobs=1, **parameters).fit(problem.vectors, problem.labels)
    model = serve_xgboost(estimator)
    many = model.score(problem.vectors)
    few = np.concatenate(
        [model.score(problem.vectors[i : i + NATIVE_ROWS - 1]) for i in range(0, 3000, NATIVE_ROWS - 1)]
    )
    one = np.concatenate([model.score(problem.vectors[i : i + 1]) for i in range(300)])
    assert (many == few).all()
    assert (many[:300] == one).all()
    assert model.path_difference(problem.vectors) == 0.0
    assert np.abs(many - estimator.predict_proba(problem.vectors)[:, 1]).max() < 2e-7


@pytest.mark.parametrize("objective", sorted(set(LINK_OF_OBJECTIVE) - {"binary:logistic"}))
def test_xgboost_objectives_have_their_link(objective, problem):
    targets = problem.labels if objective == "reg:logistic" else np.abs(problem.without_nulls[:, 0]) + 0.1
    extra = {"quantile_alpha": 0.5} if objective == "reg:quantileerror" else {}
    estimator = XGBRegressor(n_estimators=10, n_jobs=1, objective=objective, **extra).fit(
        problem.vectors, targets
    )
    model = serve_xgboost(estimator)
    assert model.path_difference(problem.vectors) == 0.0
    assert model.score(problem.vectors) == pytest.approx(estimator.predict(problem.vectors), rel=1e-6)


def test_xgboost_paths_agree_on_thresholds_extremes_and_infinities(estimator, problem):
    model = serve_xgboost(estimator)
    splits = export_xgboost(estimator, features=len(NAMES)).ensemble.thresholds()
    rows = np.repeat(problem.vectors[:1], 2 * len(splits), axis=0)
    for index, (feature, threshold) in enumerate(splits):
        rows[2 * index, feature] = threshold
        rows[2 * index + 1, feature] = np.nextafter(threshold, -np.inf)
    extremes = np.array([[v] * 6 for v in (0.0, -0.0, np.nan, np.inf, -np.inf, 1e300, -1e300, 1e15, 5e-324)])
    assert model.path_difference(np.concatenate([rows, extremes])) == 0.0
    assert np.isfinite(model.score(extremes)).all()


def test_xgboost_keeps_the_rounds_up_to_the_best(problem):
    shuffled = np.random.default_rng(0).permutation(problem.labels)
    estimator = XGBClassifier(n_estimators=30, n_jobs=1, early_stopping_rounds=2)
    estimator.fit(problem.vectors, problem.labels, eval_set=[(problem.vectors, shuffled)], verbose=False)
    assert estimator.best_iteration < 20
    scores = serve_xgboost(estimator).score(problem.vectors)
    assert scores == pytest.approx(estimator.predict_proba(problem.vectors)[:, 1], abs=2e-7)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"booster": "dart"}, "booster is 'dart'; allowed is 'gbtree'"),
        ({"objective": "binary:hinge"}, "objective is 'binary:hinge'; allowed are binary:logistic"),
        ({"missing": -1.0}, "missing is -1.0; allowed is nan"),
    ],
)
def test_xgboost_models_that_cannot_be_exported_say_why(parameters, message, problem):
    estimator = XGBClassifier(n_estimators=2, n_jobs=1, **parameters).fit(problem.vectors, problem.labels)
    with pytest.raises(ModelError, match=message):
        export_xgboost(estimator, features=len(NAMES))


@named(TREES)
def test_trees_are_exact_with_nulls(estimator, problem):
    scores, wanted = compare(estimator, problem.vectors, problem.labels)
    assert (scores == wanted).all()


@named(TREES_WITHOUT_NULLS)
def test_trees_are_exact(estimator, problem):
    scores, wanted = compare(estimator, problem.without_nulls, problem.labels)
    assert (scores == wanted).all()


@named(SMOOTH)
def test_smooth_models_agree_to_the_last_places(estimator, problem):
    with_nulls = "Imputer" in str(estimator) or "Hist" in str(estimator)
    vectors = problem.vectors if with_nulls else problem.without_nulls
    scores, wanted = compare(estimator, vectors, problem.labels)
    assert scores == pytest.approx(wanted, rel=1e-12, abs=1e-15)


def test_xgboost_may_be_a_step_of_a_pipeline(problem):
    estimator = make_pipeline(SimpleImputer(), StandardScaler(), XGBClassifier(n_estimators=10, n_jobs=1))
    scores, wanted = compare(estimator, problem.vectors, problem.labels)
    assert scores == pytest.approx(wanted, abs=2e-7)


def test_an_estimator_without_converter_is_named(problem):
    class Homemade(LogisticRegression):
        pass

    fitted = Homemade().fit(problem.without_nulls, problem.labels)
    with pytest.raises(ModelError, match="Homemade: it cannot be exported to ONNX"):
        export_sklearn(fitted, features=len(NAMES))


def test_a_classifier_without_probabilities_is_refused(problem):
    fitted = RidgeClassifier().fit(problem.without_nulls, problem.labels)
    with pytest.raises(ModelError, match="no predict_proba"):
        predict_scores(fitted, problem.without_nulls, task="binary")


def test_nothing_is_registered_with_skl2onnx(problem):
    from skl2onnx import supported_converters

    before = supported_converters()
    with warnings.catch_warnings():
        compare(DecisionTreeClassifier(max_depth=2), problem.without_nulls, problem.labels)
    assert supported_converters() == before
