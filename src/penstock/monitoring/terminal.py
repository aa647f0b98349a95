"""A report in the terminal: the same tiles, tables and commands, charts as sparklines, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from penstock.monitoring.charts import Chart, short
from penstock.monitoring.report import Grid, Report, Section

SPARK_WIDTH = 30
BLOCKS = " ▁▂▃▄▅▆▇█"


def render_terminal(report: Report) -> RenderableType:
    """The report as something that a rich console prints."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    yield Text(f"\n{report.title}", style="bold")
    yield Text(report.subtitle, style="dim")
    if report.warning:
        yield Text(report.warning, style="yellow")
    yield Text("")
    tiles = Table.grid(padding=(0, 2))
    for tile in report.tiles:
        tiles.add_row(
            f"[dim]{escape(tile.label)}[/]", f"[bold]{escape(tile.value)}[/]", f"[dim]{escape(tile.note)}[/]"
        )
    yield tiles
    for section in report.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[RenderableType]:
    yield Text(f"\n{section.title}", style="bold")
    if section.grid is not None:
        yield render_grid(section.grid)
    sparks = [spark for chart in section.charts if (spark := _spark(chart)) is not None]
    if sparks:
        lines = Table.grid(padding=(0, 2))
        for cells in sparks:
            lines.add_row(*cells)
        yield lines
    for command, what in section.commands:
        yield Text.assemble("  ", (command, "cyan"), "\n      ", (what, "dim"))


def render_grid(grid: Grid) -> Table:
    """A table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for index, name in enumerate(grid.header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def _spark(chart: Chart) -> tuple[RenderableType, ...] | None:
    """A chart over time as one line: its name, its shape, its range."""
    series = chart.series[0]
    values = [v for v in series.y if math.isfinite(v)]
    if not chart.spark or len(values) < 2:
        return None
    return (
        Text(f"{chart.title}, {series.name}", style="dim"),
        Text(sparkline(values)),
        Text(f"{_rounded(min(values))} to {_rounded(max(values))}", style="dim"),
    )


def _rounded(value: float) -> str:
    return short(float(f"{value:.3g}"))


def sparkline(values: Sequence[float], *, width: int = SPARK_WIDTH) -> str:
    """Values as one line of blocks, at most `width` of them, from zero up.

    >>> sparkline([0, 1, 2, 4])
    ' ▂▄█'
    """
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    top = max(means, default=0) or 1.0
    return "".join(BLOCKS[math.ceil(max(mean, 0) / top * (len(BLOCKS) - 1))] for mean in means)
