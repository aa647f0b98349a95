"""Drift: what is asked lately against what the version in force was trained on, by feature and day."""

from __future__ import annotations

from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import Column, card, cell, chart, el, notice, row, stack, table
from penstock.dashboard.frame import headline
from penstock.dashboard.kept import show_kept
from penstock.dashboard.pages.performance import chosen_endpoint, endpoint_tabs, no_endpoint
from penstock.dashboard.texts import day, figure, moment, percent, whole
from penstock.dashboard.view import View, part

Figures = dict[str, Any]
ROW_PIXELS = 26
CHANGES = 12
LIVE_EVERY_S = 5.0


async def page(view: View) -> None:
    """Build the page."""
    endpoint = await chosen_endpoint(view)
    with headline(
        "Drift", "Features, scores and labels of late, against the training data of the version in force."
    ):
        if endpoint is not None:
            await endpoint_tabs(view, endpoint["name"], "/drift")
    if endpoint is None:
        no_endpoint()
        return
    column = view.query("column")
    with stack():
        await _live(view, endpoint["name"])
        await show_kept(
            view,
            f"/v1/endpoints/{part(endpoint['name'])}/drift",
            lambda found: _report(found, endpoint["name"], column),
            empty="A report needs a version in Production with a profile of its training data, and decisions.",
            command="penstock registry promote MODEL 1",
        )


async def _live(view: View, endpoint: str) -> None:
    """What the watch beside the run has found, renewed while the page is open; nothing where nothing is watched."""
    box = stack()

    def show(found: Figures) -> None:
        box.clear()
        if found["watched"]:
            with box:
                _watched(found)

    await view.watch(f"/v1/endpoints/{part(endpoint)}/drift/live", LIVE_EVERY_S, show)


def _watched(found: Figures) -> None:
    with card("As it happens", _look_text(found), "card flush"):
        columns = (
            Column("Stream", "code"),
            Column("Detectors", "chip"),
            Column("Newest mean", "number"),
            Column("Last change", "time"),
            Column("Before", "number"),
            Column("After", "number"),
        )
        newest = {one["stream"]: one for one in found["change_points"]}
        rows = [_stream_row(one, newest.get(one["name"])) for one in found["streams"]]
        table(
            "Streams that are listened to", columns, rows, empty=found["note"] or "No stream is listened to."
        )


def _look_text(found: Figures) -> str:
    if found["rows"] is None:
        return "no look yet"
    names = ", ".join(found["drifted"]) or "all as trained"
    return f"newest look, {whole(found['rows'])} rows against {found['version']}: {names}"


def _stream_row(one: Figures, changed: Figures | None) -> Any:
    state = "listening" if one["listening"] else f"learning {one['steps']}/{one['wanted']}"
    return row(
        one["name"],
        [
            one["name"],
            cell(
                "changed" if changed else state,
                tone="bad" if changed else "good" if one["listening"] else "plain",
            ),
            figure(one["value"]),
            cell(day(changed["time"]), title=changed["method"]) if changed else "",
            figure(changed["before"]) if changed else "",
            figure(changed["after"]) if changed else "",
        ],
    )


def _report(found: Figures, endpoint: str, chosen: str) -> None:
    drift = found["drift"]
    names = drift["drifted"]
    if names:
        notice(
            "Drifted",
            f"{', '.join(names)}: {len(names)} of {len(drift['columns'])} columns, against {found['version']}.",
        )
    else:
        notice(
            "No drift",
            f"all {len(drift['columns'])} columns are as in the training data of {found['version']}.",
            "good",
        )
    el(
        "p",
        "hatch",
        f"{whole(found['rows'])} decisions from {moment(found['start'])} to {moment(found['end'])}; at most {percent(drift['false_alarms'], 0)} of quiet reports alarm.",
    )
    if found.get("warning"):
        notice("Not whole days", found["warning"], "warn")
    if found["days"]:
        _heat(found["days"])
    with card("Columns", classes="card flush"):
        _columns(drift["columns"], endpoint, chosen)
    if drift["columns"]:
        worst = next((one for one in drift["columns"] if one["name"] == chosen), None) or max(
            drift["columns"], key=lambda one: one["effect"] or 0
        )
        _bins(worst)
    _change_points(found)


def _heat(days: list[Figures]) -> None:
    names = [one["name"] for one in days[-1]["columns"]]
    of = [{one["name"]: one for one in found["columns"]} for found in days]
    values: list[list[float | None]] = [[_strength(found.get(name)) for found in of] for name in names]
    flagged = [[bool(found.get(name, {}).get("drifted")) for found in of] for name in names]
    with card("Feature by day", "PSI against what a quiet day does not exceed; red: drifted"):
        made = chart(
            "Drift of each feature on each day",
            charts.heat(names, [found["day"][5:] for found in days], values, flagged),
        )
        made.style(f"height:{len(names) * ROW_PIXELS + 40}px")


def _strength(column: Figures | None) -> float | None:
    """How far a distance is, 1 being three times what a day without drift does not exceed."""
    if column is None or not column["rows"] or column["psi"] is None:
        return None
    return float(min(column["psi"] / max(3 * (column["threshold"] or 0), 1e-9), 1.0))


def _columns(columns: list[Figures], endpoint: str, chosen: str) -> None:
    head = (
        Column("Column", "code"),
        Column("Verdict", "chip"),
        Column("PSI", "number"),
        Column("Allowed", "number"),
        Column("Mean now", "number"),
        Column("Trained on", "number"),
        Column("Nulls", "number"),
    )
    rows = [
        row(
            one["name"],
            [
                one["name"],
                cell(
                    "drifted" if one["drifted"] else "as trained" if one["rows"] else "no data",
                    tone="bad" if one["drifted"] else "good" if one["rows"] else "plain",
                ),
                figure(one["psi"]["value"]),
                cell(figure(one["psi"]["threshold"]), tone="soft"),
                figure(one["mean"]),
                cell(figure(one["reference_mean"]), tone="soft"),
                percent(one["missing"]),
            ],
            href=query("/drift", endpoint=endpoint, column=one["name"]),
            on=one["name"] == chosen,
        )
        for one in sorted(columns, key=lambda one: (not one["drifted"], -(one["effect"] or 0)))
    ]
    table("Columns", head, rows)


def _bins(column: Figures) -> None:
    with card(column["name"], "share of rows by value, now and when trained"):
        bins = column["bins"]
        values = {"trained on": [one["reference"] for one in bins], "now": [one["now"] for one in bins]}
        chart(
            f"Distribution of {column['name']}",
            charts.bars([one["label"] for one in bins], values, unit="share"),
        )


def _change_points(found: Figures) -> None:
    with card("Change points", "where a detector noticed a change", "card flush"):
        columns = (
            Column("Column", "code"),
            Column("Day", "time"),
            Column("Before", "number"),
            Column("After", "number"),
        )
        rows = [
            row(
                f"{one['stream']}{one['time']}{one['method']}",
                [
                    cell(one["stream"], title=one["method"]),
                    day(one["time"]),
                    figure(one["before"]),
                    figure(one["after"]),
                ],
            )
            for one in reversed(found["change_points"][-CHANGES:])
        ]
        table("Change points", columns, rows, empty=found["note"] or "None: nothing changed for good.")
