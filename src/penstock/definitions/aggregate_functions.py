"""What each aggregate function takes, gives, and costs: the one table from which checks, plans and documents are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST, format_duration, to_us
from penstock.core.types import Array, DataType, Float64, Int64

NUMBERS = frozenset({"int", "float"})
ORDERED = NUMBERS | {"time"}
SUMMABLE = NUMBERS | {"bool"}
ANYTHING = ORDERED | {"bool", "text"}
MOST_VALUES = 1_000
"""The largest n of functions that take one."""


@dataclass(frozen=True, slots=True)
class FunctionTraits:
    """What is known of a function.

    Attributes
    ----------
    takes
        Kinds of the columns that it takes.
    gives
        ``"same"`` type as the column, an ``"array"`` of it, ``"sum"`` (Int64 of whole numbers, else Float64), or the name of
        a type.
    meaning, empty, exactness, cost
        For people: what it computes, what an empty window gives, how exact it is, what an event in order costs.
    parameter
        ``"n"`` or ``"half_life"`` where it takes one.
    lifetime
        Whether it can be computed over a `LifetimeWindow` without keeping all rows.
    ages
        Whether its value changes with time itself, also while no row enters or leaves the window.
    """

    takes: frozenset[str]
    gives: str
    meaning: str
    empty: str = "null"
    exactness: str = "exact"
    cost: str = "O(1)"
    parameter: str = ""
    lifetime: bool = True
    ages: bool = False


_SPREAD = "the exact rational value, correctly rounded"
_ROOT = "square root of the rounded variance"
_SECONDS = "one division of exact microseconds"

TRAITS: Mapping[str, FunctionTraits] = {
    "count": FunctionTraits(ANYTHING, "Int64", "how many values", "0"),
    "sum": FunctionTraits(
        SUMMABLE,
        "sum",
        "their sum",
        "0",
        "Float: correctly rounded (`math.fsum`); Int: exact, null beyond 64 bits",
    ),
    "mean": FunctionTraits(
        SUMMABLE,
        "Float64",
        "their mean",
        exactness="the correctly rounded sum, divided once by the count",
    ),
    "min": FunctionTraits(ORDERED, "same", "the least"),
    "max": FunctionTraits(ORDERED, "same", "the greatest"),
    "stddev_samp": FunctionTraits(
        NUMBERS, "Float64", "standard deviation of a sample", "null, also for one row", _ROOT
    ),
    "stddev_pop": FunctionTraits(NUMBERS, "Float64", "standard deviation of the population", exactness=_ROOT),
    "var_samp": FunctionTraits(NUMBERS, "Float64", "variance of a sample", "null, also for one row", _SPREAD),
    "var_pop": FunctionTraits(NUMBERS, "Float64", "variance of the population", exactness=_SPREAD),
    "last": FunctionTraits(ANYTHING, "same", "the latest in row order that is not null"),
    "count_distinct": FunctionTraits(ANYTHING, "Int64", "how many different values", "0"),
    "time_since_last": FunctionTraits(
        ANYTHING, "Float64", "seconds since the latest other row", exactness=_SECONDS, ages=True
    ),
    "time_since_first": FunctionTraits(
        ANYTHING,
        "Float64",
        "seconds since the earliest other row",
        exactness=_SECONDS,
        cost="O(log rows)",
        ages=True,
    ),
    "lag(n)": FunctionTraits(
        ANYTHING,
        "same",
        "the n-th latest value of the other rows; `lag(1)` is the one before the event's own",
        "null, also with fewer than n",
        cost="O(log rows)",
        parameter="n",
    ),
    "first(n)": FunctionTraits(
        ANYTHING, "array", "the first n values, the earliest first", "[]", cost="O(n log rows)", parameter="n"
    ),
    "last(n)": FunctionTraits(
        ANYTHING, "array", "the last n values, the earliest first", "[]", cost="O(n log rows)", parameter="n"
    ),
    "first_distinct(n)": FunctionTraits(
        ANYTHING,
        "array",
        "the first n different values, in the order of their first occurrence",
        "[]",
        cost="O(n log rows)",
        parameter="n",
        lifetime=False,
    ),
    "last_distinct(n)": FunctionTraits(
        ANYTHING,
        "array",
        "the last n different values, in the order of their last occurrence",
        "[]",
        cost="O(n log rows)",
        parameter="n",
        lifetime=False,
    ),
    "median": FunctionTraits(
        NUMBERS,
        "Float64",
        "the middle value, or the mean of the two middle ones",
        exactness="exact, rounded once",
        cost="O(log rows)",
        lifetime=False,
    ),
    "mode": FunctionTraits(
        ANYTHING,
        "same",
        "the most frequent value; of several the one that occurred last",
        cost="O(log rows)",
        lifetime=False,
    ),
    "entropy": FunctionTraits(
        ANYTHING,
        "Float64",
        "Shannon entropy of how often the values occur, in nats",
        exactness="log(n) - S / n, with S the correctly rounded sum of the floats c log(c)",
        lifetime=False,
    ),
    "slope": FunctionTraits(
        NUMBERS,
        "Float64",
        "least-squares slope of the values over time, per second",
        "null, also where all rows have one time",
        "the exact rational value, correctly rounded",
        lifetime=False,
    ),
    "ewma(half_life)": FunctionTraits(
        SUMMABLE,
        "Float64",
        "decayed sum divided by decayed count",
        "null, also where all weights vanish",
        "as these two, divided once",
        "O(blocks + log rows)",
        parameter="half_life",
        lifetime=False,
        ages=True,
    ),
    "decayed_sum(half_life)": FunctionTraits(
        SUMMABLE,
        "Float64",
        "the sum of the values, each times 2^-(age / half-life)",
        "0",
        "terms rounded once, summed exactly in blocks of 32 half-lives",
        "O(blocks + log rows), at most 34 blocks",
        parameter="half_life",
        lifetime=False,
        ages=True,
    ),
    "decayed_count(half_life)": FunctionTraits(
        ANYTHING,
        "Float64",
        "the sum of the weights 2^-(age / half-life)",
        "0",
        "as the decayed sum",
        "O(blocks + log rows)",
        parameter="half_life",
        lifetime=False,
        ages=True,
    ),
    "approx_count_distinct(precision)": FunctionTraits(
        ANYTHING,
        "Int64",
        "about how many different values, by a HyperLogLog sketch of 2^precision registers",
        "0",
        "relative standard error 1.04 / sqrt(2^precision); the same for the same set of values",
        "O(rows)",
        parameter="precision",
        lifetime=False,
    ),
    "approx_percentile(percentile)": FunctionTraits(
        NUMBERS,
        "Float64",
        "about the value below which that share of the values lies, by a t-digest",
        exactness="off by less than 16 sqrt(q (1 - q)) / precision in rank; the same for the same rows in order",
        cost="O(rows)",
        parameter="percentile",
        lifetime=False,
    ),
}
"""By name, with the parameter in parentheses: ``sum``, ``lag(n)``."""

FUNCTIONS = tuple(TRAITS)
"""The functions as they are written."""
_ATTRIBUTE, _KEYS = "latest", "keys"
_KNOWN = {
    **TRAITS,
    _ATTRIBUTE: FunctionTraits(ANYTHING, "same", "the value of the latest row, also where it is null"),
    _KEYS: FunctionTraits(ANYTHING, "same", "the secondary keys that have rows in the window"),
}


@dataclass(frozen=True, slots=True)
class AggregationFunction:
    """A function of an aggregate, with its parameter where it has one; made by `penstock.aggregation_functions`.

    >>> AggregationFunction("lag", n=2), AggregationFunction("lag", n=2).label
    (lag(2), 'lag_2')
    """

    name: str
    n: int = 0
    half_life: timedelta | None = None

    def __post_init__(self) -> None:
        if self.signature not in _KNOWN:
            raise DefinitionError(
                f"aggregation function: {self.signature!r} found; allowed are {', '.join(FUNCTIONS)}. Choose one."
            )
        n: object = self.n
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MOST_VALUES:
            raise DefinitionError(
                f"{self.name}: n is {n!r}; allowed is a whole number of 1 to {MOST_VALUES}."
            )

    def __repr__(self) -> str:
        return f"{self.name}({self._parameter})" if self._parameter else self.name

    @property
    def signature(self) -> str:
        """Its name in `TRAITS`."""
        if self.half_life is not None:
            return f"{self.name}(half_life)"
        return f"{self.name}(n)" if self.n else self.name

    @property
    def traits(self) -> FunctionTraits:
        """What is known of it."""
        return _KNOWN[self.signature]

    @property
    def label(self) -> str:
        """Its part of a default feature name."""
        return f"{self.name}_{self._parameter}" if self._parameter else self.name

    @property
    def _parameter(self) -> str:
        if self.half_life is not None:
            return format_duration(to_us(self.half_life))
        return str(self.n) if self.n else ""

    def gives(self, column: DataType) -> DataType:
        """The type of its value for a column of a type."""
        gives = self.traits.gives
        if gives == "sum":
            return Float64 if column.kind == "float" else Int64
        if gives == "array":
            return Array(column)
        return {"same": column, "Int64": Int64, "Float64": Float64}[gives]


LATEST = AggregationFunction(_ATTRIBUTE)
"""What an attribute of a profile is; aggregates cannot name it."""
KEYS = AggregationFunction(_KEYS)
"""What lists the secondary keys of a window; aggregates cannot name it either."""


def allowed_for(column: DataType) -> list[str]:
    """The functions that take a column of this type."""
    return [name for name, traits in TRAITS.items() if column.kind in traits.takes]


def function_of(function: object, *, owner: str) -> AggregationFunction:
    """`function`, a name or made by `penstock.aggregation_functions`, as an `AggregationFunction`."""
    if isinstance(function, AggregationFunction):
        return function
    if isinstance(function, str) and function in TRAITS and not TRAITS[function].parameter:
        return AggregationFunction(function)
    raise DefinitionError(
        f"{owner}: function is {function!r}; allowed are {', '.join(FUNCTIONS)}. Choose one; those with a parameter "
        "come from penstock.aggregation_functions."
    )


def checked_n(name: str, n: object) -> AggregationFunction:
    """A function of n values."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_VALUES:
        raise DefinitionError(
            f"{name}: n is {n!r}; allowed is a whole number of 1 to {MOST_VALUES}. Write for example {name}(3)."
        )
    return AggregationFunction(name, n=n)


def checked_half_life(name: str, half_life: object) -> AggregationFunction:
    """A function with a half-life."""
    if not isinstance(half_life, timedelta) or not timedelta(0) < half_life <= LONGEST:
        raise DefinitionError(
            f"{name}: half_life is {half_life!r}; allowed is a timedelta longer than zero, up to {LONGEST.days} days. "
            f"Write for example {name}(timedelta(hours=1))."
        )
    return AggregationFunction(name, half_life=half_life)
