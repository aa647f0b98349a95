"""How good decisions were, as far as labels tell: curves, calibration, over time, by version, arm or segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import Column, blank, card, chart, el, link, row, stack, table, tabs
from penstock.dashboard.frame import headline
from penstock.dashboard.kept import show_kept
from penstock.dashboard.pages.performance_parts import Chosen, show_alarms, show_parts
from penstock.dashboard.texts import figure, percent, when, whole
from penstock.dashboard.view import View, part

Figures = dict[str, Any]
EMPTY = "Figures need decisions with a score, and labels of them."
COMMAND = "penstock train MODEL, then penstock registry promote MODEL 1"


async def page(view: View) -> None:
    """Build the page."""
    endpoint = await chosen_endpoint(view)
    with headline(
        "Performance",
        "Quality of the stored decisions. A decision without a label is pending, never negative.",
    ):
        if endpoint is not None:
            await endpoint_tabs(view, endpoint["name"], "/performance")
            link("Compare versions", "/compare", "act")
    if endpoint is None:
        no_endpoint()
        return
    path = f"/v1/endpoints/{part(endpoint['name'])}"
    with stack():
        total, curves, by = stack(), stack(), stack()
    with total:
        await show_kept(view, f"{path}/metrics?by=day", _total, empty=EMPTY, command=COMMAND)
    with curves:
        await show_kept(
            view, f"{path}/curves", lambda found: _curves(found, endpoint["thresholds"]), empty=EMPTY
        )
    with by:
        chosen = Chosen(
            endpoint["name"],
            view.query("by") or "version",
            **{name: view.query(name) for name in ("window", "measure", "action", "group")},
        )
        await show_kept(
            view,
            query(f"{path}/metrics", by=chosen.by),
            lambda found: show_parts(found, chosen),
            empty=EMPTY,
        )


async def chosen_endpoint(view: View) -> Figures | None:
    """The endpoint that the page's query names, or the first; None where there is none."""
    found: list[Figures] = (await view.get("/v1/endpoints"))["items"]
    wanted = view.query("endpoint")
    return next((one for one in found if one["name"] == wanted), found[0] if found else None)


async def endpoint_tabs(view: View, chosen: str, path: str) -> None:
    """Links to the same page of other endpoints, where there are any."""
    names = [one["name"] for one in (await view.get("/v1/endpoints"))["items"]]
    if len(names) > 1:
        tabs("Endpoint", [(name, name) for name in names], chosen, lambda name: query(path, endpoint=name))


def no_endpoint() -> None:
    """What to say where no endpoint is defined."""
    blank(
        "No endpoint yet",
        "Define Endpoint(name, source=..., model=..., policy=...) and apply it.",
        "penstock apply",
    )


def _total(found: Figures) -> None:
    with el("section", "tiles", aria_label="Quality"):
        for name, value, note in _TILES[found["task"]](found["total"]):
            with el("div", "tile still"):
                el("span", "name", name)
                el("span", "figure", value)
                el("span", "note", note)
    points, anomalies = found["total"]["points"], found["anomalies"]
    with stack("two" if points or anomalies else "stack"):
        with card("Over time", "by day of the event; days whose labels are still to come are left open"):
            chart("Quality by day", _by_day(found["days"], found["task"]))
        if anomalies:
            with card("Alarms", "each decision as it was decided", classes="card flush"):
                show_alarms([("all", one) for one in anomalies["alarms"]])
        elif points:
            with card("At the thresholds", classes="card flush"):
                _points(points)


def _binary_tiles(quality: Figures) -> list[tuple[str, str, str]]:
    return [
        ("Labelled", whole(quality["labelled"]), f"{whole(quality['pending'])} pending"),
        ("Positives", whole(quality["positives"]), percent(quality["positive_rate"], 2)),
        ("PR-AUC", figure(quality["average_precision"]), "average precision"),
        ("ROC-AUC", figure(quality["roc_auc"]), "1 is perfect, 0.5 is chance"),
    ]


def _anomaly_tiles(quality: Figures) -> list[tuple[str, str, str]]:
    uneven = ("Unevenness", figure(quality["unevenness"]), "0: scores are spread evenly")
    return [*_binary_tiles(quality)[:3], uneven]


