"""One event: the decision on it against its thresholds, why, and what came in and became known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from penstock.dashboard.client import query
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
from penstock.dashboard.pages.decision_rows import event_href
from penstock.dashboard.texts import figure, moment, score, value_of, whole
from penstock.dashboard.theme import tone_of
from penstock.dashboard.view import View, part

Event = dict[str, Any]
_WINDOW_ROWS = 50


async def page(view: View) -> None:
    """Build the page."""
    source, event_id = view.path("source"), view.path("event_id")
    path = f"/v1/sources/{part(source)}/events/{part(event_id)}"
    event = await view.get(query(path, features="true", reasons="true"))
    with headline(
        event_id,
        f"{source}, position {whole(event['position'])} of the log",
        back=("Decisions", "/decisions"),
    ):
        pass
    with stack():
        if event["decision"] is None:
            blank(
                "No decision was made on this event", "It is history, or no endpoint decides on its source."
            )
        else:
            _decision(event["decision"], event["labels"])
        with stack("wide"):
            with stack():
                _reasons(event)
                await _behind(view, path)
            with stack():
                _event(event)
                _labels(event["labels"])
                if event["decision"] is not None:
                    _versions(event["decision"])


def _decision(decision: dict[str, Any], labels: Sequence[dict[str, Any]]) -> None:
    actions = [decision["default"], *(decision["thresholds"] or {})]
    tone = tone_of(decision["action"], actions)
    with card("Decision"), stack("row"):
        el("span", "big", score(decision["score"]))
        chip(decision["action"], tone)
        for flag in decision["flags"]:
            chip(flag.replace("_", " "), "warn")
        if decision["rule"]:
            chip(f"by rule {decision['rule']}", "accent")
        if labels:
            known = labels[-1]["value"]
            chip("known: positive" if known > 0 else "known: negative", "bad" if known > 0 else "good")
        if decision["score"] is not None and decision["thresholds"]:
            _meter(decision, actions)


def _meter(decision: dict[str, Any], actions: list[str]) -> None:
    """The score between the thresholds; a score that is no probability is drawn up to the largest of both."""
    steps = sorted(decision["thresholds"].items(), key=lambda one: one[1])
    top = max(1.0, decision["score"], *(value for _, value in steps))
    edges = [0.0, *(value for _, value in steps), top]
    names = [decision["default"], *(action for action, _ in steps)]
    with el(
        "div",
        "meter",
        role="img",
        style="flex-basis:100%",
        aria_label=f"score {score(decision['score'])} of {top:g}",
    ):
        with el("div", "track"):
            for name, (low, high) in zip(names, pairwise(edges), strict=True):
                el("span", tone_of(name, actions), style=f"width:{max(high - low, 0) / top * 100:.3f}%")
        el("div", "pin", style=f"left:{_place(decision['score'] / top):.3f}%")
        for action, value in steps:
            el("span", "tick", f"{action} {figure(value)}", style=f"left:{value / top * 100:.3f}%")


def _place(share: float) -> float:
    return min(max(share, 0.002), 0.998) * 100


def _reasons(event: Event) -> None:
    reasons, features = event["reasons"], event["features"] or {}
    with card("Why", "what each feature added to the score, in the model's own space", "card flush"):
        if reasons:
            most = max((abs(one["contribution"]) for one in reasons), default=0) or 1
            rows = [
                row(
                    one["feature"],
                    [
                        cell(one["feature"], title=one["text"]),
                        value_of(one["value"]),
                        cell(f"{one['contribution']:+.3f}", delta=one["contribution"] / most),
                    ],
                )
                for one in reasons
            ]
            table(
                "Reasons",
                (Column("Feature", "code"), Column("Value", "number"), Column("Added", "delta")),
                rows,
            )
        elif features:
            rows = [row(name, [name, value_of(value)]) for name, value in features.items()]
            table("Features", (Column("Feature", "code"), Column("Value", "number")), rows)
        else:
            el(
                "p",
                "nothing",
                "No model scored this event, or its definitions have changed since.",
                style="padding:0 18px 18px",
            )


async def _behind(view: View, path: str) -> None:
    """The events behind each feature; looked up when asked for, since the log has to be read for it."""
    with card("Contributing events", "which earlier events entered each feature"):
        ask = button("Trace them back", None, "small")
        shown = stack("")

    async def trace() -> None:
        ask.props["disabled"] = True
        ask.update()
        found = await view.find(query(path, provenance="true"))
        shown.clear()
        with shown:
            if found is None or found["provenance"] is None:
                notice("Not found", "The events could not be traced back; see `penstock explain-event`.")
            else:
                _traced(found["provenance"])
        ask.delete()

    ask.on("click", trace, [])


def _traced(found: dict[str, Any]) -> None:
    differing = found["differing"]
    chip(
        "recomputed, all the same" if not differing else f"{differing} values differ",
        "bad" if differing else "good",
    )
    for feature in found["features"]:
        if feature.get("events"):
            _entered(feature)


def _entered(feature: dict[str, Any]) -> None:
    columns = (
        Column("Event", "code"),
        Column("Time", "time"),
        Column(feature.get("column") or "Value", "number"),
    )
    with el("details", "", style="margin-top:10px"):
        count = feature["count"]
        text = f"{feature['name']} = {value_of(feature['served'])}"
        el(
            "summary",
            "",
            f"{text}: {whole(count)} event{'' if count == 1 else 's'} from {moment(feature['from'])} to {moment(feature['to'])}",
        )
        newest = feature["events"][-_WINDOW_ROWS:][::-1]
        rows = [
            row(
                one["position"],
                [cell(one["event_id"]), moment(one["time"]), value_of(one["value"])],
                href=event_href(feature["source"], one["event_id"]) if one["event_id"] else "",
            )
            for one in newest
        ]
        table(f"Events behind {feature['name']}", columns, rows)


def _event(event: Event) -> None:
    with card("Event"):
        facts([(name, value_of(value)) for name, value in event["event"].items()])
        el(
            "p",
            "hatch",
            f"happened {moment(event['event_time'])}, came in {moment(event['ingest_time'])} UTC",
            style="margin-top:12px",
        )


def _labels(labels: Sequence[dict[str, Any]]) -> None:
    with card("Truth"):
        if not labels:
            el("p", "hatch", "Nothing is known of this event yet.")
        facts([(moment(one["known_at"]), f"{value_of(one['value'])}") for one in labels])


def _versions(decision: dict[str, Any]) -> None:
    with card("Decided by"):
        facts(
            [
                ("Endpoint", decision["endpoint"]),
                ("Model", decision["model"] or "none"),
                ("Arm", decision["arm"]),
                ("Digest", (decision["digest"] or "")[:16]),
                ("Policy", f"{decision['policy']} {(decision['policy_version'] or '')[:8]}"),
                ("Lists", ", ".join(f"{name} {n}" for name, n in decision["lists"].items()) or None),
                ("Features", decision["service"][:16]),
                ("Propensity", None if decision["propensity"] is None else figure(decision["propensity"])),
            ]
        )
        if decision["model"]:
            link(
                "Open the version →",
                f"/models/{part(decision['model'].partition(':')[0])}?version={part(decision['model'].partition(':')[2])}",
            )
