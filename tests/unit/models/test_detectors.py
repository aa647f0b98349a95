"""Detectors of anomalies as learners: what they find, and that their scores are probabilities that keep."""

import numpy as np
import pytest

from penstock.core.errors import DefinitionError
from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.learning import Bandit, Ensemble, Online, check_detects
from penstock.models.fold import Arrived, Fold, parse_state
from penstock.models.learners import description, learner_of
from penstock.models.published import Constant, OnlineModel, decode, encode
from penstock.models.tails import LEAST, Tail, below

river = pytest.importorskip("river")
from river import anomaly, bandit, linear_model, preprocessing  # noqa: E402

FEATURES = ("a", "b", "c")
ONLINE = Online(batch=20, publish_every=100, refit_every=200)


def trees():
    return preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=5, height=5, window_size=100, seed=1)


DETECTORS = {
    "neighbours": lambda: NearestNeighbours(window=300, neighbours=5),
    "trees": trees,
    "mean": lambda: Ensemble({"near": NearestNeighbours(window=200), "trees": trees()}),
}


def usual(count, seed=0):
    """Three features, of which two go together and one is sometimes null."""
    draw = np.random.default_rng(seed)
    a, c = draw.normal(0, 1, count), draw.normal(5, 0.1, count)
    return np.stack(
        [a, 100 * a + draw.normal(0, 5, count), np.where(draw.random(count) < 0.05, np.nan, c)], 1
    )


def arrived(count, first=0):
    positions = np.arange(first, first + count)
    return Arrived(positions, positions, positions, np.zeros(count))


def fold_of(name, rows, pieces=(10**9,)):
    fold = Fold(
        learner_of(DETECTORS[name](), features=FEATURES, task="anomaly", online=ONLINE), ONLINE, binary=False
    )
    at = 0
    for piece in (*pieces, 10**9):
        part = rows[at : at + piece]
        for _ in fold.learn(arrived(len(part), at), part):
            pass
        at += piece
    return fold


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_of_usual_rows_are_spread_evenly_and_strange_rows_stand_out(name):
    fold = fold_of(name, usual(3_000))
    scores = OnlineModel(fold.copy(), version="m:1", digest="", feature_names=FEATURES).score(
        usual(2_000, seed=1)
    )
    assert np.abs(np.sort(scores) - np.arange(2_000) / 2_000).max() < (0.4 if name == "trees" else 0.12)
    if name != "trees":  # they know no further than the least and the largest that they have seen
        assert fold.learner.score(np.array([[30.0, 3_000.0, 9.0]]))[0] > 0.95


def test_values_that_do_not_go_together_are_strange_to_neighbours_though_each_is_usual():
    learner = fold_of("neighbours", usual(3_000)).learner
    together, apart = np.array([[1.5, 150.0, 5.0]]), np.array([[1.5, -150.0, 5.0]])
    assert learner.score(apart)[0] > 0.999
    assert learner.score(together)[0] < 0.95


@pytest.mark.parametrize("name", DETECTORS)
def test_how_events_come_in_pieces_changes_nothing(name):
    rows = usual(1_000)
    whole, pieces = fold_of(name, rows), fold_of(name, rows, pieces=(7, 333, 1, 250))
    assert whole.copy().form == pieces.copy().form
    assert whole.counts == pieces.counts


@pytest.mark.parametrize("name", DETECTORS)
def test_a_state_goes_on_to_the_same_bits(name):
    rows = usual(1_200)
    straight = fold_of(name, rows)
    begun = fold_of(name, rows[:640])
    sealed = begun.state(definition="d", libraries={}, erasures=0)
    restored = Fold.restored(parse_state(sealed), ONLINE, binary=False)
    assert restored.counts == begun.counts
    for _ in restored.learn(arrived(1_200 - 640, 640), rows[640:]):
        pass
    after = usual(100, seed=3)
    assert restored.learner.score(after).tolist() == straight.learner.score(after).tolist()
    if name == "neighbours":  # whose copy is numbers, no object of River
        assert restored.copy().form == straight.copy().form


@pytest.mark.parametrize("name", DETECTORS)
def test_a_row_has_the_same_score_alone_and_among_others(name):
    copy = decode(encode(fold_of(name, usual(800)).copy()))
    model = OnlineModel(copy, version="m:1", digest="", feature_names=FEATURES)
    rows = usual(50, seed=2)
    assert [model.score(row[None])[0] for row in rows] == model.score(rows).tolist()


def test_an_event_is_scored_before_it_is_learned():
    """An anomaly's raw score is among the past ones as it was when the detector did not know it."""
    rows = usual(600)
    rows[-1] = (30.0, 3_000.0, 9.0)
    learner = learner_of(
        NearestNeighbours(window=600, neighbours=1), features=FEATURES, task="anomaly", online=ONLINE
    )
    learner.learn(rows[:300], np.zeros(300))
    learner.settle()
    learner.learn(rows[300:], np.zeros(300))
    learner.settle()
    raw = np.frombuffer(learner.form().tail.past)
    assert raw[-1] > 20 * raw[-2]
    assert learner.score(rows[-1:])[0] < 0.5  # now it knows it


def test_nothing_is_said_before_enough_is_known():
    fold = fold_of("neighbours", usual(LEAST))
    assert fold.copy().form == Constant(0.0)


def test_a_lasting_state_becomes_usual_and_an_outlier_does_not_widen_what_is():
    rows = usual(1_000)
    rows[500] = (1e6, -1e9, 1e6)
    learner = fold_of("neighbours", rows).learner
    assert learner.score(np.array([[8.0, 800.0, 5.0]]))[0] > 0.95


def test_a_tail_answers_in_order_and_never_says_sure():
    tail = Tail(5_000)
    tail.add(np.random.default_rng(0).exponential(1.0, 20_000))
    numbers = tail.numbers()
    at = np.linspace(0, 30, 400)
    found = below(numbers, at)
    assert (np.diff(found) >= 0).all()
    assert found[-1] < 1.0
    expected = 1 - np.exp(-np.array([3.0, 5.0, 7.0]))
    assert 1 - below(numbers, np.array([3.0, 5.0, 7.0])) == pytest.approx(1 - expected, rel=0.5)
    assert np.isnan(below(numbers, np.array([np.nan]))[0])


def test_a_tail_of_equal_scores_is_finite():
    tail = Tail(1_000)
    tail.add(np.zeros(1_000))
    numbers = tail.numbers()
    assert below(numbers, np.array([0.0, 1.0])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "estimator",
    [
        linear_model.LogisticRegression(),
        anomaly.HalfSpaceTrees,
        Ensemble({"a": trees(), "b": NearestNeighbours()}, choose="best"),
        Bandit({"a": trees(), "b": trees()}, policy=bandit.EpsilonGreedy(epsilon=0.1, burn_in=10, seed=0)),
        Ensemble({"a": trees(), "b": linear_model.LogisticRegression()}),
    ],
)
def test_what_cannot_find_anomalies_is_refused(estimator):
    with pytest.raises(DefinitionError, match="NearestNeighbours"):
        check_detects(estimator, owner="Model 'm'")


def test_a_detector_says_what_it_is():
    assert (
        description(NearestNeighbours(window=10, neighbours=2))
        == "NearestNeighbours(window=10, neighbours=2)"
    )
    with pytest.raises(DefinitionError, match="fewer neighbours"):
        NearestNeighbours(window=5, neighbours=5)
    with pytest.raises(DefinitionError, match="whole number"):
        NearestNeighbours(window=0)
