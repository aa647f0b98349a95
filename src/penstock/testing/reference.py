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

2. A window (size w, offset o) holds the rows with ``t + o - w < time <= t + o``; one that moves by tiles of length i,
   ``floor(t) + o - w <= time < floor(t) + o`` with t floored to a multiple of i. Where t lies further back than
   `allowed_lateness` behind the newest row, nothing older than that horizon's own window is remembered: the
   lower edge is then that of ``newest - allowed_lateness``. The row that asks is always in its own windows
   without offset and tiles, unless they are declared not to include it.

   A view whose features are all attributes of a profile without `ttl` remembers less and more: of the rows up to the
   horizon only those of the latest time, but these for ever.

3. A lifetime window has no lower edge. What is older than the horizon is remembered as one lump, so a question from
   before the horizon is answered as of the horizon, and a row that is too late is not in the window.

4. Of a series of windows each gives its own value; the feature is their list, the earliest first.

5. The attribute of a profile is its value in the window's latest row, null where it is null there. For all other
   functions nulls are left out, then rows whose `where` column is not true, then the function is computed exactly
   and rounded once (`penstock.testing.reference_functions`).

Where the design is silent, this is decided:

* A Float value that is NaN or infinite is null, -0.0 is 0.0, from the moment it enters; so `last` and `min`
  never give -0.0.
* `where` null counts as not true. It filters rows, not times: a filtered-out row still moves `newest`.
* A key that was dropped for `max_keys` starts afresh when it returns: what was too late may then be in order.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from penstock.core.time import LONGEST, to_us
from penstock.definitions.windows import LifetimeWindow, TimeWindow, TimeWindowSeries
from penstock.testing.reference_functions import Entry, Scalar, compute, compute_one

if TYPE_CHECKING:
    from penstock.core.types import DataType
    from penstock.definitions.aggregates import Aggregate

Value = Scalar
"""A value of a column."""
Feature = Value | list[Value]
"""A value of a feature."""


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

    features: dict[str, Feature]
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

    def lookup(self, key: Hashable, time_us: int) -> dict[str, Feature]:
        """The features of `key` as of a time, over the rows applied so far; changes nothing."""
        rows = self._rows.get(key, [])
        return self._features(rows, time_us, horizon_us=self._horizon(rows), asking=None)

    def empty(self) -> dict[str, Feature]:
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
        if not all(is_attribute(a) and a.time_window == TimeWindow(LONGEST) for a in self.aggregates):
            return rows
        passed = [row.time_us for row in rows if row.time_us <= newest(rows) - self.allowed_lateness_us]
        return [row for row in rows if not passed or row.time_us >= max(passed)]

    def _features(
        self, rows: Sequence[Row], time_us: int, *, horizon_us: int | None, asking: Row | None
    ) -> dict[str, Feature]:
        return {
            aggregate.name: feature(rows, aggregate, time_us, horizon_us=horizon_us, asking=asking)
            for aggregate in self.aggregates
        }


def feature(
    rows: Sequence[Row], aggregate: Aggregate, time_us: int, *, horizon_us: int | None, asking: Row | None
) -> Feature:
    """One aggregate's value, asked for at a time."""
    start_us = time_us if horizon_us is None else max(time_us, horizon_us)
    window = aggregate.time_window
    if isinstance(window, LifetimeWindow):
        held = rows_of_lifetime(rows, aggregate, start_us, too_late=time_us < start_us, asking=asking)
        return compute(aggregate, entries(held, aggregate, asking=asking), start_us)
    if isinstance(window, TimeWindowSeries):
        return [
            compute_one(
                aggregate,
                entries(
                    rows_in_window(rows, aggregate, one, time_us, start_us=start_us, asking=asking),
                    aggregate,
                    asking=asking,
                ),
                time_us,
            )
            for one in window.windows
        ]
    held = rows_in_window(rows, aggregate, window, time_us, start_us=start_us, asking=asking)
    if is_attribute(aggregate):
        return present(held[-1], aggregate) if held else None
    return compute(aggregate, entries(held, aggregate, asking=asking), time_us)


def is_attribute(aggregate: Aggregate) -> bool:
    """Whether it is the attribute of a profile."""
    return aggregate.function.name == "latest"


def newest(rows: Sequence[Row]) -> int:
    """The greatest time among the rows."""
    return max(row.time_us for row in rows)


def inserted(rows: Sequence[Row], new: Row) -> list[Row]:
    """The rows with `new` behind all that are not later than it."""
    before = [row for row in rows if row.time_us <= new.time_us]
    after = [row for row in rows if row.time_us > new.time_us]
    return [*before, new, *after]


def rows_in_window(
    rows: Sequence[Row],
    aggregate: Aggregate,
    window: TimeWindow,
    time_us: int,
    *,
    start_us: int,
    asking: Row | None,
) -> list[Row]:
    """The rows in a window of finite length as of a time, in row order."""
    size, offset = to_us(window.window_size), to_us(window.offset)
    lower = edge(start_us, aggregate) + offset - size
    upper = edge(time_us, aggregate) + offset
    has_asking = aggregate.include_current and not offset and not aggregate.interval
    return [row for row in rows if (has_asking if row is asking else lower < row.time_us <= upper)]


def rows_of_lifetime(
    rows: Sequence[Row], aggregate: Aggregate, start_us: int, *, too_late: bool, asking: Row | None
) -> list[Row]:
    """The rows in a lifetime window, in row order."""
    upper = edge(start_us, aggregate)
    has_asking = aggregate.include_current and not too_late
    return [row for row in rows if row.time_us <= upper and (has_asking or row is not asking)]


def edge(time_us: int, aggregate: Aggregate) -> int:
    """The last microsecond of a window without offset that is asked for at a time."""
    interval = to_us(aggregate.interval)
    return time_us // interval * interval - 1 if interval else time_us


def entries(rows: Sequence[Row], aggregate: Aggregate, *, asking: Row | None) -> list[Entry]:
    """Of the rows that count, what the functions look at."""
    found = []
    for row in rows:
        value = present(row, aggregate)
        if value is not None and counts(row, aggregate):
            found.append(Entry(row.time_us, value, is_asking=row is asking))
    return found


def counts(row: Row, aggregate: Aggregate) -> bool:
    """Whether the aggregate's condition holds."""
    return aggregate.where is None or row.columns.get(aggregate.where) is True


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
