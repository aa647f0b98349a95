"""The scores of NAB's three profiles, computed by hand after its published scorer (`nab/sweeper.py`, version 1.1)."""

import math

import numpy as np
import pytest

from penstock.models.evaluation_anomaly import Series, alarms_of
from penstock.monitoring.nab import PROFILES, nab_score, nab_score_of


def scaled(position):
    """``scaledSigmoid`` of the publication."""
    return -1.0 if position >= 3.0 else 2 / (1 + math.exp(5 * position)) - 1


ROWS, WINDOWS = 200, [(50, 59), (120, 139)]
ALARMS = [10, 52, 57, 61, 89, 145]
"""Before all windows; twice in the first; two rows and three lengths behind it; behind the second, which is missed."""


def alarms(*rows):
    found = np.zeros(ROWS, np.bool_)
    found[list(rows)] = True
    return found


# Of ten rows from 50 to 59 the alarm at 52 stands at -(59 - 52 + 1) / 10; the one at 57 counts no more.
FOUND = scaled(-0.8) / scaled(-1.0)
# Nine steps are the window's length behind it: 61 is 2/9 behind, 89 is 30/9 (beyond 3); 145 is 6/19 behind the second; 10 is before any.
FALSE = -1.0 + scaled(2 / 9) - 1.0 + scaled(6 / 19)


@pytest.mark.parametrize(
    ("profile", "points", "silence"),
    [
        ("standard", FOUND - 1.0 + 0.11 * FALSE, -2.0),
        ("reward_low_FP_rate", FOUND - 1.0 + 0.22 * FALSE, -2.0),
        ("reward_low_FN_rate", FOUND - 2.0 + 0.11 * FALSE, -4.0),
    ],
)
def test_a_profile_by_hand(profile, points, silence):
    wanted = 100 * (points - silence) / (2.0 - silence)
    assert nab_score(alarms(*ALARMS), WINDOWS, profile=PROFILES[profile]) == pytest.approx(wanted, rel=1e-12)
    labels = np.zeros(ROWS)
    for first, last in WINDOWS:
        labels[first : last + 1] = 1.0
    series = Series(np.arange(ROWS), np.zeros(ROWS), labels)
    told = alarms_of(series, alarms(*ALARMS), action="alarm", threshold=0.9, nab_profile=profile)
    assert (told.nab, told.nab_profile) == (pytest.approx(wanted, rel=1e-12), profile)
    assert (told.windows, told.found, told.alerts) == (2, 1, 6)


def test_figures_in_plain_numbers():
    """So that the formulas above cannot be wrong in the same way: 1/(1+e^-4) = 0.98201, 1/(1+e^-5) = 0.99331, 1/(1+e^(10/9)) = 0.24766,
    1/(1+e^(30/19)) = 0.17095."""
    assert pytest.approx((2 * 0.982014 - 1) / (2 * 0.993307 - 1), abs=1e-5) == FOUND
    assert pytest.approx(-4 + 2 * 0.247664 + 2 * 0.170945, abs=1e-5) == FALSE
    assert nab_score(alarms(*ALARMS), WINDOWS) == pytest.approx(
        100 * (0.977104 - 1 - 0.11 * 3.162782 + 2) / 4, abs=1e-3
    )


def test_exactly_three_lengths_behind_a_false_alarm_costs_in_full():
    assert nab_score(alarms(50, 59 + 27), [(50, 59)]) == 100 * (2 - 0.11) / 2


def test_windows_that_end_in_the_probation_count_nowhere():
    found = alarms(120)
    assert nab_score(found, WINDOWS, probation=60) == 100.0
    assert nab_score(found, WINDOWS, probation=59) == pytest.approx(50.0)


def test_of_several_series_points_are_summed_up_before_they_are_scaled():
    parts = [(alarms(50), [(50, 59)]), (alarms(10), []), (alarms(), [(120, 139)])]
    assert nab_score_of(parts) == pytest.approx(100 * (1.0 - 0.11 - 1.0 + 2.0) / 4)
