import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from penstock.monitoring.charts import Chart, Series, chart_html, log_ticks, nice_ticks
from penstock.monitoring.report import Grid, Report, Section, Tile, render_html
from penstock.monitoring.terminal import render_terminal, sparkline

VOID = {"meta", "circle", "path", "rect"}

DAILY = Chart(
    title="Alerts <a day>",
    series=(
        Series("block", (0, 1, 2), (3.0, 5.0, 1.0), "bars", 2),
        Series("review", (0, 1, 2), (4.0, 9.0, 2.0), "bars", 1, base=(3.0, 5.0, 1.0)),
    ),
    x_label="day",
    y_label="decisions",
    spark=True,
)
REPORT = Report(
    title="Fraud & more",
    subtitle="a subtitle",
    warning="interrupted",
    tiles=(Tile("events", "1,000", "in a day"), Tile("audit", "0 differing")),
    sections=(
        Section(title="Quality", grid=Grid(("action", "recall"), (("block [0.9]", "58%"),)), charts=(DAILY,)),
        Section(title="Next", commands=(("penstock audit", "compare"),)),
    ),
)


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not the last one opened."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing():
    page = render_html(REPORT)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert "Fraud &amp; more" in page
    assert "Alerts &lt;a day&gt;" in page


def test_the_terminal_twin_says_the_same_in_80_columns():
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(render_terminal(REPORT))
    text = captured.get()
    for word in ("Fraud & more", "interrupted", "1,000", "block [0.9]", "58%", "Alerts", "penstock audit"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_bars_stand_on_their_base():
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"', chart_html(DAILY))]
    block, review = heights[:3], heights[3:]
    assert block[1] / block[2] == pytest.approx(5, rel=0.02)
    assert review[1] / review[0] == pytest.approx(4, rel=0.05)


def test_a_value_that_is_not_a_number_leaves_a_gap_and_no_nan():
    chart = Chart(
        title="t", series=(Series("s", (0, 1, 2), (1.0, float("nan"), 3.0)),), x_label="", y_label=""
    )
    assert "nan" not in chart_html(chart)


def test_log_axes_take_zero_to_the_floor():
    chart = Chart(
        title="t",
        series=(Series("s", (0.001, 0.1), (0.0, 50.0)),),
        x_label="",
        y_label="",
        x_scale="log",
        y_scale="log",
    )
    assert "nan" not in chart_html(chart)
    assert [label for _, label in log_ticks(0.001, 1)] == ["0.001", "0.01", "0.1", "1"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 93_000), (2.1, 3.4), (-5, 5), (0, 1e-4), (7, 7)])
def test_ticks_are_inside_and_few(low, high):
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_sparklines_are_bounded_and_start_at_zero():
    assert len(sparkline(list(range(1_000)), width=30)) == 30
    assert sparkline([0, 0, 0]) == "   "
    assert sparkline([5, 10]) == "▄█"
