"""What is said of a version's scoring, and when."""

from __future__ import annotations

import numpy as np
import pytest

from penstock import Guard
from penstock.core.errors import DefinitionError
from penstock.monitoring.profile import profile_column
from penstock.monitoring.watch import ScoringWatch, chernoff

GUARD = Guard()
FAST_S = 1e-5


def profile(rows=2_000, seed=0):
    return profile_column("score", np.random.default_rng([seed, 1]).beta(1, 8, rows), role="score")


def alarms(scores, *, step, guard=GUARD, reference=None, seconds=FAST_S):
    """The first alarm, and after how many events it came."""
    watch = ScoringWatch(guard, reference)
    for start in range(0, len(scores), step):
        watch.add(seconds, scores[start : start + step])
        found = watch.alarm()
        if found is not None:
            return found.what, watch.events
        if watch.passed:
            return "passed", watch.events
    return None, watch.events


@pytest.mark.parametrize("step", [1, 64, 500, 4096])
def test_a_good_version_is_left_alone_over_many_seeds(step):
    for seed in range(200 if step > 1 else 20):
        draw = np.random.default_rng([seed, step])
        scores = draw.beta(1, 8, 12_000)
        scores[draw.random(12_000) < 0.005] = np.nan
        assert alarms(scores, step=step, reference=profile(seed=seed))[0] == "passed", seed


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_failures_are_told_at_the_first_looks(share):
    scores = np.random.default_rng(0).beta(1, 8, 12_000)
    scores[np.random.default_rng(1).random(12_000) < share] = np.nan
    assert alarms(scores, step=50, reference=profile()) == ("failures", 500)


def test_a_shift_is_told_and_must_be_the_larger_the_fewer_the_test_events():
    moved = np.random.default_rng(2).beta(3, 6, 12_000)
    assert alarms(moved, step=50, reference=profile()) == ("scores", 500)
    small = np.random.default_rng(3).beta(1.15, 8, 12_000)
    assert alarms(small, step=50, reference=profile())[0] == "passed", "smaller than the guard minds"
    assert alarms(moved, step=50, reference=profile(rows=8))[0] == "passed", "8 test events say little"


def test_slow_calls_are_told_after_twenty_and_a_hiccup_is_not():
    scores = np.random.default_rng(0).beta(1, 8, 12_000)
    assert alarms(scores, step=10, reference=profile(), seconds=0.006) == ("latency", 200)
    assert alarms(scores, step=4096, seconds=0.006)[0] == "passed", "a large batch may take longer"
    watch = ScoringWatch(GUARD, None)
    for i in range(1_000):
        watch.add(0.05 if i % 3 == 0 else FAST_S, scores[:1])
        assert watch.alarm() is None


def test_the_bound_is_one():
    draw = np.random.default_rng(0)
    hits = draw.binomial(500, 0.01, 20_000)
    for found in (6, 8, 12):
        assert (hits >= found).mean() <= chernoff(found, 500, 0.01)
    assert chernoff(500, 500, 1.0) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"events": 499}, {"max_failed": 0.0}, {"false_alarms": 0.6}, {"min_positives": -1}]
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(DefinitionError, match="allowed"):
        Guard(**wrong)
