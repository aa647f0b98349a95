"""The wall clock, read in this module alone, so that everything else can be given its time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in microseconds since 1970-01-01 UTC."""

    def now_us(self) -> int:
        """The time now."""


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """The time now, in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000
