"""Charts as ECharts options, by pure functions. Colours are CSS variables, drawn as SVG, so light and dark need no second chart.

Data stand in options as values only, never as keys: a key that begins with a colon would be run as code.
Tooltips are ECharts' own, which write names as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from penstock.dashboard.theme import SERIES

Options = dict[str, Any]
Numbers = Sequence[float | None]

TONES = {
    "good": "var(--s5)",
    "warn": "var(--s3)",
    "bad": "var(--bad)",
    "plain": "var(--s6)",
    "accent": "var(--s1)",
}

_TEXT = {"color": "var(--faint)", "fontFamily": "Inter, system-ui, sans-serif", "fontSize": 11.5}
_LINE = {"lineStyle": {"color": "var(--line)"}}
_NUMBER = "v => v == null ? '–' : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en') : Number(v.toPrecision(4)).toString()"
_SECONDS = "v => v == null ? '–' : v < 1 ? Number((v * 1000).toPrecision(3)) + ' ms' : Number(v.toPrecision(3)) + ' s'"
_BYTES = (
    "v => { if (v == null) return '–'; let u = ['B', 'KiB', 'MiB', 'GiB', 'TiB'], i = 0;"
    " while (Math.abs(v) >= 1024 && i < 4) { v /= 1024; i++; } return Number(v.toPrecision(3)) + ' ' + u[i]; }"
)
_PERCENT = "v => v == null ? '–' : Number((v * 100).toPrecision(3)) + ' %'"
_TIMES = {
    "year": "{yyyy}",
    "month": "{MMM}",
    "day": "{d} {MMM}",
    "hour": "{HH}:{mm}",
    "minute": "{HH}:{mm}",
    "second": "{HH}:{mm}:{ss}",
    "millisecond": "{HH}:{mm}:{ss}",
}
UNITS = {"": _NUMBER, "s": _SECONDS, "bytes": _BYTES, "share": _PERCENT}
"""How axes and tooltips write numbers; the functions run in the browser."""


def over_time(
    start_us: Sequence[int],
    series: Mapping[str, Numbers],
    *,
    unit: str = "",
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    top: float | None = None,
    log: bool = False,
    step_us: int = 0,
) -> Options:
    """Lines over time.

    Parameters
    ----------
    start_us
        The times, microseconds since 1970.
    series
        A value for each time, by the line's name; None leaves a gap.
    unit
        One of `UNITS`.
    stacked
        One on another, as areas: parts of a whole.
    top
        The axis' end; default: what the data need.
    step_us
        How far times are apart where nothing is missing: a wider gap is left open.

    Examples
    --------
    >>> options = over_time([0, 1_000_000], {"approve": [1, 2]})
    >>> options["series"][0]["data"]
    [[0, 1], [1000, 2]]
    """
    given = colours or {}
    gaps = {at for at, (one, other) in enumerate(pairwise(start_us)) if step_us and other - one > 2 * step_us}
    return {
        **_base(unit, legend=len(series) > 1),
        "xAxis": _axis(
            "time",
            axisTick={"show": False},
            splitLine={"show": False},
            axisLabel={**_TEXT, "hideOverlap": True, "formatter": _TIMES},
        ),
        "yAxis": _axis(
            "log" if log else "value",
            unit=unit,
            max=top,
            splitNumber=4,
            interval=None if top is None else top / 4,
        ),
        "series": [
            {
                "type": "line",
                "name": name,
                "data": _course(start_us, values, gaps),
                "showSymbol": False,
                "lineStyle": {"width": 0 if stacked else 1.6, "cap": "round"},
                "itemStyle": {"color": given.get(name, SERIES[at % len(SERIES)])},
                "emphasis": {"disabled": True},
                **({"stack": "all", "areaStyle": {"opacity": 0.75}} if stacked else {}),
            }
            for at, (name, values) in enumerate(series.items())
        ],
    }


def _course(start_us: Sequence[int], values: Numbers, gaps: set[int]) -> list[list[float | None]]:
    """Times in milliseconds with their values; after each of `gaps` the line breaks off."""
    found: list[list[float | None]] = []
    for at, (us, value) in enumerate(zip(start_us, values, strict=True)):
        found.append([us // 1000, value])
        if at in gaps:
            found.append([us // 1000 + 1, None])
    return found


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    diagonal: bool = False,
    points: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Options:
    """Curves in the unit square: ROC, precision and recall, calibration.

    Parameters
    ----------
    points
        Points on curves that are worth a mark, such as thresholds.
    """
    made = [
        {
            "type": "line",
            "name": name,
            "data": [list(point) for point in line],
            "showSymbol": False,
            "lineStyle": {"width": 1.8},
            "itemStyle": {"color": SERIES[at % len(SERIES)]},
            "emphasis": {"disabled": True},
        }
        for at, (name, line) in enumerate(lines.items())
    ]
    made += [
        {
            "type": "scatter",
            "name": name,
            "data": [list(point) for point in found],
            "symbolSize": 9,
            "itemStyle": {"color": "var(--surface)", "borderColor": "var(--ink)", "borderWidth": 2},
            "emphasis": {"disabled": True},
        }
        for name, found in (points or {}).items()
    ]
    if diagonal:
        made.append(
            {
                "type": "line",
                "data": [[0, 0], [1, 1]],
                "silent": True,
                "showSymbol": False,
                "tooltip": {"show": False},
                "lineStyle": {"width": 1, "type": [4, 4]},
                "itemStyle": {"color": "var(--line-strong)"},
            }
        )
    base = _base("", legend=len(lines) + len(points or {}) > 1)
    base["grid"] = {**base["grid"], "bottom": 26}
    named: Options = {"nameLocation": "middle", "nameTextStyle": _TEXT}
    return {
        **base,
        "xAxis": _axis("value", min=0, max=1, name=x, nameGap=26, **named),
        "yAxis": _axis("value", min=0, max=1, name=y, nameGap=34, **named),
        "series": made,
    }


def histogram(
    edges: Sequence[float],
    counts: Mapping[str, Sequence[float]],
    *,
    marks: Mapping[str, float] | None = None,
    log: bool = False,
    unit: str = "",
) -> Options:
    """How many values lie between two edges; several by name are drawn over one another.

    Parameters
    ----------
    edges
        One more than the counts of each.
    marks
        Values that stand as upright lines, such as thresholds.

    Examples
    --------
    >>> histogram([0, 1, 2], {"score": [4, 2]})["series"][0]["data"]
    [[0.5, 4, 0, 1], [1.5, 2, 1, 2]]
    """
    low, high = (edges[0], edges[-1]) if edges else (0, 1)
    made: list[Options] = []
    for at, (name, found) in enumerate(counts.items()):
        data = [
            [(left + right) / 2, None if log and not count else count, left, right]
            for (left, right), count in zip(pairwise(edges), found, strict=True)
        ]
        line = at > 0
        made.append(
            {
                "type": "line" if line else "bar",
                "name": name,
                "data": data,
                "itemStyle": {"color": SERIES[2 if line else 0], "borderRadius": [2, 2, 0, 0]},
                "emphasis": {"disabled": True},
                **(
                    {"step": "middle", "showSymbol": False, "lineStyle": {"width": 1.6}}
                    if line
                    else {"barWidth": "90%"}
                ),
            }
        )
    if made and marks:
        made[0]["markLine"] = {
            "symbol": "none",
            "silent": True,
            "lineStyle": {"color": "var(--soft)", "type": [3, 3], "width": 1.2},
            "label": {**_TEXT, "color": "var(--soft)", "formatter": "{b}"},
            "data": [{"name": name, "xAxis": value} for name, value in marks.items()],
        }
    return {
        **_base(unit, legend=len(counts) > 1),
        "xAxis": _axis("value", min=low, max=high, splitLine={"show": False}, axisLabel=_inside_labels()),
        "yAxis": _axis("log" if log else "value", unit=unit, splitNumber=3),
        "series": made,
    }


def bars(names: Sequence[str], values: Mapping[str, Numbers], *, unit: str = "") -> Options:
    """Bars side by side, a group for each name."""
    return {
        **_base(unit, legend=len(values) > 1),
        "xAxis": _axis("category", data=list(names), axisTick={"show": False}),
        "yAxis": _axis("value", unit=unit, splitNumber=4),
        "series": [
            {
                "type": "bar",
                "name": name,
                "data": list(found),
                "barMaxWidth": 34,
                "itemStyle": {"color": SERIES[at % len(SERIES)], "borderRadius": [3, 3, 0, 0]},
                "emphasis": {"disabled": True},
            }
            for at, (name, found) in enumerate(values.items())
        ],
    }


def heat(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Numbers], flagged: Sequence[Sequence[bool]]
) -> Options:
    """A field of cells, darker for more; those flagged are red.

    Parameters
    ----------
    values
        A list for each row, from 0 (none) to 1 (as much as is shown); None leaves a cell out.
    """
    data = [
        {
            "value": [x, y, value],
            "itemStyle": {
                "color": "var(--bad)" if flagged[y][x] else "var(--s1)",
                "opacity": 0.08 + 0.87 * min(max(value, 0.0), 1.0),
            },
        }
        for y, line in enumerate(values)
        for x, value in enumerate(line)
        if value is not None
    ]
    base = _base("", legend=False)
    return {
        **base,
        "grid": {**base["grid"], "top": 6},
        "tooltip": {**base["tooltip"], "trigger": "item"},
        "xAxis": _axis("category", data=list(columns), axisTick={"show": False}, splitLine={"show": False}),
        "yAxis": _axis(
            "category", data=list(rows), inverse=True, axisTick={"show": False}, splitLine={"show": False}
        ),
        "visualMap": {"show": False, "min": 0, "max": 1, "dimension": 2, "inRange": {}},
        "series": [
            {
                "type": "heatmap",
                "name": "drift",
                "data": data,
                "itemStyle": {"borderColor": "var(--surface)", "borderWidth": 2, "borderRadius": 3},
                "emphasis": {"disabled": True},
            }
        ],
    }


def network(nodes: Sequence[tuple[str, str, str]], edges: Sequence[tuple[str, str]]) -> Options:
    """What hangs on what, from left to right.

    Parameters
    ----------
    nodes
        Id, kind and name; one column for each kind, in their order.
    edges
        From id, to id.
    """
    kinds = list(dict.fromkeys(kind for _, kind, _ in nodes))
    columns = [[one for one in nodes if one[1] == kind] for kind in kinds]
    data = [
        {
            "id": key,
            "name": name,
            "value": [x, -(y + 0.5) / len(column)],
            "itemStyle": {"color": SERIES[x % len(SERIES)]},
        }
        for x, column in enumerate(columns)
        for y, (key, _, name) in enumerate(column)
    ]
    return {
        "animation": False,
        "grid": {"left": 56, "right": 56, "top": 4, "bottom": 16},
        "xAxis": {"type": "value", "show": False, "min": 0, "max": max(len(kinds) - 1, 1)},
        "yAxis": {"type": "value", "show": False, "min": -1, "max": 0},
        "series": [
            {
                "type": "graph",
                "coordinateSystem": "cartesian2d",
                "symbol": "circle",
                "symbolSize": 12,
                "data": data,
                "links": [{"source": one, "target": other} for one, other in edges],
                "edgeSymbol": ["none", "arrow"],
                "edgeSymbolSize": [0, 6],
                "lineStyle": {"color": "var(--line-strong)", "curveness": 0.08, "width": 1.3, "opacity": 1},
                "label": {
                    "show": True,
                    "position": "bottom",
                    "distance": 6,
                    **_TEXT,
                    "color": "var(--ink)",
                    "width": 150,
                    "overflow": "truncate",
                },
                "emphasis": {"disabled": True},
                "cursor": "pointer",
            }
        ],
    }


def direct(edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges that are no short cut of a longer way.

    >>> direct([("a", "b"), ("b", "c"), ("a", "c")])
    [('a', 'b'), ('b', 'c')]
    """
    after: dict[str, set[str]] = {}
    for one, other in edges:
        after.setdefault(one, set()).add(other)

    def reached(start: str, seen: set[str]) -> set[str]:
        for following in after.get(start, set()) - seen:
            seen.add(following)
            reached(following, seen)
        return seen

    ways = {name: {one: reached(one, set()) for one in found} for name, found in after.items()}
    return [
        (one, other)
        for one, other in edges
        if not any(other in beyond for through, beyond in ways[one].items() if through != other)
    ]


