"""When a stream changed: River's ADWIN and Page-Hinkley over values in the order of their events.

A report compares two periods; a detector says since when. ADWIN keeps a window that shrinks when its two ends differ;
Page-Hinkley adds up deviations from the running mean. Both are made for values that are bounded or nearly normal: on raw
amounts, or on frauds of one in a hundred, ADWIN fires on more than half of all streams without drift. And both may fire wrongly
at every step, so that a detector that is asked at every event of a fast stream cries wolf within the hour. So here

1. a value counts as its rank in the reference, or as a bounded loss (`RankScale`, `LossScale`), less the mean of its hour of the day there,
2. a step is the mean of a block: at least 100 values, and at least `span_us` of event time, so that steps are few,
3. the first 50 blocks say how steps vary while nothing changes, with all that rows of the same hour have in common,
4. after an alarm a stream is listened to anew.

Without drift neither of the two fired in five million such steps of independent values, which are 10,000 windows (a nightly test). What is kept of a stream are numbers, at most 2,000 blocks, from which the detectors are made again: whoever reads the same values
gets the same alarms, however they are cut into batches and however often it begins again from what was kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import MissingDependencyError
from penstock.monitoring.bulk_time import BulkClock
from penstock.monitoring.hours import HOURS, hour_of
from penstock.monitoring.losses import MOST_LOSS
from penstock.monitoring.profile import ColumnProfile, middle_ranks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Method = Literal["adwin", "page-hinkley"]

BLOCK = 100
"""At least so many values are one step of a detector."""
STEPS = 500
"""At most so many steps are in a drift window."""
CALIBRATION = 50
KEPT = 1_000
ADWIN = {"delta": 1e-4, "clock": 1}
PAGE_HINKLEY = {"min_instances": 30, "delta": 0.5, "threshold": 20.0, "alpha": 1.0}
_SLICE = 65_536
_FINE, _MOST_SPREADS = 1 << 16, 1 << 10


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A detector fired on `stream` at the event of a time; the mean of the values before the change, and since then.

    The time is when it fired, which is some blocks after the change.
    """

    stream: str
    method: Method
    time_us: int
    before: float
    after: float


class Scale(Protocol):
    """How the values of a stream are turned into whole numbers, whose sums do not depend on how they are cut into batches."""

    unit: float
    """The standard deviation of one value's step; 0 where that is not known."""

    def codes(self, values: FloatArray, times_us: IntArray) -> tuple[IntArray, IntArray]:
        """What is listened to of values at event times, and the values themselves, shape [n] each."""

    def shown(self, mean: float) -> float:
        """The mean value, of the mean of its codes."""


class RankScale:
    """Values by their middle rank in a reference.

    Parameters
    ----------
    reference
        The stream's column in the profile of a model.
    """

    def __init__(self, reference: ColumnProfile) -> None:
        counts = np.array(reference.counts, np.int64)
        self._cuts = np.array(reference.cuts)
        self._ranks = middle_ranks(counts)
        self._by_hour = _whole_by_hour(reference.by_hour, 2 * reference.rows)
        self._mean, self._spread = reference.mean, reference.spread or 1.0
        shares = counts / max(reference.rows, 1)
        middle = float(shares @ self._ranks[:-1])
        self.unit = float(shares @ (self._ranks[:-1] - middle) ** 2) ** 0.5

    def codes(self, values: FloatArray, times_us: IntArray) -> tuple[IntArray, IntArray]:
        """See `Scale`."""
        spreads = np.clip((values - self._mean) / self._spread, -_MOST_SPREADS, _MOST_SPREADS)
        ranks = self._ranks[np.searchsorted(self._cuts, values)] - self._by_hour[hour_of(times_us)]
        return ranks, np.rint(spreads * _FINE).astype(np.int64)

    def shown(self, mean: float) -> float:
        """See `Scale`."""
        return self._mean + self._spread * mean / _FINE


