"""A report as a value, and as one self-contained HTML page: no script, no request, light and dark, phone and desk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from penstock.monitoring.charts import Chart, chart_html


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that matters, what it is, and what to know about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first column is text, the others are figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with a sentence, a table, charts, and commands to type."""

    title: str
    text: str = ""
    grid: Grid | None = None
    charts: tuple[Chart, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to. `warning` stands on top, where there is something to be warned of."""

    title: str
    subtitle: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    warning: str = ""


def render_html(report: Report) -> str:
    """The report as a page.

    >>> page = render_html(
    ...     Report(title="a <b>", subtitle="", tiles=(Tile("events", "5"),), sections=(Section(title="s"),))
    ... )
    >>> "a &lt;b&gt;" in page, "http" in page
    (True, False)
    """
    warning = f'<p class="warning">{escape(report.warning)}</p>' if report.warning else ""
    return _PAGE.substitute(
        title=escape(report.title),
        subtitle=escape(report.subtitle),
        warning=warning,
        tiles="".join(_tile(tile) for tile in report.tiles),
        sections="".join(_section(section) for section in report.sections),
    )


def _tile(tile: Tile) -> str:
    note = f"<small>{escape(tile.note)}</small>" if tile.note else ""
    return f'<div class="tile"><span>{escape(tile.label)}</span><b>{escape(tile.value)}</b>{note}</div>'


def _section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    grid = _grid(section.grid) if section.grid else ""
    charts = "".join(chart_html(chart) for chart in section.charts)
    charts = f'<div class="charts">{charts}</div>' if charts else ""
    commands = "".join(
        f"<li><code>{escape(command)}</code><span>{escape(what)}</span></li>"
        for command, what in section.commands
    )
    commands = f'<ul class="commands">{commands}</ul>' if commands else ""
    return f"<section><h2>{escape(section.title)}</h2>{text}{grid}{charts}{commands}</section>"


def _grid(grid: Grid) -> str:
    head = _cells(grid.header, "th")
    rows = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in grid.rows)
    width = "scroll wide" if grid.wide else "scroll"
    return f'<div class="{width}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cells(values: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values)


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2933; --soft: #5b6875; --line: #e1e5ea;
  --c0: #0b6e99; --c1: #c2410c; --c2: #7c3aed; --c3: #2f7d4f; --warn: #fff4e5; --warn-ink: #7a4100;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12171c; --card: #1b222a; --ink: #e6ebf0; --soft: #9aa7b4; --line: #2d3742;
    --c0: #4fb3dd; --c1: #fb923c; --c2: #b794f6; --c3: #6cc48f; --warn: #3a2a12; --warn-ink: #ffd8a1;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
header p { margin: 0; color: var(--soft); }
h2 { font-size: 1.15rem; margin: 40px 0 4px; }
section > p { margin: 0 0 14px; color: var(--soft); max-width: 75ch; }
.warning { background: var(--warn); color: var(--warn-ink); padding: 10px 14px; border-radius: 8px; margin: 16px 0 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-top: 24px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  display: flex; flex-direction: column; }
.tile span { color: var(--soft); font-size: 0.82rem; }
.tile b { font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile small { color: var(--soft); font-size: 0.78rem; }
.scroll + .charts { margin-top: 16px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; }
figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0; padding: 14px 16px 10px;
  min-width: 0; }
figcaption { font-weight: 600; }
figure p { margin: 4px 0 0; color: var(--soft); font-size: 0.82rem; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 8px; font-size: 0.82rem; color: var(--soft);
  min-height: 1.3em; }
.unit { color: var(--soft); font-size: 0.78rem; }
.key::before { content: ""; display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; background: var(--k); }
.key.line::before, .key.steps::before, .key.reference::before { height: 3px; vertical-align: 4px; }
.key.dots::before { border-radius: 50%; }
.k0 { --k: var(--c0); } .k1 { --k: var(--c1); } .k2 { --k: var(--c2); } .k3 { --k: var(--c3); }
.key.reference::before { background: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.s { fill: none; stroke: var(--k); stroke-width: 2; stroke-linejoin: round; }
.s.dots { fill: var(--k); stroke: var(--card); stroke-width: 1.5; }
.s.bars { fill: var(--k); stroke: none; }
.s.reference { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
svg text { fill: var(--soft); font-size: 12.5px; }
.scroll { overflow-x: auto; max-width: 860px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.scroll.wide { max-width: none; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 14px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-size: 0.82rem; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; }
.commands { list-style: none; padding: 0; margin: 0; display: grid; gap: 8px; }
.commands li { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: baseline; }
code { font: 0.88rem ui-monospace, "DejaVu Sans Mono", monospace; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 8px; overflow-wrap: anywhere; }
.commands span { color: var(--soft); font-size: 0.9rem; }
@media (max-width: 900px) { .tiles { grid-template-columns: 1fr 1fr; } }
@media (max-width: 600px) {
  main { padding: 20px 14px 48px; }
  .tiles { gap: 8px; }
  .tile b { font-size: 1.2rem; }
  figure { padding: 12px 10px 8px; }
  svg text { font-size: 19px; }
  .odd { display: none; }
  th, td { padding: 7px 9px; font-size: 0.88rem; }
}
</style>
</head>
<body>
<main>
<header><h1>$title</h1><p>$subtitle</p>$warning</header>
<div class="tiles">$tiles</div>
$sections
</main>
</body>
</html>
""")
