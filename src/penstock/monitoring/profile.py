"""What a model was trained on, in a few kilobytes: the reference that drift is measured against.

Of each column the exact counts of the training rows in up to 200 bins of equal mass (or of each value, where there are
few), how many were missing, mean and spread. Bins are cut at values that occurred, so the reference's distribution
function is known exactly at every cut: nothing is estimated, and a comparison with it is one of counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import ArtifactError
from penstock.core.time import DAY_US
from penstock.monitoring.hours import mean_by_hour, whole_days

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Role = Literal["feature", "score", "label"]

BINS = 200
MOST_VALUES = 50
"""With at most so many distinct values, each at least ten times on average, a column is one of values, not of bins."""
STRETCHES, ROWS_A_STRETCH, COARSE = 20, 25, 10
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of the reference.

    Attributes
    ----------
    is_discrete
        Whether `cuts` are the values that occurred; else bin i holds values in ``(cuts[i - 1], cuts[i]]``, and the first
        those up to the smallest.
    cuts, counts
        Ascending; how many rows are in each bin, or have each value.
    rows, missing
        Rows with a value, and without.
    mean, spread
        Of the values; standard deviation, 0 where there is one value only.
    clustering
        How many times more the shares of bins differ between stretches of the rows than independent rows would let them (at
        least 1): rows of the same card, hour or campaign resemble each other, and say less than so many independent ones.
    daily_clustering
        How many times more the share of rows up to a value differs between stretches of whole days, which have all hours in common, at the
        value where it is most: what counts where whole days are compared. 0: not known, under two whole days.
    by_hour
        By hour of the day (UTC), how far the mean rank is from a half, in shares of the rows; empty: not known.
    """

    name: str
    role: Role
    is_discrete: bool
    cuts: tuple[float, ...]
    counts: tuple[int, ...]
    rows: int
    missing: int
    mean: float
    spread: float
    clustering: float = 1.0
    daily_clustering: float = 0.0
    by_hour: tuple[float, ...] = ()

    def of_days(self) -> ColumnProfile:
        """The same column as whole days are compared with it."""
        return replace(self, clustering=self.daily_clustering) if self.daily_clustering else self


@dataclass(frozen=True, slots=True)
class Profile:
    """The reference: features as the model was fitted on, scores and labels of rows that it was not fitted on.

    `loss_by_hour` says by hour of the day (UTC) how far the mean loss of those rows is from that of all; empty: not known.
    """

    columns: tuple[ColumnProfile, ...]
    format_version: int = FORMAT_VERSION
    loss_by_hour: tuple[float, ...] = ()

    def to_bytes(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self)

    def column(self, role: Role) -> ColumnProfile | None:
        """The column of this role, score or label, if there is one."""
        return next((column for column in self.columns if column.role == role), None)


_profile_decoder = msgspec.json.Decoder(Profile)


def parse_profile(data: bytes, *, where: str) -> Profile:
    """The profile in `data`, whose digest has been checked.

    Raises
    ------
    ArtifactError
        When it is none, or one of a later Penstock.
    """
    try:
        profile = _profile_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"Profile of {where}: {error}. Train and register the model again.") from error
    if profile.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"Profile of {where}: format version is {profile.format_version}; this Penstock reads {FORMAT_VERSION}. "
            "Use the Penstock that wrote it, or train the model again."
        )
    return profile


