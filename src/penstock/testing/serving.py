"""A project served over HTTP from the process of a test: the same threads as in ``penstock up``, on a port that is free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.serving.api import create_app
from penstock.serving.platform import Platform
from penstock.serving.server import Server

if TYPE_CHECKING:
    from fastapi import FastAPI

    from penstock.app.settings import Settings
    from penstock.core.clock import Clock
    from penstock.definitions.project import Project

READY_S = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A project that is being served.

    Attributes
    ----------
    url
        Where it listens.
    """

    runtime: Runtime
    platform: Platform
    app: FastAPI
    url: str


@contextmanager
def serving_project(
    root: Path,
    *,
    clock: Clock | None = None,
    project: Project | None = None,
    settings: Settings | None = None,
) -> Iterator[Served]:
    """The project in `root`, served while open; on leaving it drains, and an error of the engine's thread is raised.

    Examples
    --------
    ::

        with serving_project(tmp_path) as served, penstock.Client(served.url) as client:
            assert client.health()["status"] == "ready"
    """
    stop = threading.Event()
    failures: list[BaseException] = []
    with Runtime.open(root, clock=clock, project=project, settings=settings) as runtime:
        platform = Platform(runtime)
        runner = Runner(runtime, [], stop=stop, watch=platform.saw, answering=platform.answering)
        engine = threading.Thread(target=_run, args=(runner, failures), name="penstock-engine")
        anywhere = platform.settings.model_copy(update={"port": 0})
        app = create_app(platform)
        with Server(app, anywhere) as server:
            runtime.url = server.url
            engine.start()
            try:
                _wait_until_ready(platform, engine)
                yield Served(runtime, platform, app, server.url)
            finally:
                stop.set()
                engine.join(READY_S)
    if failures:
        raise failures[0]


def _run(runner: Runner, failures: list[BaseException]) -> None:
    try:
        runner.follow(poll_s=0.05)
    except BaseException as error:  # noqa: BLE001 - raised where the project was opened
        failures.append(error)


def _wait_until_ready(platform: Platform, engine: threading.Thread) -> None:
    patience = threading.Event()
    for _ in range(int(READY_S / 0.01)):
        if platform.live is not None or not engine.is_alive():
            return
        patience.wait(0.01)
    raise TimeoutError("the engine did not start")