def _regression_tiles(quality: Figures) -> list[tuple[str, str, str]]:
    return [
        ("Labelled", whole(quality["labelled"]), f"{whole(quality['pending'])} pending"),
        ("MAE", figure(quality["mae"]), "mean absolute error"),
        ("RMSE", figure(quality["rmse"]), f"bias {figure(quality['bias'])}"),
        ("Pinball", figure(quality["pinball"]), f"at quantile {figure(quality['quantile'])}"),
    ]


_TILES = {"binary": _binary_tiles, "anomaly": _anomaly_tiles, "regression": _regression_tiles}


def _by_day(days: Sequence[Figures], task: str) -> charts.Options:
    if task == "regression":
        days = [one for one in days if one["quality"]["mae"] is not None]
        errors = {
            name: [one["quality"][key] for one in days] for key, name in (("mae", "MAE"), ("rmse", "RMSE"))
        }
        return charts.over_time([_us(one["start"]) for one in days], errors)
    days = [
        one for one in days if one["estimate"] is not None or one["quality"]["average_precision"] is not None
    ]
    times = [_us(one["start"]) for one in days]
    lines: dict[str, list[float | None]] = {"PR-AUC": [one["quality"]["average_precision"] for one in days]}
    if task == "binary":
        lines["PR-AUC expected from scores"] = [
            (one["estimate"] or {}).get("average_precision") for one in days
        ]
    return charts.over_time(times, lines, top=1.0)


def _us(text: str) -> int:
    found = when(text)
    return 0 if found is None else round(found.timestamp() * 1_000_000)


def _points(points: Sequence[Figures]) -> None:
    columns = (
        Column("Action"),
        Column("From", "number"),
        Column("Precision", "number"),
        Column("Recall", "number"),
        Column("False alarms", "number"),
        Column("F1", "number"),
        Column("Cost", "number"),
    )
    rows = [
        row(
            one["action"],
            [
                one["action"],
                figure(one["threshold"]),
                percent(one["precision"]),
                percent(one["recall"]),
                percent(one["false_positive_rate"], 2),
                figure(one["f1"]),
                figure(one["cost"]),
            ],
        )
        for one in points
    ]
    table("Quality at the thresholds", columns, rows, empty="The policy has no thresholds.")


def _curves(found: list[Figures], thresholds: dict[str, float]) -> None:
    total = found[0]
    scores, lines = total["scores"], total["curves"]
    with stack("two"):
        if scores is not None:
            with card("Scores", "all decisions, and those that turned out positive"):
                counts = {"decided": scores["decided"], "positive": scores["positives"]}
                chart(
                    "Distribution of scores",
                    charts.histogram(scores["edges"], counts, marks=thresholds, log=True),
                )
        steps = [(one["mean_score"], one["positive_rate"]) for one in total["quality"]["calibration"]]
        if steps:
            with card("Calibration", "what was predicted, and what happened"):
                chart(
                    "Calibration",
                    charts.curves({"observed": steps}, x="predicted", y="observed", diagonal=True),
                )
        if lines is not None:
            with card("Precision and recall"):
                chart(
                    "Precision-recall curve", pr_curve({"all decisions": lines}, total["quality"]["points"])
                )
            with card("ROC"):
                chart("ROC curve", roc_curve({"all decisions": lines}, total["quality"]["points"]))


def pr_curve(lines: dict[str, Figures], points: Sequence[Figures] = ()) -> charts.Options:
    """Precision by recall, a line each; thresholds as points."""
    made = {name: list(zip(one["recall"], one["precision"], strict=True)) for name, one in lines.items()}
    marks = {
        one["action"]: [(one["recall"], one["precision"])]
        for one in points
        if one["recall"] is not None and one["precision"] is not None
    }
    return charts.curves(made, x="recall", y="precision", points=marks)


def roc_curve(lines: dict[str, Figures], points: Sequence[Figures] = ()) -> charts.Options:
    """Recall by share of false alarms, a line each; thresholds as points."""
    made = {
        name: list(zip(one["false_positive_rate"], one["recall"], strict=True)) for name, one in lines.items()
    }
    marks = {
        one["action"]: [(one["false_positive_rate"], one["recall"])]
        for one in points
        if one["recall"] is not None and one["false_positive_rate"] is not None
    }
    return charts.curves(made, x="false alarms", y="recall", diagonal=True, points=marks)
