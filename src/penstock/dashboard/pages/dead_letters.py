"""Dead letters: what was refused and why; send it again as it is or corrected, or drop it."""

from __future__ import annotations

from typing import Any

from penstock.dashboard.client import query
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
    field,
    link,
    notice,
    row,
    set_props,
    stack,
    table,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.texts import moment, size, whole
from penstock.dashboard.view import View, part

Letter = dict[str, Any]
SHOWN = 100
BEGINNING = 30
"""Letters of an input that a list shows: one line."""


async def page(view: View) -> None:
    """All of them, by source and reason."""
    source, reason = view.query("source"), view.query("reason")
    path = query("/v1/dead-letters", source=source, reason=reason, limit=SHOWN)
    first = await view.get(path)
    with headline(
        "Dead letters",
        "What was refused, with its bytes and the reason. Nothing is lost: correct it and send it again.",
    ):
        if first["items"] and reason:
            button("Send these again", lambda: _replay_all(view, first["items"]).show())
    if not first["counts"]:
        blank("No dead letters", "Every event that came in was understood and accepted.")
        return
    with stack("row"):
        link(f"All {whole(sum(one['count'] for one in first['counts']))}", "/dead-letters", "act small")
        for one in first["counts"]:
            href = query("/dead-letters", source=one["source"], reason=one["reason"])
            link(
                f"{one['source']}: {one['reason'].replace('_', ' ')} ({whole(one['count'])})",
                href,
                "act small",
            )
    columns = (
        Column("Letter"),
        Column("Received", "time"),
        Column("Source"),
        Column("Reason", "chip"),
        Column("What was found"),
        Column("Bytes", "number"),
        Column("Beginning", "code"),
    )
    with card(classes="card flush") as box:
        box.props["style"] = "margin-top:16px"
        letters = table("Dead letters", columns, empty="None of this kind.")
    await view.watch(path, 2.0, lambda found: set_props(letters, rows=[_row(one) for one in found["items"]]))


async def letter(view: View) -> None:
    """One of them."""
    number = view.path("letter")
    found = await view.get(f"/v1/dead-letters/{part(number)}")
    with headline(
        f"Letter {number}",
        f"{found['source']}, received {moment(found['received_at'])} UTC",
        back=("Dead letters", "/dead-letters"),
    ):
        button("Drop", lambda: _drop(view, found).show(), "danger")
    with stack("wide"):
        with card("What came in"):
            held = field(
                "Event",
                kind="long",
                value=found["text"],
                hint="Change what is wrong; the letter itself stays as it came until the event is accepted.",
            )
            result = stack("")
            with stack("row"):
                button(
                    "Send again",
                    lambda: _replay(view, found, held, result).show(),
                    "main",
                    style="margin-top:12px",
                )
        with card("Why it was refused"):
            chip(found["reason"].replace("_", " "), "bad")
            el("p", "", found["detail"], style="margin:12px 0")
            facts([("Source", found["source"]), ("Size", size(found["size"]))])
            if found["base64"]:
                el("p", "hatch", "Its bytes are no UTF-8; those that are none are escaped here.")


def _row(one: Letter) -> dict[str, Any]:
    cells = [
        f"{one['id']}",
        moment(one["received_at"]),
        one["source"],
        cell(one["reason"].replace("_", " "), tone="bad"),
        one["detail"],
        whole(one["size"]),
        cell(_beginning(one["excerpt"]), title=one["excerpt"]),
    ]
    return row(one["id"], cells, href=f"/dead-letters/{one['id']}")


def _beginning(text: str) -> str:
    return text if len(text) <= BEGINNING else f"{text[:BEGINNING]}…"


def _replay(view: View, found: Letter, held: Any, result: Any) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        changed = str(held.value) != found["text"]
        body = {"reason": reason, **({"corrected": str(held.value)} if changed else {})}
        answer = await view.send("POST", f"/v1/dead-letters/{found['id']}/replay", body)
        result.clear()
        with result:
            if answer["removed"]:
                event = answer["answer"].get("event_id") or ""
                notice("Accepted", f"as {event}: {answer['answer']['status']}. The letter is gone.", "good")
            else:
                notice(
                    "Refused again",
                    f"{answer['answer'].get('reason')}: {answer['answer'].get('detail')}",
                    "bad",
                )

    text = "The event goes through the engine as shown. If it is accepted the letter is removed."
    return Confirm(view, f"Send letter {found['id']} again?", text, do, verb="Send again")


def _replay_all(view: View, letters: list[Letter]) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        found = await view.send(
            "POST", "/v1/dead-letters/replay", {"ids": [one["id"] for one in letters], "reason": reason}
        )
        accepted = sum(one["removed"] for one in found["results"])
        view.say(f"{whole(accepted)} of {whole(len(letters))} were accepted.", "good" if accepted else "warn")

    text = f"{whole(len(letters))} letters go through the engine as they are; those that are accepted are removed."
    return Confirm(view, "Send these letters again?", text, do, verb="Send again")


def _drop(view: View, found: Letter) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        await view.send("DELETE", query(f"/v1/dead-letters/{found['id']}", reason=reason))
        view.go("/dead-letters")

    text = "Its bytes are removed for good. The audit log keeps its number."
    return Confirm(view, f"Drop letter {found['id']}?", text, do, verb="Drop", danger=True)
