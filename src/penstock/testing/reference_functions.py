"""The oracle, part two: what each function makes of the rows of its window.

Every function gets the values of the window's rows that are not null and whose `where` holds, in row order (by time, rows
of equal time in log order), each with its time. All arithmetic is exact, in fractions, and rounded once.

Where the design is silent, this is decided:

* The mean is ``float(sum) / count``. A sum too large for a float is null, and so is the mean made from it,
  even where the mean itself would fit. The mean of Int columns is not null when the sum leaves int64.
* `time_since_last`, `time_since_first` and `lag` look at the other rows only, never at the asking row itself. The
  times are counted back from t, also where the window has an offset; another row of the same time gives 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.definitions.aggregates import Aggregate

Scalar = bool | int | float | str | None
Present = bool | int | float | str
Values = Sequence[Present]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in a window, the time of its row, and whether that is the row that asks."""

    time_us: int
    value: Present
    is_asking: bool


def compute(aggregate: Aggregate, entries: Sequence[Entry], time_us: int) -> Scalar:
    """The aggregate's value over what its window holds, asked for at a time."""
    function = aggregate.function
    others = [entry for entry in entries if not entry.is_asking]
    if function.name == "time_since_last":
        return seconds(time_us - others[-1].time_us) if others else None
    if function.name == "time_since_first":
        return seconds(time_us - others[0].time_us) if others else None
    if function.name == "lag":
        return others[-function.n].value if len(others) >= function.n else None
    values = [entry.value for entry in entries]
    if function.name == "sum" and aggregate.input_column.dtype.kind != "float":
        return in_int64(exact_sum(values))
    return FUNCTIONS[function.name](values)


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


def seconds(elapsed_us: int) -> float:
    """Microseconds as seconds."""
    return float(elapsed_us) / 1e6


FUNCTIONS: dict[str, Callable[[Values], Scalar]] = {
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
