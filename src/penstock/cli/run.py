"""``penstock run`` and ``penstock up``: files and pipes through the engine."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.by_spark import Engine, check_engine, run_by_spark
from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, actor_name, project_root
from penstock.cli.output import (
    Progress,
    hint,
    number,
    print_facts,
    print_json,
    progress_bar,
    say,
    tell,
    telling,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.alerting import Alerting
    from penstock.app.beside import Beside
    from penstock.app.inputs import Input
    from penstock.app.run_log import RunLog
    from penstock.app.running import Runner, Stop, Watch
    from penstock.app.runtime import Runtime
    from penstock.monitoring.live import LiveSummary
    from penstock.serving.platform import Platform

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE=FILE",
        help="NDJSON, CSV or Parquet files or folders by source; - is NDJSON from stdin. Default: every source with a FileConfig, KafkaConfig or PostgresStreamConfig.",
        show_default=False,
    ),
]


def run(
    files: Files = None,
    engine: Engine = "local",
    service: Annotated[
        str | None,
        typer.Option("--service", help="With --engine spark: the feature service. [default: the only one]"),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            metavar="FOLDER|kafka://HOST:PORT/TOPIC",
            help="With --engine spark: the Delta table to append to, a topic of Kafka, or both.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --engine spark: wait for more files.")
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Process files to their end.

    Running again continues where it stopped; nothing is processed twice. Several sources are merged in the order of event time. With --engine
    spark, feature vectors of a service are computed from folders of Parquet files, or topics, by Structured Streaming, and nothing is decided.
    """
    check_engine(engine)
    if engine == "spark":
        given_files(files or [], command="run")
        places = dict(text.split("=", 1) for text in files or [])  # an address of Kafka is no path
        run_by_spark(
            project_root(project), places, service=service, outs=out or [], follow=follow, as_json=as_json
        )
        return
    if service is not None or out or follow:
        raise InputError(
            "run: --service, --out or --follow found; they are allowed with --engine spark. Leave them out, or use penstock up to follow."
        )
    _drive(files, project, as_json=as_json, follow=False)


