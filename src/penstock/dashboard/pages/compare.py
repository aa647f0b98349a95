"""Two or more versions side by side: on what they decided, on their test periods, and on the same past events."""

from __future__ import annotations

from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.elements import Column, blank, button, card, cell, chart, el, link, row, stack, table
from penstock.dashboard.frame import headline
from penstock.dashboard.kept import show_kept
from penstock.dashboard.pages.performance import EMPTY, chosen_endpoint, pr_curve, roc_curve
from penstock.dashboard.texts import day, figure, percent, whole
from penstock.dashboard.view import View, part, together

Figures = dict[str, Any]
MEASURES = (
    ("average_precision", "PR-AUC"),
    ("roc_auc", "ROC-AUC"),
    ("brier", "Brier"),
    ("log_loss", "Log loss"),
)
MOST = 6


async def page(view: View) -> None:
    """Build the page."""
    labels = list(dict.fromkeys(view.request.query_params.getlist("model")))[:MOST]
    versions = await _versions(view)
    with headline(
        "Compare versions", "The same figures, on one chart.", back=("Performance", "/performance")
    ):
        pass
    if not versions:
        blank("No version yet", "Train a model first.", "penstock train MODEL")
        return
    known = [label for label in labels if label in versions]
    if not known:
        known = [
            label for label, _ in sorted(versions.items(), key=lambda one: one[1]["created"], reverse=True)
        ][:2]
    _choice(list(versions), known)
    details = [versions[label] for label in known]
    with stack():
        _test_period(known, details)
        endpoint = await chosen_endpoint(view)
        if endpoint is not None:
            box = stack()
            with box:
                await show_kept(
                    view,
                    f"/v1/endpoints/{part(endpoint['name'])}/curves",
                    lambda found: _decided(found, known),
                    empty=EMPTY,
                )
            await _backtest(view, endpoint["name"], known)


async def _versions(view: View) -> dict[str, Figures]:
    """Every version of every model, by its label."""
    models = (await view.get("/v1/models"))["items"]
    found = await together(*(view.get(f"/v1/models/{part(one['name'])}/versions") for one in models))
    return {one["version"]: one for page in found if page is not None for one in page["items"]}


def _choice(labels: list[str], chosen: list[str]) -> None:
    with el("nav", "row", aria_label="Versions", style="margin-bottom:16px"):
        for label in labels:
            others = [one for one in chosen if one != label] if label in chosen else [*chosen, label]
            href = "/compare?" + "&".join(f"model={part(one)}" for one in others)
            made = link(label, href, "act small")
            if label in chosen:
                made.props["aria-current"] = "true"
                made.props["style"] = "border-color:var(--accent);color:var(--accent)"


def _test_period(labels: list[str], details: list[Figures]) -> None:
    with stack("two"):
        with card("Test period", "each on the period that it was tested on"):
            shown = MEASURES[:2]
            values = {
                label: [one["metrics"].get(key) for key, _ in shown]
                for label, one in zip(labels, details, strict=True)
            }
            chart("Quality in the test period", charts.bars([name for _, name in shown], values))
        _measures(labels, details)
    with card("Versions", classes="card flush"):
        columns = (
            Column("Version"),
            Column("Stage", "chip"),
            *(Column(name, "number") for _, name in MEASURES),
            Column("Trained", "time"),
        )
        rows = [
            row(
                label,
                [
                    label,
                    one["stage"],
                    *(figure(one["metrics"].get(key)) for key, _ in MEASURES),
                    day(one["created"]),
                ],
                href=f"/models/{part(one['model'])}?version={one['number']}",
            )
            for label, one in zip(labels, details, strict=True)
        ]
        table("Versions", columns, rows)


def _measures(labels: list[str], details: list[Figures]) -> None:
    with card("Errors in the test period", "less is better"):
        shown = MEASURES[2:]
        values = {
            label: [one["metrics"].get(key) for key, _ in shown]
            for label, one in zip(labels, details, strict=True)
        }
        chart("Errors in the test period", charts.bars([name for _, name in shown], values))


def _decided(found: list[Figures], labels: list[str]) -> None:
    own = {one["value"]: one for one in found if one["dimension"] == "version" and one["value"] in labels}
    lines = {
        label: own[label]["curves"] for label in labels if label in own and own[label]["curves"] is not None
    }
    missing = [label for label in labels if label not in lines]
    if lines:
        with stack("two"):
            with card("Precision and recall", "on what each decided"):
                chart("Precision-recall curves", pr_curve(lines))
            with card("ROC", "on what each decided"):
                chart("ROC curves", roc_curve(lines))
    if missing:
        el(
            "p",
            "hatch",
            f"No labelled decisions yet: {', '.join(missing)}. A backtest lets them decide on the same past events.",
        )


async def _backtest(view: View, endpoint: str, labels: list[str]) -> None:
    """The newest backtest of just these versions; a button that begins one."""
    done = await view.find("/v1/jobs?kind=backtest&state=succeeded&limit=50")
    wanted = {"endpoint": endpoint, "models": set(labels)}
    match = next(
        (
            one
            for one in (done or {"items": []})["items"]
            if {"endpoint": one["params"]["endpoint"], "models": set(one["params"]["models"])} == wanted
        ),
        None,
    )

    async def begin() -> None:
        begun = await view.send(
            "POST", "/v1/jobs", {"kind": "backtest", "params": {"endpoint": endpoint, "models": labels}}
        )
        view.go(f"/jobs/{part(begun['id'])}")

    with card("Backtest", "on the same logged events", "card flush") as box, box:
        if match is not None:
            _sides((await view.get(f"/v1/jobs/{part(match['id'])}"))["result"])
        with el("div", "row", style="padding:12px 18px 16px"):
            button("Let them decide again" if match is None else "Once more", begin, "small")
            if match is None:
                el("span", "hatch", "All events of the log, by a job of its own; nothing is changed.")


def _sides(result: Figures) -> None:
    columns = (
        Column("Decided by"),
        Column("Alerts", "number"),
        Column("A day", "number"),
        Column("Precision", "number"),
        Column("Recall", "number"),
        Column("PR-AUC", "score"),
        Column("Cost", "number"),
    )
    rows = [
        row(
            one["name"],
            [
                one["name"],
                whole(one["alerts"]),
                figure(one["alerts_per_day"]),
                percent(one["precision"]),
                percent(one["recall"]),
                cell(figure(one["average_precision"]), share=one["average_precision"], tone="accent"),
                figure(one["cost"]),
            ],
        )
        for one in result["sides"]
    ]
    table("Backtest", columns, rows)
