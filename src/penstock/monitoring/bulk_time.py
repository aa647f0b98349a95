"""Where a stream stands in event time, whatever single clocks say: the median of its newest 21 event times.

The newest time that was ever seen is a bad clock: one row of a device whose clock went wrong is years ahead of all that follows, and whoever
waits for the stream to get there waits for years. A median follows the rows themselves. It is ten rows behind in a stream in order, moves
by no more than a few rows where up to ten of 21 are wrong, and where more were it comes back with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penstock.core.time import DAY_US

IntArray = npt.NDArray[np.int64]

ROWS = 21


class BulkClock:
    """The median of the newest event times, row by row; of an even number of them the earlier of the two in the middle.

    Parameters
    ----------
    recent
        What was kept, `BulkClock.recent`; it goes on from there.

    Examples
    --------
    >>> clock = BulkClock()
    >>> clock.add(np.array([10, 11, 99_999, 12, 13])).tolist()
    [10, 10, 11, 11, 12]
    """

    def __init__(self, recent: Sequence[int] = ()) -> None:
        self._recent = np.array(recent, np.int64)

    @property
    def recent(self) -> list[int]:
        """The newest times, at most 20: what is to be kept."""
        kept: list[int] = self._recent.tolist()
        return kept

    def add(self, times_us: IntArray) -> IntArray:
        """Take in rows in their order, shape [n]; the time at each of them, shape [n]. How rows are cut does not matter."""
        before = len(self._recent)
        times = np.concatenate([self._recent, times_us])
        self._recent = times[-(ROWS - 1) :]
        short = [_middle(times[: at + 1]) for at in range(before, min(ROWS - 1, len(times)))]
        if len(times) < ROWS:
            return np.array(short, np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(times, ROWS)
        medians = np.partition(windows, ROWS // 2, axis=1)[:, ROWS // 2]
        return np.concatenate([np.array(short, np.int64), medians])

    def newest(self, times_us: IntArray) -> int:
        """Take in at least one row; the newest of their times that is believed: at most a day ahead of where the stream stood.

        >>> BulkClock().newest(np.array([10, 11, 4 * DAY_US, 12, 13]))
        13
        """
        clock = self.add(times_us)
        return int(times_us.max(initial=clock.max(), where=times_us <= clock + DAY_US))


def _middle(times: IntArray) -> int:
    at = (len(times) - 1) // 2
    return int(np.partition(times, at)[at])