def profile_column(
    name: str, values: FloatArray, *, role: Role = "feature", times_us: IntArray | None = None
) -> ColumnProfile:
    """The profile of a column, float64[n] in the order of the events; NaN and infinities are missing.

    With their event times, int64[n], it is also known what the column has to do with the hour.

    Examples
    --------
    >>> column = profile_column("is_night", np.array([0.0, 1.0, 0.0, np.nan] * 10))
    >>> column.is_discrete, column.cuts, column.counts, column.missing
    (True, (0.0, 1.0), (20, 10), 10)
    """
    held = np.sort(values[np.isfinite(values)])
    distinct = held[np.flatnonzero(np.diff(held, prepend=np.nan) != 0)]
    is_discrete = len(distinct) <= min(MOST_VALUES, len(held) // 10)
    cuts = distinct if is_discrete or len(distinct) <= BINS else _quantiles(held)
    below = np.searchsorted(held, cuts, side="right")
    counts = np.diff(below, prepend=0)
    daily = 0.0 if times_us is None else _daily_clustering(values, held, times_us)
    return ColumnProfile(
        name=name,
        role=role,
        is_discrete=is_discrete,
        cuts=tuple(cuts.tolist()),
        counts=tuple(counts.tolist()),
        rows=len(held),
        missing=len(values) - len(held),
        mean=float(held.mean()) if len(held) else 0.0,
        spread=float(held.std()) if len(held) else 0.0,
        clustering=_clustering(values, held, _equal_stretches(len(values))),
        daily_clustering=daily,
        by_hour=() if times_us is None else _ranks_by_hour(values, times_us, cuts, counts),
    )


def _quantiles(held: FloatArray) -> FloatArray:
    """Values that cut the sorted `held` into bins of equal mass; the first is the smallest, the last the largest."""
    ranks = np.linspace(0, len(held) - 1, BINS).round().astype(np.int64)
    return np.unique(held[ranks])


def _equal_stretches(rows: int) -> IntArray:
    """The stretch that each row is in, where all have as many rows."""
    stretches = min(STRETCHES, rows // ROWS_A_STRETCH)
    return np.arange(rows) * stretches // max(rows, 1)


def _clustering(values: FloatArray, held: FloatArray, stretch: IntArray) -> float:
    """Pearson's statistic over stretches and a few bins, over what it is for independent rows (Rao and Scott, 1981)."""
    table = _table(values, held, stretch)
    if len(table) < 2 or not len(held):
        return 1.0
    table = table[:, table.any(axis=0)]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(values)
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    statistic = float(((table - expected) ** 2 / expected).sum())
    return max(statistic / freedom, 1.0) if freedom else 1.0


def _daily_clustering(values: FloatArray, held: FloatArray, times_us: IntArray) -> float:
    """How much more shares differ between stretches of whole days than those of independent rows, at the cut where it is most.

    Days differ in one way, by weekday or campaign: spread over all bins that would look like little. Rows behind the last whole day are
    left out.
    """
    days = whole_days(times_us)
    stretches = min(STRETCHES, len(values) // ROWS_A_STRETCH, days)
    if stretches < 2 or not len(held):
        return 0.0
    day = (times_us - times_us[0]) // DAY_US
    inside = (day >= 0) & (day < days)
    table = _table(values[inside], held, day[inside] * stretches // days)
    if len(table) < 2:
        return 0.0
    rows = table.sum(axis=1, keepdims=True)
    below = np.column_stack([table[:, :-1].cumsum(axis=1), table[:, -1]])  # the last column: missing
    share = below.sum(axis=0) / rows.sum()
    share, below = share[(share > 0) & (share < 1)], below[:, (share > 0) & (share < 1)]
    apart = (rows * (below / rows - share) ** 2).sum(axis=0) / (share * (1 - share) * (len(table) - 1))
    return float(apart.max(initial=1.0))


def _table(values: FloatArray, held: FloatArray, stretch: IntArray) -> IntArray:
    """Rows by stretch, of those that have any, and bin; the last bin is of those without a value."""
    if not len(held):
        return np.zeros((0, 1), np.int64)
    cuts = np.unique(held[np.linspace(0, len(held) - 1, COARSE + 1).round().astype(np.int64)[1:-1]])
    bins = np.where(np.isfinite(values), np.searchsorted(cuts, values), len(cuts) + 1)
    size = int(stretch.max(initial=0)) + 1
    table = np.bincount(stretch * (len(cuts) + 2) + bins, minlength=size * (len(cuts) + 2)).reshape(size, -1)
    found: IntArray = table[table.any(axis=1)]
    return found


def middle_ranks(counts: IntArray) -> IntArray:
    """Twice the middle rank of a value in each bin, and beyond the last; whole numbers from 0 to twice the rows."""
    return np.append(2 * np.cumsum(counts) - counts, 2 * counts.sum())


def _ranks_by_hour(
    values: FloatArray, times_us: IntArray, cuts: FloatArray, counts: IntArray
) -> tuple[float, ...]:
    known = np.isfinite(values)
    if not known.any():
        return ()
    ranks = middle_ranks(counts)[np.searchsorted(cuts, values[known])] / (2 * counts.sum())
    return mean_by_hour(ranks, times_us[known])


class Sample:
    """Counts of a column's values now, in the bins of its reference; memory does not grow with the rows.

    Examples
    --------
    >>> sample = Sample(profile_column("kind", np.array([1.0, 2.0] * 10)))
    >>> sample.add(np.array([1.0, 1.0, 3.0, np.nan]))
    >>> sample.rows, sample.missing, sample.unseen
    (3, 1, 1)
    """

    def __init__(self, reference: ColumnProfile) -> None:
        self.reference = reference
        self._cuts = np.array(reference.cuts)
        self.counts: IntArray = np.zeros(len(self._cuts) + 1, np.int64)
        """By bin; the last is beyond the largest cut."""
        self.known: IntArray = np.zeros(len(self._cuts), np.int64)
        """Of a column of values: how many rows have each."""
        self.missing = 0
        self.total = 0.0
        """The sum of the values."""
        self.excess = 0.0
        """By how much values are outside the reference's range, summed."""

    @property
    def rows(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def unseen(self) -> int:
        """Rows whose value the reference does not have, of a column of values."""
        return self.rows - int(self.known.sum()) if self.reference.is_discrete else 0

    def add(self, values: FloatArray) -> None:
        """Count rows, float64[n]; NaN and infinities are missing."""
        held = values[np.isfinite(values)]
        self.missing += len(values) - len(held)
        self.total += float(held.sum())
        places = np.searchsorted(self._cuts, held)
        self.counts += np.bincount(places, minlength=len(self.counts))
        if not len(self._cuts):
            return
        if self.reference.is_discrete:
            inside = np.minimum(places, len(self._cuts) - 1)
            same = self._cuts[inside] == held
            self.known += np.bincount(inside[same], minlength=len(self._cuts))
        low, high = self._cuts[0], self._cuts[-1]
        self.excess += float(np.maximum(low - held, 0).sum() + np.maximum(held - high, 0).sum())
