"""A plan as text that fits 80 columns: what `penstock explain` prints. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from penstock.plan.describe import Description, describe
from penstock.plan.nodes import Plan

WIDTH = 80


def explain(plan: Plan, name: str | None = None) -> list[str]:
    """The lines that explain `plan`, or what `name` needs of it; see `describe`."""
    return explain_description(describe(plan, name))


def explain_description(found: Description) -> list[str]:
    """The lines for a description."""
    lines = [f"plan {found['fingerprint']}"]
    for title, render in (
        ("sources", _source),
        ("views", _view),
        ("services", _service),
        ("endpoints", _endpoint),
    ):
        for i, node in enumerate(found[title]):
            lines += ["", *([title] if i == 0 else []), *render(node)]
    return lines


def _source(node: Description) -> list[str]:
    kind = f"labels of {node['label_of']}" if node["label_of"] else "events"
    kind = "batch rows" if "data_delay" in node else kind
    roles = {node["time_field"]: "event time", node["id_field"]: "event id", node["label_field"]: "label"}
    if node["label_of"]:
        roles[node["time_field"]] = "when the label became known"
    if "data_delay" in node:
        roles |= {node["time_field"]: "timestamp", node["id_field"]: "digest of the row"}
    fields = [
        (f["name"], f["type"], ", ".join(filter(None, (roles.get(f["name"]), "optional" * f["optional"]))))
        for f in node["fields"]
    ]
    clock = [("late", f"applied up to {node['allowed_lateness']} behind its key's newest event")]
    if "data_delay" in node:
        clock.append(("counts", f"{node['data_delay']} after its timestamp; until then it waits"))
    else:
        clock.append(("future", f"refused beyond {node['max_future_skew']} ahead of the clock"))
    if node["id_field"] is None:
        clock.append(("ids", "given by the log: duplicates cannot be detected"))
    return [f"  {node['name']} ({kind})", *_table(fields, indent=4), *_facts(clock)]


def _view(node: Description) -> list[str]:
    keys = ", ".join(f"{key['name']} {key['type']}" for key in node["keys"])
    function = "none: the columns as they are"
    if node["mode"] is not None:
        function = f"mode {node['mode']}, code {node['code']}"
    lanes = [lane["column"] + (f" where {lane['where']}" if lane["where"] else "") for lane in node["lanes"]]
    facts = [
        ("key", keys),
        ("function", function),
        ("reads", ", ".join(node["reads"])),
        ("pruned", ", ".join(node["pruned"])),
        ("lanes", ", ".join(lanes)),
        ("windows", ", ".join(node["windows"])),
        ("since", f"rows from {start} on" if (start := node.get("feature_start_time")) else ""),
    ]
    aggregates = [(a["name"], a["function"], a["window"], a["type"]) for a in node["aggregates"]]
    return [f"  {node['name']} over {node['source']}", *_facts(facts), *_table(aggregates, indent=4)]


def _service(node: Description) -> list[str]:
    lines = [f"  {node['name']} for the events of {node['source']}, fingerprint {node['fingerprint']}"]
    lookups = [
        (
            f"look-up {lookup['view']}",
            f"by {', '.join(lookup['key_columns'])}: "
            + ("the event's own row" if lookup["own"] else "as it stands at the event's time"),
        )
        for lookup in node["lookups"]
    ]
    lines += _facts(lookups)
    for view in node["realtime"]:
        arguments = "; ".join(", ".join(argument) for argument in view["arguments"])
        made = ", ".join(attribute["name"] for attribute in view["attributes"])
        text = f"mode {view['mode']}, code {view['code']}: ({arguments}) → {made}"
        lines += _facts([(f"realtime {view['name']}", text)])
    outputs = [(f"{i:3d}", output["name"], output["type"]) for i, output in enumerate(node["outputs"], 1)]
    return [*lines, *_table(outputs, indent=4)]


def _endpoint(node: Description) -> list[str]:
    lines = [
        f"  {node['name']} decides on {node['source']}",
        *_facts([("model", node["model"]), ("features", node["service"]), ("policy", node["policy"])]),
    ]
    steps = [(a["action"], f"score ≥ {a['threshold']:g}") for a in reversed(node["actions"])]
    lines += _table([*steps, (node["default"], "below")], indent=4)
    return [*lines, *_arms(node)]


def _arms(node: Description) -> list[str]:
    """What decides, where that is not simply the champion."""
    arms = node["arms"]
    if [(arm["model"], arm["version"]) for arm in arms] == [(node["model"], "champion")]:
        return []
    shared = f", shared by {', '.join(node['sticky'])}" if node["sticky"] else ""
    rows = [
        (arm["name"], f"{arm['model']} {arm['version']}", "shadow" if arm["shadow"] else f"{arm['weight']:g}")
        for arm in arms
    ]
    return [f"    arms{shared}", *_table(rows, indent=6)]


def _facts(facts: Iterable[tuple[str, str]]) -> list[str]:
    """``name  text`` with the text wrapped under itself; facts without text are left out."""
    lines = []
    for name, text in facts:
        if text:
            head = f"    {name:<9} "
            lines += textwrap.wrap(
                text,
                WIDTH,
                initial_indent=head,
                subsequent_indent=" " * 14,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return lines


def _table(rows: Sequence[tuple[str, ...]], *, indent: int) -> list[str]:
    """Rows in aligned columns."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            " " * indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
