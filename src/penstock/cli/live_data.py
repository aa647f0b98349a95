"""``penstock live-data``: a recorded stream, pushed as if it happened now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import number, print_facts, print_json, tell
from penstock.cli.run import given_files
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.inputs import FileInput
    from penstock.app.live_replay import Due, Pace
    from penstock.app.live_sending import Sent
    from penstock.app.running import Stop
    from penstock.plan.nodes import SourceNode


class Shape(StrEnum):
    """How events are spread over time."""

    EVEN = "even"
    POISSON = "poisson"


Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE=FILE",
        help="NDJSON, CSV or Parquet files or folders by source, of events and of their labels. Default: every source with a FileConfig.",
        show_default=False,
    ),
]
Rate = Annotated[float | None, typer.Option(min=0.001, help="Events a second. [default: 100]")]
Speed = Annotated[
    str | None, typer.Option(help="As recorded, so many times faster, such as 60x; instead of --rate.")
]
To = Annotated[
    str | None,
    typer.Option(
        help="The API's address, or a folder or .ndjson file to append to. Default: the running project.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="PENSTOCK_API_KEY", help="An API key with the scope write.", show_default=False),
]


def live_data(
    files: Files = None,
    rate: Rate = None,
    speed: Speed = None,
    shape: Annotated[Shape, typer.Option(help="Events at equal distances, or at random.")] = Shape.EVEN,
    to: To = None,
    key: Key = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Write to the topics of the sources' KafkaConfig.")
    ] = False,
    kafka_key: Annotated[
        str | None,
        typer.Option(
            help="The field that is the messages' key. Default: that of the one entity of the source.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[bool, typer.Option(help="Begin again at the end, with new ids.")] = False,
    shift: Annotated[
        bool, typer.Option("--shift-to-now/--as-recorded", help="Move times to now, or leave them.")
    ] = True,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after so many events.", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="End after so long.", show_default=False)
    ] = None,
    connections: Annotated[
        int,
        typer.Option(
            min=1, max=256, help="Requests under way at once for each source; above 1 rows may overtake."
        ),
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The same load again: equal ids and waits. Default: from the clock.",
            show_default=False,
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Push a recorded stream as if it happened now.

    Labels follow their events with the recorded delays, sped up as the events are. Rows are due by the clock: a slow server gets larger requests,
    not fewer events. What is refused for overload is sent again with the same ids. Ends with the files, or with Ctrl-C.
    """
    import asyncio

    from penstock.app.running import stop_on_signals
    from penstock.core.clock import SystemClock

    root, now_us = project_root(project), SystemClock().now_us()
    chosen = now_us // 1_000_000 if seed is None else seed
    inputs, sources = _inputs(root, files or [])
    names = [one.source for one in inputs]
    place = _place(root, to, names, kafka=kafka)
    with stop_on_signals() as stop:
        from penstock.app.live_replay import LiveReplay

        rows = LiveReplay(
            inputs,
            sources,
            pace=_pace(rate, speed, shape, chosen),
            start_us=now_us,
            seed=chosen,
            loop=loop,
            shift=shift,
        )
        tell(f"penstock: {', '.join(names)} to {place}; Ctrl-C ends it")
        due = _limited(rows, count, seconds)
        with _line() as show:
            if kafka:
                sending = _send_to_kafka(root, names, kafka_key, due, stop, show)
            else:
                sending = _send(due, place, key, connections, stop, show)
            sent = asyncio.run(sending)
    _report(sent, as_json=as_json)
    if stop.asked:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if sent.statuses["failed"]:
        raise typer.Exit(ExitCode.FAILED)


def _inputs(root: Path, files: list[str]) -> tuple[list[FileInput], Mapping[str, SourceNode]]:
    """The files to replay, and the contracts of all sources."""
    from penstock.app.inputs import FileInput, configured_inputs, given_inputs
    from penstock.app.runtime import plan_of
    from penstock.definitions.project import load_project

    project = load_project(root)
    plan, given = plan_of(project), given_files(files, command="live-data")
    found = given_inputs(given, plan.sources, root=root) if given else configured_inputs(project, plan)
    inputs = [one for one in found if isinstance(one, FileInput)]
    if not inputs or len(inputs) < len(found):
        raise InputError(
            f"live-data: no file to replay; a pipe cannot be. Name one: penstock live-data {next(iter(plan.sources))}=FILE"
        )
    return inputs, plan.sources


