"""A backtest for people: the figures side by side, what would change, and one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.app.backtesting import Backtest
from penstock.core.time import DAY_US, from_us
from penstock.monitoring.backtest import Summary
from penstock.monitoring.charts import Chart, Series
from penstock.monitoring.report import Grid, Report, Section, Tile, render_html

MOST_LINES = 4
"""Colours of a chart."""


def figures(sides: Sequence[Summary]) -> list[tuple[str, ...]]:
    """One row a figure: its name, then its value on each side."""
    rows = [
        ("alerts a day", [f"{side.alerts_per_day:,.1f}" for side in sides]),
        ("on the worst day", [f"{side.most_alerts:,}" for side in sides]),
        *((action, [f"{side.actions.get(action, 0):,}" for side in sides]) for action in _actions(sides)),
        ("precision", [_share(side.precision) for side in sides]),
        *(
            (f"  of {action}", [_share(side.by_action.get(action)) for side in sides])
            for action in _actions(sides)
            if len(sides[0].by_action) > 1 and any(action in side.by_action for side in sides)
        ),
        ("recall", [_share(side.recall) for side in sides]),
        ("false alarms", [_share(side.false_positive_rate, 2) for side in sides]),
        ("average precision", [_number(side.average_precision, 4) for side in sides]),
        ("cost", [_number(side.cost, 0) for side in sides]),
        ("saved", [_saved(side) for side in sides]),
        ("labels pending", [f"{side.pending:,}" for side in sides]),
        ("  of alerts", [f"{side.pending_alerts:,}" for side in sides]),
        ("over the budget", [f"{side.over_budget:,}" if side.over_budget else "–" for side in sides]),
        ("model, one event", [_latency(side.latency_ms) for side in sides]),
        ("features, one event", [_latency(side.features_ms) for side in sides]),
    ]
    return [(name, *values) for name, values in rows if any(value != "–" for value in values)]


def change_rows(changes: Mapping[tuple[str, str], int]) -> list[tuple[str, str, str]]:
    """What was decided, what would be instead, and how often; the most frequent first."""
    differing = [(n, before, after) for (before, after), n in changes.items() if before != after]
    return [(before, after, f"{n:,}") for n, before, after in sorted(differing, reverse=True)]


def backtest_page(found: Backtest) -> str:
    """The page, self-contained."""
    stored = found.sides[0]
    tiles = [
        Tile(side.name, _number(side.cost, 0) if side.cost is not None else f"{side.alerts:,}", _note(side))
        for side in found.sides[:MOST_LINES]
    ]
    changes = [
        Section(
            title=f"{side.name}: {sum(n for (a, b), n in moved.items() if a != b):,} decisions would change",
            grid=Grid(("decided", *_actions_after(moved)), _matrix(moved)),
        )
        for side, moved in zip(found.sides[1:], found.changes, strict=True)
    ]
    return render_html(
        Report(
            title=f"Backtest of {found.endpoint}",
            subtitle=f"{stored.decided:,} decisions on events of {_moment(found.first_us)} to {_moment(found.last_us)} UTC",
            tiles=tuple(tiles),
            sections=(
                Section(
                    title="Side by side",
                    text="Precision, recall and cost are of events whose labels are known. Cost is that of the policy's cost matrix; "
                    "saved is what doing nothing would have cost more. Model and features: processor time, 99th percentile, measured in turns.",
                    grid=Grid(
                        ("", *(side.name for side in found.sides)), tuple(figures(found.sides)), wide=True
                    ),
                ),
                *changes,
                *_lists(found),
                Section(title="By day", charts=tuple(_charts(found))),
            ),
        )
    )


def _lists(found: Backtest) -> list[Section]:
    """Whose members were given."""
    rows = tuple(
        (
            one.name,
            one.told,
            f"{len(one.entries):,}",
            "its changed_at" if one.dated else "the beginning",
            f"{one.events:,}",
        )
        for one in found.lists
    )
    grid = Grid(("list", "members of", "keys", "each counts from", "events of listed keys"), rows)
    return [Section(title="Lists that were tried", grid=grid)] if rows else []


def _charts(found: Backtest) -> list[Chart]:
    shown = list(zip(found.sides, found.days, strict=True))[:MOST_LINES]
    charts = [
        _chart("Alerts", "alerts a day", [(s.name, {d: v[1] for d, v in days.items()}) for s, days in shown])
    ]
    if found.sides[0].cost is not None:
        priced = [(s.name, {d: v[2] for d, v in days.items()}) for s, days in shown]
        charts.append(_chart("Cost of decisions whose labels are known", "a day", priced))
    return charts


def _chart(title: str, unit: str, lines: Sequence[tuple[str, Mapping[int, float]]]) -> Chart:
    days = sorted(lines[0][1])
    step = max(len(days) // 5, 1)
    ticks = tuple((float(day), f"{from_us(day * DAY_US):%m-%d}") for day in days[::step])
    series = (Series(name, days, [line[d] for d in days], "line", i) for i, (name, line) in enumerate(lines))
    return Chart(title=title, series=tuple(series), x_label="day (UTC)", y_label=unit, x_ticks=ticks)


def _matrix(moved: Mapping[tuple[str, str], int]) -> tuple[tuple[str, ...], ...]:
    after = _actions_after(moved)
    before = dict.fromkeys(pair[0] for pair in sorted(moved))
    return tuple((one, *(f"{moved.get((one, other), 0):,}" for other in after)) for one in before)


def _actions_after(moved: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pair[1] for pair in sorted(moved)))


def _actions(sides: Sequence[Summary]) -> list[str]:
    return sorted({action for side in sides for action in side.actions})


def _note(side: Summary) -> str:
    return f"{'cost, ' if side.cost is not None else 'alerts, '}{side.alerts_per_day:,.0f} alerts a day"


def _saved(side: Summary) -> str:
    return "–" if side.cost is None or side.idle_cost is None else f"{side.idle_cost - side.cost:,.0f}"


def _latency(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds * 1000:,.0f} µs"


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _moment(us: int | None) -> str:
    return "–" if us is None else f"{from_us(us):%Y-%m-%d %H:%M}"
