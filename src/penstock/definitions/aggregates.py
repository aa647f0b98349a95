"""Aggregates: one function of one column over one time window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST, format_duration, to_us
from penstock.core.types import Bool, DataType, Field, Float64, Int64, check_name

FUNCTIONS = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "stddev_samp",
    "stddev_pop",
    "var_samp",
    "var_pop",
    "last",
    "count_distinct",
    "time_since_last",
)
_ANY_TYPE = {"count", "last", "count_distinct", "time_since_last"}
_SAME_TYPE = {"min", "max", "last"}
_COUNTS = {"count", "count_distinct"}
_ALSO = {"bool": {"sum", "mean"}, "time": {"min", "max"}, "text": set[str]()}  # numbers: every function


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The times ``(t + offset - window_size, t + offset]`` before an event at t.

    Parameters
    ----------
    window_size
        Longer than zero.
    offset
        Zero or negative: shifts both edges into the past.
    """

    window_size: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        size: object = self.window_size
        if not isinstance(size, timedelta) or not timedelta(0) < size <= LONGEST:
            raise DefinitionError(
                f"TimeWindow: window_size is {size!r}; allowed is a timedelta longer than zero, up to {LONGEST.days} "
                "days. Write for example timedelta(hours=1)."
            )
        offset: object = self.offset
        if not isinstance(offset, timedelta) or not -LONGEST <= offset <= timedelta(0):
            raise DefinitionError(
                f"TimeWindow: offset is {offset!r}; allowed is a timedelta of zero or less, down to -{LONGEST.days} "
                "days. To look at the time that ended a week ago, write offset=timedelta(days=-7)."
            )

    @property
    def label(self) -> str:
        """The window's part of a default feature name, like ``1h`` or ``7d_offset_7d``."""
        size = format_duration(to_us(self.window_size))
        return f"{size}_offset_{format_duration(-to_us(self.offset))}" if self.offset else size


@dataclass(frozen=True, slots=True, init=False)
class Aggregate:
    """One function of one column of a view over one window, for the view's entities.

    Parameters
    ----------
    input_column
        The column of the view's function that is aggregated. Nulls are skipped.
    function
        One of `FUNCTIONS`.
    time_window
        A timedelta or a `TimeWindow`.
    name
        Default: ``<column>_<function>_<window>_continuous``.
    where
        A Bool column of the view: only rows where it is true count.

    Examples
    --------
    >>> from penstock.types import Field, Float64
    >>> Aggregate(Field("amount", Float64), function="sum", time_window=timedelta(hours=1)).name
    'amount_sum_1h_continuous'
    """

    input_column: Field
    function: str
    time_window: TimeWindow
    name: str
    where: str | None

    def __init__(
        self,
        input_column: Field,
        function: str,
        *,
        time_window: timedelta | TimeWindow,
        name: str | None = None,
        where: str | Field | None = None,
    ) -> None:
        if not isinstance(input_column, Field):
            raise DefinitionError(
                f"Aggregate: input_column is {input_column!r}; allowed is a Field. "
                'Write for example Field("amount", Float64).'
            )
        what = f"Aggregate of {input_column.name!r}"
        if function not in FUNCTIONS:
            raise DefinitionError(
                f"{what}: function is {function!r}; allowed are {', '.join(FUNCTIONS)}. Choose one."
            )
        window = TimeWindow(time_window) if isinstance(time_window, timedelta) else time_window
        if not isinstance(window, TimeWindow):
            raise DefinitionError(
                f"{what}: time_window is {time_window!r}; allowed are timedelta and TimeWindow(size, offset). "
                "Write for example timedelta(hours=1)."
            )
        _check_input(input_column, function, owner=what)
        condition = _where_name(where, owner=what)
        chosen = name or _default_name(input_column.name, function, window, condition)
        check_name(chosen, what="Aggregate")
        values = (
            ("input_column", input_column),
            ("function", function),
            ("time_window", window),
            ("name", chosen),
            ("where", condition),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def dtype(self) -> DataType:
        """The type of the feature."""
        column = self.input_column.dtype
        if self.function in _COUNTS:
            return Int64
        if self.function in _SAME_TYPE:
            return column
        if self.function == "sum" and column.kind in {"int", "bool"}:
            return Int64
        return Float64


def _default_name(column: str, function: str, window: TimeWindow, where: str | None) -> str:
    condition = f"_where_{where}" if where else ""
    return f"{column}_{function}_{window.label}{condition}_continuous"


def _check_input(column: Field, function: str, *, owner: str) -> None:
    allowed = [f for f in FUNCTIONS if f in _ANY_TYPE or f in _ALSO.get(column.dtype.kind, FUNCTIONS)]
    if function in allowed:
        return
    raise DefinitionError(
        f"{owner}: function {function!r} cannot take type {column.dtype}; allowed for it are "
        f"{', '.join(allowed)}. Use one of these, or turn the column into a number in the view's function."
    )


def _where_name(where: object, *, owner: str) -> str | None:
    if where is None:
        return None
    if isinstance(where, str):
        return check_name(where, what=f"{owner}, where")
    if isinstance(where, Field) and where.dtype is Bool:
        return where.name
    raise DefinitionError(
        f"{owner}: where is {where!r}; allowed is a Bool column: its name, or its Field. Compute one in the view's "
        "function."
    )
