"""Reasons of models that go on learning: exact for each copy, adding up to what the copy scored; clear words where there are none."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock.core.errors import ModelError
from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.learning import Ensemble
from penstock.models.learned_attribution import LearnedExplainer, shapley_values
from penstock.models.learned_copies import MOST, Copies
from penstock.models.learners import learner_of
from penstock.models.published import (
    Boosted,
    Constant,
    Linear,
    Mean,
    OnlineModel,
    Published,
    linear,
    scores_of,
)
from tests.unit.models.test_learners import ESTIMATORS, FEATURES, ONLINE, logistic, small_trees

river = pytest.importorskip("river")
from river import linear_model as river_linear  # noqa: E402
from river import metrics, model_selection, optim, preprocessing  # noqa: E402

TREES = {"n_estimators": 8, "num_leaves": 5, "n_jobs": 1, "random_state": 0, "verbose": -1}
CONTINUED = replace(ONLINE, continued=2)


def lightgbm(**more):
    return pytest.importorskip("lightgbm").LGBMClassifier(**TREES, **more)


def boosted_regressor(**more):
    return pytest.importorskip("lightgbm").LGBMRegressor(**TREES, **more)


def linear_model():
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())


MORE = {
    # name: (estimator, how it learns, task)
    "lightgbm": (lightgbm, ONLINE, "binary"),
    "lightgbm_continued": (lightgbm, CONTINUED, "binary"),
    "lightgbm_stretched": (lambda: lightgbm(sigmoid=2.0, class_weight="balanced"), ONLINE, "binary"),
    "lightgbm_in_a_pipeline": (lambda: make_pipeline(StandardScaler(), lightgbm()), ONLINE, "binary"),
    "lightgbm_regression": (boosted_regressor, ONLINE, "regression"),
    "lightgbm_counts": (lambda: boosted_regressor(objective="tweedie"), ONLINE, "regression"),
    "forest": (lambda: RandomForestClassifier(n_estimators=5, max_depth=3, random_state=0), ONLINE, "binary"),
    "refitted_linear": (linear_model, ONLINE, "binary"),
    "mean_of_four": (
        lambda: Ensemble({"a": logistic(), "b": lightgbm(), "c": linear_model(), "d": small_trees()}), ONLINE, "binary",
    ),
    "mean_of_counts": (
        lambda: Ensemble({"a": boosted_regressor(), "b": boosted_regressor(objective="poisson")}), ONLINE, "regression",
    ),
    "river_halving": (
        lambda: model_selection.SuccessiveHalvingClassifier(
            [logistic(1e-3), logistic(1e-2)], metrics.LogLoss(), budget=400
        ),
        ONLINE,
        "binary",
    ),
    "scaler_before_a_choice": (
        lambda: preprocessing.StandardScaler() | model_selection.GreedyRegressor(
            [river_linear.LinearRegression(optim.SGD(rate)) for rate in (1e-3, 1e-2)]
        ),
        ONLINE,
        "regression",
    ),
}  # fmt: skip
EXPLAINED = (
    "river_linear",
    "sgd",
    "xgboost",
    "xgboost_few_negatives",
    "xgboost_continued",
    "best",
    "regression",
    "tree",
    "bandit",
    "river_bandit",
    "mean",
    *MORE,
)


def rows(count, seed=0):
    draw = np.random.default_rng(seed)
    found = draw.normal([5.0, -1.0, 100.0], [2.0, 1.0, 30.0], (count, 3))
    found[draw.random(found.shape) < 0.1] = np.nan
    return found


def learned(name, steps=15):
    """A learner after some batches, and its form."""
    if name in MORE:
        make, online, task = MORE[name]
        made = make()
    elif name == "regression":
        made, online, task = (
            make_pipeline(StandardScaler(), SGDRegressor(random_state=0)),
            ONLINE,
            "regression",
        )
    else:
        (make, online), task = ESTIMATORS[name], "binary"
        made = make()
    learner = learner_of(made, features=FEATURES, task=task, online=online)
    for step in range(steps):
        vectors = rows(40, step)
        truth = np.nan_to_num(vectors[:, 0]) * 2 + np.nan_to_num(vectors[:, 2]) / 50
        learner.learn(vectors, np.abs(truth) if task == "regression" else (truth > 11.0).astype(float))
        learner.settle()
    return learner.form()


@pytest.mark.parametrize("name", EXPLAINED)
def test_contributions_add_up_to_the_score_of_the_copy(name):
    form, vectors = learned(name), rows(200, 99)
    scores = OnlineModel(
        Published(form, labels=600, position=600), version="m:1", digest="", feature_names=FEATURES
    ).score(vectors)
    found = LearnedExplainer(form, features=3, name="m:1+600").explain(vectors)
    np.testing.assert_allclose(found.scores(), scores, atol=1e-6, rtol=0)
    if found.space == "score":
        np.testing.assert_allclose(found.base + found.values.sum(axis=1), scores, atol=1e-6, rtol=0)
    if found.space == "log-odds":
        inner = (scores > 1e-9) & (scores < 1 - 1e-9)
        margins = np.log(scores[inner] / (1 - scores[inner]))
        np.testing.assert_allclose(
            found.values[inner].sum(axis=1), margins - found.base, atol=1e-6, rtol=1e-6
        )
    assert np.ptp(found.values, axis=0).max() > 0.01


def test_a_null_and_the_mean_contribute_nothing_to_a_linear_score():
    form = linear([5.0, 0.0, 1.0], [2.0, 1.0, 0.0], [3.0, -1.0, 4.0], intercept=0.25, logistic=True)
    found = LearnedExplainer(form, features=3, name="m").explain(
        np.array([[5.0, np.nan, 7.0], [7.0, 2.0, 1.0]])
    )
    assert found.values.tolist() == [[0.0, 0.0, 0.0], [3.0, -2.0, 0.0]]
    assert (found.base, found.space) == (0.25, "log-odds")


@pytest.mark.parametrize(
    ("name", "said"),
    [("river_forest", "trees of River"), ("river_bagging", "trees of River"), ("bayes", "naive Bayes")],
)
def test_other_kinds_have_none_and_it_is_said_why(name, said):
    with pytest.raises(ModelError, match=f"(?i){said}"):
        LearnedExplainer(learned(name), features=3, name="m:1+600")


def test_the_mean_of_models_has_reasons_if_all_of_them_have():
    mixed = Ensemble({"linear": logistic(), "bayes": GaussianNB()})
    with pytest.raises(ModelError, match=r"mean of 2 models, and of number 2: .*naive Bayes"):
        LearnedExplainer(learned_by(mixed), features=3, name="m")
    early = Mean((Constant(0.5), linear([0.0, 0.0], [1.0, 1.0], [1.0, -3.0], intercept=0.0, logistic=True)))
    found = LearnedExplainer(early, features=2, name="m").explain(
        np.array([[2.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    )
    lifted = (1 / (1 + np.exp(-2.0)) - 0.5) / 2
    assert found.base == 0.5
    np.testing.assert_allclose(found.values[0], [lifted, 0.0], atol=1e-12)
    np.testing.assert_allclose(
        found.values[1], [0.375, -0.375], atol=1e-7
    )  # they cancel: by the slope at the base
    assert found.values[2].tolist() == [0.0, 0.0]


def test_of_a_choice_the_reasons_are_those_of_the_model_chosen():
    form = learned("best")
    alone = LearnedExplainer(form, features=3, name="m").explain(rows(20))
    assert isinstance(form, Linear | Boosted), "what is published is the model that answers"
    chosen = learned("river_halving")
    assert isinstance(chosen, Linear)
    assert alone.space == "log-odds"


def learned_by(made):
    learner = learner_of(made, features=FEATURES, task="binary", online=ONLINE)
    for step in range(5):
        vectors = rows(40, step)
        learner.learn(vectors, (np.nan_to_num(vectors[:, 0]) > 5.0).astype(float))
        learner.settle()
    return learner.form()


@pytest.mark.parametrize(
    "options", [{"linear_tree": True}, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}]
)
def test_lightgbm_whose_parts_do_not_add_up_has_none_and_it_is_said_why(options):
    form = learned_by(lightgbm(**options))
    assert not form.has_reasons
    with pytest.raises(ModelError, match="random forests, linear trees and reg_sqrt"):
        LearnedExplainer(form, features=3, name="m")


@pytest.mark.parametrize("scaled", [True, False])
def test_contributions_of_half_space_trees_add_up_to_what_they_say_of_an_event_of_which_nothing_is_known(
    scaled,
):
    from river import anomaly

    trees = anomaly.HalfSpaceTrees(
        n_trees=5, height=5, window_size=60, seed=1, limits=dict.fromkeys(FEATURES, (-20, 200))
    )
    form = detector(
        preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=5, height=5, window_size=60, seed=1)
        if scaled
        else trees
    )
    vectors = rows(40, 7)
    found = LearnedExplainer(form, features=3, name="m").explain(vectors)
    raw = scores_of(form.detector, features=3)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), raw(vectors), atol=1e-9)
    assert found.base == raw(np.full((1, 3), np.nan))[0]
    np.testing.assert_array_equal(found.scores(), scores_of(form, features=3)(vectors))
    assert (found.values[np.isnan(vectors)] == 0.0).all(), "what is not known says nothing"
    assert np.ptp(found.values) > 0.01


def test_the_mean_of_detectors_has_the_mean_of_their_reasons():
    from river import anomaly

    trees = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=5, height=5, window_size=60, seed=1)
    form = detector(Ensemble({"near": NearestNeighbours(), "trees": trees}))
    vectors = rows(20, 7)
    found = LearnedExplainer(form, features=3, name="m").explain(vectors)
    raw = scores_of(form.detector, features=3)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), raw(vectors), atol=1e-9)
    assert found.space == "raw score"


def detector(estimator, features=FEATURES):
    learner = learner_of(estimator, features=features, task="anomaly", online=ONLINE)
    for step in range(10):
        learner.learn(np.resize(rows(60, step), (60, len(features))), np.zeros(60))
        learner.settle()
    return learner.form()


def test_contributions_of_a_detector_add_up_to_the_distance_and_find_what_is_strange():
    form = detector(NearestNeighbours())
    strange = np.array([[5.0, -1.0, 100.0], [5.0, 9.0, 100.0], [5.0, np.nan, 900.0]])
    found = LearnedExplainer(form, features=3, name="m:1+600").explain(strange)
    distance = scores_of(form.detector, features=3)(strange)
    assert found.space == "distance"
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), distance, atol=1e-9)
    np.testing.assert_array_equal(found.scores(), scores_of(form, features=3)(strange))
    assert found.values[1:].argmax(axis=1).tolist() == [1, 2]
    assert found.values[2, 1] == 0.0


def test_shapley_values_are_those_of_their_definition():
    def value(vectors):
        a, b, c = np.nan_to_num(vectors).T
        return a * b + np.maximum(c, b) ** 2

    row = np.array([[1.5, -2.0, 3.0]])
    expected = np.zeros(3)
    for order in permutations(range(3)):
        known = np.full((1, 3), np.nan)
        for one in order:
            before = value(known)[0]
            known[0, one] = row[0, one]
            expected[one] += (value(known)[0] - before) / 6
    np.testing.assert_allclose(shapley_values(value, row)[0], expected, atol=1e-12)


def test_other_detectors_and_wide_ones_have_none_and_it_is_said_why():
    from river import anomaly

    with pytest.raises(ModelError, match="takes no nulls"):
        LearnedExplainer(
            detector(preprocessing.StandardScaler() | anomaly.OneClassSVM()), features=3, name="m"
        )
    wide = tuple(f"f{i}" for i in range(11))
    with pytest.raises(ModelError, match="11 features"):
        LearnedExplainer(detector(NearestNeighbours(), wide), features=11, name="m")


def copy_of(labels, weight=1.0, log="a"):
    form = linear([0.0], [1.0], [weight], intercept=0.0, logistic=True)
    return Published(form, labels=labels, position=labels, log=log)


def test_the_newest_copies_are_kept_whole_and_of_one_log():
    copies = Copies(copy_of(i, weight=float(i)) for i in range(MOST + 10))
    assert copies.of(9) is None
    assert (copies.of(10), copies.of(MOST + 9)) == (copy_of(10, 10.0), copy_of(MOST + 9, float(MOST + 9)))
    copies.add(copy_of(3, log="b"))
    assert (copies.of(MOST + 9), copies.of(3)) == (None, copy_of(3, log="b"))


@pytest.mark.parametrize("name", ["lightgbm", "forest", "mean", "mean_of_four", "xgboost", "bayes"])
def test_copies_are_kept_where_they_can_be_explained(name):
    made = learned(name)
    copies = Copies([Published(made, labels=3, position=9)])
    assert (copies.of(3) is not None) == (name != "bayes")