def intervals(
    names: Sequence[str],
    values: Sequence[tuple[float | None, float | None, float | None]],
    *,
    unit: str = "share",
) -> Options:
    """Estimates with the interval that each lies in: (low, value, high) by name."""
    stems: list[tuple[float, float, int]] = [
        (low, high, at) for at, (low, _, high) in enumerate(values) if low is not None and high is not None
    ]
    return {
        **_base(unit, legend=False),
        "xAxis": _axis("value", unit=unit, scale=True, splitNumber=4),
        "yAxis": _axis(
            "category", data=list(names), inverse=True, axisTick={"show": False}, splitLine={"show": False}
        ),
        "series": [
            {
                "type": "line",
                "name": "interval",
                "data": [[low, at], [high, at]],
                "silent": True,
                "symbol": "rect",
                "symbolSize": [2, 11],
                "tooltip": {"show": False},
                "lineStyle": {"width": 2.4, "color": SERIES[at % len(SERIES)]},
                "itemStyle": {"color": SERIES[at % len(SERIES)]},
            }
            for low, high, at in stems
        ]
        + [
            {
                "type": "scatter",
                "name": "estimate",
                "data": [
                    {"value": [value, at], "itemStyle": {"color": SERIES[at % len(SERIES)]}}
                    for at, (_, value, _) in enumerate(values)
                    if value is not None
                ],
                "symbolSize": 10,
                "emphasis": {"disabled": True},
            }
        ],
    }


