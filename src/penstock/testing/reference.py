"""The oracle, part one: what a window holds and what each function makes of it.

This file defines the meaning of Penstock's windowed features. It is slow on purpose: every value is computed
from the list of all applied rows, by scanning. The kernel, the engine, the replay and every other fast path
must agree with it to the last bit.

How to read it
--------------
For each key there is one list of rows. Rows are ordered by time; rows of equal time stand in log order.

1. A row arrives at time t. `newest` is the greatest time that the key's rows have.

   * ``t >= newest``: the row is in order;
   * ``newest - allowed_lateness <= t < newest``: it is late, and put in its place all the same;
   * older: it is too late. It is answered as if put in its place, but it is not kept.

2. A window (size w, offset o) holds the rows with ``t + o - w < time <= t + o``. Where t lies further back than
   `allowed_lateness` behind the newest row, nothing older than that horizon's own window is remembered: the
   lower edge is then ``(newest - allowed_lateness) + o - w``. The row that asks is always in its own windows
   without offset.

   A view whose features are all attributes of a profile without `ttl` remembers less and more: of the rows up to the
   horizon only those of the latest time, but these for ever.

3. The attribute of a profile is its value in the window's latest row, null where it is null there. For all other
   functions nulls are left out, then rows whose `where` column is not true, then the function is computed exactly
   and rounded once.

Where the design is silent, this is decided:

* A Float value that is NaN or infinite is null, -0.0 is 0.0, from the moment it enters; so `last` and `min`
  never give -0.0.
* The mean is ``float(sum) / count``. A sum too large for a float is null, and so is the mean made from it,
  even where the mean itself would fit. The mean of Int columns is not null when the sum leaves int64.
* `time_since_last` looks back from t, also where the window has an offset, and never at the asking row
  itself; another row of the same time gives 0.0.
* `where` null counts as not true. It filters rows, not times: a filtered-out row still moves `newest`.
* A key that was dropped for `max_keys` starts afresh when it returns: what was too late may then be in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from penstock.core.time import LONGEST, to_us

if TYPE_CHECKING:
    from penstock.core.types import DataType
    from penstock.definitions.aggregates import Aggregate

Value = bool | int | float | str | None
Present = bool | int | float | str
Values = Sequence[Present]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class Lateness(IntEnum):
    """How a row stands to the newest row of its key."""

    IN_ORDER = 0
    LATE = 1
    TOO_LATE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a view: its time in microseconds since 1970-01-01 UTC, and its columns."""

    time_us: int
    columns: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Result:
    """What an applied row is answered: its features by name, and how late it was."""

    features: dict[str, Value]
    lateness: Lateness


class ReferenceView:
    """The windowed features of one view, for all keys.

    Parameters
    ----------
    aggregates
        The view's features.
    allowed_lateness_us
        How far behind its key's newest row a row may be and still be kept.
    max_keys
        How many keys are held at most; when one more comes, the key whose latest applied row came longest ago
        (in log order, too-late rows included) is forgotten. None for no bound.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from penstock import Aggregate
    >>> from penstock.types import Field, Float64
    >>> minute = timedelta(minutes=1)
    >>> view = ReferenceView([Aggregate(Field("amount", Float64), "sum", time_window=minute)])
    >>> view.apply("ann", 0, {"amount": 1.5}).features
    {'amount_sum_1m_continuous': 1.5}
    >>> view.apply("ann", 59_999_999, {"amount": 2.0}).features
    {'amount_sum_1m_continuous': 3.5}
    >>> view.lookup("ann", 60_000_000)
    {'amount_sum_1m_continuous': 2.0}
    """

    def __init__(
        self, aggregates: Sequence[Aggregate], allowed_lateness_us: int = 0, *, max_keys: int | None = None
    ) -> None:
        self.aggregates = tuple(aggregates)
        self.allowed_lateness_us = allowed_lateness_us
        self.max_keys = max_keys
        self.evicted_keys = 0
        self._rows: dict[Hashable, list[Row]] = {}  # keys in the order of their latest applied row

    def apply(self, key: Hashable, time_us: int, row: Mapping[str, Value]) -> Result:
        """The features of `row` as of its own time, itself included; the row is kept unless too late."""
        rows = self._take_out(key)
        lateness = self._lateness(rows, time_us)
        asking = Row(time_us, dict(row))
        with_asking = inserted(rows, asking)
        features = self._features(with_asking, time_us, horizon_us=self._horizon(rows), asking=asking)
        self._rows[key] = rows if lateness is Lateness.TOO_LATE else self._remembered(with_asking)
        return Result(features, lateness)

    def lookup(self, key: Hashable, time_us: int) -> dict[str, Value]:
        """The features of `key` as of a time, over the rows applied so far; changes nothing."""
        rows = self._rows.get(key, [])
        return self._features(rows, time_us, horizon_us=self._horizon(rows), asking=None)

    def empty(self) -> dict[str, Value]:
        """The features where nothing is known: what an event without a key is answered."""
        return self._features([], 0, horizon_us=None, asking=None)

    def _take_out(self, key: Hashable) -> list[Row]:
        if key in self._rows:
            return self._rows.pop(key)
        if self.max_keys is not None and len(self._rows) >= self.max_keys:
            longest_ago = next(iter(self._rows))
            del self._rows[longest_ago]
            self.evicted_keys += 1
        return []

    def _horizon(self, rows: Sequence[Row]) -> int | None:
        return newest(rows) - self.allowed_lateness_us if rows else None

    def _lateness(self, rows: Sequence[Row], time_us: int) -> Lateness:
        if not rows or time_us >= newest(rows):
            return Lateness.IN_ORDER
        return Lateness.LATE if time_us >= newest(rows) - self.allowed_lateness_us else Lateness.TOO_LATE

    def _remembered(self, rows: list[Row]) -> list[Row]:
        """The rows without those that a profile without `ttl` forgets."""
        if not all(is_attribute(a) and a.time_window.window_size == LONGEST for a in self.aggregates):
            return rows
        passed = [row.time_us for row in rows if row.time_us <= newest(rows) - self.allowed_lateness_us]
        return [row for row in rows if not passed or row.time_us >= max(passed)]

    def _features(
        self, rows: Sequence[Row], time_us: int, *, horizon_us: int | None, asking: Row | None
    ) -> dict[str, Value]:
        features: dict[str, Value] = {}
        for aggregate in self.aggregates:
            window = rows_in_window(rows, aggregate, time_us, horizon_us=horizon_us, asking=asking)
            if is_attribute(aggregate):
                features[aggregate.name] = present(window[-1], aggregate) if window else None
                continue
            counted = [row for row in window if counts(row, aggregate)]
            features[aggregate.name] = compute(aggregate, counted, time_us, asking=asking)
        return features


