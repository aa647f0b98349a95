"""Alerts: which fire, whom they tell, what became of messages; silence and try again."""

from __future__ import annotations

from typing import Any

from penstock.dashboard.confirm import Confirm
from penstock.dashboard.elements import (
    Column,
    blank,
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
from penstock.dashboard.texts import figure, moment, whole
from penstock.dashboard.view import View, part

Alert = dict[str, Any]
_STATES = {"firing": "bad", "pending": "warn", "ok": "good", "": "plain"}
_MESSAGES = {"sent": "good", "waiting": "warn", "dead": "bad", "silenced": "plain"}
SILENCES = (("3600", "an hour"), ("14400", "four hours"), ("86400", "a day"), ("0", "not any more"))


async def page(view: View) -> None:
    """Build the page."""
    alerts = (await view.get("/v1/alerts"))["items"]
    with headline(
        "Alerts",
        "Who is told when. A silence is an acknowledgement: it says who took the matter on, and why.",
    ):
        pass
    if not alerts:
        blank(
            "No alert is defined",
            "Define Alert(...) beside your endpoint and say whom to tell; docs/alerts.md shows how.",
            "penstock apply",
        )
        return
    with stack():
        box = stack("few")
        shown: list[Any] = []

        def show(found: dict[str, Any]) -> None:
            if shown != found["items"]:
                shown[:] = found["items"]
                box.clear()
                with box:
                    for one in found["items"]:
                        _alert(view, one)

        await view.watch("/v1/alerts", 3.0, show)
        with card("Messages", "newest first, without their content", "card flush"):
            columns = (
                Column("Created", "time"),
                Column("Alert"),
                Column("To"),
                Column("State", "chip"),
                Column("Attempts", "number"),
                Column("Error"),
            )
            messages = table("Messages", columns, empty="Nobody was told anything yet.")
        await view.watch(
            "/v1/alert-messages?limit=50",
            3.0,
            lambda found: set_props(messages, rows=[_message(one) for one in found["items"]]),
        )


def _alert(view: View, one: Alert) -> None:
    with card(one["name"], one["owner"] or ""):
        with stack("row"):
            chip(one["state"] or "on decisions", _STATES.get(one["state"], "plain"))
            if one["silenced_until"]:
                chip(f"silenced until {moment(one['silenced_until'])}", "accent")
        el("p", "", one["on"], style="margin:10px 0")
        messages = ", ".join(f"{whole(count)} {state}" for state, count in one["messages"].items())
        facts(
            [
                ("Value", None if one["value"] is None else figure(one["value"])),
                ("Tells", ", ".join(one["to"])),
                ("Messages", messages or "none"),
            ]
        )
        for problem in one["problems"]:
            with el("div", "", style="margin-top:10px"):
                notice("Cannot tell", problem)
        with stack("row"):
            button("Acknowledge", lambda: _silence(view, one).show(), "small", style="margin-top:12px")
            if one["messages"].get("dead"):
                button("Send again", lambda: _retry(view, one).show(), "small", style="margin-top:12px")


def _silence(view: View, one: Alert) -> Confirm:
    async def do(reason: str, more: dict[str, Any]) -> None:
        await view.send(
            "POST",
            f"/v1/alerts/{part(one['name'])}/silence",
            {"for_s": float(more["for_s"]), "reason": reason},
        )
        view.say(f"{one['name']} is acknowledged.")

    how = {"label": "Tell nobody for", "kind": "choice", "options": SILENCES, "value": SILENCES[0][0]}
    text = f"Nobody is told of {one['name']} meanwhile. If it still fires at the end, they are told then."
    return Confirm(view, f"Acknowledge {one['name']}?", text, do, verb="Acknowledge", more=[("for_s", how)])


def _retry(view: View, one: Alert) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        found = await view.send("POST", f"/v1/alerts/{part(one['name'])}/retry", {"reason": reason})
        view.say(f"{whole(found['waiting'])} messages wait again.")

    text = f"{whole(one['messages']['dead'])} messages that were given up are sent again to {', '.join(one['to'])}."
    return Confirm(view, f"Send messages of {one['name']} again?", text, do, verb="Send again")


def _message(one: dict[str, Any]) -> dict[str, Any]:
    state = cell(one["state"], tone=_MESSAGES.get(one["state"], "plain"))
    return row(
        one["id"],
        [
            moment(one["created"]),
            one["alert"],
            one["to"],
            state,
            whole(one["attempts"]),
            cell(one["error"], tone="soft"),
        ],
    )
