"""`penstock up` as a process, under load: what it says, how much memory it takes, and events for it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import psutil

QUIET = {"PENSTOCK_AUDIT__RATE": "0", "PENSTOCK_OFFLINE__EXPORT": "false"}
START_S = 60
MIB = 1 << 20


class Up:
    """A server that runs."""

    def __init__(self, process, url, told):
        self.process, self.url, self.told = process, url, told
        self._known = psutil.Process(process.pid)

    @property
    def memory_mib(self):
        """What the server itself holds; jobs beside it come and go."""
        return self._known.memory_info().rss / MIB

    @property
    def connections(self):
        """How many sockets are open."""
        return len(self._known.net_connections("tcp"))


@contextmanager
def up(root, told, **environment):
    """A project served by a process of its own; killed in the end, if it still runs."""
    paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
    with told.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", "from penstock.cli.main import app; app()", "up", "--port", "0"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield Up(process, _ready(process, told), told)
    finally:
        process.kill()
        process.wait(30)


def _ready(process, told):
    until = time.perf_counter() + START_S
    while True:
        found = re.search(r"http://[\w.:]+", told.read_text())
        if found is not None and _is_ready(found[0]):
            return found[0]
        assert process.poll() is None, told.read_text()
        assert time.perf_counter() < until, told.read_text()
        time.sleep(0.02)


def _is_ready(url):
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class Traffic:
    """Threads that each ask again and again, and what they were answered.

    Parameters
    ----------
    asks
        Functions of a client and a number that counts up, each in a thread of its own; they return a response.
    every_s
        How long each waits between two requests.
    """

    def __init__(self, url, asks, *, every_s=0.0):
        self.statuses, self.failures = Counter(), []
        self.seconds = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, ask, every_s), daemon=True) for ask in asks
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url, ask, every_s):
        with httpx.Client(base_url=url, timeout=60) as http:
            number = 0
            while not self._stop.is_set():
                number += 1
                begun = time.perf_counter()
                try:
                    answer = ask(http, number)
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                self.seconds.append(time.perf_counter() - begun)
                self.statuses[answer.status_code] += 1
                if answer.status_code >= 500:
                    self.failures.append(f"{answer.request.method} {answer.request.url}: {answer.text[:300]}")
                self._stop.wait(every_s)

    def end(self):
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
