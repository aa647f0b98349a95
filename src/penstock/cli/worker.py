"""``penstock worker``: a member of a consumer group, with a shard of the project for each partition that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, actor_name, project_root
from penstock.cli.output import number, print_json, say, tell
from penstock.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from penstock.app.worker import WorkerStatus


def worker(
    group: Annotated[
        str | None,
        typer.Option(help="The consumer group. [default: penstock-PROJECT]", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="A name of its own, which keeps its partitions over a restart; without one they are given to others at once.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show the workers that share this folder, and end.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve /metrics for Prometheus on this port of [serve] host.",
            show_default=False,
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Decide on partitions of a Kafka topic, as one of a group.

    Start as many as you like, at most one a partition has work. Each partition is a shard: its keys, with a store of their own. SIGTERM or Ctrl-C
    finishes what is under way, and gives the partitions to the others.
    """
    import signal
    from contextlib import ExitStack

    from penstock.app.running import stop_on_signals
    from penstock.app.worker import Worker, worker_statuses
    from penstock.cli.run import logged

    root = project_root(project)
    if status:
        _show(worker_statuses(root), as_json=as_json)
        return
    with stop_on_signals() as stop, logged(root):
        _ensure_applied(root)
        with ExitStack() as metrics:
            if metrics_port is None:
                working = Worker(root, group=group, name=name)
            else:
                from penstock.serving.worker_metrics import WorkerMetrics, serving_metrics

                shown = WorkerMetrics()
                working = Worker(root, group=group, name=name, observing=shown.observing)
                shown.show(working)
                url = metrics.enter_context(serving_metrics(root, shown, port=metrics_port))
                tell(f"penstock: metrics at {url}")
            tell("penstock: the worker waits for partitions; Ctrl-C ends it")
            working.run(stop.event)
    if stop.signal_number == signal.SIGINT:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _ensure_applied(root: Path) -> None:
    """The definitions are in force; of workers that start together one is the first to apply them."""
    from penstock.app.changing import ensure_applied
    from penstock.definitions.project import load_project

    project, actor = load_project(root), actor_name(None)
    try:
        ensure_applied(project, actor=actor)
    except StoreError:
        ensure_applied(project, actor=actor)


def _show(statuses: Sequence[WorkerStatus], *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json({"workers": msgspec.to_builtins(statuses)})
        return
    for one in statuses:
        for shard, found in one.shards.items():
            say(
                f"process {one.pid}, shard {shard}, version {found.version}: {number(found.log_length)} rows, "
                f"{number(found.lag)} messages behind"
            )
        for what, problem in one.problems.items():
            say(f"process {one.pid}, {what}: {problem}")
    if not statuses:
        say("No worker runs here.")
