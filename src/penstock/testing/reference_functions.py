"""The oracle, part two: what each function makes of the rows of its window.

Every function gets the values of the window's rows that are not null and whose `where` holds, in row order (by time, rows
of equal time in log order), each with its time. All arithmetic is exact, in fractions, and rounded once.

Where the design is silent, this is decided:

* The mean is ``float(sum) / count``. A sum too large for a float is null, and so is the mean made from it,
  even where the mean itself would fit. The mean of Int columns is not null when the sum leaves int64.
* `time_since_last`, `time_since_first` and `lag` look at the other rows only, never at the asking row itself. The
  times are counted back from t, also where the window has an offset; another row of the same time gives 0.0.
* `first(n)`, `last(n)` and their distinct kin give lists of up to n values, the earliest first; empty where there is none.
* The entropy of one value, however often, is 0.0.
* A class of one's own means its fold from the first value to the last, and so does a sketch. Where it fails, or gives what its type
  does not hold, the value is null, an Array empty.
* Where decayed weights make a number that no float can hold, the value is null; where they sum up to 0.0, `ewma` is null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from penstock.core.time import to_us
from penstock.core.types import ArrayType, DataType
from penstock.definitions.user_aggregations import FoldFunction
from penstock.kernel.elementary import exp2, log
from penstock.testing.reference_rows import cast, python_value

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


def compute(aggregate: Aggregate, entries: Sequence[Entry], time_us: int) -> Scalar | list[Scalar]:
    """The aggregate's value over what its window holds, asked for at a time."""
    function = aggregate.function
    if isinstance(function, FoldFunction):
        return folded(function, entries, aggregate.input_column.dtype)
    if function.traits.gives == "array":
        return listed(function.name, [entry.value for entry in entries], function.n)
    return compute_one(aggregate, entries, time_us)


def compute_one(aggregate: Aggregate, entries: Sequence[Entry], time_us: int) -> Scalar:
    """The value of a function that gives one."""
    function = aggregate.function
    if isinstance(function, FoldFunction):
        value = folded(function, entries, aggregate.input_column.dtype)
        assert not isinstance(value, list), "no series of arrays"
        return value
    if function.half_life is not None:
        return DECAYED[function.name](entries, time_us, to_us(function.half_life))
    if function.name in OF_OTHERS:
        others = [entry for entry in entries if not entry.is_asking]
        return OF_OTHERS[function.name](others, time_us, function.n)
    if function.name == "slope":
        return slope(entries)
    values = [entry.value for entry in entries]
    if function.name == "sum" and aggregate.input_column.dtype.kind != "float":
        return in_int64(exact_sum(values))
    return FUNCTIONS[function.name](values)


def folded(function: FoldFunction, entries: Sequence[Entry], dtype: DataType) -> Scalar | list[Scalar]:
    """The value that an aggregation's methods make of a window's values of a type, one after another."""
    aggregation, gives = function.aggregation, function.gives(dtype)
    try:
        state = aggregation.init()
        for entry in entries:
            state = aggregation.add(state, python_value(entry.value, dtype))
        made = aggregation.value(state)
        if isinstance(gives, ArrayType):
            return [] if made is None else [cast(value, gives.elem) for value in made]
        return cast(made, gives)
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return [] if isinstance(gives, ArrayType) else None


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


def listed(name: str, values: Values, n: int) -> list[Scalar]:
    """The first or last n values, or different values, the earliest first."""
    if name == "first_distinct":
        values = list(dict.fromkeys(values))
    elif name == "last_distinct":
        values = list(dict.fromkeys(reversed(values)))[::-1]
    return [*(values[:n] if name.startswith("first") else values[-n:])]


