"""Learners of all libraries: what they learn, publish, survive and keep."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from penstock.core.errors import DefinitionError
from penstock.definitions.learning import Bandit, Ensemble, Online
from penstock.models.fold import Arrived, Fold, parse_state
from penstock.models.learners import description, learner_of
from penstock.models.published import Boosted, Linear, OnlineModel, decode, encode

river = pytest.importorskip("river")
from river import bandit, ensemble, forest, linear_model, metrics, model_selection, optim, preprocessing  # noqa: E402

FEATURES = ("a", "b", "c")
ONLINE = Online(batch=20, publish_every=100, refit_every=200, window=400)


def logistic(rate=1e-2):
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optimizer=optim.Adam(rate))


def sgd():
    return make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0))


def small_trees(**more):
    return XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1, random_state=0, **more)


ESTIMATORS = {
    "river_linear": (logistic, ONLINE),
    "river_forest": (lambda: forest.ARFClassifier(n_models=2, seed=1), ONLINE),
    "river_bagging": (lambda: ensemble.BaggingClassifier(logistic(), n_models=3, seed=1), ONLINE),
    "river_bandit": (
        lambda: model_selection.BanditClassifier(
            [logistic(1e-3), logistic(1e-2)], metrics.LogLoss(), bandit.EpsilonGreedy(0.1, burn_in=20, seed=1)
        ),
        ONLINE,
    ),
    "sgd": (sgd, ONLINE),
    "bayes": (GaussianNB, ONLINE),
    "tree": (lambda: DecisionTreeClassifier(max_depth=3, random_state=0), ONLINE),
    "xgboost": (small_trees, ONLINE),
    "xgboost_few_negatives": (small_trees, replace(ONLINE, negatives=3)),
    "xgboost_continued": (
        small_trees,
        Online(batch=20, publish_every=100, refit_every=200, window=400, continued=2),
    ),
    "mean": (lambda: Ensemble({"linear": logistic(), "trees": small_trees()}), ONLINE),
    "best": (lambda: Ensemble({"linear": logistic(), "trees": small_trees()}, choose="best"), ONLINE),
    "bandit": (
        lambda: Bandit(
            {"linear": logistic(), "sgd": sgd(), "bayes": GaussianNB()},
            policy=bandit.EpsilonGreedy(0.2, burn_in=2, seed=3),
        ),
        ONLINE,
    ),
}


def rows(count, seed=0, nulls=0.1):
    draw = np.random.default_rng(seed)
    vectors = draw.normal(3.0, 2.0, (count, 3))
    labels = (vectors[:, 0] + draw.normal(0, 1, count) > 4.0).astype(float)
    vectors[draw.random((count, 3)) < nulls] = np.nan
    return vectors, labels


def arrived(labels, first=0):
    at = np.arange(first, first + len(labels))
    return Arrived(2 * at + 1, 2 * at + 1, 2 * at, np.asarray(labels, float))


def fold_of(name):
    make, online = ESTIMATORS[name]
    learner = learner_of(make(), features=FEATURES, task="binary", online=online)
    return Fold(learner, online, binary=True)


def teach(fold, vectors, labels, pieces=(1_000_000,), first=0):
    at = 0
    for size in pieces:
        part = slice(at, at + size)
        for _ in fold.learn(arrived(labels[part], first + at), vectors[part]):
            pass
        at += size
    return fold


def scores(fold, vectors):
    copy = decode(encode(fold.copy()))
    model = OnlineModel(copy, version="m:1", digest="", feature_names=FEATURES)
    return model.score(np.ascontiguousarray(vectors))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_fold_does_not_depend_on_pieces_and_is_restored_with_all_its_bits(name):
    vectors, labels = rows(1000)
    tests, _ = rows(64, seed=9)
    whole = teach(fold_of(name), vectors, labels)
    pieces = teach(fold_of(name), vectors, labels, pieces=(7, 113, 300, 1, 579))
    np.testing.assert_array_equal(scores(whole, tests), scores(pieces, tests))
    half = teach(fold_of(name), vectors[:570], labels[:570])
    state = parse_state(half.state(definition="", libraries={}, erasures=0))
    assert state.counts.labels == 560  # ten wait for their batch to be full
    restored = Fold.restored(state, ESTIMATORS[name][1], binary=True)
    learned = teach(restored, vectors[560:], labels[560:], first=560)
    np.testing.assert_array_equal(scores(whole, tests), scores(learned, tests))
    assert learned.counts == whole.counts
    assert learned.cursor == whole.cursor


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_published_scores_as_the_learner_does_in_batches_of_any_size(name):
    vectors, labels = rows(800)
    tests, _ = rows(65, seed=9)
    fold = teach(fold_of(name), vectors, labels)
    found = scores(fold, tests)
    np.testing.assert_allclose(found, fold.learner.score(tests), rtol=0, atol=1e-6)
    assert np.isfinite(found).all()
    assert found.std() > 0.01
    one = np.concatenate([scores(fold, tests[i : i + 1]) for i in range(8)])
    np.testing.assert_array_equal(one, found[:8])


@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_a_published_linear_model_has_rivers_bits(nulls):
    vectors, labels = rows(500, nulls=nulls)
    fold = teach(fold_of("river_linear"), vectors, labels)
    assert isinstance(fold.copy().form, Linear)
    np.testing.assert_array_equal(scores(fold, vectors), fold.learner.score(vectors))
    plain = logistic()
    for row, label in zip(vectors.tolist(), labels.tolist(), strict=True):
        plain.learn_one({k: x for k, x in zip(FEATURES, row, strict=True) if x == x}, bool(label))
    theirs = [
        plain.predict_proba_one({k: x for k, x in zip(FEATURES, row, strict=True) if x == x})[True]
        for row in vectors.tolist()
    ]
    assert scores(fold, vectors).tolist() == theirs


def test_trees_of_xgboost_are_published_as_data():
    fold = teach(fold_of("xgboost"), *rows(400))
    assert isinstance(fold.copy().form, Boosted)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nulls_bursts_and_one_class_batches_do_no_harm(name):
    vectors, labels = rows(600)
    tests, _ = rows(50, seed=9)
    wild = vectors.copy()
    wild[100:120] = 1e300 * np.array([1.0, -1.0, 1.0])
    wild[200:300] = np.nan
    wild[300:310, 1] = np.inf
    one_class = np.where(np.arange(600) < 400, labels, 0.0)
    fold = teach(fold_of(name), wild, one_class)
    assert fold.counts.labels == 600
    assert np.isfinite(scores(fold, tests)).all()
    back = teach(fold, vectors, labels, first=600)
    assert np.isfinite(scores(back, tests)).all()


def test_a_batch_that_harms_is_taken_back_to_the_last_copy_and_counted():
    vectors, labels = rows(200, nulls=0)
    calm = teach(fold_of("river_linear"), vectors[:100], labels[:100])
    wild = vectors[100:120].copy()
    wild[:, 0] = 1e300
    hurt = teach(fold_of("river_linear"), vectors[:100], labels[:100])
    teach(hurt, wild, labels[100:120], first=100)
    assert hurt.counts.taken_back == 1
    np.testing.assert_array_equal(scores(hurt, vectors), scores(calm, vectors))
    assert hurt.counts.labels == 120


def test_labels_that_cannot_be_are_refused_and_counted():
    vectors, labels = rows(100, nulls=0)
    wrong = labels.copy()
    wrong[[3, 50]] = [np.nan, 2.0]
    vectors[70] = np.inf  # forgotten
    fold = teach(fold_of("river_linear"), vectors, wrong)
    assert (fold.counts.labels, fold.counts.refused, fold.counts.unknown) == (80, 2, 1)
    assert fold.waiting == 17


def test_regression_is_learned():
    vectors, _ = rows(500, nulls=0)
    labels = 2 * vectors[:, 0] + 1
    for estimator in (
        preprocessing.StandardScaler() | linear_model.LinearRegression(optim.SGD(0.05)),
        XGBRegressor(n_estimators=20, n_jobs=1),
    ):
        learner = learner_of(estimator, features=FEATURES, task="regression", online=ONLINE)
        fold = teach(Fold(learner, ONLINE, binary=False), vectors, labels)
        assert np.abs(scores(fold, vectors) - labels).mean() < 1.0


@pytest.mark.parametrize("continued", [0, 3])
def test_lightgbm_is_fitted_anew_or_continued(continued):
    lightgbm = pytest.importorskip("lightgbm")
    estimator = lightgbm.LGBMClassifier(n_estimators=10, num_leaves=4, n_jobs=1, random_state=0, verbose=-1)
    online = replace(ONLINE, continued=continued)
    learner = learner_of(estimator, features=FEATURES, task="binary", online=online)
    fold = teach(Fold(learner, online, binary=True), *rows(700))
    tests, truth = rows(300, seed=9)
    found = scores(fold, tests)
    assert found[truth == 1].mean() > found[truth == 0].mean() + 0.1
    trees = fold.learner._fitted.booster_.num_trees()
    assert trees == (40 if continued else 10)


def test_a_window_keeps_some_negatives_with_the_weight_of_all():
    from penstock.models.learners_refitted import _Window

    window = _Window(1, 1000, keep=4)
    labels = (np.arange(3000) % 10 == 0).astype(float)
    for first in range(0, 3000, 250):
        window.add(np.arange(first, first + 250.0)[:, None], labels[first : first + 250])
    found = window.newest(1000)
    assert found.labels.sum() == 100
    assert found.weights[found.labels == 0].sum() == pytest.approx(900, abs=4)
    assert found.vectors.min() >= 2000


def test_learning_leaves_the_definition_as_it_is():
    estimator = logistic()
    before = description(estimator)
    learner = learner_of(estimator, features=FEATURES, task="binary", online=ONLINE)
    learner.learn(*rows(100))
    assert description(estimator) == before
    assert estimator["LogisticRegression"].weights == {}
    assert description(logistic(0.5)) != before
    assert "0.01" in before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Online(batch=0), "batch is 0; allowed is a whole number of at least 1"),
        (
            lambda: Online(batch=30, publish_every=100),
            "publish_every is 100 and batch 30; allowed is a multiple",
        ),
        (lambda: Ensemble({"one": 1}), "allowed is a dict of at least two names"),
        (lambda: Ensemble({"a": 1, "b": 2}, choose="all"), "choose is 'all'; allowed are mean, best"),
        (lambda: Bandit({"a": 1, "b": 2}, policy=3), "allowed is a policy of river.bandit"),
    ],
)
def test_definitions_say_what_is_allowed(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()
