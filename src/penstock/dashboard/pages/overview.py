"""How the platform is doing now: what is wrong, the figures, their course, the newest decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import (
    Spark,
    card,
    chart,
    el,
    link,
    notice,
    set_chart,
    set_props,
    set_text,
    stack,
    table,
    tabs,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.pages.decision_rows import COLUMNS, decision_rows, pace
from penstock.dashboard.texts import duration, percent, score, whole
from penstock.dashboard.theme import tone_of
from penstock.dashboard.view import View

RANGES = {"second": ("15 minutes", 1.0), "minute": ("24 hours", 10.0), "hour": ("30 days", 60.0)}
NEWEST = 12
POINTS = 300
SPARK_POINTS = 60
STALE_S = 600.0

Live = dict[str, Any]
History = dict[str, Any]


async def page(view: View) -> None:
    """Build the page."""
    step = view.query("range") if view.query("range") in RANGES else "second"
    with headline("Overview", "Events in, decisions out, and whether anything needs you."):
        tabs("Time", [(one, name) for one, (name, _) in RANGES.items()], step, lambda one: f"/?range={one}")
    problems = stack("problems")
    with stack():
        tiles, courses = _Tiles(), _Courses()
        with card("Newest decisions", classes="card flush") as newest:
            nothing = "No decision yet. Send an event to an endpoint, or let files be read: penstock run"
            shown = table("Newest decisions", COLUMNS, fresh=True, empty=nothing)
        with newest, el("header", style="padding-bottom:14px"):
            link("All decisions →", "/decisions")
    actions: list[str] = []

    def course(found: History) -> None:
        actions[:] = found["actions"]
        whole_slots = _whole_slots(found)
        tiles.course(whole_slots)
        courses.show(whole_slots)

    def now(found: Live) -> None:
        _show_problems(problems, found)
        tiles.show(found)

    await view.watch(query("/v1/live", step=step), RANGES[step][1], course)
    await view.watch("/v1/status", 1.0, now)
    await view.watch(
        query("/v1/decisions", limit=NEWEST),
        pace,
        lambda found: set_props(shown, rows=decision_rows(found["items"], actions)),
    )
    if (alerts := await view.find("/v1/alerts")) is not None:
        tiles.show_alerts(alerts)
        await view.watch("/v1/alerts", 5.0, tiles.show_alerts)


def problems_of(found: Live) -> list[tuple[str, str, str]]:
    """What is wrong: title, text and tone, the worst first."""
    wrong: list[tuple[str, str, str]] = []
    audit = found["audit"] or {}
    if not found["now"]["ready"]:
        wrong.append(("Not ready", "the engine does not take events. See the server's log.", "bad"))
    if audit.get("audit_differing") or audit.get("audit_missing"):
        text = f"{whole(audit['audit_differing'])} values differ and {whole(audit['audit_missing'])} decisions are missing. See `penstock audit`."
        wrong.append(("Audit", text, "bad"))
    return wrong + [(what, text, "warn") for what, text in found["problems"].items()]


def _show_problems(box: Any, found: Live) -> None:
    wrong = problems_of(found)
    if getattr(box, "shown", None) == wrong:
        return
    box.shown = wrong
    box.clear()
    with box:
        for what, text, tone in wrong:
            notice(what, text, tone)


class _Tile:
    """A figure with its name, a note, and its course."""

    def __init__(self, name: str, href: str = "") -> None:
        self._name = name
        with el("a" if href else "div", "tile", href=href or None) as self._box:
            el("span", "name", name)
            self._figure = el("span", "figure", "–")
            self._note = el("span", "note", "")
            self._spark = Spark()

    def show(self, text: str, note: str = "", tone: str = "") -> None:
        """Show what it is now; what stays is not sent again."""
        set_text(self._figure, text)
        set_text(self._note, note)
        if tone not in self._box.classes:
            self._box.classes(replace=f"tile {tone}")

    def course(self, values: Sequence[float | None]) -> None:
        """Show how it went."""
        set_props(self._spark, values=list(values), label=f"course of {self._name}")


class _Tiles:
    """The figures at the top."""

    def __init__(self) -> None:
        with el("section", "tiles", aria_label="Figures"):
            self.events = _Tile("Events", "/decisions")
            self.rate = _Tile("Throughput")
            self.alerts = _Tile("Alert rate", "/decisions")
            self.score = _Tile("Mean score", "/performance")
            self.latency = _Tile("Latency, p50")
            self.slow = _Tile("Latency, p99")
            self.open = _Tile("Open alerts", "/alerts")
            self.audit = _Tile("Audit mismatches", "/system")

    def course(self, history: History) -> None:
        """Show how it went."""
        course = {
            name: _thin(history[name], SPARK_POINTS) for name in ("events", "p50_s", "p99_s", "mean_score")
        }
        rates = [None if value is None else value / history["step_s"] for value in course["events"]]
        for tile, values in (
            (self.events, course["events"]),
            (self.rate, rates),
            (self.latency, course["p50_s"]),
            (self.slow, course["p99_s"]),
        ):
            tile.course(values)
        scored = sum(history["scored"])
        alerted = _thin(_rates(history["alerts"], history["scored"]), SPARK_POINTS)
        self.alerts.show(
            percent(sum(history["alerts"]) / scored if scored else None, 2), f"of {whole(scored)} decisions"
        )
        self.alerts.course(alerted)
        self.score.show(
            score(_mean(history["mean_score"], history["scored"])), f"of {whole(scored)} decisions"
        )
        self.score.course(course["mean_score"])

    def show(self, found: Live) -> None:
        """Show this moment."""
        totals, now = found["totals"], found["now"]
        refused, duplicate = totals.get("rejected", 0), totals.get("duplicate", 0)
        self.events.show(
            whole(totals.get("received", 0)), f"{whole(refused)} rejected, {whole(duplicate)} duplicate"
        )
        lag = now["lag_s"]
        self.rate.show(
            f"{whole(now['events_per_s'])} /s",
            "" if lag is None else f"newest event {duration(max(lag, 0))} old",
        )
        self.latency.show(duration(now["p50_s"]), "until durable, since the start")
        self.slow.show(duration(now["p99_s"]), f"{whole(now['queue_requests'])} requests wait")
        self._show_audit(found["audit"])

    def show_alerts(self, found: dict[str, Any]) -> None:
        """Show how many alerts are open."""
        firing = [one["name"] for one in found["items"] if one["state"] == "firing" or one["problems"]]
        silenced = sum(one["silenced_until"] is not None for one in found["items"])
        quiet = f"of {len(found['items'])} defined" + (f", {silenced} silenced" if silenced else "")
        self.open.show(whole(len(firing)), ", ".join(firing) or quiet, tone="bad" if firing else "")

    def _show_audit(self, audit: dict[str, int] | None) -> None:
        if audit is None:
            self.audit.show("–", "the audit has not begun")
            return
        wrong = audit["audit_differing"] + audit["audit_missing"]
        self.audit.show(
            whole(wrong), f"in {whole(audit['audit_values'])} values recomputed", tone="bad" if wrong else ""
        )


class _Courses:
    """The charts below the figures."""

    def __init__(self) -> None:
        with stack("wide"):
            with card("Throughput", "events a second, by action"):
                self.rate = chart("Events a second by action, over time", charts.over_time([], {}))
            with card("Latency", "until durable"):
                self.latency = chart("Latency over time", charts.over_time([], {}))
        with stack("two"):
            with card("Score", "mean of what was decided"):
                self.score = chart("Mean score over time", charts.over_time([], {}), "chart low")
            with card("Behind and refused", "events a second"):
                self.refused = chart(
                    "Late, duplicate and rejected events over time", charts.over_time([], {}), "chart low"
                )

    def show(self, history: dict[str, Any]) -> None:
        """Show the history."""
        every = max(-(-len(history["start_us"]) // POINTS), 1)
        step_s = history["step_s"] * every
        step_us = round(step_s * 1_000_000)
        start_us = history["start_us"][::every]
        actions = history["actions"]
        rates = {name: _sums(values, every, step_s) for name, values in actions.items()}
        colours = {name: charts.TONES[tone_of(name, list(actions))] for name in actions}
        set_chart(
            self.rate, charts.over_time(start_us, rates, stacked=True, colours=colours, step_us=step_us)
        )
        latency = {name: history[key][::every] for name, key in (("p50", "p50_s"), ("p99", "p99_s"))}
        set_chart(self.latency, charts.over_time(start_us, latency, unit="s", log=True, step_us=step_us))
        set_chart(
            self.score,
            charts.over_time(start_us, {"mean score": history["mean_score"][::every]}, step_us=step_us),
        )
        refused = {name: _sums(history[name], every, step_s) for name in ("late", "duplicate", "rejected")}
        set_chart(self.refused, charts.over_time(start_us, refused, step_us=step_us))


def _whole_slots(history: dict[str, Any]) -> dict[str, Any]:
    """Without the slot that is under way, where there are others: its counts would seem to fall."""
    start_us = history["start_us"]
    if len(start_us) < 2 or history["until_us"] >= start_us[-1] + history["step_s"] * 1_000_000:
        return history
    actions = {name: values[:-1] for name, values in history["actions"].items()}
    lists = {
        name: values[:-1]
        for name, values in history.items()
        if isinstance(values, list) and len(values) == len(start_us)
    }
    return {**history, **lists, "actions": actions}


def _thin(values: Sequence[float | None], most: int) -> list[float | None]:
    """The newest values, averaged down to as many as are shown."""
    every = max(-(-len(values) // most), 1)
    groups = [[v for v in values[at : at + every] if v is not None] for at in range(0, len(values), every)]
    return [sum(group) / len(group) if group else None for group in groups]


def _sums(values: Sequence[int], every: int, seconds: float) -> list[float | None]:
    return [sum(values[at : at + every]) / seconds for at in range(0, len(values), every)]


def _rates(some: Sequence[int], of: Sequence[int]) -> list[float | None]:
    return [part / whole_ if whole_ else None for part, whole_ in zip(some, of, strict=True)]


def _mean(means: Sequence[float | None], counts: Sequence[int]) -> float | None:
    """The mean of all slots: each counts as often as it has decisions."""
    total = sum(count for mean, count in zip(means, counts, strict=True) if mean is not None)
    found = sum(mean * count for mean, count in zip(means, counts, strict=True) if mean is not None)
    return found / total if total else None
