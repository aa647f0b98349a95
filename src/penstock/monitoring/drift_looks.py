"""Whether values still come from the distribution that a model was trained on, asked again and again while they come.

A report that alarms once in twenty without drift alarms soon when it is asked every minute. So looks are few and fixed, and their levels add
up. Event time is cut into windows; in each the columns are counted from nothing, and looked at several times and once more when the window is
over. The k-th look may alarm wrongly with a probability of 1 / (k (k + 1)) of half the level, the last one with the other half (Bonferroni): so
without drift at most the share `false_alarms` of all windows alarms, however many rows there are, and however often somebody looks at the
result.

What follows the hour of the day is not drift, and hours are no sample of days. So a window of a day or longer is cut to whole days
(UTC), and looked at when a day of it is over, if it has 500 rows by then; it is compared with what whole days vary by in the reference. A day that
was under way when the stream began is left out. A window under a day is looked at when it has 500 rows, 1,000, 2,000 and so on.

Where the stream stands is said by its newest rows together (`BulkClock`), not by the newest time: rows of another window count
nothing, and one years ahead ends none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.time import DAY_US
from penstock.monitoring.bulk_time import BulkClock
from penstock.monitoring.drift import Method, judge
from penstock.monitoring.hours import HOUR_US
from penstock.monitoring.profile import ColumnProfile, Sample

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIRST_LOOK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRules:
    """How long a window is, which share of windows without drift may alarm, and what else makes an alarm (see `measure_drift`)."""

    window_us: int
    false_alarms: float
    method: Method = "bh"
    min_effect: float = 0.02

    @property
    def is_of_days(self) -> bool:
        """Whether windows are of whole days."""
        return self.window_us >= DAY_US

    @property
    def whole_window_us(self) -> int:
        """How long a window is, cut to whole days where it is a day or longer."""
        return self.window_us // DAY_US * DAY_US if self.is_of_days else self.window_us


class Look(msgspec.Struct, frozen=True):
    """What one look found.

    Attributes
    ----------
    window_us
        When the window began.
    time_us
        Where the stream stood.
    rows
        Rows of the window until then.
    level
        With which probability it alarms without drift, at most.
    drifted
        The columns that alarm.
    is_last
        Whether the window was over.
    """

    window_us: int
    time_us: int
    rows: int
    level: float
    drifted: tuple[str, ...]
    is_last: bool


class Counted(msgspec.Struct):
    """The counts of a column in the window under way."""

    counts: list[int]
    known: list[int]
    missing: int


class LooksState(msgspec.Struct):
    """What is kept between two batches.

    Attributes
    ----------
    recent
        The newest event times.
    window, day
        The window under way (None: none yet), and the day.
    since_us
        Rows before count nothing: they are of a day that had begun before the stream.
    newest_us, rows, looks, columns
        Where the stream stands; rows of the window, looks at it, and its columns.
    """

    recent: list[int] = []
    window: int | None = None
    day: int = 0
    since_us: int = 0
    newest_us: int = 0
    rows: int = 0
    looks: int = 0
    columns: list[Counted] = []


class Looks:
    """Looks at the columns of a stream.

    Parameters
    ----------
    references
        What each column is compared with.
    rules
        How.
    state
        What was kept; it goes on from there.

    Examples
    --------
    >>> from penstock.monitoring.profile import profile_column
    >>> draw = np.random.default_rng(0)
    >>> looks = Looks(
    ...     [profile_column("amount", draw.normal(size=20_000))],
    ...     LookRules(window_us=10_000, false_alarms=0.05),
    ... )
    >>> found = looks.add(np.arange(9_000), [(draw.normal(size=9_000) + 0.25, None)])
    >>> [(look.rows, look.drifted) for _, look in found][:2]
    [(500, ('amount',)), (1000, ('amount',))]
    """

    def __init__(
        self, references: Sequence[ColumnProfile], rules: LookRules, state: LooksState | None = None
    ) -> None:
        self._rules, self._window_us = rules, rules.whole_window_us
        self._references = tuple(one.of_days() if rules.is_of_days else one for one in references)
        kept = LooksState() if state is None else state
        self._clock = BulkClock(kept.recent)
        self._window, self._day, self._since_us = kept.window, kept.day, kept.since_us
        self._newest_us, self._rows, self._looks = kept.newest_us, kept.rows, kept.looks
        self._samples = [Sample(reference) for reference in self._references]
        for sample, counted in zip(self._samples, kept.columns, strict=bool(kept.columns)):
            sample.counts = np.array(counted.counts, np.int64)
            sample.known = np.array(counted.known, np.int64)
            sample.missing = counted.missing

    @property
    def state(self) -> LooksState:
        """What is to be kept."""
        columns = [Counted(one.counts.tolist(), one.known.tolist(), one.missing) for one in self._samples]
        return LooksState(
            self._clock.recent,
            self._window,
            self._day,
            self._since_us,
            self._newest_us,
            self._rows,
            self._looks,
            columns,
        )

    def add(
        self, times_us: IntArray, columns: Sequence[tuple[FloatArray, BoolArray | None]]
    ) -> list[tuple[int, Look]]:
        """Count rows in their order, and look where it is time. Rows of other windows than the one under way are left out.

        Parameters
        ----------
        times_us
            Event times, shape [n].
        columns
            The values of each column, shape [n], and which rows count (None: all).

        Returns
        -------
        Each look with the row that brought it about: the one that completed the number, or with which a day or window was over.
        """
        return list(self._walk(times_us, columns, self._clock.add(times_us))) if len(times_us) else []

    def _walk(
        self, times_us: IntArray, columns: Sequence[tuple[FloatArray, BoolArray | None]], clock: IntArray
    ) -> Iterator[tuple[int, Look]]:
        start = 0
        while start < len(clock):
            at_us = int(clock[start])
            if self._is_over(at_us):
                if self._rows and at_us > self._newest_us:
                    yield start, self._look(is_last=True)
                self._begin(at_us)
            elif self._rules.is_of_days and at_us // DAY_US > self._day:
                self._day = at_us // DAY_US
                if self._rows >= FIRST_LOOK:
                    yield start, self._look(is_last=False)
            stop = self._end_of_stretch(clock, start)
            rows = start + np.flatnonzero(self._counts(times_us[start:stop]))
            if not self._rules.is_of_days and len(rows) >= (FIRST_LOOK << self._looks) - self._rows:
                rows = rows[: (FIRST_LOOK << self._looks) - self._rows]
                stop = int(rows[-1]) + 1
            self._count(columns, rows)
            self._newest_us = max(self._newest_us, int(clock[start:stop].max()))
            if not self._rules.is_of_days and self._rows == FIRST_LOOK << self._looks:
                yield stop - 1, self._look(is_last=False)
            start = stop

    def _is_over(self, at_us: int) -> bool:
        """Whether the stream has left the window; a little back is lateness, more than a window back a new beginning."""
        if self._window is None:
            return True
        window = at_us // self._window_us
        return window > self._window or window < self._window - 1

    def _begin(self, at_us: int) -> None:
        goes_on = self._window is not None and at_us > self._newest_us
        self._window, self._day = at_us // self._window_us, at_us // DAY_US
        began = at_us // DAY_US * DAY_US
        is_part_of_a_day = self._rules.is_of_days and not goes_on and at_us - began > HOUR_US
        self._since_us = began + DAY_US if is_part_of_a_day else self._window * self._window_us
        self._newest_us, self._rows, self._looks = at_us, 0, 0
        self._samples = [Sample(reference) for reference in self._references]

    def _end_of_stretch(self, clock: IntArray, start: int) -> int:
        """The next row with which a window or day is over; their number where there is none."""
        assert self._window is not None, "a stretch is of a window"
        over = (self._window + 1) * self._window_us
        if self._rules.is_of_days:
            over = min(over, (self._day + 1) * DAY_US)
        rest = clock[start:]
        ends = (rest >= over) | (rest < (self._window - 1) * self._window_us)
        return start + int(np.argmax(ends)) if ends.any() else len(clock)

    def _counts(self, times_us: IntArray) -> BoolArray:
        counts: BoolArray = (times_us // self._window_us == self._window) & (times_us >= self._since_us)
        return counts

    def _count(self, columns: Sequence[tuple[FloatArray, BoolArray | None]], rows: IntArray) -> None:
        if not len(rows):
            return
        self._rows += len(rows)
        for sample, (values, counts) in zip(self._samples, columns, strict=True):
            sample.add(values[rows if counts is None else rows[counts[rows]]])

    def _look(self, *, is_last: bool) -> Look:
        assert self._window is not None, "what is looked at is a window"
        half = self._rules.false_alarms / 2
        self._looks += 1
        level = half if is_last else half / (self._looks * (self._looks + 1))
        verdicts = judge(
            self._samples, false_alarms=level, method=self._rules.method, min_effect=self._rules.min_effect
        )
        names = (one.name for one, verdict in zip(self._references, verdicts, strict=True) if verdict.drifted)
        begin = self._window * self._window_us
        return Look(begin, self._newest_us, self._rows, level, tuple(names), is_last)
