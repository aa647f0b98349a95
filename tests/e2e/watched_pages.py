"""A project that runs with a stream going on, and a browser in which somebody looks at its pages."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import TimeoutError as NotInTime

from tests.e2e.dashboard_project import World

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 240.0
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}


class Served:
    """A running project, asked over HTTP, with a stream going on."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], url: str, world: World) -> None:
        self.folder, self.process, self.url, self.world = folder, process, url, world
        self.http = httpx.Client(base_url=url, timeout=60)
        self.streams = threading.Event()
        self.streams.set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._stream, daemon=True)
        self._thread.start()

    def get(self, path: str) -> dict:
        answer = self.http.get(path)
        assert answer.status_code in {200, 202}, answer.text
        return answer.json()

    def score(self, **values: object) -> dict:
        row, _ = self.world.payment(datetime.now(UTC), 100)  # noqa: TID251 - a live stream
        answer = self.http.post("/v1/endpoints/checkout/score", json=row | values)
        return answer.json() | {"row": row | values}

    def doings(self) -> str:
        """What the server, and who makes its pages, are doing: told to their log."""
        log = self.folder.parent / "up.log"
        began = log.stat().st_size
        server = psutil.Process(self.process.pid)
        for one in (server, *server.children()):
            if one is server or "penstock.dashboard.process" in one.cmdline():
                one.send_signal(signal.SIGUSR1)
                time.sleep(1.0)
        return log.read_bytes()[began:].decode(errors="replace")

    def close(self) -> None:
        self._ends.set()
        self._thread.join(5)
        self.http.close()
        self.process.terminate()
        self.process.wait(60)

    def _stream(self) -> None:
        number = 0
        world = World(datetime.now(UTC), a_day=1, seed=7)  # noqa: TID251
        with httpx.Client(base_url=self.url, timeout=60) as own:
            while not self._ends.wait(0.1):
                if self.streams.is_set():
                    number += 1
                    row, _ = world.payment(datetime.now(UTC), 100)  # noqa: TID251
                    own.post("/v1/endpoints/checkout/score", json=row | {"payment_id": f"stream-{number}"})


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Served]:
    """The project in a folder, served by a process of its own."""
    world = World(datetime.now(UTC), a_day=1, first=500_000)  # noqa: TID251 - a live stream follows
    command = [sys.executable, "-c", "from penstock.cli.main import app; app()", "up", "--port", "0"]
    path = folder.parent / "up.log"
    given = os.environ | {"PENSTOCK_LOG__FORMAT": "json"} | environment
    with path.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log, text=True, env=given)
        try:
            running = Served(folder, process, listening(path, process), world)
        except BaseException:
            process.kill()
            process.wait()
            raise
        yield running
        running.close()


def listening(path: Path, process: subprocess.Popen[str]) -> str:
    """Where the server listens, once it takes events."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        log = path.read_text("utf-8")
        found = re.search(r"http://127\.0\.0\.1:\d+", log.partition("the API listens at")[2])
        if found and httpx.get(f"{found[0]}/health/ready", timeout=START_S).status_code == 200:
            return found[0]
        assert process.poll() is None, log
        time.sleep(0.1)
    raise AssertionError(path.read_text("utf-8"))


class Watched:
    """A page of the browser whose errors and requests are kept."""

    def __init__(self, browser, served: Served, *, width: str = "wide", scheme: str = "light") -> None:
        wide, high = WIDTHS[width]
        self.served, self.url = served, served.url
        self.context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme)
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.context.route("**/*", self._request)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.waiting: dict[object, str] = {}
        self.page.on("request", lambda one: self.waiting.update({one: f"{one.method} {one.url}"}))
        for ended in ("requestfinished", "requestfailed"):
            self.page.on(ended, lambda one: self.waiting.pop(one, None))

    def open(self, path: str):
        answer = self.goto(path)
        self.page.wait_for_function("window.did_handshake === true")
        return answer

    def goto(self, path: str):
        """Open what is there; where it does not come, say what was waited for, and what the server was doing."""
        try:
            return self.page.goto(self.url + path, wait_until="load")
        except NotInTime as error:
            raise AssertionError(
                f"{error}\nat {self.page.url}, not answered: {list(self.waiting.values())}\n{self.served.doings()}"
            ) from error

    def check(self) -> None:
        """Nothing went wrong, nothing left the machine, nothing that is data ran."""
        assert self.errors == []
        assert self.foreign == []
        assert self.page.evaluate("window.hacked") is None

    def close(self) -> None:
        self.context.close()

    def _request(self, route) -> None:
        if route.request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()
