"""Comparing arms while an experiment runs: intervals that hold at every look, over keys, not events. Pure.

Arms share keys, and the events of a key resemble each other, so the unit is the key. A metric is a ratio of sums over keys (frauds
caught by frauds, cost by decisions); its variance is that of the linearised ratio. The interval of a difference is an asymptotic
confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: *Time-uniform central limit theory and asymptotic
confidence sequences*, Annals of Statistics 2024): whoever looks at it every minute and stops at the first look that excludes
zero errs no more often than stated.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "undecided"]

LEAST_KEYS = 50
"""Keys with something to count that each arm needs before anything is said of it: the interval holds for large numbers."""
TIGHTEST_AT_KEYS = 5_000
"""The interval is made to be narrowest at about this many keys, and stays valid at any other number."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of sums over keys: its value, its variance, and over how many keys and how large a denominator.

    The value is None where the denominator is 0, the variance where fewer than two keys take part. `active` keys have a
    numerator that is not 0.
    """

    value: float | None
    variance: float | None
    keys: int
    active: int
    size: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm against another: `value` is the second's ratio less the first's, in ``[low, high]`` at the stated level.

    `verdict` says whether the second is better; None stands for what cannot be computed yet.
    """

    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def ratio(numerators: FloatArray, denominators: FloatArray) -> Ratio:
    """The ratio of sums over keys.

    Parameters
    ----------
    numerators, denominators
        float64[keys]: sums over the events of each key; keys whose denominator is 0 take no part.

    Examples
    --------
    >>> found = ratio(np.array([1.0, 0.0, 2.0]), np.array([2.0, 2.0, 4.0]))
    >>> found.value, found.keys
    (0.375, 3)
    """
    part = denominators > 0
    top, bottom = numerators[part], denominators[part]
    keys, size = len(top), float(bottom.sum())
    if not keys:
        return Ratio(None, None, 0, 0, 0.0)
    value, active = float(top.sum()) / size, int(np.count_nonzero(top))
    if keys < 2:
        return Ratio(value, None, keys, active, size)
    rest = top - value * bottom
    return Ratio(value, float(rest @ rest) / size**2 * keys / (keys - 1), keys, active, size)


def compare(first: Ratio, second: Ratio, *, error: float = 0.05, more_is_better: bool = True) -> Difference:
    """The difference of two arms' ratios, with an interval that may be looked at any time.

    Parameters
    ----------
    first, second
        The arm that stands, and the one that is tried.
    error
        How often, at most, the interval of arms that are equal excludes 0 at any look.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sizes = np.full(20_000, 5.0)
    >>> usual, improved = rng.binomial(5, 0.30, 20_000), rng.binomial(5, 0.33, 20_000)
    >>> compare(ratio(usual.astype(float), sizes), ratio(improved.astype(float), sizes)).verdict
    'better'
    """
    if first.value is None or second.value is None:
        return Difference(None, None, None, "undecided")
    value = second.value - first.value
    if first.variance is None or second.variance is None:
        return Difference(value, None, None, "undecided")
    reach = math.sqrt(first.variance + second.variance) * _width(first.keys + second.keys, error)
    low, high = value - reach, value + reach
    verdict: Verdict = "undecided"
    enough = min(first.keys, second.keys, max(first.active, second.active)) >= LEAST_KEYS
    if enough and reach and (low > 0 or high < 0):
        verdict = "better" if (low > 0) == more_is_better else "worse"
    return Difference(value, low, high, verdict)


def _width(keys: int, error: float) -> float:
    """How many standard errors the interval reaches to either side."""
    odds = -2 * math.log(error)
    rate = (odds + math.log(odds + 1)) / TIGHTEST_AT_KEYS  # the square of rho, best at TIGHTEST_AT_KEYS
    grown = keys * rate
    return math.sqrt((grown + 1) / grown * math.log((grown + 1) / error**2))
