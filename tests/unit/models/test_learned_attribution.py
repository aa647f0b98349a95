"""Reasons of models that go on learning: exact for each copy, adding up to what the copy scored; clear words where there are none."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.linear_model import SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock.core.errors import ModelError
from penstock.definitions.detectors import NearestNeighbours
from penstock.models.learned_attribution import LearnedExplainer, shapley_values
from penstock.models.learned_copies import MOST, Copies, kept_copies
from penstock.models.learners import learner_of
from penstock.models.published import OnlineModel, Published, linear, scores_of
from tests.unit.models.test_learners import ESTIMATORS, FEATURES, ONLINE

EXPLAINED = (
    "river_linear",
    "sgd",
    "xgboost",
    "xgboost_few_negatives",
    "xgboost_continued",
    "best",
    "regression",
)


def rows(count, seed=0):
    draw = np.random.default_rng(seed)
    found = draw.normal([5.0, -1.0, 100.0], [2.0, 1.0, 30.0], (count, 3))
    found[draw.random(found.shape) < 0.1] = np.nan
    return found


def learned(name, steps=15):
    """A learner after some batches, and its form."""
    if name == "regression":
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
        learner.learn(vectors, truth if task == "regression" else (truth > 11.0).astype(float))
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
    [("river_forest", "trees of River"), ("mean", "several models"), ("bayes", "linear models")],
)
def test_other_kinds_have_none_and_it_is_said_why(name, said):
    with pytest.raises(ModelError, match=f"(?i){said}"):
        LearnedExplainer(learned(name), features=3, name="m:1+600")


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
        LearnedExplainer(detector(anomaly.HalfSpaceTrees(seed=1)), features=3, name="m")
    wide = tuple(f"f{i}" for i in range(11))
    with pytest.raises(ModelError, match="11 features"):
        LearnedExplainer(detector(NearestNeighbours(), wide), features=11, name="m")


def copy_of(labels, weight=1.0, log="a"):
    form = linear([0.0], [1.0], [weight], intercept=0.0, logistic=True)
    return Published(form, labels=labels, position=labels, log=log)


def test_the_newest_copies_are_kept_whole_and_of_one_log():
    copies = Copies(copy_of(i, weight=float(i)) for i in range(MOST + 10))
    assert copies.of(9) is None
    again = Copies.from_bytes(copies.to_bytes())
    assert (again.of(10), again.of(MOST + 9)) == (copy_of(10, 10.0), copy_of(MOST + 9, float(MOST + 9)))
    again.add(copy_of(3, log="b"))
    assert (again.of(MOST + 9), again.of(3)) == (None, copy_of(3, log="b"))


def test_what_is_no_file_of_ours_is_no_copy(tmp_path):
    folder = tmp_path / "online" / "m" / "1"
    folder.mkdir(parents=True)
    assert kept_copies(folder).of(1) is None
    (folder / "copies.bin").write_bytes(b"nothing of ours")
    assert kept_copies(folder).of(1) is None
