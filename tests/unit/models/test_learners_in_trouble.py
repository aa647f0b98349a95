"""Learners whose library fails, whose state cannot be read, and labels that cannot be learned."""

import secrets

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from penstock.core.errors import ArtifactError
from penstock.definitions.learning import Ensemble, Online
from penstock.models.fold import Arrived, Fold, parse_state
from penstock.models.learners import learner_of
from penstock.models.online_state import dump, load, sealing_key

FEATURES = ("a", "b")
ONLINE = Online(batch=10, publish_every=50, refit_every=50, window=50)


def fold_of(estimator):
    return Fold(learner_of(estimator, features=FEATURES, task="binary", online=ONLINE), ONLINE, binary=True)


def teach(fold, vectors, labels, first=0):
    at = np.arange(first, first + len(labels))
    for _ in fold.learn(Arrived(2 * at + 1, 2 * at + 1, 2 * at, labels), vectors):
        fold.copy()


def rows(count, seed=0):
    vectors = np.random.default_rng(seed).normal(0, 1, (count, 2))
    return vectors, (vectors[:, 0] > 0).astype(float)


@pytest.mark.parametrize("several", [False, True])
def test_a_fit_that_fails_leaves_the_one_before_until_one_succeeds(several):
    estimator = LogisticRegression()
    if several:
        estimator = Ensemble({"linear": estimator, "tree": DecisionTreeClassifier()})
    fold = fold_of(estimator)
    vectors, labels = rows(200)
    vectors[70, 1] = np.nan
    teach(fold, vectors[:50], labels[:50])
    before = fold.learner.score(vectors[:50])
    teach(fold, vectors[50:100], labels[50:100], first=50)
    if not several:
        np.testing.assert_array_equal(fold.learner.score(vectors[:50]), before)
    assert "NaN" in fold.problem
    teach(fold, vectors[100:], labels[100:], first=100)
    assert fold.problem == ""
    assert fold.counts.labels == 200
    assert np.mean((fold.learner.score(vectors[100:]) > 0.5) == (labels[100:] > 0)) > 0.9


class Unreadable:
    def __reduce__(self):
        return (int, ("no number",))


def test_a_state_that_its_library_cannot_read_is_refused_as_such():
    with pytest.raises(ArtifactError, match="cannot be read any more"):
        load(dump(Unreadable()))


@pytest.mark.parametrize("pieces", [1, 7, 500])
def test_labels_that_cannot_be_learned_do_not_wait(pieces):
    fold = fold_of(DecisionTreeClassifier())
    vectors, labels = rows(500)
    labels[45:300] = np.nan
    vectors[310:] = np.inf
    for at in range(0, 500, pieces):
        teach(fold, vectors[at : at + pieces], labels[at : at + pieces], first=at)
    assert fold.waiting == 5  # of 55 that can be learned, all but five batches
    assert len(fold._waiting[1]) == 5
    assert fold.counts == type(fold.counts)(50, int(labels[:45].sum() + labels[300:305].sum()), 255)
    assert fold.cursor == (609, 609)
    teach(fold, *rows(5), first=500)
    assert (fold.counts.labels, fold.counts.refused, fold.counts.unknown) == (60, 255, 190)
    vectors, labels = rows(20)
    teach(fold, vectors, np.full(20, np.nan), first=505)
    assert (fold.waiting, fold.counts.refused, fold.cursor) == (0, 275, (1049, 1049))


def test_labels_passed_while_others_wait_are_counted_once_by_a_fold_that_goes_on():
    vectors, labels = rows(40)
    labels[5:30] = np.nan
    whole, cut = fold_of(DecisionTreeClassifier()), fold_of(DecisionTreeClassifier())
    teach(whole, vectors, labels)
    teach(cut, vectors[:20], labels[:20])
    state = parse_state(cut.state(definition="", libraries={}, erasures=0))
    assert state.counts.refused == 0
    again = Fold.restored(state, ONLINE, binary=True)
    teach(again, vectors, labels)
    assert again.counts == whole.counts
    assert whole.counts.refused == 25


def test_a_key_that_is_being_made_is_never_seen_unfinished(tmp_path, monkeypatch):
    """Another process asks for the key just before its bytes are written."""
    made, inner = secrets.token_bytes, []

    def token_bytes(size):
        monkeypatch.setattr(secrets, "token_bytes", made)
        inner.append(sealing_key(tmp_path / "online"))
        return made(size)

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    assert sealing_key(tmp_path / "online") == inner[0]
    assert [path.name for path in (tmp_path / "online").iterdir()] == ["key"]
