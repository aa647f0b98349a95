"""Histograms with few, fixed steps: what Prometheus calls classic histograms."""

from __future__ import annotations

from bisect import bisect_left

LATENCY_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper ends of durations in seconds: 100 µs to 10 s."""
BATCH_EVENTS = tuple(float(4**power) for power in range(9))
"""Upper ends of the number of events in a micro-batch: 1 to 65,536."""


class Buckets:
    """Counts values by the first of `ends` that they do not exceed; those above all count in one more.

    Parameters
    ----------
    ends
        Ascending.

    Examples
    --------
    >>> buckets = Buckets((1.0, 4.0))
    >>> for value in (0.5, 1.0, 3.0, 9.0):
    ...     buckets.add(value)
    >>> buckets.counts, buckets.total
    ([2, 1, 1], 13.5)
    """

    __slots__ = ("counts", "ends", "total")

    def __init__(self, ends: tuple[float, ...]) -> None:
        self.ends = ends
        self.counts = [0] * (len(ends) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.ends, value)] += 1
        self.total += value

    def copy(self) -> Buckets:
        """The same counts, which do not move any more."""
        other = Buckets(self.ends)
        other.counts, other.total = self.counts.copy(), self.total
        return other
