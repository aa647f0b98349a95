"""Whether values still come from the distribution that a model was trained on, asked again and again while they come.

A report that alarms once in twenty without drift alarms soon when it is asked every minute. So looks are few and fixed, and their levels add
up. Event time is cut into windows; in each the columns are counted from nothing, and looked at when there are 500 rows, 1,000, 2,000 and so on, and
once more when the window is over. The k-th of these looks may alarm wrongly with a probability of a half, a quarter, an eighth ... of half the level, the last one
with the other half (Bonferroni): so without drift at most the share `false_alarms` of all windows alarms, however many rows there are,
and however often somebody looks at the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.monitoring.drift import Method, judge
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


class Look(msgspec.Struct, frozen=True):
    """What one look found.

    Attributes
    ----------
    window_us
        When the window began.
    time_us
        The newest event time.
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
    """What is kept between two batches: the window under way (None: none yet), its rows, the looks at it, and its columns."""

    window: int | None = None
    newest_us: int = -(2**62)
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
        self._references, self._rules = tuple(references), rules
        kept = LooksState() if state is None else state
        self._window, self._newest_us = kept.window, kept.newest_us
        self._rows, self._looks = kept.rows, kept.looks
        self._samples = [Sample(reference) for reference in self._references]
        for sample, counted in zip(self._samples, kept.columns, strict=bool(kept.columns)):
            sample.counts = np.array(counted.counts, np.int64)
            sample.known = np.array(counted.known, np.int64)
            sample.missing = counted.missing

    @property
    def state(self) -> LooksState:
        """What is to be kept."""
        columns = [Counted(one.counts.tolist(), one.known.tolist(), one.missing) for one in self._samples]
        return LooksState(self._window, self._newest_us, self._rows, self._looks, columns)

    def add(
        self, times_us: IntArray, columns: Sequence[tuple[FloatArray, BoolArray | None]]
    ) -> list[tuple[int, Look]]:
        """Count rows in their order, and look where it is time. Rows of a window that is over are left out.

        Parameters
        ----------
        times_us
            Event times, shape [n].
        columns
            The values of each column, shape [n], and which rows count (None: all).

        Returns
        -------
        Each look with the row that brought it about: the one that completed the number, or began the next window.
        """
        if not len(times_us):
            return []
        windows = times_us // self._rules.window_us
        reached = np.maximum.accumulate(np.maximum(windows, _LEAST if self._window is None else self._window))
        return list(self._walk(times_us, columns, windows == reached, reached))

    def _walk(
        self,
        times_us: IntArray,
        columns: Sequence[tuple[FloatArray, BoolArray | None]],
        in_time: BoolArray,
        reached: IntArray,
    ) -> Iterator[tuple[int, Look]]:
        start = 0
        while start < len(reached):
            window = int(reached[start])
            if window != self._window:
                if self._window is not None:
                    yield start, self._look(is_last=True)
                self._begin(window)
            stop = int(np.searchsorted(reached, window, side="right"))
            rows = start + np.flatnonzero(in_time[start:stop])
            wanted = (FIRST_LOOK << self._looks) - self._rows
            if len(rows) >= wanted:
                rows = rows[:wanted]
                stop = int(rows[-1]) + 1
            self._count(times_us, columns, rows)
            if self._rows == FIRST_LOOK << self._looks:
                yield stop - 1, self._look(is_last=False)
            start = stop

    def _begin(self, window: int) -> None:
        self._window, self._rows, self._looks = window, 0, 0
        self._samples = [Sample(reference) for reference in self._references]

    def _count(
        self, times_us: IntArray, columns: Sequence[tuple[FloatArray, BoolArray | None]], rows: IntArray
    ) -> None:
        if not len(rows):
            return
        self._rows += len(rows)
        self._newest_us = max(self._newest_us, int(times_us[rows].max()))
        for sample, (values, counts) in zip(self._samples, columns, strict=True):
            sample.add(values[rows if counts is None else rows[counts[rows]]])

    def _look(self, *, is_last: bool) -> Look:
        assert self._window is not None, "what is looked at is a window"
        half = self._rules.false_alarms / 2
        level = half if is_last else half / 2 ** (self._looks + 1)
        self._looks += 1
        verdicts = judge(
            self._samples, false_alarms=level, method=self._rules.method, min_effect=self._rules.min_effect
        )
        names = (one.name for one, verdict in zip(self._references, verdicts, strict=True) if verdict.drifted)
        begin = self._window * self._rules.window_us
        return Look(begin, self._newest_us, self._rows, level, tuple(names), is_last)


_LEAST = -(2**62)