def _place(root: Path, to: str | None, names: list[str], *, kafka: bool) -> str:
    """Where rows go, in words; raises `InputError` where that is not clear."""
    if kafka and to is not None:
        raise InputError(f"live-data: --kafka and --to {to} are given; allowed is one. Leave one out.")
    place = "Kafka" if kafka else to or _running(root)
    _check_place(place, names)
    return place


def _running(root: Path) -> str:
    """The address of the project's own API."""
    from penstock.app.route_watch import running_notes
    from penstock.app.settings import load_settings

    notes, serve = running_notes(root), load_settings(root).serve
    return notes.url if notes is not None and notes.url else f"http://{serve.host}:{serve.port}"


def _check_place(place: str, sources: list[str]) -> None:
    if "://" not in place and Path(place).suffix in {".ndjson", ".jsonl"} and len(sources) > 1:
        raise InputError(
            f"live-data: {place} is one file, and there are {len(sources)} sources ({', '.join(sources)}). Name a folder, in which each gets a file."
        )


def _pace(rate: float | None, speed: str | None, shape: Shape, seed: int) -> Pace:
    from penstock.app.live_replay import Even, Poisson, Recorded

    if speed is None:
        wanted = 100.0 if rate is None else rate
        return Even(wanted) if shape is Shape.EVEN else Poisson(wanted, seed)
    if rate is not None or shape is not Shape.EVEN:
        raise InputError(
            "live-data: --speed keeps the recorded pace, so it goes with neither --rate nor --shape. Choose one."
        )
    try:
        times = float(speed.removesuffix("x"))
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise InputError(
            f"live-data: --speed is {speed!r}; allowed is how many times faster than recorded, such as 60x."
        )
    return Recorded(times)


def _limited(rows: Iterable[Due], count: int | None, seconds: float | None) -> Iterator[Due]:
    """The rows up to so many events, or so long."""
    events = 0
    for row in rows:
        events += row.is_event
        if (count is not None and events > count) or (seconds is not None and row.due_s > seconds):
            return
        yield row


async def _send(
    rows: Iterable[Due],
    place: str,
    key: str | None,
    connections: int,
    stop: Stop,
    show: Callable[[Sent], None],
) -> Sent:
    from penstock.app.live_sending import FileTarget, Sending
    from penstock.connectors.http_push import HttpPush

    if "://" not in place:
        return await Sending(FileTarget(Path(place)), stop=stop.event).run(rows, show)
    async with HttpPush(place, key=key, connections=8 * connections) as target:
        return await Sending(target, stop=stop.event, connections=connections).run(rows, show)


async def _send_to_kafka(
    root: Path,
    names: list[str],
    kafka_key: str | None,
    rows: Iterable[Due],
    stop: Stop,
    show: Callable[[Sent], None],
) -> Sent:
    from penstock.app.kafka_sending import kafka_target
    from penstock.app.live_sending import Sending

    with kafka_target(root, names, key=kafka_key) as target:
        return await Sending(target, stop=stop.event).run(rows, show)


def _report(sent: Sent, *, as_json: bool) -> None:
    if as_json:
        print_json(sent.to_dict())
        return
    statuses = ", ".join(f"{number(n)} {status}" for status, n in sorted(sent.statuses.items())) or "–"
    held = "; held back, since too much waited" if sent.held_back else ""
    print_facts(
        [
            (
                "sent",
                f"{number(sent.events)} events and {number(sent.due - sent.events)} labels in {sent.elapsed_s:,.1f} s",
            ),
            ("rate", f"{sent.rate:,.1f} events a second"),
            ("answers", statuses),
            (
                "latency",
                f"{_ms(sent.latencies.quantile(0.5))} (p50), {_ms(sent.latencies.quantile(0.99))} (p99), from when rows were due",
            ),
            ("behind", f"{_ms(sent.behind_s)} at most{held}"),
            (
                "again",
                f"{number(sent.retries)} requests were sent again"
                + (f"; lately: {sent.problem}" if sent.problem else ""),
            ),
        ]
    )


@contextmanager
def _line() -> Iterator[Callable[[Sent], None]]:
    """A line on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield lambda sent: live.update(Text(_text(sent), overflow="ellipsis", no_wrap=True))


def _text(sent: Sent) -> str:
    p50, p99 = (_ms(sent.latencies.quantile(share)) for share in (0.5, 0.99))
    parts = [f"{sent.events:,} events", f"{sent.rate:,.1f}/s", f"p50 {p50}", f"p99 {p99}"]
    parts += [f"{sent.due - sent.answered:,} under way"] if sent.due > sent.answered else []
    parts += [f"{sent.retries:,} sent again"] if sent.retries else []
    return " · ".join([*parts, *filter(None, [sent.problem])])


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.1f} ms"