def up(
    files: Files = None,
    project: Project = None,
    host: Annotated[str | None, typer.Option(help="Listen on this address. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Listen on this port; 0: any. [default: 8000]")] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the project over HTTP, and follow its files.

    Appended lines and new files are taken in, and requests answered, until SIGTERM or Ctrl-C, which drain.
    """
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    _drive(files, project, as_json=as_json, follow=True, serve=given)
    gc.freeze()  # all is closed: the interpreter need not look through what is left before it ends


def _drive(
    files: list[str] | None,
    project: Path | None,
    *,
    as_json: bool,
    follow: bool,
    serve: Mapping[str, Any] | None = None,
) -> None:
    with loading():
        from penstock.app.alerting import alerting
        from penstock.app.beside import Beside
        from penstock.app.changing import ensure_applied
        from penstock.app.exporting_beside import export_rest
        from penstock.app.kafka_following import sending_results
        from penstock.app.kafka_inputs import reading
        from penstock.app.publishing import publishing
        from penstock.app.run_log import RunLog
        from penstock.app.running import stop_on_signals
        from penstock.app.runtime import Runtime
        from penstock.app.stream_history import load_histories
        from penstock.definitions.project import load_project

    root = project_root(project)
    given = given_files(files or [], command="run")
    with stop_on_signals() as stop, logged(root):
        with progress_bar("recovering") as progress:
            with loading():
                loaded = load_project(root)
            ensure_applied(loaded, actor=actor_name(None))
            runtime = Runtime.open(root, project=loaded, progress=interruptible(progress, stop))
        with runtime:
            notice(runtime)
            inputs = _inputs(runtime, given, follow=follow)
            beside = Beside(runtime)
            with (
                reading(inputs),
                RunLog(runtime) as run_log,
                beside,
                served(runtime, serve, inputs) as platform,
                live_line(beside.look) as show,
            ):
                watch = show if platform is None else _both(show, platform.saw)
                if not stop.asked and load_histories(runtime, stop=stop.event, watch=show):
                    tell("penstock: the history of streams is loaded")
                for what in set(runtime.problems) & set(runtime.plan.sources):
                    tell(f"penstock: {runtime.problems[what]}")
                runner = _runner(runtime, inputs, stop, watch=watch, platform=platform)
                if follow:
                    following = f"following {', '.join(one.source for one in inputs)}; " if inputs else ""
                    tell(f"penstock: {following}Ctrl-C ends it")
                with (
                    sending_results(runtime, finish=lambda: not stop.asked),
                    publishing(runtime),
                    alerting(runtime, finish=lambda: not stop.asked) as alerts,
                ):
                    _show_alerts(run_log, platform, alerts)
                    summary = runner.follow() if follow else runner.run()
                if not stop.asked:
                    beside.finish()
            if not stop.asked:
                with progress_bar("exporting") as progress:
                    export_rest(runtime, progress=progress, stop=stop.event.is_set)
            _notice_beside(runtime)
            length = runtime.engine.position
    _report(summary, length, as_json=as_json, stopped=stop.asked and not follow)
    if not as_json:
        _say_results(beside, root)
    if stop.signal_number == signal.SIGINT or (stop.asked and not follow):
        raise typer.Exit(ExitCode.INTERRUPTED)


def _say_results(beside: Beside, root: Path) -> None:
    from penstock.app.auditing import read_totals

    for result in beside.results():
        say(result)
    if beside.audit.started and (totals := read_totals(root)) is not None:
        say(f"while running: {totals.text()}")


def _inputs(runtime: Runtime, given: Mapping[str, Path | IO[bytes]], *, follow: bool) -> Sequence[Input]:
    from penstock.app.inputs import inputs_of

    inputs = inputs_of(runtime, given)
    if not inputs and not follow:
        raise InputError(
            f"run: no source of project {runtime.project.name!r} has a FileConfig, KafkaConfig or PostgresStreamConfig, or is a batch source, so "
            f"there is nothing to read. Name files: penstock run {next(iter(runtime.plan.sources))}=FILE"
        )
    return inputs


def _runner(
    runtime: Runtime, inputs: Sequence[Input], stop: Stop, *, watch: Watch, platform: Platform | None
) -> Runner:
    """What takes the inputs through the engine, and the requests of `platform`."""
    from penstock.app.running import Runner

    if platform is None:
        return Runner(runtime, inputs, stop=stop.event, watch=watch)
    return Runner(
        runtime,
        inputs,
        stop=stop.event,
        watch=watch,
        observe=platform.observability.observing.note,
        answering=platform.answering,
    )


@contextmanager
def loading() -> Iterator[None]:
    """While libraries and definitions are loaded nothing is garbage, and looking for it takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def logged(root: Path) -> Iterator[None]:
    """While open, logs are written by the project's settings; where they are JSON, what is told on stderr becomes a line of them."""
    from penstock.app.logs import logger, logging_as
    from penstock.app.settings import load_settings

    with logging_as(load_settings(root).log) as as_json, ExitStack() as told:
        if as_json:
            log = logger("penstock.run")
            told.enter_context(telling(lambda text: log.info("notice", text=text.removeprefix("penstock: "))))
        yield


@contextmanager
def served(
    runtime: Runtime, given: Mapping[str, Any] | None, inputs: Sequence[Input]
) -> Iterator[Platform | None]:
    """The project over HTTP while open, where `given` are changes to ``[serve]``; None for without."""
    if given is None:
        yield None
        return
    with ExitStack() as opened:
        with loading():
            from penstock.app.settings import changed
            from penstock.app.stacks import tell_on_signal
            from penstock.serving.api import create_app
            from penstock.serving.authentication import check_exposure
            from penstock.serving.platform import Platform
            from penstock.serving.server import Server

            tell_on_signal()
            platform = Platform(runtime)
            platform.settings = changed(platform.settings, given)
            check_exposure(platform.settings.host, platform.keyring)
            app, inside = create_app(platform), None
            if platform.settings.dashboard:
                from penstock.dashboard.beside import PagesBeside

                inside = opened.enter_context(PagesBeside(runtime)).shown_on(app)
            opened.enter_context(platform.observability.running(inputs))
            server = opened.enter_context(Server(app, platform.settings, inside=inside))
        runtime.url = server.url
        tell(f"penstock: the API listens at {server.url}")
        yield platform


def _show_alerts(run_log: RunLog, platform: Platform | None, alerts: Alerting) -> None:
    run_log.alerts = alerts
    if platform is not None:
        platform.observability.tells(alerts)


def _both(one: Watch, other: Watch) -> Watch:
    def watch(summary: LiveSummary) -> None:
        one(summary)
        other(summary)

    return watch


def interruptible(progress: Progress, stop: Stop) -> Progress:
    """Recovery ends at once when asked to: nothing was taken in yet."""

    def step(done: int, total: int) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        progress(done, total)

    return step


def given_files(files: list[str], *, command: str) -> dict[str, Path | IO[bytes]]:
    """The files of ``SOURCE=FILE …`` by source; ``-`` is stdin."""
    found: dict[str, Path | IO[bytes]] = {}
    for text in files:
        source, equals, place = text.partition("=")
        if not equals or not source or not place:
            raise InputError(
                f"{command}: {text!r} found; allowed is SOURCE=FILE, or SOURCE=- for stdin. Name the source first."
            )
        if source in found:
            raise InputError(
                f"{command}: source {source!r} is given twice; allowed is one file or folder a source."
            )
        found[source] = sys.stdin.buffer if place == "-" else Path(place)
    if sum(not isinstance(place, Path) for place in found.values()) > 1:
        raise InputError(
            f"{command}: stdin is given for two sources; allowed is one. Put the other in a file."
        )
    return found


def notice(runtime: Runtime) -> None:
    """Say what of the project does not work though it is open, and what changed."""
    for change in runtime.contract_changes:
        tell(f"penstock: contract of {change}")
    for skipped in runtime.skipped_snapshots:
        tell(f"penstock: snapshot skipped: {skipped}")
    for what, problem in runtime.problems.items():
        tell(f"penstock: {what}: {problem}")


def _notice_beside(runtime: Runtime) -> None:
    for what in ("offline", "alerts", "kafka", "online"):
        if what in runtime.problems:
            tell(f"penstock: {what}: {runtime.problems[what]}")


def _report(summary: LiveSummary, length: int, *, as_json: bool, stopped: bool) -> None:
    if as_json:
        print_json({**summary.to_dict(), "log_length": length, "interrupted": stopped})
        return
    if stopped:
        say("Stopped before the end; everything taken in is decided and durable.")
    if not summary.received and not summary.labels:
        say("Nothing new: everything was processed before.")
    rate = f"{summary.events_per_s:,.0f} a second" if summary.received else "–"
    parts = f"{number(summary.scored)} scored + {number(summary.logged)} logged + "
    parts += f"{number(summary.duplicate)} duplicate + {number(summary.rejected)} rejected"
    print_facts(
        [
            ("events", f"{number(summary.received)} = {parts}"),
            ("actions", ", ".join(f"{number(n)} {name}" for name, n in summary.actions.items()) or "–"),
            ("labels", number(summary.labels)),
            ("late", f"{number(summary.late)} late, {number(summary.too_late)} too late"),
            (
                "speed",
                f"{rate}; a micro-batch durable in {_ms(summary.p50_s)} (p50), {_ms(summary.p99_s)} (p99)",
            ),
            ("log", f"{number(length)} events and labels"),
        ]
    )
    hint("penstock run" if stopped else "penstock status, penstock train MODEL, penstock audit")


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.1f} ms"


@contextmanager
def live_line(also: Callable[[], str] = str) -> Iterator[Callable[[LiveSummary], None]]:
    """A line of live metrics on stderr, where that is a terminal, and what else there is to say behind it."""
    if not sys.stderr.isatty():
        yield lambda _: _ignored(also())
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text(""), console=Console(stderr=True), refresh_per_second=8, transient=True) as live:
        yield lambda summary: live.update(
            Text(" · ".join(filter(None, (live_text(summary), also()))), overflow="ellipsis", no_wrap=True)
        )


def _ignored(_: str) -> None:
    """What is looked at, but not shown."""


def live_text(summary: LiveSummary) -> str:
    """The live metrics in one line."""
    alerts = f"{summary.alerts:,} alerts" if summary.actions else "no decisions"
    return (
        f"{summary.received:,} events · {summary.recent_events_per_s:,.0f}/s · p50 {_ms(summary.p50_s)} · "
        f"p99 {_ms(summary.p99_s)} · {alerts} · {summary.labels:,} labels"
    )
