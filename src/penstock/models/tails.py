"""Raw scores of a detector as probabilities: how few of its own past scores were as high.

Within what was seen it is the share of past scores below. Beyond the 98th percentile, where alarms lie and past scores are few, a
generalised Pareto distribution is put to what exceeds it (peaks over threshold: Siffer and others, "Anomaly detection in streams
with extreme value theory", 2017), by its mean and variance. So scores of usual events are spread evenly over [0, 1], and a
threshold of 0.999 means one event in a thousand, whatever the detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 200
"""With fewer past scores nothing is said."""
_TAIL, _LEAST_TAIL, _HEAVIEST = 0.02, 10, 0.5


class Tail:
    """The newest raw scores, and the probability of one as high.

    Parameters
    ----------
    size
        How many raw scores are remembered.

    Examples
    --------
    >>> tail = Tail(1000)
    >>> tail.add(np.arange(1000.0))
    >>> tail.settle()
    >>> tail.below(np.array([-1.0, 500.0, 985.0, 1e6])).round(3)
    array([0.   , 0.5  , 0.984, 1.   ])
    """

    def __init__(self, size: int) -> None:
        self._ring = np.full(size, np.nan)
        self._added = 0
        self._sorted = np.zeros(0)
        self._from, self._shape, self._scale = np.inf, 0.0, 1.0

    @property
    def known(self) -> bool:
        """Whether enough was seen by the last `settle`."""
        return len(self._sorted) >= LEAST

    def add(self, raw: NDArray[np.float64]) -> None:
        """Remember raw scores, in order; those that are no numbers are passed over."""
        raw = raw[np.isfinite(raw)]
        self._ring[(self._added + np.arange(len(raw))) % len(self._ring)] = raw
        self._added += len(raw)

    def settle(self) -> None:
        """Answer by what was added until now."""
        self._sorted = np.sort(self._ring[: min(self._added, len(self._ring))])
        if not self.known:
            return
        count = max(int(len(self._sorted) * _TAIL), _LEAST_TAIL)
        self._from = float(self._sorted[-count - 1])
        beyond = self._sorted[-count:] - self._from
        mean, variance = float(beyond.mean()), float(beyond.var())
        heavy = 0.5 * (1.0 - mean * mean / variance) if variance > 0.0 else 0.0
        self._shape = min(max(heavy, 0.0), _HEAVIEST)
        self._scale = max(mean * (1.0 - self._shape), np.finfo(np.float64).tiny)

    def below(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that a past score is below, float64[n]; 0 while too little is known."""
        if not self.known:
            return np.zeros(len(raw))
        size = len(self._sorted)
        ranks = np.searchsorted(self._sorted, raw, "left") + np.searchsorted(self._sorted, raw, "right")
        found: NDArray[np.float64] = ranks / (2.0 * size)
        far = raw > self._from
        rest = 1.0 - float(np.searchsorted(self._sorted, self._from, "right")) / size
        excess = (raw[far] - self._from) / self._scale
        with np.errstate(over="ignore"):
            shape = self._shape
            left = np.exp(-excess) if shape < 1e-9 else (1.0 + shape * excess) ** (-1.0 / shape)
        found[far] = 1.0 - rest * left
        return np.where(np.isnan(raw), np.nan, found)
