"""How the platform is doing now: what is wrong, the figures, their course, the newest decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import (
    Spark,
    card,
    chart,
    el,
    link,
    notice,
    set_chart,
    set_props,
    set_text,
    stack,
    table,
    tabs,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.pages.decisions import COLUMNS, decision_rows
from penstock.dashboard.texts import duration, figure, percent, whole
from penstock.dashboard.theme import tone_of
from penstock.dashboard.view import View

RANGES = {"second": ("Live", 1.0), "minute": ("24 hours", 10.0), "hour": ("30 days", 60.0)}
NEWEST = 12


async def page(view: View) -> None:
    """Build the page."""
    step = view.query("range", "second")
    if step not in RANGES:
        step = "second"
    with headline("Overview", "Events in, decisions out, and whether anything needs you."):
        tabs("Time", [(one, name) for one, (name, _) in RANGES.items()], step, lambda one: f"/?range={one}")
    problems = stack("problems")
    with stack():
        tiles = _Tiles()
        courses = _Courses()
        with card("Newest decisions", classes="card flush") as newest:
            with newest, el("header"):
                pass
            shown = table("Newest decisions", COLUMNS, fresh=True, empty="No decision yet: send events, or run `penstock run`.")
            shown.props["fresh"] = True

    def show(found: dict[str, Any]) -> None:
        _show_problems(problems, found)
        tiles.show(found)
        courses.show(found["history"])

    await view.watch(f"/v1/live?step={step}", RANGES[step][1], show)
    actions = [one for one in (await view.get("/v1/live?step=" + step))["history"]["actions"]]
    await view.watch(
        query("/v1/decisions", limit=NEWEST),
        0.5,
        lambda found: set_props(shown, rows=decision_rows(found["decisions"], actions)),
    )
