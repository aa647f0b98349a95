"""When a stream changed: River's ADWIN and Page-Hinkley over values in the order of their events.

A report compares two periods; a detector says since when. ADWIN keeps a window that shrinks when its two ends differ;
Page-Hinkley adds up deviations from the running mean. Both are made for values that are bounded or nearly normal: on raw
amounts, or on frauds of one in a hundred, ADWIN fires on more than half of all streams without drift. So they
are given the mean rank, in the reference, of 100 values at a time. Then, without drift, ADWIN fires on fewer than one
stream of 200 in 100,000 values and Page-Hinkley on fewer than two of 100, whatever the distribution; a shift of 0.25
standard deviations is noticed after some 1,000 values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.core.errors import MissingDependencyError
from penstock.monitoring.profile import ColumnProfile

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Method = Literal["adwin", "page-hinkley"]

BLOCK = 100
"""So many values are one step of a detector."""
ADWIN = {"delta": 1e-4, "clock": 1}
PAGE_HINKLEY = {"min_instances": 30, "delta": 0.5, "threshold": 20.0, "alpha": 1.0}
MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A detector fired on `stream` at the event of a time; the mean of the values until the last point, and since then.

    `before` and `after` are split where the detector fired, which is some blocks after the change.
    """

    stream: str
    method: Method
    time_us: int
    before: float
    after: float


class Detectors:
    """ADWIN and Page-Hinkley over one stream.

    Parameters
    ----------
    reference
        The stream's column in the profile of the model.

    Raises
    ------
    MissingDependencyError
        River is not installed.

    Examples
    --------
    >>> from penstock.monitoring.profile import profile_column
    >>> draw = np.random.default_rng(0)
    >>> detectors = Detectors(profile_column("score", draw.random(20_000)))
    >>> detectors.add(np.arange(9_000), np.append(draw.random(6_000), draw.random(3_000) / 2))
    >>> [(point.method, 6_000 <= point.time_us < 7_500) for point in detectors.points]
    [('adwin', True), ('page-hinkley', True)]
    """

    def __init__(self, reference: ColumnProfile) -> None:
        self._name = reference.name
        self._cuts = np.array(reference.cuts)
        self._ranks = _standard_ranks(reference)
        self._detectors = _detectors()
        self._times: IntArray = np.zeros(0, np.int64)
        self._values: FloatArray = np.zeros(0)
        self._blocks: list[float] = []
        self._found: list[tuple[Method, int, int]] = []

    @property
    def points(self) -> list[ChangePoint]:
        """Where the detectors fired, by method and time."""
        points = []
        for method in self._detectors:
            fired = [(block, time) for name, block, time in self._found if name == method]
            edges = [0, *(block - 1 for block, _ in fired), len(self._blocks)]
            means = [float(np.mean(self._blocks[a:b] or [np.nan])) for a, b in pairwise(edges)]
            points += [
                ChangePoint(self._name, method, time, means[i], means[i + 1])
                for i, (_, time) in enumerate(fired)
            ]
        return points

    def add(self, times_us: IntArray, values: FloatArray) -> None:
        """Take in values in their order, shape [n] both; NaN and infinities are left out."""
        known = np.isfinite(values)
        times = np.append(self._times, times_us[known])
        held = np.append(self._values, values[known])
        whole = len(held) // BLOCK * BLOCK
        self._times, self._values = times[whole:], held[whole:]
        ranks = self._ranks[np.searchsorted(self._cuts, held[:whole])].reshape(-1, BLOCK)
        steps = (ranks.mean(axis=1) * BLOCK**0.5).tolist()
        ends = times[BLOCK - 1 : whole : BLOCK].tolist()
        for step, time_us, mean in zip(
            steps, ends, held[:whole].reshape(-1, BLOCK).mean(axis=1), strict=True
        ):
            self._blocks.append(float(mean))
            self._step(step, time_us)

    def _step(self, step: float, time_us: int) -> None:
        for method, detector in self._detectors.items():
            detector.update(step)
            if detector.drift_detected and len(self._found) < MOST_POINTS:
                self._found.append((method, len(self._blocks), time_us))


def _standard_ranks(reference: ColumnProfile) -> FloatArray:
    """The middle rank of each bin, with mean 0 and deviation 1 over the reference; the last is beyond its largest value."""
    shares = np.array(reference.counts) / max(reference.rows, 1)
    ranks = np.append(np.cumsum(shares) - shares / 2, 1.0)
    mean = float(shares @ ranks[:-1])
    spread = float(shares @ (ranks[:-1] - mean) ** 2) ** 0.5
    standard: FloatArray = (ranks - mean) / (spread or 1.0)
    return standard


def _detectors() -> dict[Method, Any]:
    try:
        from river import drift
    except ImportError as error:
        raise MissingDependencyError(
            "River is not installed; change points need it: pip install 'penstock[river]'."
        ) from error
    detectors: Any = drift  # typed in part only
    return {"adwin": detectors.ADWIN(**ADWIN), "page-hinkley": detectors.PageHinkley(**PAGE_HINKLEY)}
