"""Cron texts: when they are due, against a walk through all minutes; what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.core.cron import Cron
from penstock.core.errors import DefinitionError
from penstock.core.time import from_us, to_us


def next_after(text, moment):
    return from_us(Cron.parse(text, owner="test").next_us(to_us(moment)))


@pytest.mark.parametrize(
    ("text", "after", "due"),
    [
        ("* * * * *", (2026, 1, 1, 0, 0), (2026, 1, 1, 0, 1)),
        ("*/15 * * * *", (2026, 1, 1, 0, 46), (2026, 1, 1, 1, 0)),
        ("0 3 * * *", (2026, 1, 1, 2, 59), (2026, 1, 1, 3, 0)),
        ("0 3 * * *", (2026, 1, 1, 3, 0), (2026, 1, 2, 3, 0)),
        ("30 6,18 * * 1-5", (2026, 1, 2, 18, 30), (2026, 1, 5, 6, 30)),  # from Friday to Monday
        ("0 0 * * 7", (2026, 1, 1, 0, 0), (2026, 1, 4, 0, 0)),
        ("0 0 31 * *", (2026, 1, 31, 0, 0), (2026, 3, 31, 0, 0)),
        ("0 0 29 2 *", (2026, 1, 1, 0, 0), (2028, 2, 29, 0, 0)),
        ("0 0 13 * 5", (2026, 1, 1, 0, 0), (2026, 1, 2, 0, 0)),  # the 13th or a Friday
        ("5/20 0 * * *", (2026, 1, 1, 0, 6), (2026, 1, 1, 0, 25)),
        ("59 23 31 12 *", (2026, 12, 31, 23, 59), (2027, 12, 31, 23, 59)),
    ],
)
def test_when_it_is_due(text, after, due):
    assert next_after(text, datetime(*after, tzinfo=UTC)) == datetime(*due, tzinfo=UTC)


def test_seconds_count():
    assert next_after("0 3 * * *", datetime(2026, 1, 1, 2, 59, 59, 999_999, UTC)) == datetime(
        2026, 1, 1, 3, tzinfo=UTC
    )


@pytest.mark.parametrize("text", ["7 1-5 * * *", "*/7 */5 */3 * *", "0 12 1-7 2,4 1"])
def test_it_is_due_where_a_walk_through_the_minutes_finds_it(text):
    cron = Cron.parse(text, owner="test")
    moment = datetime(2026, 1, 28, 22, 0, tzinfo=UTC)
    found = [cron.next_us(to_us(moment + timedelta(minutes=m))) for m in range(0, 3 * 1440, 97)]
    for minutes, due_us in zip(range(0, 3 * 1440, 97), found, strict=True):
        walk = moment + timedelta(minutes=minutes + 1)
        while not fits(cron, walk):
            walk += timedelta(minutes=1)
        assert from_us(due_us) == walk


def fits(cron, moment):
    by_day, by_weekday = moment.day in cron.days, moment.isoweekday() % 7 in cron.weekdays
    day = by_day or by_weekday if cron.either_day else by_day and by_weekday
    return moment.minute in cron.minutes and moment.hour in cron.hours and moment.month in cron.months and day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "x * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "*/ * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        "0 0 31 2 *",
        "@daily",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(DefinitionError, match="five fields"):
        Cron.parse(text, owner="test")
