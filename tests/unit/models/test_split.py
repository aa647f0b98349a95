from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from penstock.core.errors import ModelError
from penstock.core.time import DAY_US, to_us
from penstock.definitions.models import TimeSplit
from penstock.models.split import split_by_time

START = datetime(2018, 7, 25, tzinfo=UTC)
WEEK = timedelta(days=7)


def days(*offsets):
    return to_us(START) + (np.array(offsets, np.float64) * DAY_US).astype(np.int64)


def test_periods_are_half_open_with_a_gap_between():
    times = days(-0.001, 0, 6.999, 7, 13.999, 14, 20.999, 21)
    split = split_by_time(times, TimeSplit(train=WEEK, delay=WEEK, test=WEEK, start=START))
    assert split.train.tolist() == [False, True, True, False, False, False, False, False]
    assert split.test.tolist() == [False, False, False, False, False, True, True, False]


def test_without_start_the_test_ends_just_after_the_newest_event():
    times = days(0, 5, 20.5)
    split = split_by_time(times, TimeSplit(train=WEEK, delay=WEEK, test=WEEK))
    assert split.test_end_us == times[-1] + 1
    assert split.test.tolist() == [False, False, True]
    assert split.train.tolist() == [True, True, False]


def test_the_end_may_be_given():
    times = days(0, 5, 20.5, 30)
    split = split_by_time(times, TimeSplit(train=WEEK, delay=WEEK, test=WEEK), end_us=int(days(21)[0]))
    assert split.test.tolist() == [False, False, True, False]


def test_a_label_trains_when_known_at_the_end_of_the_gap_to_the_microsecond():
    times = days(1, 2, 3, 15)
    cut_off = int(days(14)[0])
    known = np.array([cut_off, cut_off + 1, np.iinfo(np.int64).max, cut_off])
    split = split_by_time(times, TimeSplit(train=WEEK, delay=WEEK, test=WEEK, start=START), known_at_us=known)
    assert split.train.tolist() == [True, False, False, False]
    assert split.test.tolist() == [False, False, False, True]


def test_order_of_rows_does_not_matter():
    times = days(*np.random.default_rng(0).uniform(0, 21, 500))
    lengths = TimeSplit(train=WEEK, delay=timedelta(0), test=WEEK, start=START)
    order = np.random.default_rng(1).permutation(500)
    assert (split_by_time(times, lengths).train[order] == split_by_time(times[order], lengths).train).all()


@pytest.mark.parametrize("times", [days(1), days(15), days(100)])
def test_an_empty_period_names_periods_and_data(times):
    with pytest.raises(ModelError, match=r"a period has no rows: train 2018-07-25 .* Shorten the periods"):
        split_by_time(times, TimeSplit(train=WEEK, delay=WEEK, test=WEEK, start=START))


def test_no_rows_at_all():
    with pytest.raises(ModelError, match="there are no rows"):
        split_by_time(np.empty(0, np.int64), TimeSplit(train=WEEK, delay=WEEK, test=WEEK))
