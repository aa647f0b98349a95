import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.monitoring.nab import FEW_FALSE_ALARMS, FEW_MISSED, nab_score


def alarms_at(*rows, count=1_000):
    found = np.zeros(count, np.bool_)
    found[list(rows)] = True
    return found


WINDOWS = [(100, 199), (600, 699)]


def test_one_found_one_missed_is_half():
    assert nab_score(alarms_at(100), WINDOWS) == pytest.approx(50)
    assert nab_score(alarms_at(100), WINDOWS, profile=FEW_MISSED) == pytest.approx(50)


def test_only_the_first_alarm_of_a_window_counts():
    assert nab_score(alarms_at(100, 150, 199, 600), WINDOWS) == pytest.approx(100)


def test_a_false_alarm_costs_more_the_farther_behind_a_window():
    """By hand: of 4 points between silence and perfection, 0.11 full cost is 2.75 of 100."""
    none = nab_score(alarms_at(100, 600), WINDOWS)
    near = nab_score(alarms_at(100, 600, 201), WINDOWS)
    far = nab_score(alarms_at(100, 600, 590), WINDOWS)
    before = nab_score(alarms_at(100, 600, 5), WINDOWS)
    assert none > near > far
    assert before == far == pytest.approx(100 - 100 * 0.11 / 4)
    assert nab_score(alarms_at(100, 600, 5), WINDOWS, profile=FEW_FALSE_ALARMS) == pytest.approx(94.5)
    assert nab_score(alarms_at(100, 600, 5), WINDOWS, probation=50) == 100


def test_crying_wolf_is_worse_than_silence():
    assert nab_score(np.ones(1_000, np.bool_), WINDOWS) < 0


@pytest.mark.parametrize("windows", [[], [(5, 4)], [(1, 5), (5, 9)], [(990, 1_000)]])
def test_windows_that_mean_nothing_are_refused(windows):
    with pytest.raises(InputError, match="anomaly_windows"):
        nab_score(alarms_at(1), windows)
