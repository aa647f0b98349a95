"""Aggregates as the kernel computes them: lanes, windows, functions."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.time import to_us
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.aggregates import windows_of as finite_windows
from penstock.definitions.secondary_keys import SecondaryKeys
from penstock.definitions.user_aggregations import FoldFunction
from penstock.definitions.windows import LifetimeWindow, TimeWindow, TimeWindowSeries
from penstock.kernel.program import AggregateSpec, Function, Window
from penstock.plan.canonical import canonical_digest
from penstock.plan.nodes import AggregateNode, FoldNode, LaneNode

_SEVERAL = {"first(n)": Function.FIRST_N, "last(n)": Function.LAST_N}


def lane_of(aggregate: Aggregate) -> LaneNode:
    """The column that the aggregate is over, with its condition."""
    return LaneNode(aggregate.input_column.name, aggregate.where, aggregate.input_column.dtype)


def windows_of(aggregate: Aggregate) -> tuple[Window, ...]:
    """The windows that the aggregate is over: one, or those of its series."""
    window, interval = aggregate.time_window, to_us(aggregate.interval)
    if isinstance(window, LifetimeWindow):
        return (Window(0, 0, interval, current=aggregate.include_current or bool(interval), lifetime=True),)
    return tuple(_window(one, aggregate, interval) for one in finite_windows(window))


def _window(window: TimeWindow, aggregate: Aggregate, interval_us: int) -> Window:
    # A window that ends in the past, or moves by tiles, does not hold the asking event, whatever is said.
    current = aggregate.include_current or bool(window.offset) or bool(interval_us)
    return Window(to_us(window.window_size), to_us(window.offset), interval_us, current=current)


def nodes_of(
    aggregates: Sequence[Aggregate],
    lanes: Sequence[LaneNode],
    windows: Sequence[Window],
    *,
    start: int = 0,
) -> tuple[AggregateNode, ...]:
    """The plan's nodes of aggregates, with the places of their values among the kernel's outputs, from `start` on.

    The keys of a window have the place of its row count.
    """
    nodes, output = [], start
    for aggregate in aggregates:
        at = tuple(windows.index(window) for window in windows_of(aggregate))
        of_rows = isinstance(aggregate, SecondaryKeys)
        node = AggregateNode(
            name=aggregate.name,
            function=str(aggregate.function),
            lane=lanes.index(lane_of(aggregate)),
            windows=at,
            dtype=aggregate.dtype,
            output=at[0] if of_rows else output,
            is_series=isinstance(aggregate.time_window, TimeWindowSeries),
        )
        nodes.append(node)
        output += sum(spec.width for spec in specs_of(aggregate, node))
    return tuple(nodes)


def specs_of(aggregate: Aggregate, node: AggregateNode) -> list[AggregateSpec]:
    """The aggregate as parts of the kernel's program, one a window; of folds it counts the values."""
    function = aggregate.function
    if isinstance(aggregate, SecondaryKeys):
        return []
    if isinstance(function, FoldFunction):
        return [AggregateSpec(Function.COUNT, node.lane, window) for window in node.windows]
    half_life = 0 if function.half_life is None else to_us(function.half_life)
    kind = _SEVERAL.get(function.signature) or Function[function.name.upper()]
    return [AggregateSpec(kind, node.lane, window, function.n or half_life) for window in node.windows]


def row_counts_of(lane: int, windows: Sequence[Window]) -> list[AggregateSpec]:
    """How many rows each window holds, told by a lane that no row lacks."""
    return [AggregateSpec(Function.COUNT, lane, window) for window in range(len(windows))]


def folds_of(aggregates: Sequence[Aggregate], nodes: Sequence[AggregateNode]) -> tuple[FoldNode, ...]:
    """What is folded beside the kernel."""
    folds = []
    for aggregate, node in zip(aggregates, nodes, strict=True):
        function = aggregate.function
        if not isinstance(function, FoldFunction):
            continue
        code = canonical_digest(function.aggregation)
        folds += [
            FoldNode(
                output=node.output + i,
                lane=node.lane,
                window=window,
                dtype=function.gives(aggregate.input_column.dtype),
                code=code,
                may_fail=function.is_users,
                aggregation=function.aggregation,
            )
            for i, window in enumerate(node.windows)
        ]
    return tuple(folds)