def is_attribute(aggregate: Aggregate) -> bool:
    """Whether it is the attribute of a profile."""
    return aggregate.function == "latest"


def newest(rows: Sequence[Row]) -> int:
    """The greatest time among the rows."""
    return max(row.time_us for row in rows)


def inserted(rows: Sequence[Row], new: Row) -> list[Row]:
    """The rows with `new` behind all that are not later than it."""
    before = [row for row in rows if row.time_us <= new.time_us]
    after = [row for row in rows if row.time_us > new.time_us]
    return [*before, new, *after]


def rows_in_window(
    rows: Sequence[Row], aggregate: Aggregate, time_us: int, *, horizon_us: int | None, asking: Row | None
) -> list[Row]:
    """The rows in the aggregate's window as of a time, in row order."""
    size = to_us(aggregate.time_window.window_size)
    offset = to_us(aggregate.time_window.offset)
    start = time_us if horizon_us is None else max(time_us, horizon_us)
    lower, upper = start + offset - size, time_us + offset
    return [row for row in rows if lower < row.time_us <= upper or (row is asking and offset == 0)]


def counts(row: Row, aggregate: Aggregate) -> bool:
    """Whether the row's value is there and the aggregate's condition holds."""
    if aggregate.where is not None and row.columns.get(aggregate.where) is not True:
        return False
    return present(row, aggregate) is not None


def present(row: Row, aggregate: Aggregate) -> Value:
    """The row's value of the aggregated column as it enters; None is null."""
    return entering(row.columns.get(aggregate.input_column.name), aggregate.input_column.dtype)


def entering(value: Value, dtype: DataType) -> Value:
    """A value as it enters a view: no NaN, no infinity, no negative zero."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if dtype.kind == "float":
        return float(value) + 0.0  # -0.0 + 0.0 is 0.0
    return value


def compute(aggregate: Aggregate, rows: Sequence[Row], time_us: int, *, asking: Row | None) -> Value:
    """The aggregate's value over the rows of its window that count."""
    if aggregate.function == "time_since_last":
        return time_since_last([row.time_us for row in rows if row is not asking], time_us)
    values = [value for row in rows if (value := present(row, aggregate)) is not None]
    if aggregate.function == "sum" and aggregate.input_column.dtype.kind != "float":
        return in_int64(exact_sum(values))
    return FUNCTIONS[aggregate.function](values)


def exact_sum(values: Values) -> Fraction:
    """The sum, without any rounding; true is 1 and false 0."""
    return sum((Fraction(value) for value in values), start=Fraction(0))


def rounded(exact: Fraction) -> float | None:
    """The float nearest to an exact number (ties to even); None where it is too large for a float."""
    try:
        return float(exact)
    except OverflowError:
        return None


def in_int64(exact: Fraction) -> int | None:
    """An exact whole number as an int; None where it is outside int64."""
    return int(exact) if INT64_MIN <= exact <= INT64_MAX else None


def mean(values: Values) -> float | None:
    """The rounded sum divided by the count."""
    total = rounded(exact_sum(values))
    return total / len(values) if values and total is not None else None


def variance(values: Values, *, lost_degrees: int) -> float | None:
    """The mean squared distance from the exact mean, exact and rounded once."""
    degrees = len(values) - lost_degrees
    if degrees < 1:
        return None
    centre = exact_sum(values) / len(values)
    squares = sum(((Fraction(value) - centre) ** 2 for value in values), start=Fraction(0))
    return rounded(squares / degrees)


def root(square: float | None) -> float | None:
    """The square root of a rounded variance."""
    return None if square is None else math.sqrt(square)


def time_since_last(times_us: Sequence[int], time_us: int) -> float | None:
    """Seconds from the latest of the times until now."""
    return float(time_us - max(times_us)) / 1e6 if times_us else None


FUNCTIONS: dict[str, Callable[[Values], Value]] = {
    "count": len,
    "count_distinct": lambda values: len(set(values)),
    "sum": lambda values: rounded(exact_sum(values)),
    "mean": mean,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "last": lambda values: values[-1] if values else None,
    "var_pop": lambda values: variance(values, lost_degrees=0),
    "var_samp": lambda values: variance(values, lost_degrees=1),
    "stddev_pop": lambda values: root(variance(values, lost_degrees=0)),
    "stddev_samp": lambda values: root(variance(values, lost_degrees=1)),
}
"""What each function makes of the values of a window, in row order (``sum`` of Float columns)."""
