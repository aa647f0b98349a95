"""Decisions as they are made, newest first, by filters."""

from __future__ import annotations

from functools import partial
from typing import Any

from penstock.dashboard.client import query
from penstock.dashboard.elements import button, card, el, field, set_props, set_text, stack, table
from penstock.dashboard.frame import headline
from penstock.dashboard.pages.decision_rows import COLUMNS, decision_rows, pace
from penstock.dashboard.texts import moment, whole
from penstock.dashboard.view import View

SHOWN = 100
FILTERS = ("endpoint", "action", "min_score", "key", "event_id")


async def page(view: View) -> None:
    """Build the page."""
    endpoints = (await view.get("/v1/endpoints"))["items"]
    live = _Live(view, endpoints)
    with headline("Decisions", "Every event that was decided, newest first. Open one to see why."):
        live.paused = button("Pause", live.toggle)
    _filters(view, live, endpoints)
    with card(classes="card flush"):
        live.table = table("Decisions", COLUMNS, fresh=True, empty="No decision passes these filters.")
    live.more = el("p", "hatch", "", style="margin-top:12px")
    await live.start()


def _filters(view: View, live: _Live, endpoints: list[dict[str, Any]]) -> None:
    actions = dict.fromkeys(action for one in endpoints for action in one["actions"])
    choices = {
        "endpoint": [("", "All"), *((one["name"], one["name"]) for one in endpoints)],
        "action": [("", "All"), *((one, one) for one in actions)],
    }
    names = {
        "endpoint": "Endpoint",
        "action": "Action",
        "min_score": "Score from",
        "key": "Entity key",
        "event_id": "Event id",
    }
    hints = {"min_score": "0.8", "key": "card-017", "event_id": "exactly"}
    with stack("filters"):
        for name in FILTERS:
            kind = "choice" if name in choices else "number" if name == "min_score" else "text"
            field(
                names[name],
                kind=kind,
                value=view.query(name),
                options=choices.get(name, ()),
                placeholder=hints.get(name, ""),
                changed=partial(live.filter, name),
            )


class _Live:
    """The list, kept up to date unless paused."""

    def __init__(self, view: View, endpoints: list[dict[str, Any]]) -> None:
        self._view = view
        self._actions = endpoints[0]["actions"] if endpoints else []
        self._filters = {name: view.query(name) for name in FILTERS}
        self._running = True
        self.table: Any = None
        self.paused: Any = None
        self.more: Any = None

    async def start(self) -> None:
        """Show what there is, and what comes."""
        path = query("/v1/decisions", **self._filters, limit=SHOWN)
        await self._view.watch(path, pace, self._show)

    async def filter(self, name: str, value: Any) -> None:
        """Show what passes another filter."""
        self._filters[name] = str(value or "").strip()
        self._view.leave()
        await self.start()
        if not self._running:
            self._view.leave()

    async def toggle(self) -> None:
        """Pause, or go on."""
        self._running = not self._running
        set_text(self.paused, "Pause" if self._running else "Go on")
        self._view.leave()
        if self._running:
            await self.start()

    def _show(self, found: dict[str, Any]) -> None:
        set_props(self.table, rows=decision_rows(found["items"], self._actions))
        text = f"The newest {whole(len(found['items']))}."
        if found["next"] is not None and len(found["items"]) < SHOWN:
            text += f" {whole(found['looked_at'])} decisions were looked at, back to {moment(found['reached'])} UTC."
        set_text(self.more, text + " Times are UTC.")
