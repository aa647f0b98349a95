"""``penstock materialize``: the rows of batch tables into the log, once."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, actor_name, project_root
from penstock.cli.output import hint, number, print_facts, print_json, progress_bar, say
from penstock.cli.run import interruptible, live_line, notice

COUNTS = ("logged", "duplicate", "rejected")


def materialize(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[VIEW|SOURCE]", help="A batch view or batch source; default: all.", show_default=False
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Take the new rows of batch tables in.

    The history of streams that have none yet comes first. Each row enters the log once, however often this is run. `penstock run` and `penstock up` do the same when they start,
    and `up` then on each view's schedule.
    """
    from penstock.app.changing import ensure_applied
    from penstock.app.materializing import Materialized, chosen_inputs, materialize_one
    from penstock.app.running import stop_on_signals
    from penstock.app.runtime import Runtime
    from penstock.app.stream_history import load_histories
    from penstock.definitions.project import load_project

    root = project_root(project)
    done: list[Materialized] = []
    with stop_on_signals() as stop:
        with progress_bar("recovering") as progress:
            loaded = load_project(root)
            ensure_applied(loaded, actor=actor_name(None))
            runtime = Runtime.open(root, project=loaded, progress=interruptible(progress, stop))
        with runtime:
            notice(runtime)
            with live_line() as watch:
                load_histories(runtime, stop=stop.event, watch=watch)
            for one in chosen_inputs(runtime, name):
                if not stop.asked:
                    with live_line() as watch:
                        done.append(materialize_one(runtime, one, stop=stop.event, watch=watch))
            length = runtime.engine.position
    _report(done, length, as_json=as_json, stopped=stop.asked)
    if stop.signal_number == signal.SIGINT or stop.asked:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _report(done: list[Any], length: int, *, as_json: bool, stopped: bool) -> None:
    if as_json:
        sources = {one.source: one.to_dict() for one in done}
        print_json({"sources": sources, "log_length": length, "interrupted": stopped})
        return
    if stopped:
        say("Stopped before the end; everything taken in is durable.")
    facts = []
    for one in done:
        counts = ", ".join(f"{number(getattr(one, name))} {name}" for name in COUNTS)
        waiting = f", {number(one.waiting)} whose time has not come" if one.waiting else ""
        facts.append((one.source, f"{counts}{waiting}"))
    print_facts([*facts, ("log", f"{number(length)} rows")])
    hint("penstock materialize" if stopped else "penstock run, penstock status")
