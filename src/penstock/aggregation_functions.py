"""Aggregate functions that take a parameter: ``Aggregate(amount, lag(1), time_window=timedelta(hours=1))``."""

from penstock.definitions.aggregate_functions import AggregationFunction, checked_n

__all__ = ["AggregationFunction", "lag"]


def lag(n: int) -> AggregationFunction:
    """The n-th latest value of the window's other rows; null where there are fewer.

    >>> lag(1)
    lag(1)
    """
    return checked_n("lag", n)
