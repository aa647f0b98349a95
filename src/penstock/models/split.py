"""Splitting by time, with the gap in which labels arrive.

A random split lets a model learn from its own future and from labels nobody had yet. Here training comes first, then a
gap as long as labels take, then the test: ``[start, start + train)``, ``[.., .. + delay)``, ``[.., .. + test)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from penstock.core.errors import ModelError
from penstock.core.time import format_duration, from_us, to_us

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import numpy as np
    from numpy.typing import NDArray


class SplitLengths(Protocol):
    """The lengths of a split: `penstock.definitions.models.TimeSplit`."""

    @property
    def train(self) -> timedelta:
        """Length of the training period."""

    @property
    def delay(self) -> timedelta:
        """Length of the gap."""

    @property
    def test(self) -> timedelta:
        """Length of the test period."""

    @property
    def start(self) -> datetime | None:
        """The first instant of training; None: as late as the data allow."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which rows train and which test; periods are half-open, in microseconds since 1970-01-01 UTC.

    A label takes part in training when it was known at or before `test_start_us`, the end of the gap.
    """

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    train_start_us: int
    train_end_us: int
    test_start_us: int
    test_end_us: int

    def __str__(self) -> str:
        def period(start: int, end: int) -> str:
            return f"{from_us(start):%Y-%m-%d %H:%M} .. {from_us(end):%Y-%m-%d %H:%M}"

        train, test = (
            period(self.train_start_us, self.train_end_us),
            period(self.test_start_us, self.test_end_us),
        )
        gap = format_duration(self.test_start_us - self.train_end_us)
        return f"train {train} ({self.train.sum():,} rows), gap {gap}, test {test} ({self.test.sum():,} rows)"


def split_by_time(
    times_us: NDArray[np.int64],
    lengths: SplitLengths,
    *,
    end_us: int | None = None,
    known_at_us: NDArray[np.int64] | None = None,
) -> Split:
    """Cut rows into training and test by event time.

    Parameters
    ----------
    times_us
        Event times, int64 microseconds UTC, shape [n], in any order.
    lengths
        A `TimeSplit`.
    end_us
        Where the test ends (exclusive) when `lengths` has no start; default: just after the newest event.
    known_at_us
        When each row's label became known, int64 microseconds UTC, shape [n]; rows whose label was not known by the end
        of the gap do not train. None: all were known in time.

    Raises
    ------
    ModelError
        When no row falls into the training or the test period.
    """
    if not len(times_us):
        raise ModelError("Time split: there are no rows. Feed events and labels first.")
    train_start, train_end, test_start, test_end = _boundaries(times_us, lengths, end_us)
    train = (times_us >= train_start) & (times_us < train_end)
    if known_at_us is not None:
        train &= known_at_us <= test_start
    test = (times_us >= test_start) & (times_us < test_end)
    split = Split(train, test, train_start, train_end, test_start, test_end)
    if not train.any() or not test.any():
        found = f"{from_us(int(times_us.min()))} .. {from_us(int(times_us.max()))}"
        raise ModelError(
            f"Time split: a period has no rows: {split}. The data are of {found}. Shorten the periods, set start, or wait "
            "for more events and labels."
        )
    return split


def _boundaries(
    times_us: NDArray[np.int64], lengths: SplitLengths, end_us: int | None
) -> tuple[int, int, int, int]:
    train, delay, test = to_us(lengths.train), to_us(lengths.delay), to_us(lengths.test)
    if lengths.start is not None:
        start = to_us(lengths.start)
    else:
        end = int(times_us.max()) + 1 if end_us is None else end_us
        start = end - test - delay - train
    return start, start + train, start + train + delay, start + train + delay + test
