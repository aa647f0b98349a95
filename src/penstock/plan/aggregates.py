"""Aggregates as the kernel computes them: lanes, windows, functions."""

from __future__ import annotations

from penstock.core.time import to_us
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.windows import LifetimeWindow
from penstock.kernel.program import AggregateSpec, Function, Window
from penstock.plan.nodes import LaneNode


def lane_of(aggregate: Aggregate) -> LaneNode:
    """The column that the aggregate is over, with its condition."""
    return LaneNode(aggregate.input_column.name, aggregate.where, aggregate.input_column.dtype)


def window_of(aggregate: Aggregate) -> Window:
    """The window that the aggregate is over."""
    window, interval = aggregate.time_window, to_us(aggregate.interval)
    if isinstance(window, LifetimeWindow):
        return Window(0, 0, interval, current=aggregate.include_current or bool(interval), lifetime=True)
    # A window that ends in the past, or moves by tiles, does not hold the asking event, whatever is said.
    current = aggregate.include_current or bool(window.offset) or bool(interval)
    return Window(to_us(window.window_size), to_us(window.offset), interval, current=current)


def spec_of(aggregate: Aggregate, *, lane: int, window: int) -> AggregateSpec:
    """The aggregate as a part of the kernel's program."""
    function = aggregate.function
    half_life = 0 if function.half_life is None else to_us(function.half_life)
    return AggregateSpec(Function[function.name.upper()], lane, window, function.n or half_life)
