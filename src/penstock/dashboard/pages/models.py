"""Models and their versions: what is live, how good each was, what happened to it; promote and roll back."""

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
    link,
    notice,
    row,
    stack,
    table,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.texts import figure, moment, whole
from penstock.dashboard.view import View, part, together

Version = dict[str, Any]
STAGES = {"Production": "good", "Staging": "accent", "Archived": "plain", "None": "plain"}
FIGURES = (
    ("average_precision", "PR-AUC"),
    ("roc_auc", "ROC-AUC"),
    ("brier", "Brier"),
    ("log_loss", "Log loss"),
)
_VERDICTS = {"pass": "good", "fail": "bad", "inconclusive": "warn"}


async def page(view: View) -> None:
    """All models."""
    models = (await view.get("/v1/models"))["items"]
    with headline("Models", "Every model with the version that decides now."):
        pass
    if not models:
        blank(
            "No model yet",
            "Define one with its features, label and estimator, then train it on what the log holds.",
            "penstock train MODEL",
        )
        return
    columns = (
        Column("Model"),
        Column("Live", "chip"),
        Column("Candidate"),
        Column("Before"),
        Column("Versions", "number"),
        Column("Endpoints"),
        Column("Features"),
    )
    rows = [
        row(
            one["name"],
            [
                one["name"],
                cell(one["champion"] or "none live", tone="good" if one["champion"] else "warn"),
                one["challenger"] or "–",
                one["previous"] or "–",
                whole(one["versions"]),
                ", ".join(one["endpoints"]) or "–",
                cell(one["service"] or "–", tone="soft"),
            ],
            href=f"/models/{part(one['name'])}",
        )
        for one in models
    ]
    with card(classes="card flush"):
        table("Models", columns, rows)


async def model(view: View) -> None:
    """One model."""
    name = view.path("model")
    path = f"/v1/models/{part(name)}"
    found, versions, history = await together(
        view.get(path), view.get(f"{path}/versions"), view.get(f"{path}/history")
    )
    if found is None:
        found = await view.get(path)
    items = [] if versions is None else versions["items"]
    with headline(
        name,
        f"reads {found['service'] or 'nothing defined'}, learns from {found['label'] or '–'}",
        back=("Models", "/models"),
    ):
        if len(items) > 1:
            chosen = [("model", f"{name}:{one['number']}") for one in items[:2]]
            link("Compare", "/compare?" + "&".join(f"{key}={part(value)}" for key, value in chosen), "act")
        if found["previous"] and found["champion"]:
            button("Roll back", _rollback(view, found).show, "danger")
    if not items:
        blank("No version yet", "Train the model on what the log holds.", f"penstock train {name}")
        return
    number = view.query("version") or str(
        next((v["number"] for v in items if "champion" in v["aliases"]), items[0]["number"])
    )
    with stack():
        with card("Versions", classes="card flush"):
            table("Versions", _columns(), [_row(name, one, chosen=number) for one in items])
        with stack("wide"):
            with stack():
                await _version(view, found, number)
            with card("History", "append-only, hash-chained"), stack("steps"):
                for at, move in enumerate((history or {"items": []})["items"]):
                    _move(move, newest=at == 0)


def _columns() -> tuple[Column, ...]:
    return (
        Column("Version"),
        Column("Stage", "chip"),
        *(Column(text, "number") for _, text in FIGURES),
        Column("Trained", "time"),
        Column("Parent"),
    )


def _row(name: str, one: Version, *, chosen: str) -> dict[str, Any]:
    cells = [
        one["version"] + (f" ({', '.join(one['aliases'])})" if one["aliases"] else ""),
        cell(
            "damaged" if one["problem"] else one["stage"],
            tone="bad" if one["problem"] else STAGES[one["stage"]],
            title=one["problem"] or "",
        ),
        *(figure(one["metrics"].get(key)) for key, _ in FIGURES),
        moment(one["created"]),
        cell(one["parent"] or "–", tone="soft"),
    ]
    return row(
        one["version"],
        cells,
        href=f"/models/{part(name)}?version={one['number']}",
        on=str(one["number"]) == chosen,
    )


