"""Test, then learn: whose copy scores which event."""

import numpy as np
import pytest

from penstock.definitions.learning import Online
from penstock.models.fold import Fold
from penstock.models.prequential_scores import Held, prequential_scores, stretches_by_time
from penstock.models.published import Constant


class Counting:
    """Its score is the number of labels that it has learned."""

    def __init__(self):
        self.labels = 0

    def learn(self, _vectors, labels):
        self.labels += len(labels)

    def settle(self):
        pass

    def sound(self, _vectors):
        return True

    def form(self):
        return Constant(float(self.labels))

    def keep(self):
        return b""


def expected(times, known, publish_every):
    """Labels that were known at or before each event, down to the last published copy."""
    found = np.searchsorted(np.sort(known), times, side="right")
    return found // publish_every * publish_every


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_each_event_is_scored_by_the_copy_published_before_it_came(rows):
    draw = np.random.default_rng(3)
    times = np.sort(draw.integers(0, 1000, 400))
    known = times + draw.integers(0, 200, 400)
    online = Online(batch=5, publish_every=10, refit_every=10)
    fold = Fold(Counting(), online, binary=True)
    scored = times >= 300
    stretches = stretches_by_time(
        np.zeros((400, 2)), times, labels=np.ones(400), known_at_us=known, scored=scored, rows=rows
    )
    found = prequential_scores(fold, stretches, features=2)
    begun = int(np.searchsorted(np.flatnonzero(scored), np.flatnonzero(scored)[0]))
    wanted = expected(times[scored], known, 10)
    changed = np.flatnonzero(np.diff(wanted))[0] + 1  # before, what is known when the test begins
    assert begun == 0
    np.testing.assert_array_equal(found[changed:], wanted[changed:])
    assert (np.abs(found[:changed] - wanted[:changed]) < 10).all()


def test_held_rows_are_given_once_and_let_go():
    held = Held()
    held.add(np.array([1, 3, 4]), np.array([[1.0], [3.0], [4.0]]))
    held.add(np.array([7, 9]), np.array([[7.0], [9.0]]))
    out = np.full((4, 1), np.inf)
    assert held.fill(np.array([9, 1, 2, 4]), out).tolist() == [True, True, False, True]
    assert out[:, 0].tolist() == [9.0, 1.0, np.inf, 4.0]
    assert held.fill(np.array([3, 7]), out[:2]).all()
    assert held._parts == []
