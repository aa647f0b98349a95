"""Jobs: long work beside the engine. Begin, watch, cancel; what came of each."""

from __future__ import annotations

import json
from typing import Any

from penstock.core.errors import InputError
from penstock.dashboard.client import query
from penstock.dashboard.confirm import Confirm
from penstock.dashboard.elements import (
    Column,
    button,
    card,
    cell,
    chip,
    el,
    facts,
    notice,
    row,
    set_props,
    stack,
    table,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.texts import NONE, duration, moment, when
from penstock.dashboard.view import View, part

Job = dict[str, Any]
_STATES = {"queued": "plain", "running": "accent", "succeeded": "good", "failed": "bad", "cancelled": "plain"}
COLUMNS = (
    Column("Job"),
    Column("State", "chip"),
    Column("Progress", "score"),
    Column("For"),
    Column("Began", "time"),
    Column("Took", "number"),
    Column("By"),
)
LONGEST = 20_000


async def page(view: View) -> None:
    """All jobs that are kept."""
    kinds = await view.get("/v1/jobs/kinds")
    with headline("Jobs", "Long work in processes of their own, of the lowest priority: the engine goes on."):
        button("Begin a job", lambda: _begin(view, kinds).show(), "main")
    with card(classes="card flush"):
        shown = table(
            "Jobs",
            COLUMNS,
            empty="No job yet. Begin one here, or: penstock backtest, penstock drift, penstock retrain.",
        )
    await view.watch(
        "/v1/jobs?limit=100", 1.0, lambda found: set_props(shown, rows=[_row(one) for one in found["items"]])
    )


async def job(view: View) -> None:
    """One job."""
    path = f"/v1/jobs/{part(view.path('job'))}"
    first = await view.get(path)
    with headline(f"{first['kind']} job", _about(first), back=("Jobs", "/jobs")):
        tools = stack("row")
    box = stack()
    ended = ("succeeded", "failed", "cancelled")

    def show(found: Job) -> None:
        tools.clear()
        if found["state"] not in ended:
            with tools:
                button("Cancel", lambda: _cancel(view, found).show(), "danger")
        box.clear()
        with box:
            _detail(found)

    await view.watch(path, 0.5 if first["state"] not in ended else 5.0, show)


def _row(one: Job) -> dict[str, Any]:
    progress = one["progress"]
    share = (
        progress["done"] / progress["total"]
        if progress["total"]
        else 1.0
        if one["state"] == "succeeded"
        else None
    )
    cells = [
        one["kind"],
        cell(one["state"], tone=_STATES[one["state"]]),
        cell(progress["text"] or ("" if share is None else f"{share:.0%}"), share=share, tone="accent"),
        cell(_about(one), tone="soft"),
        moment(one["started"]),
        _took(one),
        cell(one["actor"], tone="soft"),
    ]
    return row(one["id"], cells, href=f"/jobs/{one['id']}")


def _about(one: Job) -> str:
    return ", ".join(
        f"{name} {_written(value)}" for name, value in one["params"].items() if value not in (None, [], {})
    )


def _written(value: Any) -> str:
    """A parameter as people write it.

    >>> _written({"block": 0.7}), _written(["fraud:1", "fraud:2"]), _written("checkout")
    ('block 0.7', 'fraud:1 fraud:2', 'checkout')
    """
    if isinstance(value, dict):
        return " ".join(f"{name} {_written(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(map(_written, value))
    return str(value)


def _took(one: Job) -> str:
    began, ended = when(one["started"]), when(one["ended"])
    return NONE if began is None or ended is None else duration((ended - began).total_seconds())


def _detail(found: Job) -> None:
    progress = found["progress"]
    with card():
        with stack("row"):
            chip(found["state"], _STATES[found["state"]])
            el("span", "", progress["text"])
        if found["state"] == "running" and progress["total"]:
            share = progress["done"] / progress["total"]
            with el(
                "div",
                "progress",
                role="progressbar",
                aria_valuenow=f"{share * 100:.0f}",
                aria_label="progress",
                style="margin-top:12px",
            ):
                el("b", "", style=f"width:{share * 100:.1f}%")
        with el("div", "", style="margin-top:14px"):
            facts(
                [
                    ("Began", moment(found["started"])),
                    ("Took", _took(found)),
                    ("By", found["actor"]),
                    ("Why", found["reason"]),
                    ("Id", found["id"]),
                ]
            )
    if found["error"]:
        notice("It failed", found["error"]["detail"], "bad")
    if found["log"]:
        with card("What its process said last"):
            el("pre", "source", found["log"])
    if found["state"] == "succeeded":
        with card("Result"):
            text = json.dumps(found["result"], indent=2, ensure_ascii=False)
            el(
                "pre",
                "source",
                text
                if len(text) <= LONGEST
                else f"{text[:LONGEST]}\n… {len(text):,} characters in all: GET /v1/jobs/{found['id']}",
            )


def _cancel(view: View, found: Job) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        await view.send("DELETE", query(f"/v1/jobs/{part(found['id'])}", reason=reason))

    return Confirm(
        view,
        f"Cancel this {found['kind']} job?",
        "Its process is ended; what it has made so far is lost.",
        do,
        verb="Cancel the job",
        danger=True,
    )


def _begin(view: View, kinds: list[dict[str, Any]]) -> Confirm:
    """A dialog with the kinds; parameters are JSON, with those that are needed filled in."""

    async def do(reason: str, more: dict[str, Any]) -> None:
        try:
            params = json.loads(more["params"] or "{}")
        except ValueError as error:
            raise InputError(
                f'parameters: no valid JSON ({error}). Write an object, such as {{"endpoint": "checkout"}}.'
            ) from error
        body = {"kind": more["kind"], "params": params, **({"reason": reason} if reason else {})}
        begun = await view.send("POST", "/v1/jobs", body)
        view.go(f"/jobs/{part(begun['id'])}")

    options = [(one["kind"], f"{one['kind']}: {one['text'].splitlines()[0]}") for one in kinds]
    needs = "; ".join(
        f"{one['kind']}: {', '.join(one['params'].get('required', [])) or 'nothing'}" for one in kinds
    )
    more = [
        ("kind", {"label": "Kind", "kind": "choice", "options": options, "value": kinds[0]["kind"]}),
        (
            "params",
            {
                "label": "Parameters, as JSON",
                "kind": "long",
                "value": '{"endpoint": ""}',
                "hint": f"Needed: {needs}.",
            },
        ),
    ]
    return Confirm(
        view,
        "Begin a job",
        "It runs beside the engine. One that changes something needs a reason.",
        do,
        verb="Begin",
        more=more,
        needs_reason=False,
    )
