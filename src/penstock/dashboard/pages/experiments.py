"""Arms of endpoints side by side: who decides on which share, and which is better, with intervals that hold however often one looks."""

from __future__ import annotations

from typing import Any

from penstock.core.errors import InputError
from penstock.dashboard import charts
from penstock.dashboard.confirm import Confirm
from penstock.dashboard.elements import (
    Column,
    blank,
    button,
    card,
    cell,
    chart,
    chip,
    el,
    notice,
    row,
    stack,
    table,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.kept import show_kept
from penstock.dashboard.pages.performance import chosen_endpoint, endpoint_tabs, no_endpoint
from penstock.dashboard.texts import figure, moment, percent, whole
from penstock.dashboard.view import View, part

Figures = dict[str, Any]
NAMES = {
    "alert_rate": "Alert rate",
    "recall": "Recall",
    "precision": "Precision",
    "false_positive_rate": "False alarms",
    "positive_rate": "Share of positives",
}
_VERDICTS = {"better": "good", "worse": "bad", "undecided": "plain"}
_Z = 1.96


async def page(view: View) -> None:
    """Build the page."""
    endpoint = await chosen_endpoint(view)
    with headline("Experiments", "Every key has one arm; each figure is over keys, not events."):
        if endpoint is not None:
            await endpoint_tabs(view, endpoint["name"], "/experiments")
            if sum(not one["shadow"] for one in endpoint["arms"]) > 1:
                button("Set weights", lambda: _weights(view, endpoint).show(), "main")
    if endpoint is None:
        no_endpoint()
        return
    path = f"/v1/endpoints/{part(endpoint['name'])}"
    with stack():
        if endpoint["problem"]:
            notice("Does not serve what it should", endpoint["problem"], "bad")
        with card("Arms", classes="card flush"):
            _arms(endpoint)
        box = stack()
        with box:
            command = 'arms=[Arm("champion", weight=9), Arm("challenger", version="challenger")]'
            await show_kept(
                view,
                f"{path}/experiment",
                _results,
                empty="An experiment needs decisions of at least one arm.",
                command=command,
            )
        await _changes(view, path)


def _arms(endpoint: Figures) -> None:
    columns = (
        Column("Arm"),
        Column("Takes"),
        Column("Serves now", "chip"),
        Column("Share of keys", "score"),
        Column("Weight", "number"),
        Column("Thresholds"),
    )
    rows = [
        row(
            one["arm"],
            [
                one["arm"] + (" (looks on)" if one["shadow"] else ""),
                one["of"],
                cell(one["serving"] or "nothing", tone="good" if one["serving"] else "warn"),
                cell(percent(one["share"]), share=one["share"], tone="accent"),
                figure(one["weight"]),
                cell(
                    ", ".join(f"{name} {figure(value)}" for name, value in one["thresholds"].items()),
                    tone="soft",
                ),
            ],
        )
        for one in endpoint["arms"]
    ]
    table("Arms", columns, rows)


def _results(found: Figures) -> None:
    arms = found["arms"]
    if found["suspicious"]:
        notice(
            "Do not trust this",
            "the division of the keys does not fit the weights: something else divides them.",
            "bad",
        )
    el(
        "p",
        "hatch",
        f"Since position {whole(found['start'])}; {whole(found['moved'])} keys had several arms and {whole(found['unkeyed'])} events no key: left out.",
    )
    over = [f"{whole(one['over_budget'])} of {one['arm']}" for one in arms if one["over_budget"]]
    if over:
        el("p", "hatch", f"Over the day's budget, and counted as alerts all the same: {', '.join(over)}.")
    if not any(one["keys"] for one in arms):
        blank(
            "No key has had one arm only yet",
            "Figures begin with the next change of weights, or as new keys come.",
        )
        return
    with stack("two"):
        for name, title in NAMES.items():
            with card(title, "with 95 % intervals of each"):
                label = f"{title} of each arm with intervals"
                chart(
                    label,
                    charts.intervals(
                        [one["arm"] or "all" for one in arms],
                        [_interval(one["ratios"].get(name)) for one in arms],
                    ),
                    "chart low",
                )
                for one in arms[1:]:
                    _difference(one, name)
    with card("Keys", classes="card flush"):
        columns = (
            Column("Arm"),
            Column("Versions"),
            Column("Keys", "number"),
            Column("Decisions", "number"),
            Column("Labelled", "number"),
        )
        rows = [
            row(
                one["arm"],
                [
                    one["arm"] or "all",
                    ", ".join(one["versions"]),
                    whole(one["keys"]),
                    whole(one["decisions"]),
                    whole(one["labelled"]),
                ],
            )
            for one in arms
        ]
        table("Keys of each arm", columns, rows)


def _difference(arm: Figures, name: str) -> None:
    found = arm["differences"].get(name)
    if found is None or found["value"] is None:
        return
    with stack("row"):
        chip(found["verdict"], _VERDICTS[found["verdict"]])
        el(
            "span",
            "hatch",
            f"{arm['arm']} differs by {_points(found['value'])} ({_points(found['low'])} to {_points(found['high'])})",
        )


def _points(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:+.2f} points"


def _interval(ratio: Figures | None) -> tuple[float | None, float | None, float | None]:
    if ratio is None or ratio["value"] is None:
        return None, None, None
    if ratio["variance"] is None:
        return None, ratio["value"], None
    half = _Z * ratio["variance"] ** 0.5
    return max(ratio["value"] - half, 0.0), ratio["value"], min(ratio["value"] + half, 1.0)


async def _changes(view: View, path: str) -> None:
    found = await view.find(f"{path}/weights")
    with card("Changes of weights", classes="card flush"):
        rows = [
            row(
                one["sequence"],
                [
                    moment(one["time"]),
                    one["actor"],
                    ", ".join(f"{arm} {figure(weight)}" for arm, weight in (one["weights"] or {}).items())
                    or "as defined",
                    one["reason"],
                ],
            )
            for one in ([] if found is None else found["items"])
        ]
        columns = (Column("Time", "time"), Column("Who"), Column("Weights"), Column("Why"))
        table("Changes of weights", columns, rows, empty="The weights are those of the definition.")


def _weights(view: View, endpoint: Figures) -> Confirm:
    arms = [one for one in endpoint["arms"] if not one["shadow"]]

    async def do(reason: str, more: dict[str, Any]) -> None:
        try:
            weights = {name: float(value) for name, value in more.items()}
        except ValueError as error:
            raise InputError("weights: allowed are numbers from 0.") from error
        await view.send(
            "PUT", f"/v1/endpoints/{part(endpoint['name'])}/weights", {"weights": weights, "reason": reason}
        )
        view.go(f"/experiments?endpoint={part(endpoint['name'])}")

    fields = [
        (
            one["arm"],
            {
                "label": f"{one['arm']}: {one['serving'] or 'nothing'}",
                "kind": "number",
                "value": one["weight"],
            },
        )
        for one in arms
    ]
    text = f"Keys of {endpoint['name']} are shared by these weights, from the next event on. A key stays with its arm unless its arm's weight shrinks."
    return Confirm(view, f"Set weights of {endpoint['name']}?", text, do, verb="Set weights", more=fields)
