"""One run of a stream, from the first event that is not in the log to its end, and the report on all that is there."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from penstock.app.metering import Meter
from penstock.engine.audit import AuditReport, audit
from penstock.monitoring.report import Grid, Report, Section, Tile, render_html
from penstock.monitoring.terminal import render_terminal

from .panel import LivePanel
from .results import audit_tile, collect, quality_section, quality_tiles, stream_section

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.app import Runtime

    from .feed import Feed

COUNTERS = {
    "received": "events received",
    "scored": "scored",
    "logged": "logged",
    "duplicate": "duplicate",
    "rejected": "rejected",
    "late": "late, within scored",
    "labels_joined": "labels joined to their events",
    "labels_pending": "labels before their events",
}
SESSION_FILE = "session.json"


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the last run was: summary and timeline of its `LiveMetrics`."""

    summary: dict[str, Any] = field(default_factory=dict)
    timeline: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def draining() -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set; a second signal of the kind ends the process as usual."""
    asked = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_history(console: Console, feed: Feed, stop: int, *, cancelled: Event) -> None:
    """Put the events up to row `stop` into the log without deciding on them: they fill the windows."""
    begun = feed.done
    if begun >= stop:
        return
    with _bar(console) as progress:
        task = progress.add_task("loading history", total=stop, completed=begun)
        feed.run(
            stop,
            decide=False,
            after=lambda done: progress.update(task, completed=done),
            cancelled=cancelled,
        )
    console.print(f"History in the log: {feed.done:,} events and the labels known by then.", highlight=False)


def run_live(
    console: Console,
    runtime: Runtime,
    feed: Feed,
    *,
    start: int,
    stop: int,
    rate: float | None,
    cancelled: Event,
) -> Speed:
    """Decide on the events of rows `start` to `stop` that are not in the log yet, with the panel on."""
    endpoint = next(iter(runtime.plan.endpoints))
    meter = Meter(runtime, endpoint)
    with LivePanel(console, meter, total=stop - start) as panel:

        def show(done: int, *, force: bool = False) -> None:
            panel.show(done - start, feed.time_of(done - 1), force=force)

        done = feed.run(stop, rate=rate, meter=meter, after=show, cancelled=cancelled)
        meter.finish()
        show(done, force=True)
    points = [asdict(point) for point in meter.metrics.timeline.points()]
    return Speed(meter.summary()[0].to_dict(), points)


def run_audit(console: Console, runtime: Runtime) -> AuditReport:
    """Compare every logged vector with its recomputation."""
    with _bar(console) as progress:
        task = progress.add_task("auditing", total=None)
        return audit(
            runtime.store,
            runtime.plan,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def report_on(
    runtime: Runtime,
    *,
    title: str,
    speed: Speed,
    audited: AuditReport | None,
    models: Section,
    commands: Sequence[tuple[str, str]],
) -> Report:
    """The report on all that the store holds."""
    endpoint = next(iter(runtime.plan.endpoints))
    decided = collect(runtime.store, runtime.plan, endpoint)
    quality, *others = quality_tiles(decided)
    warning = ""
    if audited is None:
        warning = "The run was interrupted: this is what is there. Run it again to continue."
    elif not audited.clean:
        warning = f"The audit is not clean: {audited.differing} differing values, {audited.missing} missing decisions."
    return Report(
        title=title,
        subtitle=f"Endpoint {endpoint}: decisions, scores and labels as the store holds them.",
        warning=warning,
        tiles=(quality, *_speed_tiles(speed), *others, audit_tile(audited)),
        sections=(
            models,
            quality_section(decided),
            stream_section(decided, speed.timeline),
            _accounting(runtime),
            Section(title="What to look at next", commands=tuple(commands)),
        ),
    )


def publish(console: Console, report: Report, folder: Path) -> Path:
    """Print the report and write its page; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(render_html(report), encoding="utf-8")
    console.print(render_terminal(report), highlight=False)
    console.print(f"\nReport with plots: {page}", highlight=False, soft_wrap=True)
    return page


def remember(speed: Speed, folder: Path) -> None:
    """Keep the speed of the last run for later reports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SESSION_FILE).write_text(json.dumps(asdict(speed)), encoding="utf-8")


def remembered(folder: Path) -> Speed:
    """What `remember` kept."""
    path = folder / SESSION_FILE
    return Speed(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Speed()


def _speed_tiles(speed: Speed) -> list[Tile]:
    found = speed.summary
    if not found or not found["received"] or found["p50_s"] is None:
        return []
    p50, p99 = (found[name] * 1000 for name in ("p50_s", "p99_s"))
    return [
        Tile("events/s", f"{found['events_per_s']:,.0f}", f"{found['received']:,} in the last run"),
        Tile("latency p50", f"{p50:.1f} ms", f"p99 {p99:.1f} ms a micro-batch"),
    ]


def _accounting(runtime: Runtime) -> Section:
    found = runtime.store.counters()
    names = (
        "received",
        "scored",
        "logged",
        "duplicate",
        "rejected",
        "late",
        "labels_joined",
        "labels_pending",
    )
    grid = Grid(("counter", "events"), tuple((n.replace("_", " "), f"{found.get(n, 0):,}") for n in names))
    adds_up = found.get("received", 0) == sum(found.get(n, 0) for n in names[1:5])
    text = "received = scored + logged + duplicate + rejected" + (
        ": it adds up." if adds_up else ": IT DOES NOT ADD UP."
    )
    return Section(
        title="Every event accounted for",
        text=f"{text} Logged are events of the history, on which nothing was decided.",
        grid=grid,
    )


def _bar(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
