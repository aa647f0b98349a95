"""Windows: which rows of a key an aggregate looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST, format_duration, to_us


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


Window = TimeWindow | LifetimeWindow


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
