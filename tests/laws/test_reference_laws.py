"""Laws that the oracle obeys itself: it is slow, so it should at least be consistent."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import groupby

from hypothesis import given, settings

from penstock import Aggregate, TimeWindow
from penstock.testing.reference import Lateness, ReferenceView
from penstock.types import Field, Float64
from tests.laws.strategies import rows

MINUTE, HOUR = 60_000_000, 3_600_000_000
LATENESS = 10_000_000
FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "count_distinct", "var_samp")
AGGREGATES = [
    Aggregate(Field("x", Float64), function, time_window=window)
    for function in FUNCTIONS
    for window in (timedelta(minutes=1), TimeWindow(timedelta(hours=1), timedelta(minutes=-1)))
]
streams = rows(windows_us=(MINUTE, HOUR), lateness_us=LATENESS, max_size=25)


def new_view(lateness_us=LATENESS):
    return ReferenceView(AGGREGATES, lateness_us)


@settings(max_examples=60, deadline=None)
@given(streams)
def test_a_lookup_at_the_time_of_an_in_order_row_sees_what_the_row_saw(stream):
    view = new_view()
    for row in stream:
        result = view.apply(row.key, row.time_us, {"x": row.value})
        if result.lateness is not Lateness.TOO_LATE:
            assert repr(view.lookup(row.key, row.time_us)) == repr(result.features)


@settings(max_examples=60, deadline=None)
@given(streams)
def test_without_a_bound_on_lateness_the_order_of_arrival_leaves_no_trace(stream):
    arrived, sorted_ = new_view(10**15), new_view(10**15)
    for row in stream:
        arrived.apply(row.key, row.time_us, {"x": row.value})
    for row in sorted(stream, key=lambda row: row.time_us):  # stable: ties keep log order
        sorted_.apply(row.key, row.time_us, {"x": row.value})
    for row in stream:
        assert repr(arrived.lookup(row.key, row.time_us)) == repr(sorted_.lookup(row.key, row.time_us))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_other_keys_do_not_matter(stream):
    together = new_view()
    found = [(row.key, repr(together.apply(row.key, row.time_us, {"x": row.value}))) for row in stream]
    alone = []
    by_key = sorted(stream, key=lambda row: row.key)
    for key, own in groupby(by_key, key=lambda row: row.key):
        view = new_view()
        alone += [(key, repr(view.apply(key, row.time_us, {"x": row.value}))) for row in own]
    assert alone == sorted(found, key=lambda item: item[0])


@settings(max_examples=60, deadline=None)
@given(streams)
def test_no_feature_is_ever_nan_infinite_or_negative_zero(stream):
    view = new_view()
    for row in stream:
        for value in view.apply(row.key, row.time_us, {"x": row.value}).features.values():
            assert value is None or (math.isfinite(value) and repr(value) != "-0.0")