async def _version(view: View, found: dict[str, Any], number: str) -> None:
    path = f"/v1/models/{part(found['name'])}/versions/{part(number)}"
    detail, gates = await together(view.get(path), view.get(f"{path}/gates"))
    if detail is None:
        detail = await view.get(path)
    with card(detail["version"]) as box, box:
        with stack("row"):
            chip(detail["stage"], STAGES[detail["stage"]])
            if detail["stage"] != "Production":
                button("Promote", _promote(view, found, detail).show, "main small")
            if detail["stage"] in {"None", "Staging"}:
                button("Archive", _archive(view, found, detail).show, "small")
        if detail["problem"]:
            notice("Damaged", detail["problem"], "bad")
        manifest = detail["manifest"]
        with el("div", "", style="margin-top:14px"):
            facts(
                [
                    ("Digest", detail["digest"][:24]),
                    ("Data set", detail["dataset"]),
                    ("Parent", detail["parent"]),
                    (
                        "Thresholds",
                        ", ".join(f"{a} {figure(v)}" for a, v in (manifest.get("thresholds") or {}).items()),
                    ),
                    *((text, figure(detail["metrics"].get(key))) for key, text in FIGURES),
                ]
            )
    if detail["plots"]:
        with card("Test period"), stack("three"):
            for plot in detail["plots"]:
                el(
                    "img",
                    "",
                    src=f"{path}/plots/{part(plot)}",
                    alt=plot.removesuffix(".png").replace("_", " "),
                    style="width:100%;border-radius:6px;background:#fff",
                    loading="lazy",
                )
    with card("Gate reports", classes="card"):
        if not gates:
            el(
                "p",
                "hatch",
                "No report yet: promoting judges the version, or: penstock gate " + detail["version"],
            )
        for gate in gates or []:
            _gate(gate)


def _gate(gate: dict[str, Any]) -> None:
    with el("details", "", style="margin-bottom:8px", open="" if gate["verdict"] != "pass" else None):
        with el("summary", ""):
            chip(gate["verdict"], _VERDICTS[gate["verdict"]])
            el(
                "span",
                "hatch",
                f"  against {gate['champion'] or 'no champion'}, {moment(gate['created'])}, {gate['digest'][:16]}",
            )
        rows = [
            row(
                rule["name"],
                [rule["name"], cell(rule["verdict"], tone=_VERDICTS[rule["verdict"]]), rule["text"]],
            )
            for rule in gate["rules"]
        ]
        table("Rules", (Column("Rule"), Column("Verdict", "chip"), Column("What was found")), rows)


def _move(move: dict[str, Any], *, newest: bool) -> None:
    with el("div", "step on" if newest else "step"), el("div"):
        el("div", "", f"{move['version']} {move['action']}: {move['stage']}")
        if move["reason"]:
            el("div", "", move["reason"], style="color:var(--soft)")
        el("div", "when", f"{moment(move['time'])}, {move['actor']}")


def _promote(view: View, found: dict[str, Any], version: Version) -> Confirm:
    live = found["champion"]
    serves = ", ".join(found["endpoints"]) or "no endpoint yet"
    text = f"{version['version']} becomes the version that decides at {serves}"
    text += f", in place of {live}, from the next event on." if live else ", from the next event on."

    async def do(reason: str, more: dict[str, Any]) -> None:
        path = f"/v1/models/{part(found['name'])}/versions/{version['number']}/promote"
        done = await view.send("POST", path, {"reason": reason, "force": bool(more["force"])})
        if "state" in done:
            view.go(f"/jobs/{part(done['id'])}")
        else:
            view.go(f"/models/{part(found['name'])}?version={version['number']}")

    force = ("force", {"label": "Without the gate's verdict", "kind": "switch", "value": False, "hint": ""})
    return Confirm(
        view,
        f"Promote {version['version']}?",
        text + " The gate judges it first.",
        do,
        verb="Promote",
        more=[force],
    )


def _rollback(view: View, found: dict[str, Any]) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        await view.send("POST", f"/v1/models/{part(found['name'])}/rollback", {"reason": reason})
        view.go(f"/models/{part(found['name'])}")

    text = f"{found['previous']} decides again in place of {found['champion']}, from the next event on."
    return Confirm(view, f"Roll back {found['name']}?", text, do, verb="Roll back", danger=True)


def _archive(view: View, found: dict[str, Any], version: Version) -> Confirm:
    async def do(reason: str, _: dict[str, Any]) -> None:
        await view.send(
            "POST",
            f"/v1/models/{part(found['name'])}/versions/{version['number']}/archive",
            {"reason": reason},
        )
        view.go(f"/models/{part(found['name'])}")

    text = f"{version['version']} can no more be promoted by its alias. Its files and history stay."
    return Confirm(view, f"Archive {version['version']}?", text, do, verb="Archive", danger=True)
