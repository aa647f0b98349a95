"""``penstock replica``: previews and features over HTTP, from the states that an engine publishes in Redis."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import Project, project_root
from penstock.cli.output import tell


def replica(
    project: Project = None,
    host: Annotated[str | None, typer.Option(help="Listen on this address. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Listen on this port; 0: any. [default: 8000]")] = None,
) -> None:
    """Preview decisions and read features, without a log.

    States come from the Redis of [online], where `penstock up` publishes them; nothing is recorded. Start as many as you like. SIGTERM or
    Ctrl-C ends it.
    """
    from penstock.app.replica import ReplicaRuntime
    from penstock.app.running import stop_on_signals
    from penstock.app.settings import changed
    from penstock.cli.run import logged
    from penstock.serving.authentication import check_exposure
    from penstock.serving.replica import ReplicaPlatform, create_replica_app
    from penstock.serving.server import Server

    root = project_root(project)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    with stop_on_signals() as stop, logged(root), ReplicaRuntime.open(root) as runtime:
        platform = ReplicaPlatform(runtime)
        platform.settings = changed(platform.settings, given)
        check_exposure(platform.settings.host, platform.keyring)
        for what, problem in runtime.problems.items():
            tell(f"penstock: {what}: {problem}")
        with Server(create_replica_app(platform), platform.settings) as server:
            tell(f"penstock: the replica listens at {server.url}")
            stop.event.wait()
    if stop.signal_number == signal.SIGINT:
        raise typer.Exit(ExitCode.INTERRUPTED)
