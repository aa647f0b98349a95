"""The Numenta Anomaly Benchmark's score: how early anomalies were found, and how much was cried wolf.

Anomalies are windows of rows. Of each window the first alarm counts, the more the earlier it comes; a window without one
counts against. An alarm outside counts against, little just after a window, fully far from one. The score is 0 for silence
and 100 for an alarm at the start of every window and nowhere else; it may be far below 0.

Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms", 2015; this is the scoring of NAB 1.1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError

_STEEPNESS, _FAR = 5.0, 3.0


@dataclass(frozen=True, slots=True)
class NabProfile:
    """What a found anomaly is worth, and what a missed one and a false alarm cost."""

    found: float = 1.0
    missed: float = 1.0
    false_alarm: float = 0.11


STANDARD = NabProfile()
FEW_FALSE_ALARMS = NabProfile(false_alarm=0.22)
FEW_MISSED = NabProfile(missed=2.0)
PROFILES: Mapping[str, NabProfile] = MappingProxyType(
    {"standard": STANDARD, "reward_low_FP_rate": FEW_FALSE_ALARMS, "reward_low_FN_rate": FEW_MISSED}
)
"""By the names that NAB gives them."""


def nab_score(
    alarms: npt.NDArray[np.bool_],
    windows: Sequence[tuple[int, int]],
    *,
    profile: NabProfile = STANDARD,
    probation: int = 0,
) -> float:
    """The normalised score.

    Parameters
    ----------
    alarms
        Whether there was an alarm at each row, bool[n], in the order of time.
    windows
        First and last row of each anomaly, ascending, without overlap; at least one.
    profile
        What errors cost.
    probation
        Alarms in so many rows at the beginning are overlooked, and windows that end in them, as NAB does with 15 %.

    Raises
    ------
    InputError
        There is no window, or they overlap or leave the rows.

    Examples
    --------
    >>> alarms = np.zeros(100, np.bool_)
    >>> nab_score(alarms, [(40, 59)])
    0.0
    >>> alarms[40] = True
    >>> nab_score(alarms, [(40, 59)])
    100.0
    >>> alarms[40], alarms[50] = False, True
    >>> 80 < nab_score(alarms, [(40, 59)]) < 100
    True
    """
    _check(windows, len(alarms))
    return nab_score_of([(alarms, windows)], profile=profile, probation=probation)


def nab_score_of(
    series: Sequence[tuple[npt.NDArray[np.bool_], Sequence[tuple[int, int]]]],
    *,
    profile: NabProfile = STANDARD,
    probation: int = 0,
) -> float:
    """The normalised score over several series, as of several machines: their points together, as NAB sums up its files.

    Parameters
    ----------
    series
        Alarms and windows of each, as in `nab_score`. A series may have no window; at least one has.

    Examples
    --------
    >>> alarms = np.zeros(100, np.bool_)
    >>> alarms[40] = True
    >>> nab_score_of([(alarms, [(40, 59)]), (np.zeros(100, np.bool_), [])])
    100.0
    """
    for alarms, windows in series:
        if windows:
            _check(windows, len(alarms))
    judged = [
        (alarms, [window for window in windows if window[1] >= probation]) for alarms, windows in series
    ]
    score = sum(_points(alarms, windows, profile, probation) for alarms, windows in judged)
    count = sum(len(windows) for _, windows in judged)
    if not count:
        raise InputError("NAB score: no series has a window; at least one anomaly is needed. Label one.")
    silence, perfect = -profile.missed * count, profile.found * count
    return 100 * (score - silence) / (perfect - silence)


def _points(
    alarms: npt.NDArray[np.bool_], windows: Sequence[tuple[int, int]], profile: NabProfile, probation: int
) -> float:
    """What the alarms of a series are worth, before it is brought to a scale."""
    at = [row for row in np.flatnonzero(alarms).tolist() if row >= probation]
    starts = [first for first, _ in windows]
    score, found = 0.0, set()
    for row in at:
        i = bisect_right(starts, row) - 1
        if i >= 0 and row <= windows[i][1]:
            if i not in found:
                found.add(i)
                score += profile.found * _worth(row, windows[i])
        else:
            score += profile.false_alarm * (-1.0 if i < 0 else _sigmoid(_behind(row, windows[i])))
    return score - profile.missed * (len(windows) - len(found))


def anomaly_windows(labels: npt.NDArray[Any], *, gap: int = 0) -> list[tuple[int, int]]:
    """First and last row of each run of positive labels, shape [n]; runs at most `gap` rows apart are one.

    >>> anomaly_windows(np.array([0, 1, 1, 0, 1, 0, 0, 0, 1]), gap=1)
    [(1, 4), (8, 8)]
    """
    windows: list[tuple[int, int]] = []
    for row in np.flatnonzero(np.asarray(labels) > 0).tolist():
        if windows and row - windows[-1][1] <= gap + 1:
            windows[-1] = (windows[-1][0], row)
        else:
            windows.append((row, row))
    return windows


def _worth(row: int, window: tuple[int, int]) -> float:
    """1 at the window's start, next to nothing at its end."""
    first, last = window
    return _sigmoid(-(last - row + 1) / (last - first + 1)) / _sigmoid(-1.0)


def _behind(row: int, window: tuple[int, int]) -> float:
    """How many window lengths a row is behind a window."""
    first, last = window
    return (row - last) / max(last - first, 1)


def _sigmoid(position: float) -> float:
    """From nearly 1 at -1 over 0 at 0 to -1 far behind."""
    return -1.0 if position >= _FAR else 2 / (1 + math.exp(_STEEPNESS * position)) - 1


def _check(windows: Sequence[tuple[int, int]], rows: int) -> None:
    ends = [row for window in windows for row in window]
    wrong = not windows or ends[0] < 0 or ends[-1] >= rows or any(b < a for a, b in windows)
    if wrong or any(a[1] >= b[0] for a, b in pairwise(windows)):
        raise InputError(
            f"NAB score: windows are {list(windows)[:5]} over {rows} rows; allowed is at least one, each the first and last "
            "row of an anomaly, ascending, without overlap. Make them of labels with anomaly_windows."
        )
