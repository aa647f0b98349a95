"""Decisions as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.dashboard.elements import Cell, Column, cell, row
from penstock.dashboard.texts import clock, moment, score, when
from penstock.dashboard.theme import tone_of
from penstock.dashboard.view import part

CALM_S, FLOOD_S = 0.5, 0.8

COLUMNS = (
    Column("Event", "code"),
    Column("Decided", "time"),
    Column("Keys"),
    Column("Score", "score"),
    Column("Action", "chip"),
    Column("Decided by"),
)


def decision_rows(decisions: Iterable[dict[str, Any]], actions: Sequence[str]) -> list[Cell]:
    """A row for each decision, a link to its page."""
    return [_row(one, list(actions)) for one in decisions]


def pace(found: dict[str, Any] | None) -> float:
    """How often to look at a list of the newest decisions: less often where each look shows none that the one before showed.

    >>> pace(
    ...     {
    ...         "items": [
    ...             {"decided_at": "2026-11-22T10:15:00.100Z"},
    ...             {"decided_at": "2026-11-22T10:15:00.000Z"},
    ...         ]
    ...     }
    ... )
    0.8
    """
    items = found["items"] if found is not None else []
    newest, oldest = (when(items[at]["decided_at"]) for at in (0, -1)) if items else (None, None)
    if newest is None or oldest is None or (newest - oldest).total_seconds() > CALM_S or len(items) < 2:
        return CALM_S
    return FLOOD_S


def event_href(source: str, event_id: str) -> str:
    """Where an event's page is."""
    return f"/decisions/{part(source)}/{part(event_id)}"


def _row(one: dict[str, Any], actions: list[str]) -> Cell:
    tone = tone_of(one["action"], actions)
    event_id = one["event_id"]
    by = one["rule"] or one["model"] or "no model"
    keys = ", ".join(str(value) for value in one["keys"].values())
    names = ", ".join(f"{name} {value}" for name, value in one["keys"].items())
    cells = [
        cell("forgotten" if event_id is None else event_id, tone="soft" if event_id is None else ""),
        cell(clock(one["decided_at"]), title=moment(one["decided_at"])),
        cell(keys, tone="soft", title=names),
        cell(score(one["score"]), share=one["score"], tone=tone),
        cell(one["action"], tone=tone),
        cell(by, tone="soft", title="rule" if one["rule"] else one["arm"] or ""),
    ]
    href = "" if event_id is None else event_href(one["source"], event_id)
    return row(f"{one['source']}/{one['position']}", cells, href=href)
