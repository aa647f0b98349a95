"""At most so many alerts a day: which decisions are over the budget, and the count, which is part of each commit.

1. An event's day is that of its own time, in UTC.
2. In log order the first `per_day` alerts of a day stand; the others get the action that is taken instead.
3. Counts are kept of seven days: those to which the newest alerts of the log belong. A day that comes new takes the place of the one that
   had no alert for longest. So a time that is wrong, years ahead or long ago, uses up the budget of its own day and of no other; and an event
   that is later than seven other days with alerts begins its day anew.

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
DAYS = 7
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
        self._names = [f"{COUNTER}{endpoint}.{place}" for place in range(DAYS)]
        self._totals = [(counters or {}).get(name, 0) for name in self._names]
        """Of the days that are kept, that of the newest alert first."""

    def alerts(self, day: int) -> int:
        """How many alerts that day has had, as far as it is still counted."""
        return next((total % _DAY for total in self._totals if total // _DAY == day), 0)

    @property
    def newest(self) -> tuple[int | None, int]:
        """The day of the newest alert of the log, and how many it has had; None and 0 where there was none."""
        day, alerts = divmod(self._totals[0], _DAY)
        return (day, alerts) if alerts else (None, 0)

    def over(self, alerting: BoolArray, days: IntArray, *, per_day: int) -> BoolArray:
        """Which of some events, in log order, are over the budget; the others are counted. `alerting` are those that would be alerts."""
        over = np.zeros(len(alerting), np.bool_)
        rows = np.flatnonzero(alerting)
        of_same_day = np.split(rows, np.flatnonzero(np.diff(days[rows])) + 1)
        for own in of_same_day if len(rows) else []:
            over[self._take(int(days[own[0]]), own, per_day)] = True
        return over

    def _take(self, day: int, rows: IntArray, per_day: int) -> IntArray:
        """Count the first of `rows` for a day; those that are over."""
        before = self.alerts(day)
        place = next((i for i, total in enumerate(self._totals) if total // _DAY == day), -1)
        stay = min(max(per_day - before, 0), len(rows))
        del self._totals[place]
        self._totals.insert(0, day * _DAY + before + stay)
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
