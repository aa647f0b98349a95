"""What follows the hour of the day is no drift, for looks and for detectors; what moves besides is found soon. And one clock gone wrong stops neither."""

import msgspec
import numpy as np
import pytest

from penstock.core.time import DAY_US
from penstock.monitoring.bulk_time import BulkClock
from penstock.monitoring.change_points import STEPS, Heard, Listener, LossScale, RankScale
from penstock.monitoring.drift_looks import LookRules, Looks, LooksState
from penstock.monitoring.hours import mean_by_hour
from penstock.monitoring.profile import Profile, parse_profile, profile_column

WEEK_US = 7 * DAY_US
RULES = LookRules(window_us=WEEK_US, false_alarms=0.05)
AMPLITUDES = [0.2, 0.5, 1.0]
YEARS = 3 * 365 * DAY_US


def stream(draw, days, *, amplitude, per_day=5_000, start=0, shift_from=None):
    """Times and values whose mean follows the hour; 0.25 standard deviations more from a time on."""
    times = start + np.arange(days * per_day) * (DAY_US // per_day)
    values = draw.normal(size=len(times)) + amplitude * np.sin(2 * np.pi * times / DAY_US)
    return times, values if shift_from is None else values + 0.25 * (times >= shift_from)


def reference(draw, amplitude):
    times, values = stream(draw, 14, amplitude=amplitude)
    return profile_column("x", values, times_us=times)


def looked(column, times, values):
    return [look for _, look in Looks([column], RULES).add(times, [(values, None)])]


@pytest.mark.parametrize("amplitude", AMPLITUDES)
def test_a_daily_cycle_alarms_no_look(amplitude):
    draw = np.random.default_rng(1)
    looks = looked(
        reference(draw, amplitude), *stream(draw, 8 * 7 + 1, amplitude=amplitude, start=4 * WEEK_US)
    )
    assert len([one for one in looks if one.is_last]) == 8
    assert [one.rows for one in looks[:8]] == [*range(5_010, 35_000, 5_000), 35_000, 5_000]
    assert [one for one in looks if one.drifted] == []
    assert sum(one.level for one in looks[:7]) < 0.05


@pytest.mark.parametrize("amplitude", AMPLITUDES)
def test_drift_beside_a_daily_cycle_is_found_when_its_first_day_is_over(amplitude):
    draw, start = np.random.default_rng(2), 4 * WEEK_US
    moved = start + 2 * DAY_US
    looks = looked(
        reference(draw, amplitude), *stream(draw, 6, amplitude=amplitude, start=start, shift_from=moved)
    )
    first = next(one for one in looks if one.drifted)
    assert moved < first.time_us < moved + 1.01 * DAY_US


def test_by_hours_instead_of_days_the_same_cycle_would_alarm():
    """The guard of the tests above: the first hours against a profile of whole days."""
    draw = np.random.default_rng(3)
    column = reference(draw, 0.5).of_days()
    rules = LookRules(window_us=DAY_US - 1, false_alarms=0.05)
    times, values = stream(draw, 1, amplitude=0.5)
    assert any(look.drifted for _, look in Looks([column], rules).add(times, [(values, None)]))


@pytest.mark.parametrize("amplitude", AMPLITUDES)
def test_a_daily_cycle_alarms_no_detector_and_drift_beside_it_does_the_same_day(amplitude):
    pytest.importorskip("river")
    draw, start = np.random.default_rng(4), 4 * WEEK_US
    scale, span = RankScale(reference(draw, amplitude)), WEEK_US // STEPS
    quiet = stream(draw, 28, amplitude=amplitude, start=start)
    assert Listener("x", scale, span_us=span).add(*quiet) == []
    moved = start + 7 * DAY_US
    shifted = stream(draw, 9, amplitude=amplitude, start=start, shift_from=moved)
    ((_, point),) = Listener("x", scale, span_us=span).add(*shifted)
    assert moved < point.time_us < moved + DAY_US


def test_a_fast_stream_s_cycle_would_alarm_a_detector_that_does_not_know_the_hours():
    pytest.importorskip("river")
    draw = np.random.default_rng(5)
    times, values = stream(draw, 14, amplitude=1.0, per_day=20_000)
    column, span = profile_column("x", values, times_us=times), WEEK_US // STEPS
    later = stream(draw, 14, amplitude=1.0, per_day=20_000, start=4 * WEEK_US)
    assert Listener("x", RankScale(column), span_us=span).add(*later) == []
    ignorant = RankScale(profile_column("x", values))
    assert Listener("x", ignorant, span_us=span).add(*later) != []


def test_losses_are_cleared_of_the_hour_too():
    times = np.arange(2_400) * (DAY_US // 1_200)
    lost = np.where(times // (DAY_US // 24) % 24 < 12, 0.2, 0.6)
    codes, values = LossScale(mean_by_hour(lost, times)).codes(lost, times)
    assert np.ptp(codes) <= 1
    assert len(np.unique(values)) == 2


def test_without_a_cycle_hours_say_nothing():
    draw = np.random.default_rng(6)
    times, values = stream(draw, 7, amplitude=0.0, per_day=1_000)
    assert max(map(abs, mean_by_hour(values, times))) < 0.03, (
        "by chance alone means of 291 rows differ by 0.06"
    )


def test_days_that_differ_say_less_than_hours_that_do():
    """Rows of a daily cycle are clustered by stretches, not by days; rows with campaigns of days by both."""
    draw = np.random.default_rng(7)
    times, values = stream(draw, 14, amplitude=1.0)
    cycle = profile_column("x", values, times_us=times)
    assert cycle.clustering > 10
    assert cycle.of_days().clustering < 3
    campaign = profile_column("x", values + 0.5 * (times // DAY_US % 5 == 0), times_us=times)
    assert campaign.of_days().clustering > 20
    assert parse_profile(Profile((cycle,)).to_bytes(), where="x").columns == (cycle,)


def test_under_two_days_nothing_is_known_of_days():
    draw = np.random.default_rng(8)
    times, values = stream(draw, 1, amplitude=1.0)
    column = profile_column("x", values[:2_000], times_us=times[:2_000])
    assert (column.daily_clustering, column.by_hour) == (0.0, ())
    assert column.of_days() == column
    assert profile_column("x", np.zeros(0), times_us=np.zeros(0, np.int64)).by_hour == ()


def test_the_day_on_which_a_stream_begins_counts_only_as_a_whole():
    draw = np.random.default_rng(9)
    column = reference(draw, 1.0)
    times, values = stream(draw, 3, amplitude=1.0, start=4 * WEEK_US + DAY_US // 2)
    looks = looked(column, times, values)
    assert [one.rows for one in looks] == [5_010, 10_010], "of the half day nothing"
    assert looked(column, *stream(draw, 2, amplitude=1.0, start=4 * WEEK_US + DAY_US // 48))[0].rows > 4_800


@pytest.mark.parametrize("bad", [[5_000], [0], list(range(100, 40_000, 40))])
def test_rows_years_ahead_change_next_to_nothing(bad):
    """Far-future rows, the first of all among them, one or one in forty: as many looks, the same drift, the same change point."""
    pytest.importorskip("river")
    draw = np.random.default_rng(10)
    column = profile_column("x", draw.random(20_000))
    times = np.arange(40_000) * (DAY_US // 2_000)
    values = np.append(draw.random(20_000), draw.random(20_000) / 2)
    wrong = times.copy()
    wrong[bad] += YEARS
    straight, crooked = looked(column, times, values), looked(column, wrong, values)
    assert [one.drifted for one in crooked] == [one.drifted for one in straight]
    span = WEEK_US // STEPS
    ((_, point),) = Listener("x", RankScale(column), span_us=span).add(wrong, values)
    assert 10 * DAY_US < point.time_us < 11.5 * DAY_US


def test_where_many_clocks_go_wrong_at_once_it_comes_back_with_them():
    pytest.importorskip("river")
    draw = np.random.default_rng(11)
    column = profile_column("x", draw.random(20_000))
    times = np.arange(40_000) * (DAY_US // 2_000)
    times[5_000:5_100] += YEARS
    values = np.append(draw.random(20_000), draw.random(20_000) / 2)
    looks = looked(column, times, values)
    assert not any(one.drifted for one in looks if one.time_us < 10 * DAY_US or one.time_us > YEARS)
    assert any(one.drifted for one in looks if 10 * DAY_US < one.time_us < 12 * DAY_US)
    found = Listener("x", RankScale(column), span_us=WEEK_US // STEPS).add(times, values)
    assert [10 * DAY_US < point.time_us < 11.5 * DAY_US for _, point in found] == [True]


@pytest.mark.parametrize("pieces", [1, 7, 613])
def test_cuts_change_nothing(pieces):
    pytest.importorskip("river")
    draw = np.random.default_rng(12)
    column, count = profile_column("x", draw.random(5_000)), 20_000
    times = np.sort(draw.integers(0, 20 * DAY_US, count)) - draw.integers(0, DAY_US // 2, count)
    times[draw.integers(0, count, 50)] += YEARS
    times[9_000:9_100] += YEARS
    values = np.append(draw.random(count // 2), draw.random(count // 2) / 2)
    span = WEEK_US // STEPS
    straight, listener = Looks([column], RULES), Listener("x", RankScale(column), span_us=span)
    whole = straight.add(times, [(values, None)]), listener.add(times, values)
    got, state, heard = ([], []), LooksState(), Heard()
    for part in np.array_split(np.arange(count), pieces):
        looks, hears = (
            Looks([column], RULES, state),
            Listener("x", RankScale(column), span_us=span, heard=heard),
        )
        got[0].extend((int(part[row]), look) for row, look in looks.add(times[part], [(values[part], None)]))
        got[1].extend((int(part[row]), point) for row, point in hears.add(times[part], values[part]))
        state = msgspec.json.decode(msgspec.json.encode(looks.state), type=LooksState)
        heard = msgspec.json.decode(msgspec.json.encode(hears.heard), type=Heard)
    assert got == whole
    assert state == straight.state
    assert heard == listener.heard
    assert len(whole[0]) > 10
    assert len(whole[1]) == 1


def test_the_clock_is_the_median_of_the_newest_rows_however_they_are_cut():
    draw = np.random.default_rng(13)
    times = draw.integers(0, 1_000, 200)
    whole = BulkClock().add(times).tolist()
    slow = [int(np.sort(times[max(0, i - 20) : i + 1])[(min(i, 20)) // 2]) for i in range(200)]
    assert whole == slow
    for size in (1, 3, 19, 21, 50):
        clock, got = BulkClock(), []
        for start in range(0, 200, size):
            got += clock.add(times[start : start + size]).tolist()
            clock = BulkClock(clock.recent)
        assert got == whole
    assert BulkClock().add(times[:0]).tolist() == []
