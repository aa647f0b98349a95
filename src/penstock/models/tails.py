"""Raw scores of a detector as probabilities: how few of its own past scores were as high.

Within what was seen it is the share of past scores below. Beyond the 98th percentile, where alarms lie and past scores are few, a
generalised Pareto distribution is put to what exceeds it (peaks over threshold: Siffer and others, "Anomaly detection in streams
with extreme value theory", 2017), by its mean and variance. So scores of usual events are spread evenly over [0, 1], and a
threshold of 0.999 means one event in a thousand, whatever the detector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.models.published import TailNumbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 200
"""With fewer past scores nothing is said."""
_TAIL, _LEAST_TAIL, _HEAVIEST, _FLAT = 0.02, 10, 0.5, 1e-9


class Tail:
    """The newest raw scores of a detector.

    Parameters
    ----------
    size
        How many are remembered.

    Examples
    --------
    >>> tail = Tail(1000)
    >>> tail.add(np.arange(1000.0))
    >>> below(tail.numbers(), np.array([-1.0, 500.0, 985.0, 1e6])).round(3)
    array([0.   , 0.5  , 0.989, 1.   ])
    """

    def __init__(self, size: int) -> None:
        self._ring = np.full(size, np.nan)
        self._added = 0

    def add(self, raw: NDArray[np.float64]) -> None:
        """Remember raw scores, in order; those that are no numbers are passed over."""
        raw = raw[np.isfinite(raw)]
        newest = raw[-len(self._ring) :]
        self._added += len(raw)
        self._ring[(self._added - len(newest) + np.arange(len(newest))) % len(self._ring)] = newest

    def numbers(self) -> TailNumbers | None:
        """What `below` needs of them; None while they are too few."""
        if self._added < LEAST:
            return None
        past = np.sort(self._ring[: min(self._added, len(self._ring))])
        count = max(int(len(past) * _TAIL), _LEAST_TAIL)
        start = float(past[-count - 1])
        beyond = past[-count:] - start
        mean, variance = float(beyond.mean()), float(beyond.var())
        heavy = 0.5 * (1.0 - mean * mean / variance) if variance > 0.0 else 0.0
        shape = min(max(heavy, 0.0), _HEAVIEST)
        scale = max(mean * (1.0 - shape), np.finfo(np.float64).tiny)
        return TailNumbers(past.tobytes(), start, shape, scale)


def below(numbers: TailNumbers, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that a past score is below each of `raw`, float64[n]; NaN stays NaN."""
    past = np.frombuffer(numbers.past)
    ranks = np.searchsorted(past, raw, "left") + np.searchsorted(past, raw, "right")
    found: NDArray[np.float64] = ranks / (2.0 * len(past))
    far = raw > numbers.start
    rest = 1.0 - float(np.searchsorted(past, numbers.start, "right")) / len(past)
    excess = (raw[far] - numbers.start) / numbers.scale
    with np.errstate(over="ignore"):
        if numbers.shape < _FLAT:
            left = np.exp(-excess)
        else:
            left = (1.0 + numbers.shape * excess) ** (-1.0 / numbers.shape)
    found[far] = 1.0 - rest * left
    return np.where(np.isnan(raw), np.nan, found)
