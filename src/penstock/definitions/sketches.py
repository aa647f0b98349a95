"""Sketches of Apache DataSketches as aggregations. The library is imported when the first value is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from penstock.core.errors import DefinitionError, MissingDependencyError
from penstock.core.types import Float64, Int64
from penstock.definitions.aggregate_functions import TRAITS
from penstock.definitions.user_aggregations import FoldFunction, UserAggregation

PRECISIONS_OF_COUNT = (4, 16)
PRECISIONS_OF_PERCENTILE = (20, 1_000)
_COUNT_PRECISION, _PERCENTILE_PRECISION = 8, 100


class ApproxCountDistinct(UserAggregation):
    """A HyperLogLog sketch of ``2**precision`` registers: the value depends on the set of values alone."""

    name: ClassVar[str] = "approx_count_distinct"
    gives = Int64

    def __init__(self, precision: int) -> None:
        self.precision = precision

    def init(self) -> Any:
        """An empty sketch."""
        library = _library()
        return library.hll_sketch(self.precision, library.HLL_8)

    def add(self, state: Any, value: Any) -> Any:
        """Put a value in; times count as their microseconds."""
        state.update(value if isinstance(value, str) else _number(value))
        return state

    def value(self, state: Any) -> int:
        """The estimate that follows from the registers, whatever the order in which they were filled."""
        union = _library().hll_union(self.precision)
        union.update(state)
        union.update(
            state
        )  # a sketch's own estimate depends on the order of its values; that of a real union does not
        return int(union.get_estimate() + 0.5)


class ApproxPercentile(UserAggregation):
    """A t-digest of the window's values in row order."""

    name: ClassVar[str] = "approx_percentile"
    gives = Float64

    def __init__(self, percentile: float, precision: int) -> None:
        self.percentile = percentile
        self.precision = precision

    def init(self) -> Any:
        """An empty sketch."""
        return _library().tdigest_double(self.precision)

    def add(self, state: Any, value: Any) -> Any:
        """Put a value in."""
        state.update(float(value))
        return state

    def fold(self, values: Sequence[Any]) -> Any:
        """All values at once, which is the same as one after another."""
        import numpy as np

        state = self.init()
        if values:
            state.update(np.array(values, np.float64))
        return state

    def value(self, state: Any) -> float | None:
        """The percentile, null where there is no value."""
        return None if state.is_empty() else float(state.get_quantile(self.percentile))


def approx_count_distinct(precision: int = _COUNT_PRECISION) -> FoldFunction:
    """About how many different values there are, by a HyperLogLog sketch of ``2**precision`` registers.

    The relative standard error is ``1.04 / sqrt(2**precision)``: 6.5 % for 8, 0.8 % for 14. A few values, 7 for precision 4 and 24 for 8, are
    counted exactly but for chance. ``count_distinct`` is exact at the same memory; this is for what must agree with sketches elsewhere.

    Parameters
    ----------
    precision
        4 to 16.

    >>> approx_count_distinct(10)
    approx_count_distinct(precision=10)
    """
    low, high = PRECISIONS_OF_COUNT
    if not _is_whole(precision) or not low <= precision <= high:
        raise DefinitionError(
            f"approx_count_distinct: precision is {precision!r}; allowed is a whole number of {low} to {high}. Write for "
            f"example approx_count_distinct({_COUNT_PRECISION})."
        )
    return FoldFunction(
        "approx_count_distinct",
        aggregation=ApproxCountDistinct(precision),
        parameters=f"precision={precision}",
        known=TRAITS["approx_count_distinct(precision)"],
        suffix="" if precision == _COUNT_PRECISION else f"_{precision}",
    )


def approx_percentile(percentile: float, precision: int = _PERCENTILE_PRECISION) -> FoldFunction:
    """About the value below which a share of the values lies, by a t-digest.

    The share that really lies below it differs from q, the percentile, by less than ``16 * sqrt(q * (1 - q)) / precision``, whatever the order
    of the values, and by less than 10 in place of 16 where that is random or sorted: for a precision of 100, 5 % in the middle and 1 % at
    0.99. That is measured: no bound is proven for t-digests. A window of few rows has no finer shares than its rows.

    Parameters
    ----------
    percentile
        0 to 1; 0.5 is the median.
    precision
        About how many groups of values are kept, 20 to 1000.

    >>> approx_percentile(0.95)
    approx_percentile(percentile=0.95, precision=100)
    """
    low, high = PRECISIONS_OF_PERCENTILE
    given: object = percentile
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise DefinitionError(
            f"approx_percentile: percentile is {percentile!r}; allowed is a number of 0 to 1. Write for example "
            "approx_percentile(0.95)."
        )
    if not _is_whole(precision) or not low <= precision <= high:
        raise DefinitionError(
            f"approx_percentile: precision is {precision!r}; allowed is a whole number of {low} to {high}. Write for example "
            f"approx_percentile(0.95, precision={_PERCENTILE_PRECISION})."
        )
    share = f"{100 * percentile:g}".replace(".", "_").replace("-", "_")
    return FoldFunction(
        "approx_percentile",
        aggregation=ApproxPercentile(float(percentile), precision),
        parameters=f"percentile={float(percentile)!r}, precision={precision}",
        known=TRAITS["approx_percentile(percentile)"],
        suffix=f"_{share}" + ("" if precision == _PERCENTILE_PRECISION else f"_precision_{precision}"),
    )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _number(value: Any) -> Any:
    from datetime import datetime

    from penstock.core.time import to_us

    if isinstance(value, datetime):
        return to_us(value)
    return int(value) if isinstance(value, bool) else value


def _library() -> Any:
    try:
        import datasketches
    except ImportError as error:
        raise MissingDependencyError(
            "approx_count_distinct and approx_percentile need Apache DataSketches, which is not installed. Run: "
            'pip install "penstock[sketches]"'
        ) from error
    return datasketches
