"""What is defined: sources with their schema and freshness, features with their distributions, and how all hangs together."""

from __future__ import annotations

from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import (
    Column,
    blank,
    card,
    cell,
    chart,
    chip,
    el,
    facts,
    link,
    row,
    set_props,
    stack,
    table,
    tabs,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.kept import show_kept
from penstock.dashboard.pages.performance import chosen_endpoint, endpoint_tabs
from penstock.dashboard.texts import duration, figure, moment, percent, whole
from penstock.dashboard.view import View, part

Figures = dict[str, Any]
VIEWS = (("sources", "Sources"), ("distributions", "Distributions"), ("lineage", "Lineage"))
KINDS = ("source", "view", "service", "model", "endpoint", "alert")
STALE_S = 3600.0
_SHORT = 12


async def page(view: View) -> None:
    """Build the page."""
    chosen = view.query("show") or "sources"
    with headline("Features", "What arrives, what is made of it, and what it is used for."):
        tabs("Show", VIEWS, chosen, lambda one: f"/features?show={one}")
    if chosen == "lineage":
        await _lineage(view)
    elif chosen == "distributions":
        await _distributions(view)
    else:
        await _sources(view)


async def _sources(view: View) -> None:
    columns = (
        Column("Source"),
        Column("Kind"),
        Column("Newest event", "time"),
        Column("Came in", "chip"),
        Column("Rows in the log", "number"),
    )
    with stack():
        with card("Sources", classes="card flush"):
            shown = table("Sources", columns)
        schemas = stack("few")
        with card("Views and services", classes="card flush"):
            entries = [
                one
                for one in (await view.get("/v1/catalog?limit=1000"))["items"]
                if one["kind"] in {"view", "service"}
            ]
            head = (Column("Name"), Column("Kind"), Column("Made of"), Column("What it is"), Column("Owner"))
            rows = [
                row(
                    one["id"],
                    [
                        one["name"],
                        one["kind"],
                        cell(one["type"], tone="soft"),
                        one["description"] or "–",
                        one["owner"] or "–",
                    ],
                    href=f"/features/{part(one['id'])}",
                )
                for one in entries
            ]
            table(
                "Views and services", head, rows, empty="No view yet. Define one and apply it: penstock apply"
            )
    first = await view.get("/v1/sources")
    with schemas:
        for one in first["items"]:
            _schema(one)
    await view.watch(
        "/v1/sources", 2.0, lambda found: set_props(shown, rows=[_source(one) for one in found["items"]])
    )


def _source(one: Figures) -> Figures:
    kind = f"labels of {one['label_of']}" if one["label_of"] else "table" if one["is_batch"] else "stream"
    age = one["age_s"]
    fresh = (
        cell("nothing yet", tone="plain")
        if age is None
        else cell(f"{duration(age)} ago", tone="warn" if age > STALE_S else "good")
    )
    return row(
        one["name"],
        [one["name"], kind, moment(one["newest_event"]), fresh, whole(one["rows"])],
        href=f"/features/{part('source:' + one['name'])}",
    )


def _schema(one: Figures) -> None:
    with card(one["name"], "schema", "card flush"):
        rows = [
            row(
                field["name"],
                [
                    field["name"],
                    field["type"] + (", optional" if field["optional"] else ""),
                    _role(one, field["name"]),
                ],
            )
            for field in one["fields"]
        ]
        table(f"Schema of {one['name']}", (Column("Field", "code"), Column("Type"), Column("Role")), rows)


def _role(source: Figures, name: str) -> Any:
    role = "event id" if name == source["id_field"] else "event time" if name == source["time_field"] else ""
    return cell(role, tone="soft")


async def _distributions(view: View) -> None:
    endpoint = await chosen_endpoint(view)
    if endpoint is None:
        blank("No endpoint yet", "Distributions are of what an endpoint decided on.", "penstock apply")
        return
    with el("div", "", style="margin-bottom:12px"):
        await endpoint_tabs(view, endpoint["name"], "/features?show=distributions")
    path = f"/v1/endpoints/{part(endpoint['name'])}/distributions"
    await show_kept(view, path, _histograms, empty="No decision yet.", command="penstock run")


def _histograms(found: Figures) -> None:
    el(
        "p",
        "hatch",
        f"The newest {whole(found['rows'])} decisions, from {moment(found['first'])} to {moment(found['last'])}.",
    )
    with stack("few"):
        for one in found["features"]:
            with card(one["name"]):
                chart(f"Distribution of {one['name']}", _histogram(one), "chart low")
                half = one["quantiles"].get("0.5")
                beyond = one["below"] + one["above"]
                text = f"median {figure(half)}, mean {figure(one['mean'])}, {percent(one['missing'])} null"
                el("p", "hatch", text + (f", {whole(beyond)} beyond" if beyond else ""))


def _histogram(one: Figures) -> charts.Options:
    if one["edges"] is not None:
        return charts.histogram(one["edges"], {"decisions": one["counts"]})
    values = one["values"] or []
    if len(values) > _SHORT:
        return charts.bars([figure(value) for value in values], {"decisions": one["counts"]})
    return charts.bars([f"{value:g}" for value in values], {"decisions": one["counts"]})


async def _lineage(view: View) -> None:
    with stack():
        await _graph(view, "/v1/lineage", "From sources to decisions", "")


async def _graph(view: View, path: str, title: str, note: str) -> None:
    found = await view.get(path)
    nodes = [one for one in found["nodes"] if one["kind"] in KINDS]
    whole_of = {one["id"]: one["of"] or one["id"] for one in found["nodes"]}
    kept = {one["id"] for one in nodes}
    ends = {(_owner(edge["from"], whole_of), _owner(edge["to"], whole_of)) for edge in found["edges"]}
    edges = charts.direct(
        sorted((one, other) for one, other in ends if one != other and one in kept and other in kept)
    )
    ordered = sorted(nodes, key=lambda one: KINDS.index(one["kind"]))
    with card(title, note or "click for what it is"):
        made = chart(
            title,
            charts.network([(one["id"], one["kind"], one["name"]) for one in ordered], edges),
            "chart tall",
        )
        made.on_point_click(
            lambda event: (
                view.go(f"/features/{part(event.data['id'])}")
                if isinstance(event.data, dict) and "id" in event.data
                else None
            )
        )
    with card("The same as a list", classes="card flush"):
        rows = [
            row(
                one["id"],
                [
                    one["name"],
                    one["kind"],
                    cell(
                        ", ".join(other.partition(":")[2] for end, other in edges if end == one["id"]) or "–",
                        tone="soft",
                    ),
                ],
                href=f"/features/{part(one['id'])}",
            )
            for one in ordered
        ]
        table(title, (Column("Name"), Column("Kind"), Column("Goes into")), rows)


def _owner(node: str, whole_of: dict[str, str]) -> str:
    return whole_of.get(node, node)


async def entry(view: View) -> None:
    """One thing of the catalog."""
    name = view.path("name")
    found = await view.get(f"/v1/catalog/{part(name)}")
    with headline(found["name"], f"{found['kind']}, {found['type']}", back=("Features", "/features")):
        if found["kind"] == "model":
            link("Versions", f"/models/{part(found['name'])}", "act")
    with stack():
        with card("What it is"):
            el(
                "p",
                "",
                found["description"] or "No description; give it one in its definition.",
                style="margin-bottom:12px",
            )
            facts(
                [
                    ("Owner", found["owner"]),
                    ("Tags", ", ".join(f"{key} {value}" for key, value in found["tags"].items())),
                    ("Part of", found["of"]),
                ]
            )
        if found["parts"]:
            with card("Parts", classes="card flush"):
                rows = [
                    row(
                        one["id"],
                        [one["name"], cell(one["type"], tone="soft"), one["description"] or "–"],
                        href=f"/features/{part(one['id'])}",
                    )
                    for one in found["parts"]
                ]
                table("Parts", (Column("Name", "code"), Column("Type"), Column("What it is")), rows)
        with stack("two"):
            for title, ids in (("Made from", found["upstream"]), ("Goes into", found["downstream"])):
                with card(title), stack("row"):
                    for one in ids:
                        link(one.partition(":")[2], f"/features/{part(one)}").props["title"] = one.partition(
                            ":"
                        )[0]
                    if not ids:
                        chip("nothing")
        await _graph(view, query("/v1/lineage", of=found["id"]), f"Around {found['name']}", "")
