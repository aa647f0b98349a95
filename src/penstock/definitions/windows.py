"""Windows: which rows of a key an aggregate looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST, format_duration, to_us

MOST_WINDOWS = 1_000
"""The largest number of windows in a series."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The times ``(t + offset - window_size, t + offset]`` before an event at t.

    Parameters
    ----------
    window_size
        Longer than zero.
    offset
        Zero or negative: shifts both edges into the past.
    """

    window_size: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _check_size(self.window_size, owner="TimeWindow")
        offset: object = self.offset
        if not isinstance(offset, timedelta) or not -LONGEST <= offset <= timedelta(0):
            raise DefinitionError(
                f"TimeWindow: offset is {offset!r}; allowed is a timedelta of zero or less, down to -{LONGEST.days} "
                "days. To look at the time that ended a week ago, write offset=timedelta(days=-7)."
            )

    @property
    def label(self) -> str:
        """The window's part of a default feature name, like ``1h`` or ``7d_offset_7d``."""
        size = _text(self.window_size)
        return f"{size}_offset_{_text(-self.offset)}" if self.offset else size


@dataclass(frozen=True, slots=True)
class LifetimeWindow:
    """All times up to the event: everything since the key was first held.

    Rows do not stay in memory for it: what is older than the other windows and `allowed_lateness` reach is summed up.
    Where an event or a look-up lies further back than that, it is answered as of the horizon (newest row of the key minus
    `allowed_lateness`), and an event that comes too late is not in it.
    """

    @property
    def label(self) -> str:
        """The window's part of a default feature name."""
        return "lifetime"


@dataclass(frozen=True, slots=True)
class TimeWindowSeries:
    """Windows of one size, one step after another: a feature over them is an array, the earliest first.

    Parameters
    ----------
    series_start
        Negative: where the first window begins, before the event.
    window_size
        The size of each.
    series_end
        Zero or negative: where the last window ends.
    step_size
        From one window to the next; default: `window_size`, so that they neither overlap nor leave gaps.

    Examples
    --------
    >>> week = TimeWindowSeries(timedelta(days=-7), timedelta(days=1))
    >>> len(week.windows), week.windows[0].label, week.windows[-1].label
    (7, '1d_offset_6d', '1d')
    """

    series_start: timedelta
    window_size: timedelta
    series_end: timedelta = timedelta(0)
    step_size: timedelta | None = None

    def __post_init__(self) -> None:
        _check_size(self.window_size, owner="TimeWindowSeries")
        for name, value in (("series_start", self.series_start), ("series_end", self.series_end)):
            edge: object = value
            if not isinstance(edge, timedelta) or not -LONGEST <= edge <= timedelta(0):
                raise DefinitionError(
                    f"TimeWindowSeries: {name} is {edge!r}; allowed is a timedelta of zero or less, down to "
                    f"-{LONGEST.days} days. Write for example timedelta(days=-7)."
                )
        step: object = self.step_size
        if step is not None and (not isinstance(step, timedelta) or not timedelta(0) < step <= LONGEST):
            raise DefinitionError(
                f"TimeWindowSeries: step_size is {step!r}; allowed is a timedelta longer than zero. Leave it out for "
                "windows that follow each other."
            )
        left = self.series_end - self.series_start - self.window_size
        if left < timedelta(0) or left % self.step or left // self.step >= MOST_WINDOWS:
            raise DefinitionError(
                f"TimeWindowSeries: from {self.series_start!r} to {self.series_end!r} there is no whole number of "
                f"windows of {_text(self.window_size)} in steps of {_text(self.step)}; allowed are 1 to {MOST_WINDOWS}. "
                "Move series_start."
            )

    @property
    def step(self) -> timedelta:
        """From one window to the next."""
        return self.step_size or self.window_size

    @property
    def windows(self) -> tuple[TimeWindow, ...]:
        """The windows, the earliest first."""
        count = (self.series_end - self.series_start - self.window_size) // self.step + 1
        first = self.series_start + self.window_size
        return tuple(TimeWindow(self.window_size, first + i * self.step) for i in range(count))

    @property
    def label(self) -> str:
        """The series' part of a default feature name, like ``1d_series_7d``."""
        parts = [_text(self.window_size), "series", _text(-self.series_start)]
        parts += ["to", _text(-self.series_end)] if self.series_end else []
        parts += ["step", _text(self.step)] if self.step != self.window_size else []
        return "_".join(parts)


Window = TimeWindow | TimeWindowSeries | LifetimeWindow


def check_interval(interval: object, *, owner: str) -> timedelta:
    """`interval` if tiles can be that long; zero means no tiles."""
    if not isinstance(interval, timedelta) or not timedelta(0) <= interval <= LONGEST:
        raise DefinitionError(
            f"{owner}: aggregation_interval is {interval!r}; allowed is a timedelta longer than zero, or None for windows "
            "that slide with every event. Write for example timedelta(minutes=5)."
        )
    return interval


def check_tiles(window: TimeWindow, interval: timedelta, *, owner: str) -> None:
    """Raise unless `window` begins and ends where tiles of `interval` do."""
    if window.window_size % interval or window.offset % interval:
        raise DefinitionError(
            f"{owner}: its window of {_text(window.window_size)}, offset {_text(window.offset)}, is not made of tiles of "
            f"{_text(interval)}; allowed are multiples of the aggregation_interval. Change one of them."
        )


def _check_size(size: object, *, owner: str) -> None:
    if not isinstance(size, timedelta) or not timedelta(0) < size <= LONGEST:
        raise DefinitionError(
            f"{owner}: window_size is {size!r}; allowed is a timedelta longer than zero, up to {LONGEST.days} "
            "days. Write for example timedelta(hours=1)."
        )


def _text(duration: timedelta) -> str:
    return format_duration(to_us(duration))
