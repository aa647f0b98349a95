"""Aggregate functions that take a parameter: ``Aggregate(amount, last(3), time_window=timedelta(hours=1))``."""

from datetime import timedelta

from penstock.definitions.aggregate_functions import AggregationFunction, checked_half_life, checked_n
from penstock.definitions.sketches import approx_count_distinct, approx_percentile

__all__ = [
    "AggregationFunction",
    "approx_count_distinct",
    "approx_percentile",
    "decayed_count",
    "decayed_sum",
    "ewma",
    "first",
    "first_distinct",
    "lag",
    "last",
    "last_distinct",
]


def first(n: int) -> AggregationFunction:
    """The first n values of the window, the earliest first; fewer where there are fewer.

    >>> first(3)
    first(3)
    """
    return checked_n("first", n)


def last(n: int) -> AggregationFunction:
    """The last n values of the window, the earliest first; fewer where there are fewer."""
    return checked_n("last", n)


def first_distinct(n: int) -> AggregationFunction:
    """The first n different values, in the order of their first occurrence in the window."""
    return checked_n("first_distinct", n)


def last_distinct(n: int) -> AggregationFunction:
    """The last n different values, in the order of their last occurrence in the window."""
    return checked_n("last_distinct", n)


def lag(n: int) -> AggregationFunction:
    """The n-th latest value of the window's other rows; null where there are fewer."""
    return checked_n("lag", n)


def ewma(half_life: timedelta) -> AggregationFunction:
    """The mean of the values with weights that halve every `half_life`, counted back from the event.

    >>> ewma(timedelta(hours=1))
    ewma(1h)
    """
    return checked_half_life("ewma", half_life)


def decayed_sum(half_life: timedelta) -> AggregationFunction:
    """The sum of the values with weights that halve every `half_life`, counted back from the event."""
    return checked_half_life("decayed_sum", half_life)


def decayed_count(half_life: timedelta) -> AggregationFunction:
    """The number of values with weights that halve every `half_life`, counted back from the event."""
    return checked_half_life("decayed_count", half_life)
