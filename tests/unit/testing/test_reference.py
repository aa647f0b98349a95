"""The oracle against numbers worked out by hand: each function at each edge."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from penstock import Aggregate, LifetimeWindow, TimeWindow
from penstock.aggregation_functions import lag
from penstock.testing.reference import Lateness, ReferenceView
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

S = 1_000_000  # a second in microseconds
MINUTE = timedelta(minutes=1)
AMOUNT = Field("x", Float64)
FUNCTIONS = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "stddev_samp",
    "stddev_pop",
    "var_samp",
    "var_pop",
    "last",
    "count_distinct",
    "time_since_last",
    "time_since_first",
    lag(1),
)


def aggregate(function, *, field=AMOUNT, size=MINUTE, offset=timedelta(0), where=None):
    return Aggregate(field, function, time_window=TimeWindow(size, offset), name="f", where=where)


def view_of(function, *, lateness_us=0, max_keys=None, **options):
    return ReferenceView([aggregate(function, **options)], lateness_us, max_keys=max_keys)


def applied(view, *rows, key="k"):
    """The feature after each row, given as (time, value) or (time, columns)."""
    results = [view.apply(key, t, x if isinstance(x, dict) else {"x": x}) for t, x in rows]
    return [result.features["f"] for result in results]


def same(found, expected):
    """Equal to the bit and in type."""
    return repr(found) == repr(expected)


# --- every function over the same four values ---------------------------------------------------------------------
# At 1, 2, 4, 8 seconds: 2.0, 4.0, 4.0, 6.0. Sum 16, mean 4, squared distances 4 + 0 + 0 + 4 = 8.
FOUR = ((1 * S, 2.0), (2 * S, 4.0), (4 * S, 4.0), (8 * S, 6.0))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("count", 4),
        ("sum", 16.0),
        ("mean", 4.0),
        ("min", 2.0),
        ("max", 6.0),
        ("var_pop", 2.0),
        ("var_samp", 8 / 3),
        ("stddev_pop", math.sqrt(2.0)),
        ("stddev_samp", math.sqrt(8 / 3)),
        ("last", 6.0),
        ("count_distinct", 3),
        ("time_since_last", 4.0),
        ("time_since_first", 7.0),
        (lag(1), 4.0),
        (lag(3), 2.0),
        (lag(4), None),
    ],
)
def test_each_function_over_four_values(function, expected):
    assert same(applied(view_of(function), *FOUR)[-1], expected)


EMPTY = {"count": 0, "sum": 0.0, "count_distinct": 0}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_unknown_key_has_empty_windows(function):
    assert same(view_of(function).lookup("nobody", 0)["f"], EMPTY.get(function))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("null", [None, math.nan, math.inf, -math.inf])
def test_a_window_of_nulls_is_empty(function, null):
    assert same(applied(view_of(function), (0, null), (S, null))[-1], EMPTY.get(function))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("null", [None, math.nan, math.inf])
def test_nulls_change_no_function(function, null):
    with_nulls = applied(view_of(function), (0, null), *FOUR[:3], (5 * S, null), FOUR[3])
    assert same(with_nulls[-1], applied(view_of(function), *FOUR)[-1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_left_the_window_leaves_no_trace(function):
    clean = applied(view_of(function), *[(t + 3600 * S, x) for t, x in FOUR])
    after_huge = applied(view_of(function), (0, 1e15), (S, -1e300), *[(t + 3600 * S, x) for t, x in FOUR])
    assert same(after_huge[-1], clean[-1])


# --- window edges, to the microsecond -----------------------------------------------------------------------------
@pytest.mark.parametrize(("age_us", "count"), [(60 * S - 1, 2), (60 * S, 1), (60 * S + 1, 1)])
def test_the_lower_edge_is_outside(age_us, count):
    assert applied(view_of("count"), (0, 1.0), (age_us, 1.0))[-1] == count


@pytest.mark.parametrize(("age_us", "count"), [(10 * S - 1, 0), (10 * S, 1), (70 * S - 1, 1), (70 * S, 0)])
def test_an_offset_shifts_both_edges(age_us, count):
    view = view_of("count", offset=timedelta(seconds=-10))
    assert applied(view, (0, 1.0), (age_us, 1.0))[-1] == count


def test_with_an_offset_the_row_is_not_in_its_own_window():
    assert applied(view_of("count", offset=timedelta(microseconds=-1)), (0, 1.0)) == [0]


def test_time_since_last_looks_back_from_now_through_an_offset():
    view = view_of("time_since_last", offset=timedelta(seconds=-10))
    assert applied(view, (0, 1.0), (9 * S, 1.0), (20 * S, 1.0)) == [None, None, 11.0]


def test_times_before_1970_are_times():
    assert applied(view_of("count"), (-30 * S, 1.0), (0, 1.0), (30 * S, 1.0)) == [1, 2, 2]


# --- ties ---------------------------------------------------------------------------------------------------------
def test_of_two_rows_at_one_time_the_earlier_in_the_log_does_not_see_the_later():
    assert applied(view_of("sum"), (0, 1.0), (0, 2.0)) == [1.0, 3.0]
    assert applied(view_of("last"), (0, 1.0), (0, 2.0)) == [1.0, 2.0]


def test_another_row_at_the_same_time_is_zero_seconds_ago():
    assert same(applied(view_of("time_since_last"), (S, 1.0), (S, 1.0))[-1], 0.0)


def test_a_lookup_sees_all_rows_up_to_and_including_its_time():
    view = view_of("sum")
    applied(view, (0, 1.0), (S, 2.0), (S, 4.0))
    assert view.lookup("k", S)["f"] == 7.0
    assert view.lookup("k", S - 1)["f"] == 1.0


# --- exactness ----------------------------------------------------------------------------------------------------
def test_sums_are_rounded_once():
    assert (
        applied(view_of("sum"), (0, 0.1), (1, 0.2), (2, 0.3))[-1] == 0.6
    )  # added in turn: 0.6000000000000001
    assert applied(view_of("sum"), (0, 1e15), (1, 0.1), (2, -1e15))[-1] == 0.1


def test_a_sum_may_overflow_on_the_way():
    assert applied(view_of("sum"), (0, 1.7e308), (1, 1.7e308), (2, -1.7e308)) == [1.7e308, None, 1.7e308]


def test_a_mean_whose_sum_overflows_is_null():
    assert applied(view_of("mean"), (0, 1.7e308), (1, 1.7e308)) == [1.7e308, None]


def test_a_variance_that_overflows_is_null_and_so_is_its_root():
    for function in ("var_pop", "stddev_pop", "var_samp", "stddev_samp"):
        assert applied(view_of(function), (0, 1e200), (1, -1e200))[-1] is None


def test_variance_keeps_small_differences_of_large_values():
    # 1e15 + {0, 1, 2}: the mean is 1e15 + 1, squared distances 1 + 0 + 1
    rows = [(i, 1e15 + i) for i in range(3)]
    assert applied(view_of("var_samp"), *rows)[-1] == 1.0
    assert applied(view_of("var_pop"), *rows)[-1] == 2 / 3


@pytest.mark.parametrize(("function", "first"), [("var_pop", 0.0), ("var_samp", None)])
def test_one_value_has_no_sample_variance(function, first):
    assert same(applied(view_of(function), (0, 5.0))[0], first)
    assert same(applied(view_of(function.replace("var", "stddev")), (0, 5.0))[0], first)


def test_tiny_values_stay():
    assert applied(view_of("sum"), (0, 5e-324), (1, 5e-324))[-1] == 1e-323
    assert applied(view_of("mean"), (0, 5e-324), (1, 0.0))[-1] == 0.0  # half the smallest float: to even


@pytest.mark.parametrize("function", ["sum", "mean", "min", "max", "last"])
def test_negative_zero_becomes_zero(function):
    assert same(applied(view_of(function), (0, -0.0))[0], 0.0)


def test_zeros_of_both_signs_are_one_value():
    assert applied(view_of("count_distinct"), (0, 0.0), (1, -0.0))[-1] == 1


# --- types --------------------------------------------------------------------------------------------------------
INT = Field("x", Int64)


def test_int_sums_are_exact_and_null_beyond_int64():
    rows = ((0, 2**63 - 1), (1, 1), (2, -2))
    assert applied(view_of("sum", field=INT), *rows) == [2**63 - 1, None, 2**63 - 2]
    assert same(view_of("sum", field=INT).lookup("nobody", 0)["f"], 0)


def test_the_int_mean_rounds_the_exact_sum_then_divides():
    assert applied(view_of("mean", field=INT), (0, 2**63 - 1), (1, 2**63 - 1))[-1] == 2.0**63
    assert applied(view_of("mean", field=INT), (0, 1), (1, 2))[-1] == 1.5


def test_int_variance_is_exact():
    assert applied(view_of("var_pop", field=INT), (0, 2**62), (1, 2**62 + 2))[-1] == 1.0


def test_large_ints_stay_ints():
    for function in ("min", "max", "last"):
        assert same(applied(view_of(function, field=INT), (0, 2**53 + 1))[0], 2**53 + 1)


def test_a_float_column_makes_floats_of_ints():
    for function in ("min", "max", "last", "sum"):
        assert same(applied(view_of(function), (0, 3))[0], 3.0)


def test_bools_count_as_zero_and_one():
    field = Field("x", Bool)
    rows = ((0, True), (1, False), (2, True), (3, None))
    assert same(applied(view_of("sum", field=field), *rows)[-1], 2)
    assert same(applied(view_of("mean", field=field), *rows)[-1], 2 / 3)
    assert same(applied(view_of("last", field=field), *rows)[-1], True)
    assert same(applied(view_of("count_distinct", field=field), *rows)[-1], 2)


def test_texts_are_counted_and_given_back():
    field = Field("x", String)
    rows = ((0, "a"), (1, "b"), (2, "a"), (3, ""), (4, None))
    assert applied(view_of("count", field=field), *rows)[-1] == 4
    assert applied(view_of("count_distinct", field=field), *rows)[-1] == 3
    assert same(applied(view_of("last", field=field), *rows)[-1], "")


def test_times_have_a_least_and_a_greatest():
    field = Field("x", Timestamp)
    assert applied(view_of("min", field=field), (0, 7), (1, 5))[-1] == 5
    assert applied(view_of("max", field=field), (0, 7), (1, 5))[-1] == 7


# --- where --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("count", 2),
        ("sum", 5.0),
        ("min", 1.0),
        ("last", 4.0),
        ("count_distinct", 2),
        ("time_since_last", 2.0),
    ],
)
def test_where_leaves_only_rows_for_which_it_is_true(function, expected):
    view = view_of(function, where="ok")
    rows = [(1.0, True), (2.0, False), (4.0, True), (8.0, None), (16.0, False)]
    found = applied(view, *[(i * S, {"x": x, "ok": ok}) for i, (x, ok) in enumerate(rows)])
    assert same(found[-1], expected)


# --- late rows ----------------------------------------------------------------------------------------------------
def lateness_of(view, *rows):
    return [view.apply("k", t, {"x": x}).lateness for t, x in rows]


def test_lateness_to_the_microsecond():
    view = view_of("count", lateness_us=10 * S)
    times = (100 * S, 100 * S, 100 * S - 1, 90 * S, 90 * S - 1, 101 * S)
    assert lateness_of(view, *[(t, 1.0) for t in times]) == [
        Lateness.IN_ORDER,
        Lateness.IN_ORDER,
        Lateness.LATE,
        Lateness.LATE,
        Lateness.TOO_LATE,
        Lateness.IN_ORDER,
    ]


def test_lateness_is_per_key():
    view = view_of("count")
    view.apply("a", 100 * S, {"x": 1.0})
    assert view.apply("b", 0, {"x": 1.0}).lateness is Lateness.IN_ORDER


def test_a_late_row_sees_its_own_past_and_later_rows_see_it():
    view = view_of("sum", lateness_us=60 * S)
    assert applied(view, (0, 1.0), (50 * S, 2.0), (10 * S, 4.0), (55 * S, 8.0)) == [1.0, 3.0, 5.0, 15.0]


def test_a_late_row_stands_behind_rows_of_its_time():
    view = view_of("last", lateness_us=60 * S)
    assert applied(view, (0, 1.0), (50 * S, 2.0), (0, 4.0))[-1] == 4.0
    assert view.lookup("k", 1)["f"] == 4.0
    assert view.lookup("k", 50 * S)["f"] == 2.0


def test_time_since_last_of_a_late_row_is_about_the_row_before_it():
    view = view_of("time_since_last", lateness_us=60 * S)
    assert applied(view, (0, 1.0), (50 * S, 1.0), (10 * S, 1.0), (51 * S, 1.0)) == [None, 50.0, 10.0, 1.0]


def test_a_too_late_row_sees_itself_and_is_not_kept():
    view = view_of("sum", lateness_us=10 * S)
    assert applied(view, (100 * S, 1.0), (89 * S, 2.0), (100 * S, 4.0)) == [1.0, 2.0, 5.0]


def test_a_too_late_row_sees_what_is_remembered_and_no_more():
    # newest 100 s, lateness 10 s: horizon 90 s. A row at 80 s asks for (90 - 60, 80] seconds.
    view = view_of("sum", lateness_us=10 * S)
    found = applied(view, (30 * S, 1.0), (30 * S + 1, 2.0), (80 * S, 4.0), (100 * S, 8.0), (80 * S, 16.0))
    assert found[-1] == 2.0 + 4.0 + 16.0


def test_a_row_too_late_for_its_whole_window_still_sees_itself():
    view = view_of("sum", lateness_us=0)
    assert applied(view, (1000 * S, 1.0), (10 * S, 2.0))[-1] == 2.0
    behind = view_of("sum", lateness_us=0, offset=timedelta(microseconds=-1))
    assert applied(behind, (1000 * S, 1.0), (10 * S, 2.0))[-1] == 0.0


def test_a_too_late_row_is_the_last_in_its_windows():
    view = view_of("last", lateness_us=10 * S)
    assert applied(view, (80 * S, 1.0), (80 * S, 2.0), (100 * S, 3.0), (80 * S, 4.0))[-1] == 4.0


def test_a_far_future_row_makes_earlier_ones_too_late():
    view = view_of("count", lateness_us=10 * S)
    assert lateness_of(view, (10**15, 1.0), (S, 1.0), (10**15 - 10 * S, 1.0)) == [0, 2, 1]


def test_a_null_row_moves_the_newest_time():
    view = view_of("count", lateness_us=0)
    assert lateness_of(view, (100 * S, None), (99 * S, 1.0)) == [0, 2]


# --- look-ups -----------------------------------------------------------------------------------------------------
def test_a_lookup_changes_nothing():
    view = view_of("count", lateness_us=0)
    applied(view, (0, 1.0))
    assert [view.lookup("k", 30 * S)["f"], view.lookup("k", 59 * S)["f"], view.lookup("k", 60 * S)["f"]] == [
        1,
        1,
        0,
    ]
    assert view.apply("k", S, {"x": 1.0}).lateness is Lateness.IN_ORDER


def test_a_lookup_in_the_past_sees_what_is_remembered():
    view = view_of("sum", lateness_us=10 * S)
    applied(view, (31 * S, 1.0), (30 * S, 2.0), (80 * S, 4.0), (100 * S, 8.0))
    assert view.lookup("k", 95 * S)["f"] == 4.0  # (35, 95]: late enough to be remembered whole
    assert view.lookup("k", 80 * S)["f"] == 5.0  # (90 - 60, 80]
    assert view.lookup("k", 79 * S)["f"] == 1.0


def test_time_since_last_of_a_lookup_counts_every_row():
    view = view_of("time_since_last")
    applied(view, (0, 1.0), (5 * S, 1.0))
    assert view.lookup("k", 5 * S)["f"] == 0.0
    assert view.lookup("k", 7 * S + 500_000)["f"] == 2.5


def test_a_lookup_creates_no_key():
    view = view_of("count", max_keys=1)
    view.apply("a", 0, {"x": 1.0})
    view.lookup("b", 0)
    assert view.evicted_keys == 0
    assert view.lookup("a", 0)["f"] == 1


# --- the bound on keys --------------------------------------------------------------------------------------------
def test_the_key_applied_longest_ago_leaves():
    view = view_of("count", max_keys=2)
    for key in ("a", "b", "a", "c"):
        view.apply(key, 0, {"x": 1.0})
    assert {key: view.lookup(key, 0)["f"] for key in "abc"} == {"a": 2, "b": 0, "c": 1}
    assert view.evicted_keys == 1


def test_longest_ago_is_by_the_log_and_not_by_event_time():
    view = view_of("count", max_keys=2)
    view.apply("a", 100 * S, {"x": 1.0})
    view.apply("b", 0, {"x": 1.0})
    view.apply("c", 0, {"x": 1.0})
    assert view.lookup("a", 100 * S)["f"] == 0


def test_a_too_late_row_keeps_its_key_and_a_lookup_does_not():
    view = view_of("count", max_keys=2, lateness_us=0)
    view.apply("a", 100 * S, {"x": 1.0})
    view.apply("b", 100 * S, {"x": 1.0})
    assert view.apply("a", 0, {"x": 1.0}).lateness is Lateness.TOO_LATE
    view.lookup("b", 100 * S)
    view.apply("c", 100 * S, {"x": 1.0})
    assert [view.lookup(key, 100 * S)["f"] for key in "abc"] == [1, 0, 1]


def test_a_key_that_left_starts_afresh():
    view = view_of("count", max_keys=1, lateness_us=0)
    view.apply("a", 100 * S, {"x": 1.0})
    view.apply("b", 100 * S, {"x": 1.0})
    result = view.apply("a", 50 * S, {"x": 1.0})
    assert result.lateness is Lateness.IN_ORDER
    assert result.features == {"f": 1}
    assert view.evicted_keys == 2


def test_keys_do_not_mix():
    view = view_of("sum")
    view.apply(("a", "bc"), 0, {"x": 1.0})
    assert view.apply(("ab", "c"), 0, {"x": 2.0}).features == {"f": 2.0}


def test_the_caller_may_change_its_row_afterwards():
    view = view_of("sum")
    row = {"x": 1.0}
    view.apply("k", 0, row)
    row["x"] = 100.0
    assert view.lookup("k", 0) == {"f": 1.0}


# --- kinds of windows ---------------------------------------------------------------------------------------------
def kind_of(function, window=MINUTE, lateness_us=0, **options):
    made = Aggregate(AMOUNT, function, time_window=window, name="f", **options)
    return ReferenceView([made], lateness_us)


def test_without_the_current_row_earlier_rows_of_its_time_stay():
    view = kind_of("sum", include_current=False)
    assert applied(view, (0, 1.0), (0, 2.0), (0, 4.0), (60 * S, 8.0)) == [0.0, 1.0, 3.0, 0.0]
    assert view.lookup("k", 60 * S)["f"] == 8.0


@pytest.mark.parametrize(
    ("time_us", "count"), [(20 * S - 1, 0), (20 * S, 1), (30 * S - 1, 1), (30 * S, 1), (40 * S, 0)]
)
def test_a_tiled_window_moves_by_its_interval(time_us, count):
    view = kind_of("count", timedelta(seconds=20), aggregation_interval=timedelta(seconds=10))
    assert applied(view, (10 * S, 1.0), (time_us, 1.0)) == [0, count]


def test_tiles_lie_at_multiples_before_1970_too():
    view = kind_of("count", timedelta(seconds=10), aggregation_interval=timedelta(seconds=10))
    assert applied(view, (-15 * S, 1.0), (-10 * S - 1, 1.0), (-10 * S, 1.0)) == [0, 0, 2]


def test_a_tiled_window_has_an_offset():
    tens = timedelta(seconds=10)
    view = kind_of("count", TimeWindow(tens, -tens), aggregation_interval=tens)
    assert applied(view, (0, 1.0), (15 * S, 1.0), (25 * S, 1.0)) == [0, 0, 1]


def test_a_lifetime_has_no_lower_edge():
    view = kind_of("sum", LifetimeWindow())
    assert applied(view, (0, 1.0), (10**15, 2.0), (2 * 10**15, 4.0)) == [1.0, 3.0, 7.0]


def test_before_the_horizon_a_lifetime_is_that_of_the_horizon():
    view = kind_of("sum", LifetimeWindow(), lateness_us=10 * S)
    assert applied(view, (0, 1.0), (20 * S, 2.0), (30 * S, 4.0)) == [1.0, 3.0, 7.0]
    assert [view.lookup("k", t * S)["f"] for t in (5, 19, 20, 29, 30)] == [3.0, 3.0, 3.0, 3.0, 7.0]
    late, too_late = view.apply("k", 25 * S, {"x": 8.0}), view.apply("k", 5 * S, {"x": 16.0})
    assert (late.features["f"], late.lateness) == (11.0, Lateness.LATE)
    assert (too_late.features["f"], too_late.lateness) == (3.0, Lateness.TOO_LATE)


def test_lag_looks_at_the_other_rows():
    assert applied(view_of(lag(1)), (0, 1.0), (S, 2.0), (S, None), (S, 4.0)) == [None, 1.0, 2.0, 2.0]