def median(values: Values) -> float | None:
    """The middle value, or the exact mean of the two middle ones, rounded once."""
    ordered = sorted(Fraction(value) for value in values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return rounded(ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def mode(values: Values) -> Scalar:
    """The most frequent value; of several the one that occurred last."""
    latest_first = list(dict.fromkeys(reversed(values)))
    return max(latest_first, key=values.count, default=None)


def entropy(values: Values) -> float | None:
    """``log(n) - S / n`` in nats, S being the exact sum of the floats ``c * log(c)`` over the values' counts."""
    counts = [values.count(value) for value in set(values)]
    if len(counts) < 2:
        return 0.0 if counts else None
    terms = rounded(exact_sum([count * log(count) for count in counts]))
    assert terms is not None, "counts are small"
    return log(len(values)) - terms / len(values)


def slope(entries: Sequence[Entry]) -> float | None:
    """The least-squares slope of the values over time, per second."""
    times = [Fraction(entry.time_us, 1_000_000) for entry in entries]
    values = [Fraction(entry.value) for entry in entries]
    count = len(entries)
    total = sum(times, start=Fraction(0))
    spread = count * sum(t * t for t in times) - total**2
    if not spread:
        return None
    products = sum((t * x for t, x in zip(times, values, strict=True)), start=Fraction(0))
    return rounded((count * products - total * sum(values)) / spread)


def decayed_sum(entries: Sequence[Entry], time_us: int, half_life_us: int) -> float | None:
    """The sum of the values, weighted by age."""
    return decayed([(entry.time_us, float(entry.value)) for entry in entries], time_us, half_life_us)


def decayed_count(entries: Sequence[Entry], time_us: int, half_life_us: int) -> float | None:
    """The sum of the weights."""
    return decayed([(entry.time_us, 1.0) for entry in entries], time_us, half_life_us)


def ewma(entries: Sequence[Entry], time_us: int, half_life_us: int) -> float | None:
    """The weighted mean."""
    total = decayed_sum(entries, time_us, half_life_us)
    weight = decayed_count(entries, time_us, half_life_us)
    return finite(total / weight) if total is not None and weight else None


def decayed(terms: Sequence[tuple[int, float]], time_us: int, half_life_us: int) -> float | None:
    """The sum of values that halve every half-life, exact within blocks of 32 half-lives.

    A term is the value times its weight at the end of its block, rounded. The terms of a block are summed exactly and
    rounded; the blocks' sums, weighted by their age, are added from the newest to the oldest.
    """
    length = 32 * half_life_us
    blocks: dict[int, list[float]] = {}
    for t, value in terms:
        end = (t // length + 1) * length
        blocks.setdefault(end, []).append(exp2(float(t - end) / float(half_life_us)) * value)
    total = 0.0
    for end in sorted(blocks, reverse=True):
        weight = exp2(float(end - time_us) / float(half_life_us))
        if not weight:
            break
        held = rounded(exact_sum(blocks[end]))
        if held is None:
            return None
        total += held * weight
    return finite(total)


def time_since_last(others: Sequence[Entry], time_us: int, _: int) -> float | None:
    """Seconds since the latest other row."""
    return seconds(time_us - others[-1].time_us) if others else None


def time_since_first(others: Sequence[Entry], time_us: int, _: int) -> float | None:
    """Seconds since the earliest other row."""
    return seconds(time_us - others[0].time_us) if others else None


def lag(others: Sequence[Entry], _: int, n: int) -> Scalar:
    """The n-th latest value of the other rows."""
    return others[-n].value if len(others) >= n else None


def finite(value: float) -> float | None:
    """A value, None where it is infinite or not a number."""
    return value if math.isfinite(value) else None


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
    "median": median,
    "mode": mode,
    "entropy": entropy,
    "var_pop": lambda values: variance(values, lost_degrees=0),
    "var_samp": lambda values: variance(values, lost_degrees=1),
    "stddev_pop": lambda values: root(variance(values, lost_degrees=0)),
    "stddev_samp": lambda values: root(variance(values, lost_degrees=1)),
}
"""What each function makes of the values of a window, in row order (``sum`` of Float columns)."""

DECAYED: dict[str, Callable[[Sequence[Entry], int, int], float | None]] = {
    "decayed_sum": decayed_sum,
    "decayed_count": decayed_count,
    "ewma": ewma,
}
"""What functions with a half-life make of a window's entries, asked for at a time."""

OF_OTHERS: dict[str, Callable[[Sequence[Entry], int, int], Scalar]] = {
    "time_since_last": time_since_last,
    "time_since_first": time_since_first,
    "lag": lag,
}
"""What functions of the other rows make of them, asked for at a time, with their n."""
