"""Aggregates: one function of one column over one time window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import format_duration, to_us
from penstock.core.types import Array, Bool, DataType, Field, check_name
from penstock.definitions.aggregate_functions import AggregationFunction, allowed_for, function_of
from penstock.definitions.user_aggregations import FoldFunction, UserAggregation, user_defined
from penstock.definitions.windows import (
    LifetimeWindow,
    TimeWindow,
    TimeWindowSeries,
    Window,
    check_interval,
    check_tiles,
)

SLIDING = timedelta(0)


@dataclass(frozen=True, slots=True, init=False)
class Aggregate:
    """One function of one column of a view over one window, for the view's entities.

    Parameters
    ----------
    input_column
        The column of the view's function that is aggregated. Nulls are skipped.
    function
        A name, a function with a parameter from `penstock.aggregation_functions` (all stand in ``docs/aggregates.md``), or an
        object of a `penstock.UserAggregation` of your own.
    time_window
        A timedelta, a `TimeWindow`, a `TimeWindowSeries` (the feature is an array) or a `LifetimeWindow`.
    name
        Default: ``<column>_<function>_<window>_continuous``, or ``_<interval>`` where the window moves by tiles.
    where
        A Bool column of the view: only rows where it is true count.
    include_current
        Whether the event that asks is in its own window. Other rows of its time that came before it are in either way.
    aggregation_interval
        The window moves in steps of this length: ``[floor(t) - size, floor(t))``. Default: the view's; ``timedelta(0)``
        lets it slide with every event also where the view has an interval.

    Examples
    --------
    >>> from penstock.types import Field, Float64
    >>> Aggregate(Field("amount", Float64), function="sum", time_window=timedelta(hours=1)).name
    'amount_sum_1h_continuous'
    """

    input_column: Field
    function: AggregationFunction
    time_window: Window
    name: str
    where: str | None
    include_current: bool
    aggregation_interval: timedelta | None

    def __init__(
        self,
        input_column: Field,
        function: str | AggregationFunction | UserAggregation,
        *,
        time_window: timedelta | Window,
        name: str | None = None,
        where: str | Field | None = None,
        include_current: bool = True,
        aggregation_interval: timedelta | None = None,
    ) -> None:
        if not isinstance(input_column, Field):
            raise DefinitionError(
                f"Aggregate: input_column is {input_column!r}; allowed is a Field. "
                'Write for example Field("amount", Float64).'
            )
        what = f"Aggregate of {input_column.name!r}"
        if isinstance(function, UserAggregation):
            function = user_defined(function)
        chosen = function_of(function, owner=what)
        window = _window_of(time_window, owner=what)
        _check_input(input_column, chosen, owner=what)
        _check_window(chosen, window, aggregation_interval, owner=what)
        if not isinstance(include_current, bool):
            raise DefinitionError(
                f"{what}: include_current is {include_current!r}; allowed are True and False. Write False to leave the event "
                "that asks out of its own window."
            )
        values = (
            ("input_column", input_column),
            ("function", chosen),
            ("time_window", window),
            ("where", _where_name(where, owner=what)),
            ("include_current", include_current),
            ("aggregation_interval", aggregation_interval),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "name", check_name(name or self.default_name, what="Aggregate"))

    @property
    def default_name(self) -> str:
        """What it is called where no name is given."""
        parts = [self.input_column.name, self.function.label, self.time_window.label]
        parts += [f"where_{self.where}"] if self.where else []
        parts += [] if self.include_current else ["excluding_current"]
        parts.append(format_duration(to_us(self.interval)) if self.interval else "continuous")
        return "_".join(parts)

    @property
    def interval(self) -> timedelta:
        """By how much the window moves at a time; zero where it slides with every event."""
        return self.aggregation_interval or SLIDING

    @property
    def dtype(self) -> DataType:
        """The type of the feature."""
        gives = self.function.gives(self.input_column.dtype)
        return Array(gives) if isinstance(self.time_window, TimeWindowSeries) else gives

    def in_view(self, interval: timedelta | None) -> Aggregate:
        """The same aggregate in a view with this `aggregation_interval`."""
        if interval is None or self.aggregation_interval is not None:
            return self
        return Aggregate(
            self.input_column,
            self.function,
            time_window=self.time_window,
            name=None if self.name == self.default_name else self.name,
            where=self.where,
            include_current=self.include_current,
            aggregation_interval=interval,
        )


def windows_of(window: Window) -> tuple[TimeWindow, ...]:
    """The windows of finite length that `window` is made of."""
    if isinstance(window, TimeWindowSeries):
        return window.windows
    return (window,) if isinstance(window, TimeWindow) else ()


def _window_of(window: object, *, owner: str) -> Window:
    made = TimeWindow(window) if isinstance(window, timedelta) else window
    if isinstance(made, TimeWindow | TimeWindowSeries | LifetimeWindow):
        return made
    raise DefinitionError(
        f"{owner}: time_window is {window!r}; allowed are timedelta, TimeWindow(size, offset), TimeWindowSeries(start, "
        "size) and LifetimeWindow(). Write for example timedelta(hours=1)."
    )


def _check_window(
    function: AggregationFunction, window: Window, interval: timedelta | None, *, owner: str
) -> None:
    if isinstance(window, LifetimeWindow) and not function.traits.lifetime:
        raise DefinitionError(
            f"{owner}: {function} over a LifetimeWindow would keep every row for ever; allowed is a window of finite "
            "length. Write for example timedelta(days=365)."
        )
    if isinstance(window, TimeWindowSeries) and function.traits.gives == "array":
        raise DefinitionError(
            f"{owner}: {function} gives an array, and a TimeWindowSeries would make one of arrays; allowed over a series "
            "are functions of one value. Write a TimeWindow for each."
        )
    if interval is not None and check_interval(interval, owner=owner):
        for one in windows_of(window):
            check_tiles(one, interval, owner=owner)


def _check_input(column: Field, function: AggregationFunction, *, owner: str) -> None:
    allowed = allowed_for(column.dtype)
    of_class = isinstance(function, FoldFunction) and column.dtype.kind in function.traits.takes
    if of_class or function.signature in allowed:
        return
    raise DefinitionError(
        f"{owner}: function {str(function)!r} cannot take type {column.dtype}; allowed for it are "
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