class LossScale:
    """Losses of decisions whose label is known, bounded so that no single one decides.

    Parameters
    ----------
    by_hour
        How far the mean loss of an hour of the day is from that of all, where that is known.
    """

    unit = 0.0

    def __init__(self, by_hour: tuple[float, ...] = ()) -> None:
        self._by_hour = _whole_by_hour(by_hour, _FINE)

    def codes(self, values: FloatArray, times_us: IntArray) -> tuple[IntArray, IntArray]:
        """See `Scale`."""
        bounded = np.rint(np.clip(values, 0.0, MOST_LOSS) * _FINE).astype(np.int64)
        return bounded - self._by_hour[hour_of(times_us)], bounded

    def shown(self, mean: float) -> float:
        """See `Scale`."""
        return mean / _FINE


def _first(holds: npt.NDArray[np.bool_]) -> int:
    """The first place at which something holds; their number where it does nowhere."""
    return int(np.argmax(holds)) if holds.any() else len(holds)


def _whole_by_hour(by_hour: tuple[float, ...], unit: int) -> IntArray:
    whole: IntArray = np.rint(np.array(by_hour or (0.0,) * HOURS) * unit).astype(np.int64)
    return whole


class Heard(msgspec.Struct):
    """What is kept of a stream: the block under way, the newest blocks, and how steps vary.

    Attributes
    ----------
    recent, newest_us, first_us
        The newest event times; where the stream stands by them, and where it stood when the block under way began.
    count, codes, values
        Of the block under way: rows, and their sums.
    blocks
        The means of the newest blocks since the last alarm.
    counted
        The rows of the blocks that calibrate.
    centre, spread
        Of the steps; a spread of 0: not known yet.
    steps
        Blocks since the beginning.
    """

    recent: list[int] = []
    newest_us: int = -(2**62)
    first_us: int = 0
    count: int = 0
    codes: int = 0
    values: int = 0
    blocks: list[tuple[float, float]] = []
    counted: int = 0
    centre: float = 0.0
    spread: float = 0.0
    steps: int = 0


