"""A clock that moves only when told."""

from __future__ import annotations

from datetime import timedelta

from penstock.core.time import to_us


class ManualClock:
    """A `penstock.core.clock.Clock` for tests: nobody waits, time is set.

    Parameters
    ----------
    now_us
        Where it starts, in microseconds since 1970-01-01 UTC.

    Examples
    --------
    >>> clock = ManualClock(1_000_000)
    >>> clock.advance(timedelta(seconds=2))
    >>> clock.now_us()
    3000000
    """

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """The time that was set, in microseconds since 1970-01-01 UTC."""
        return self._now_us

    def advance(self, duration: timedelta) -> None:
        """Move on by a duration; a negative one moves back, as real clocks do at times."""
        self._now_us += to_us(duration)
