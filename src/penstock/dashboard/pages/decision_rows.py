"""Decisions as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.dashboard.elements import Cell, Column, cell, row
from penstock.dashboard.texts import clock, moment, score
from penstock.dashboard.theme import tone_of
from penstock.dashboard.view import part

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
