"""Numbers, times and sizes as pages write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NONE = "–"
_SECOND_US = 1_000_000


def whole(value: float | None) -> str:
    """A count.

    >>> whole(1234567), whole(None)
    ('1,234,567', '–')
    """
    return NONE if value is None or not math.isfinite(value) else f"{round(value):,}"


def figure(value: float | None, digits: int = 3) -> str:
    """A measure, to as many significant digits as say something.

    >>> figure(0.12345), figure(12.5), figure(123456.0), figure(0.0), figure(None), figure(0.0000012)
    ('0.123', '12.5', '123,456', '0', '–', '1.2e-06')
    """
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-4:
        return f"{value:.{digits - 2}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}" if size >= 10**digits or float(value).is_integer() else f"{value:,.1f}"
    text = f"{value:.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return text.rstrip("0").rstrip(".") if float(value).is_integer() or size >= 1 else text


def percent(value: float | None, digits: int = 1) -> str:
    """A share.

    >>> percent(0.0312), percent(None), percent(1.0)
    ('3.1 %', '–', '100.0 %')
    """
    return NONE if value is None or not math.isfinite(value) else f"{value * 100:.{digits}f} %"


def score(value: float | None) -> str:
    """A score.

    >>> score(0.98765), score(None)
    ('0.988', '–')
    """
    return NONE if value is None or not math.isfinite(value) else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """How long something takes.

    >>> duration(0.00042), duration(0.0123), duration(4.2), duration(93.0), duration(7300), duration(None)
    ('0.42 ms', '12.3 ms', '4.2 s', '1 min 33 s', '2 h 1 min', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.{2 if seconds < 0.001 else 1}f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def size(found: float | None) -> str:
    """Bytes.

    >>> size(812), size(1536), size(3_400_000_000), size(None)
    ('812 B', '1.5 KiB', '3.2 GiB', '–')
    """
    if found is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(found) < 1024:
            return f"{found:.0f} B" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.1f} TiB"


def moment(value: str | float | None) -> str:
    """A time, UTC: an ISO text, or microseconds since 1970.

    >>> moment("2026-11-22T16:29:11.868000+00:00"), moment(1_000_000), moment(None)
    ('2026-11-22 16:29:11', '1970-01-01 00:00:01', '–')
    """
    found = when(value)
    return NONE if found is None else f"{found:%Y-%m-%d %H:%M:%S}"


def clock(value: str | float | None) -> str:
    """The time of day.

    >>> clock("2026-11-22T16:29:11.868000+00:00")
    '16:29:11'
    """
    found = when(value)
    return NONE if found is None else f"{found:%H:%M:%S}"


def day(value: str | float | None) -> str:
    """The day.

    >>> day("2026-11-22T16:29:11Z")
    '2026-11-22'
    """
    found = when(value)
    return NONE if found is None else f"{found:%Y-%m-%d}"


def when(value: str | float | None) -> datetime | None:
    """The time that an ISO text or a number of microseconds is; None where it is none."""
    try:
        if value is None or value == "":
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
        return datetime.fromtimestamp(value / _SECOND_US, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def value_of(value: object) -> str:
    """A value of an event or a feature.

    >>> value_of(1.5), value_of(None), value_of(True), value_of("a"), value_of([1, "b"])
    ('1.5', '–', 'true', 'a', '[1, b]')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}"
    if isinstance(value, float):
        return figure(value, 4)
    if isinstance(value, list):
        return f"[{', '.join(value_of(one) for one in value)}]"
    return str(value)
