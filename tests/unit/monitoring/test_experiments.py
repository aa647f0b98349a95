from __future__ import annotations

import numpy as np
import pytest

from penstock.monitoring.experiments import compare, ratio

LOOKS = 60


def experiment(rng, *, lift, keys=3_000, base=0.1):
    """Keys with habits of their own come and come again; returns the verdicts of all looks."""
    habit = np.clip(rng.beta(2, 2 / base - 2, keys), 0, 1)
    arm = rng.random(keys) < 0.5
    done, hits = np.zeros(keys), np.zeros(keys)
    verdicts = []
    for _ in range(LOOKS):
        coming = rng.integers(0, keys, 500)
        rate = np.clip(habit[coming] * np.where(arm[coming], 1 + lift, 1), 0, 1)
        np.add.at(done, coming, 1)
        np.add.at(hits, coming, rng.random(500) < rate)
        found = compare(ratio(hits[~arm], done[~arm]), ratio(hits[arm], done[arm]))
        verdicts.append(found.verdict)
    return verdicts


def test_arms_that_are_equal_are_told_apart_in_no_more_than_one_run_of_twenty_at_any_look():
    rng = np.random.default_rng(11)
    runs = [experiment(rng, lift=0.0) for _ in range(200)]
    wrong = sum(any(v != "undecided" for v in verdicts) for verdicts in runs)
    assert wrong <= 0.05 * len(runs) + 2 * np.sqrt(len(runs) * 0.05 * 0.95)
    fixed = sum(verdicts[-1] != "undecided" for verdicts in runs)
    assert fixed <= wrong


def test_a_real_difference_is_found_and_its_direction():
    rng = np.random.default_rng(12)
    runs = [experiment(rng, lift=0.35) for _ in range(30)]
    assert sum("better" in verdicts for verdicts in runs) >= 27
    assert not any("worse" in verdicts for verdicts in runs)


def test_less_may_be_better():
    keys = np.full(20_000, 1.0)
    low, high = np.zeros(20_000), np.zeros(20_000)
    low[:200], high[:1000] = 1, 1
    assert compare(ratio(high, keys), ratio(low, keys), more_is_better=False).verdict == "better"
    assert compare(ratio(high, keys), ratio(low, keys)).verdict == "worse"


@pytest.mark.parametrize("keys", [0, 1])
def test_what_cannot_be_known_yet_is_undecided(keys):
    few = ratio(np.ones(keys), np.ones(keys))
    many = ratio(np.random.default_rng(1).random(100), np.ones(100))
    found = compare(few, many)
    assert (found.low, found.high, found.verdict) == (None, None, "undecided")


def test_arms_without_any_spread_are_undecided():
    none = ratio(np.zeros(100), np.ones(100))
    assert compare(none, none).verdict == "undecided"
