"""How the mean of a column goes with the hour of the day (UTC): what a stream of its values is cleared of before it is listened to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from penstock.core.time import DAY_US

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HOURS = 24
HOUR_US = DAY_US // HOURS


def hour_of(times_us: IntArray) -> IntArray:
    """The hour of the day, 0 to 23, shape [n]."""
    hours: IntArray = times_us // HOUR_US % HOURS
    return hours


def whole_days(times_us: IntArray) -> int:
    """How many whole days rows in their order reach over; the last of them may lack an hour."""
    return int((times_us[-1] - times_us[0] + HOUR_US) // DAY_US) if len(times_us) else 0


def mean_by_hour(values: FloatArray, times_us: IntArray) -> tuple[float, ...]:
    """By hour, how far the mean of the hour is from that of its days, as far as that is more than chance. Empty under a whole day.

    Means of an hour differ by chance, and would bring a cycle into a stream that has none. So the differences are shrunk by the share of
    their squares that chance explains (James and Stein, 1961); where it explains all they become 0. What chance does is how much the same
    hour differs from day to day; of a single day, how much rows differ.

    Parameters
    ----------
    values, times_us
        Finite values and event times, shape [n] both.

    Examples
    --------
    >>> times = np.arange(4_800) * (2 * DAY_US // 4_800)
    >>> values = np.where(hour_of(times) < 12, 1.0, 3.0) + np.tile([0.5, -0.5], 2_400)
    >>> [round(mean, 2) for mean in mean_by_hour(values, times)][10:14]
    [-1.0, -1.0, 1.0, 1.0]
    >>> mean_by_hour(values[:100], times[:100])
    ()
    """
    days = whole_days(times_us)
    day = (times_us - times_us[0]) // DAY_US if days else times_us
    inside = (day >= 0) & (day < days)
    if not inside.any():
        return ()
    cells = day[inside] * HOURS + hour_of(times_us[inside])
    rows = np.bincount(cells, minlength=days * HOURS).reshape(days, HOURS)
    sums = np.bincount(cells, values[inside], minlength=days * HOURS).reshape(days, HOURS)
    sums -= rows * (sums.sum(axis=1) / np.maximum(rows.sum(axis=1), 1))[:, None]
    means = sums.sum(axis=0) / np.maximum(rows.sum(axis=0), 1)
    between = float(rows.sum(axis=0) @ means**2)
    if days > 1:
        apart, freedom = sums - rows * means, int(np.count_nonzero(rows)) - HOURS - days + 1
        chance = float((apart**2 / np.maximum(rows, 1)).sum()) / max(freedom, 1)
    else:
        chance = float(values[inside].var())
    kept = max(0.0, 1.0 - np.count_nonzero(means) * chance / between) if between else 0.0
    shrunk: list[float] = (kept * means).tolist()
    return tuple(shrunk)
