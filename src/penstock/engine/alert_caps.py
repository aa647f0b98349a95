"""At most so many alerts a day: which decisions are over the budget, and the count, which is part of each commit.

1. An event's day is that of its own time, in UTC.
2. In log order the first `per_day` alerts of a day stand; the others get the action that is taken instead.
3. Counts are kept for a week, one a weekday. An event that is later than that counts for the newest day of its weekday, so that no garbage in
   a time can give a day its budget twice.

The counts are totals of the store like any other, and so as durable as the decisions: the state is the log's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import structs

from penstock.core.time import DAY_US
from penstock.engine.decisions import Decisions, Flag
from penstock.kernel.columns import BoolArray, IntArray
from penstock.plan.nodes import CapNode

COUNTER = "alert_days."
WEEK = 7
_DAY = 1_000_000_000
"""A counter holds both: the day since 1970, and below it how many alerts there were."""
_OVER = np.uint8(Flag.OVER_BUDGET)


class AlertDays:
    """How many alerts an endpoint has raised, by day.

    Parameters
    ----------
    endpoint
        Whose they are.
    counters
        The store's totals.

    Examples
    --------
    >>> days = AlertDays("checkout")
    >>> monday = np.full(3, 4)
    >>> days.over(np.array([True, True, True]), monday, per_day=2).tolist()
    [False, False, True]
    >>> days.alerts(4), days.alerts(3)
    (2, 0)
    """

    def __init__(self, endpoint: str, counters: Mapping[str, int] | None = None) -> None:
        self._names = [f"{COUNTER}{endpoint}.{weekday}" for weekday in range(WEEK)]
        self._totals = [(counters or {}).get(name, 0) for name in self._names]

    def alerts(self, day: int) -> int:
        """How many alerts that day has had, as far as it is still counted."""
        found, alerts = divmod(self._totals[day % WEEK], _DAY)
        return alerts if found == day else 0

    @property
    def newest(self) -> tuple[int | None, int]:
        """The newest day that had an alert, and how many; None and 0 where none had."""
        day, alerts = divmod(max(self._totals), _DAY)
        return (day, alerts) if alerts else (None, 0)

    def over(self, alerting: BoolArray, days: IntArray, *, per_day: int) -> BoolArray:
        """Which of some events, in log order, are over the budget; the others are counted. `alerting` are those that would be alerts."""
        over = np.zeros(len(alerting), np.bool_)
        rows = np.flatnonzero(alerting)
        weekdays = days[rows] % WEEK
        for weekday in np.unique(weekdays).tolist():
            own = rows[weekdays == weekday]
            # A day that is older than what is counted counts for that; the running maximum is what is counted at each event.
            counted = np.maximum.accumulate(np.maximum(days[own], self._totals[weekday] // _DAY))
            for day in np.unique(counted).tolist():
                over[self._take(day, own[counted == day], per_day)] = True
        return over

    def _take(self, day: int, rows: IntArray, per_day: int) -> IntArray:
        """Count the first of `rows` for a day; those that are over."""
        before = self.alerts(day)
        stay = min(max(per_day - before, 0), len(rows))
        self._totals[day % WEEK] = day * _DAY + before + stay
        return rows[stay:]

    def since(self, before: list[int]) -> dict[str, int]:
        """By counter what was added since `totals` were these."""
        pairs = zip(self._names, self._totals, before, strict=True)
        return {name: now - then for name, now, then in pairs if now != then}

    @property
    def totals(self) -> list[int]:
        """A copy of the counters' values."""
        return list(self._totals)


def capped(cap: CapNode, decisions: Decisions, times_us: npt.NDArray[np.int64], days: AlertDays) -> Decisions:
    """The decisions of a batch, in log order, with the action that is taken instead where the day's budget is used up; counts them."""
    alerting = np.isin(decisions.taken, cap.actions)
    if not np.count_nonzero(alerting):
        return decisions
    over = days.over(alerting, times_us // DAY_US, per_day=cap.per_day)
    if not np.count_nonzero(over):
        return decisions
    meant = np.zeros(len(decisions), np.uint8) if decisions.meant is None else decisions.meant
    return structs.replace(
        decisions,
        taken=np.where(over, np.uint8(cap.instead), decisions.taken),
        flags=np.where(over, decisions.flags | _OVER, decisions.flags),
        meant=np.where(over, decisions.taken, meant).astype(np.uint8),
    )
