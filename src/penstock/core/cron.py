"""Cron texts: when something that is done from time to time is due next. Five fields, in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from penstock.core.errors import DefinitionError
from penstock.core.time import from_us, to_us

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_LONGEST_DAYS = 8 * 366 + 1
"""Two leap days may lie eight years apart."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed cron text: the minutes, hours, days, months and weekdays (0 and 7 are Sunday) at which it is due.

    Where both days and weekdays are restricted, one of them suffices, as in cron.

    Examples
    --------
    >>> nightly = Cron.parse("0 3 * * *", owner="example")
    >>> from_us(nightly.next_us(to_us(datetime(2026, 1, 1, 3, 0)))).isoformat()
    '2026-01-02T03:00:00+00:00'
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str, *, owner: str) -> Cron:
        """The schedule of ``"minute hour day month weekday"``; each ``*``, ``5``, ``1-5``, ``*/15``, or a list of these.

        Raises `DefinitionError` for any other text, and for one that is never due.
        """
        parts = text.split()
        if len(parts) != len(_FIELDS):
            _refuse(text, f"{len(parts)} fields", owner)
        minutes, hours, days, months, weekdays = (
            _values(part, *field, text=text, owner=owner) for part, field in zip(parts, _FIELDS, strict=True)
        )
        either = not parts[2].startswith("*") and not parts[4].startswith("*")
        found = cls(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either)
        if found._day_from(from_us(0)) is None:
            _refuse(text, "a day that no month has", owner)
        return found

    def next_us(self, after_us: int) -> int:
        """The first time later than `after_us` at which it is due, in microseconds since 1970-01-01 UTC."""
        moment = from_us(after_us).replace(second=0, microsecond=0) + timedelta(minutes=1)
        day: datetime | None = moment.replace(hour=0, minute=0)
        while True:
            day = self._day_from(day) if day is not None else None
            assert day is not None, "parse refuses schedules that are never due"
            times = (day.replace(hour=h, minute=m) for h in sorted(self.hours) for m in sorted(self.minutes))
            found = next((time for time in times if time >= moment), None)
            if found is not None:
                return to_us(found)
            day += timedelta(days=1)

    def _day_from(self, day: datetime) -> datetime | None:
        for ahead in range(_LONGEST_DAYS):
            candidate = day + timedelta(days=ahead)
            if candidate.month in self.months and self._is_day(candidate):
                return candidate
        return None

    def _is_day(self, day: datetime) -> bool:
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either_day else by_day and by_weekday


def _values(part: str, name: str, low: int, high: int, *, text: str, owner: str) -> frozenset[int]:
    found: set[int] = set()
    for item in part.split(","):
        span, _, step = item.partition("/")
        first, dash, last = (str(low), "-", str(high)) if span == "*" else span.partition("-")
        numbers = [first, last if dash else first, step or "1"]
        if not all(number.isdecimal() for number in numbers) or ("/" in item and not step):
            _refuse(text, f"{item!r} as {name}", owner)
        begin, end, by = map(int, numbers)
        if step and not dash:
            end = high
        if not low <= begin <= end <= high or by < 1:
            _refuse(text, f"{item!r} as {name}, of which {low} to {high} are", owner)
        found.update(range(begin, end + 1, by))
    return frozenset(found)


def _refuse(text: str, found: str, owner: str) -> NoReturn:
    raise DefinitionError(
        f"{owner}: the cron text {text!r} has {found}; allowed are five fields, minute hour day month weekday, each *, a "
        'number, a range 1-5, a step */15 or a list of these, in UTC. Write for example "0 3 * * *".'
    )
