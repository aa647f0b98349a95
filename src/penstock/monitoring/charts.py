"""Charts as inline SVG: they take their colours from the page, so they are right in the dark, and need no library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

Style = Literal["line", "steps", "dots", "bars", "reference"]
Scale = Literal["linear", "log"]
Tick = tuple[float, str]
Project = Callable[[float], float]

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 10, 46


@dataclass(frozen=True, slots=True)
class Series:
    """One line, row of dots or row of bars.

    `colour` is 0 to 3 and names a colour of the page; bars stand on `base` (None: on zero).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style = "line"
    colour: int = 0
    base: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart with its words.

    Ranges and ticks that are not given follow from the data; log axes need positive values. With `spark` its first
    series is shown in the terminal, as a line of blocks.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str
    y_label: str
    note: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_ticks: tuple[Tick, ...] | None = None
    y_ticks: tuple[Tick, ...] | None = None
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    spark: bool = False


def chart_html(chart: Chart) -> str:
    """A figure with title, legend, drawing and note."""
    legend = "".join(
        f'<span class="key k{s.colour} {s.style}">{escape(s.name)}</span>' for s in chart.series if s.name
    )
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    return (
        f'<figure><figcaption>{escape(chart.title)}</figcaption><div class="legend">{legend}</div>'
        f'<div class="unit">{escape(chart.y_label)}</div>{_svg(chart)}{note}</figure>'
    )


def nice_ticks(low: float, high: float, *, count: int = 5) -> tuple[Tick, ...]:
    """About `count` round values from `low` to `high`, with their labels.

    >>> nice_ticks(0, 93_000)
    ((0.0, '0'), (20000.0, '20k'), (40000.0, '40k'), (60000.0, '60k'), (80000.0, '80k'))
    """
    if not high > low:
        return ((low, short(low)),)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    values = [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]
    return tuple((value, short(value)) for value in values)


def log_ticks(low: float, high: float) -> tuple[Tick, ...]:
    """The powers of ten from `low` to `high`."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return tuple((10.0**p, short(10.0**p)) for p in powers)


def short(value: float) -> str:
    """A number for an axis: thousands as k, millions as M.

    >>> short(1_500), short(0.25), short(2_000_000.0), short(1e-4)
    ('1.5k', '0.25', '2M', '0.0001')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:.4g}" if abs(value) >= 1e-4 or not value else f"{value:.8f}".rstrip("0")


def _svg(chart: Chart) -> str:
    x_range, y_range = _ranges(chart)
    x = _projection(x_range, (LEFT, WIDTH - RIGHT), chart.x_scale)
    y = _projection(y_range, (HEIGHT - BOTTOM, TOP), chart.y_scale)
    marks = "".join(_draw(series, x, y, floor=y_range[0]) for series in chart.series)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f"{_axes(chart, x, y, x_range, y_range)}{marks}</svg>"
    )


def _ranges(chart: Chart) -> tuple[tuple[float, float], tuple[float, float]]:
    xs = [v for s in chart.series for v in s.x]
    ys = [v for s in chart.series for v in s.y]
    return chart.x_range or _range(xs, chart.x_scale), chart.y_range or _range([0.0, *ys], chart.y_scale)


def _range(values: Sequence[float], scale: Scale) -> tuple[float, float]:
    usable = [v for v in values if math.isfinite(v) and (scale == "linear" or v > 0)]
    low, high = min(usable, default=0.1), max(usable, default=1.0)
    if scale == "log":
        return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) + 1e-9)
    return low, low + (high - low or 1.0) * 1.04


def _projection(values: tuple[float, float], pixels: tuple[float, float], scale: Scale) -> Project:
    warp: Project = math.log10 if scale == "log" else float
    low, high = warp(values[0]), warp(values[1])
    start, end = pixels

    def project(value: float) -> float:
        bounded = max(value, values[0]) if scale == "log" else value
        share = (warp(bounded) - low) / (high - low)
        return round(start + min(max(share, -0.02), 1.02) * (end - start), 1)

    return project


def _axes(
    chart: Chart, x: Project, y: Project, x_range: tuple[float, float], y_range: tuple[float, float]
) -> str:
    x_ticks = chart.x_ticks or (log_ticks if chart.x_scale == "log" else nice_ticks)(*x_range)
    y_ticks = chart.y_ticks or (log_ticks if chart.y_scale == "log" else nice_ticks)(*y_range)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<path class="grid" d="M{LEFT} {y(value)}H{right}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y(value) + 4}" text-anchor="end">{escape(label)}</text>'
        for value, label in y_ticks
    ]
    parts += [
        f'<text class="{"tick" if i % 2 == 0 else "tick odd"}" x="{x(value)}" y="{bottom + 18}" '
        f'text-anchor="middle">{escape(label)}</text>'
        for i, (value, label) in enumerate(x_ticks)
    ]
    return (
        "".join(parts)
        + f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>'
        + f'<text class="label" x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        + f"{escape(chart.x_label)}</text>"
    )


def _draw(series: Series, x: Project, y: Project, *, floor: float) -> str:
    points = [
        (x(a), y(b)) for a, b in zip(series.x, series.y, strict=True) if math.isfinite(a) and math.isfinite(b)
    ]
    kind = f'class="s k{series.colour} {series.style}"'
    if series.style == "dots":
        return "".join(f'<circle {kind} cx="{a}" cy="{b}" r="4.5"/>' for a, b in points)
    if series.style == "bars":
        return _bars(series, x, y, floor=floor)
    if not points:
        return ""
    join = "H" if series.style == "steps" else "L"
    line = f"M{points[0][0]} {points[0][1]}"
    line += "".join(f"H{a}V{b}" if join == "H" else f"L{a} {b}" for a, b in points[1:])
    return f'<path {kind} d="{line}"/>'


def _bars(series: Series, x: Project, y: Project, *, floor: float) -> str:
    """Bars with a gap of a fifth of their distance."""
    if not series.x:
        return ""
    gap = min((b - a for a, b in pairwise(series.x)), default=1.0)
    width = max(abs(x(series.x[0] + gap) - x(series.x[0])) * 0.8, 1.0)
    base = series.base or [floor] * len(series.x)
    return "".join(
        f'<rect class="s k{series.colour} bars" x="{x(at) - width / 2:.1f}" y="{y(top)}" width="{width:.1f}" '
        f'height="{max(y(low) - y(top), 0):.1f}"/>'
        for at, top, low in zip(series.x, series.y, base, strict=True)
    )