def _inside_labels() -> Options:
    """Labels of an axis whose ends are no round numbers: the ends have none."""
    return {**_TEXT, ":formatter": UNITS[""], "showMinLabel": False, "showMaxLabel": False}


def _base(unit: str, *, legend: bool) -> Options:
    return {
        "useUTC": True,
        "animation": False,
        "textStyle": _TEXT,
        "grid": {"left": 4, "right": 22, "top": 34 if legend else 14, "bottom": 4, "containLabel": True},
        "legend": {
            "show": legend,
            "left": 0,
            "top": 0,
            "padding": 0,
            "itemWidth": 12,
            "itemHeight": 8,
            "itemGap": 16,
            "icon": "roundRect",
            "textStyle": {**_TEXT, "color": "var(--soft)"},
            "inactiveColor": "var(--line-strong)",
        },
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "transitionDuration": 0,
            "backgroundColor": "var(--surface)",
            "borderColor": "var(--line-strong)",
            "padding": [7, 11],
            "textStyle": {**_TEXT, "color": "var(--ink)", "fontSize": 12},
            "axisPointer": {
                "type": "line",
                "lineStyle": {"color": "var(--faint)", "width": 1},
                "label": {"show": False},
            },
            ":valueFormatter": UNITS[unit],
        },
    }


def _axis(kind: str, *, unit: str = "", **more: Any) -> Options:
    labels: Options = dict(_TEXT)
    if kind in {"value", "log"}:
        labels[":formatter"] = UNITS[unit]
    return {
        "type": kind,
        "axisLine": {"show": kind != "value", **_LINE},
        "axisTick": {"show": False},
        "splitLine": {"show": kind == "value", **_LINE},
        "axisLabel": labels,
        **{name: value for name, value in more.items() if value is not None},
    }
