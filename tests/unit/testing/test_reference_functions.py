"""The oracle's functions beyond the core against numbers worked out by hand."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from penstock import Aggregate, TimeWindowSeries
from penstock.aggregation_functions import (
    decayed_count,
    decayed_sum,
    ewma,
    first,
    first_distinct,
    last,
    last_distinct,
)
from penstock.testing.reference import ReferenceView
from penstock.types import Field, Float64, Int64, String

S = 1_000_000  # a second in microseconds
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def after(function, rows, *, dtype=Float64, window=MINUTE, **options):
    """The feature after the last of the rows, given as (seconds, value)."""
    view = ReferenceView([Aggregate(Field("x", dtype), function, time_window=window, name="f", **options)])
    for seconds, value in rows:
        found = view.apply("k", int(seconds * S), {"x": value}).features["f"]
    return found


def empty(function, window=MINUTE):
    return ReferenceView([Aggregate(Field("x", Float64), function, time_window=window, name="f")]).empty()[
        "f"
    ]


VALUES = [(1, "a"), (2, "b"), (3, "a"), (4, None), (5, "c"), (6, "b")]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (first(2), ["a", "b"]),
        (first(9), ["a", "b", "a", "c", "b"]),
        (last(3), ["a", "c", "b"]),
        (first_distinct(2), ["a", "b"]),
        (first_distinct(9), ["a", "b", "c"]),
        (last_distinct(2), ["c", "b"]),
        (last_distinct(9), ["a", "c", "b"]),
        ("mode", "b"),  # as often as a, and later
    ],
)
def test_functions_of_texts(function, expected):
    assert after(function, VALUES, dtype=String) == expected


def test_what_has_left_the_window_is_not_first_any_more():
    rows = [(0, 1.0), (30, 2.0), (60, 1.0), (70, 3.0)]
    assert after(first_distinct(2), rows) == [2.0, 1.0]
    assert after(last_distinct(2), rows) == [1.0, 3.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 3.0),
        ([3.0, 1.0], 2.0),
        ([3.0, 1.0, 100.0], 3.0),
        ([2.0**1023, 1.5 * 2.0**1023], 1.25 * 2.0**1023),
        ([5e-324, 0.0], 0.0),
        ([5e-324, 1e-323], 1e-323),  # half-way, to the even one
    ],
)
def test_median(values, expected):
    assert after("median", list(enumerate(values))) == expected


def test_the_median_of_integers_is_a_float():
    top = 2**63 - 1
    assert repr(after("median", [(0, 1), (1, 2)], dtype=Int64)) == "1.5"
    assert after("median", [(0, top), (1, top)], dtype=Int64) == float(top)


def test_entropy():
    assert after("entropy", [(0, 1.0), (1, 1.0), (2, 1.0)]) == 0.0
    assert math.isclose(after("entropy", [(0, 1.0), (1, 2.0)]), math.log(2))
    thirds = after("entropy", [(0, "a"), (1, "b"), (2, "b")], dtype=String)
    assert math.isclose(thirds, -math.log(1 / 3) / 3 - 2 * math.log(2 / 3) / 3)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 1.0)], None),
        ([(5, 1.0), (5, 2.0)], None),
        ([(0, 1.0), (2, 5.0)], 2.0),
        ([(0, 1.0), (1, 1.0), (2, 4.0)], 1.5),
        ([(-10, 4.0), (0, 3.0), (10, 2.0)], -0.1),
    ],
)
def test_slope(rows, expected):
    assert after("slope", rows) == expected


def test_decayed_sums_halve_every_half_life():
    rows = [(0, 8.0), (1, 4.0), (3, 2.0)]
    assert after(decayed_sum(SECOND), rows) == 8 / 8 + 4 / 4 + 2
    assert after(decayed_count(SECOND), rows) == 1 / 8 + 1 / 4 + 1
    assert after(ewma(SECOND), rows) == 4 / 1.375


def test_blocks_do_not_show():
    far = timedelta(days=1)
    assert after(decayed_sum(SECOND), [(31, 1.0), (33, 1.0)], window=far) == 1.25
    assert after(decayed_count(SECOND), [(-1, 1.0), (0, 1.0), (40, 1.0)], window=far) == 1 + 2**-40 + 2**-41
    assert after(decayed_sum(SECOND), [(0, 1e300), (5000, 1.0)], window=far) == 1.0


def test_weights_that_vanish_leave_no_mean():
    rows = [(0, 1.0), (5000, None)]
    assert after(ewma(SECOND), rows, window=timedelta(days=1)) is None
    assert after(decayed_sum(SECOND), rows, window=timedelta(days=1)) == 0.0


def test_a_number_too_large_is_null():
    assert after(decayed_sum(MINUTE), [(0, 1.7e308), (0, 1.7e308)]) is None


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("median", None),
        ("mode", None),
        ("entropy", None),
        ("slope", None),
        (ewma(SECOND), None),
        (decayed_sum(SECOND), 0.0),
        (decayed_count(SECOND), 0.0),
        (first(2), []),
        (last_distinct(2), []),
    ],
)
def test_empty_windows(function, expected):
    assert repr(empty(function)) == repr(expected)
    assert repr(after(function, [(0, None), (1, math.nan)])) == repr(expected)


def test_a_series_is_a_list_of_its_windows_values():
    series = TimeWindowSeries(timedelta(seconds=-30), timedelta(seconds=10))
    rows = [(1, 1.0), (12, 2.0), (13, 4.0), (30, 8.0)]
    assert after("sum", rows, window=series) == [1.0, 6.0, 8.0]
    assert after("mean", rows[:2], window=series) == [None, 1.0, 2.0]
    assert empty("count", series) == [0, 0, 0]
    overlapping = TimeWindowSeries(
        timedelta(seconds=-20), timedelta(seconds=10), step_size=timedelta(seconds=5)
    )
    assert after("count", rows, window=overlapping) == [2, 0, 1]
