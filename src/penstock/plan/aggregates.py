"""Aggregates as the kernel computes them: lanes, windows, functions."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.time import to_us
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.aggregates import windows_of as finite_windows
from penstock.definitions.windows import LifetimeWindow, TimeWindow, TimeWindowSeries
from penstock.kernel.program import AggregateSpec, Function, Window
from penstock.plan.nodes import AggregateNode, LaneNode

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
    aggregates: Sequence[Aggregate], lanes: Sequence[LaneNode], windows: Sequence[Window]
) -> tuple[AggregateNode, ...]:
    """The plan's nodes of aggregates, with the places of their values among the kernel's outputs."""
    nodes, output = [], 0
    for aggregate in aggregates:
        at = tuple(windows.index(window) for window in windows_of(aggregate))
        node = AggregateNode(
            name=aggregate.name,
            function=str(aggregate.function),
            lane=lanes.index(lane_of(aggregate)),
            windows=at,
            dtype=aggregate.dtype,
            output=output,
            is_series=isinstance(aggregate.time_window, TimeWindowSeries),
        )
        nodes.append(node)
        output += sum(spec.width for spec in specs_of(aggregate, node))
    return tuple(nodes)


def specs_of(aggregate: Aggregate, node: AggregateNode) -> list[AggregateSpec]:
    """The aggregate as parts of the kernel's program, one a window."""
    function = aggregate.function
    half_life = 0 if function.half_life is None else to_us(function.half_life)
    kind = _SEVERAL.get(function.signature) or Function[function.name.upper()]
    return [AggregateSpec(kind, node.lane, window, function.n or half_life) for window in node.windows]