class Listener:
    """ADWIN and Page-Hinkley over one stream, in bounded memory.

    Parameters
    ----------
    name
        The stream's name.
    scale
        How its values are listened to.
    span_us
        The least event time of a block.
    heard
        What was kept of it; it goes on from there.

    Raises
    ------
    MissingDependencyError
        River is not installed.

    Examples
    --------
    >>> from penstock.monitoring.profile import profile_column
    >>> draw = np.random.default_rng(0)
    >>> listener = Listener("score", RankScale(profile_column("score", draw.random(20_000))))
    >>> found = listener.add(np.arange(16_000), np.append(draw.random(8_000), draw.random(8_000) / 2))
    >>> [(point.stream, point.method, 8_000 <= point.time_us < 9_500) for _, point in found]
    [('score', 'page-hinkley', True)]
    """

    def __init__(self, name: str, scale: Scale, *, span_us: int = 0, heard: Heard | None = None) -> None:
        self._name, self._scale, self._span = name, scale, span_us
        self.heard = Heard() if heard is None else heard
        self._clock = BulkClock(self.heard.recent)
        self._detectors = self._fed()

    def add(self, times_us: IntArray, values: FloatArray) -> list[tuple[int, ChangePoint]]:
        """Take in values in their order, shape [n] both; NaN and infinities are left out. Each alarm with the row that raised it."""
        found = []
        known = np.flatnonzero(np.isfinite(values))
        for first in range(0, len(known), _SLICE):
            rows = known[first : first + _SLICE]
            found += [(int(rows[at]), point) for at, point in self._take(times_us[rows], values[rows])]
        return found

    def _take(self, times_us: IntArray, values: FloatArray) -> Iterator[tuple[int, ChangePoint]]:
        heard = self.heard
        newest = self._forward(self._clock.add(times_us))
        sums = [np.append(0, np.cumsum(each)) for each in self._scale.codes(values, times_us)]
        backwards = np.flatnonzero(np.diff(newest) < 0) + 1
        for first, end in pairwise([0, *backwards.tolist(), len(newest)]):
            start = first
            while start < end:
                if not heard.count or newest[start] < heard.first_us:
                    heard.first_us = int(newest[start])
                late = first + int(np.searchsorted(newest[first:end], heard.first_us + self._span))
                last = max(start + BLOCK - heard.count - 1, late, start)
                stop = min(last + 1, end)
                heard.count += stop - start
                heard.codes += int(sums[0][stop] - sums[0][start])
                heard.values += int(sums[1][stop] - sums[1][start])
                if last < end:
                    point = self._close(int(newest[last]))
                    if point is not None:
                        yield last, point
                start = stop
        heard.newest_us, heard.recent = int(newest[-1]), self._clock.recent

    def _forward(self, clock: IntArray) -> IntArray:
        """Where the stream stands at each row: late rows do not take it back, unless by a whole drift window."""
        newest: IntArray = np.maximum.accumulate(np.maximum(clock, self.heard.newest_us))
        back = _first(clock < newest - STEPS * self._span) if self._span else len(clock)
        if back < len(clock):
            self.heard.newest_us = int(clock[back])
            newest[back:] = self._forward(clock[back:])
        return newest

    def _close(self, time_us: int) -> ChangePoint | None:
        """The block under way is whole."""
        heard = self.heard
        count = heard.count
        heard.blocks.append((heard.codes / count, self._scale.shown(heard.values / count)))
        heard.steps += 1
        heard.count = heard.codes = heard.values = 0
        if heard.spread:
            return self._step(heard.blocks[-1][0], time_us)
        heard.counted += count
        if len(heard.blocks) == CALIBRATION:
            self._calibrate()
            self._detectors = self._fed()
        return None

    def _calibrate(self) -> None:
        heard = self.heard
        means = np.array([code for code, _ in heard.blocks])
        least = self._scale.unit / (heard.counted / CALIBRATION) ** 0.5
        heard.centre, heard.spread = float(means.mean()), max(float(means.std(ddof=1)), least) or 1.0

    def _step(self, mean: float, time_us: int) -> ChangePoint | None:
        heard = self.heard
        for method, detector in self._detectors.items():
            detector.update((mean - heard.centre) / heard.spread)
            if detector.drift_detected:
                before, after = _around_change(heard.blocks)
                self._begin_anew()
                return ChangePoint(self._name, method, time_us, before, after)
        if len(heard.blocks) >= 2 * KEPT:
            heard.blocks = heard.blocks[-KEPT:]
            self._detectors = self._fed()
        return None

    def _begin_anew(self) -> None:
        heard = self.heard
        heard.blocks, heard.counted, heard.centre, heard.spread = [], 0, 0.0, 0.0
        self._detectors = self._fed()

    def _fed(self) -> dict[Method, Any]:
        """The detectors as they are after the blocks that are kept."""
        detectors = _detectors()
        if self.heard.spread:
            for mean, _ in self.heard.blocks:
                for detector in detectors.values():
                    detector.update((mean - self.heard.centre) / self.heard.spread)
        return detectors


def _around_change(blocks: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean values before and after the place that parts the blocks best, by least squares."""
    codes, values = np.array(blocks).T
    first = np.arange(1, len(codes))
    sums = np.cumsum(codes - codes.mean())[:-1]
    cut = 1 + int(np.argmax(sums**2 / (first * (len(codes) - first))))
    return float(values[:cut].mean()), float(values[cut:].mean())


def _detectors() -> dict[Method, Any]:
    try:
        from river import drift
    except ImportError as error:
        raise MissingDependencyError(
            "River is not installed; change points need it: pip install 'penstock[river]'."
        ) from error
    detectors: Any = drift  # typed in part only
    return {"adwin": detectors.ADWIN(**ADWIN), "page-hinkley": detectors.PageHinkley(**PAGE_HINKLEY)}
