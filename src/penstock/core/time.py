"""Time is int64 microseconds since 1970-01-01 UTC; durations are microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000
LONGEST = timedelta(days=365_000)
"""The longest duration in a definition: no sum of times and durations leaves int64 microseconds."""

_UNITS = (("d", DAY_US), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1))


def to_us(value: datetime | timedelta) -> int:
    """Microseconds of a duration, or since the epoch of an instant; naive instants are UTC.

    >>> to_us(timedelta(minutes=1)), to_us(datetime(1970, 1, 2))
    (60000000, 86400000000)
    """
    if isinstance(value, timedelta):
        return value // MICROSECOND
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """The UTC instant of microseconds since the epoch.

    >>> from_us(86_400_000_000).isoformat()
    '1970-01-02T00:00:00+00:00'
    """
    return EPOCH + timedelta(microseconds=us)


def format_duration(us: int) -> str:
    """A duration in whole units, largest first.

    >>> format_duration(3_600_000_000), format_duration(90_000_000), format_duration(0)
    ('1h', '1m30s', '0s')
    """
    if us < 0:
        return "-" + format_duration(-us)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, us = divmod(us, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
