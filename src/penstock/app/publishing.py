"""The thread that publishes the states of a running project's keys, where ``[online]`` names a Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.core.errors import PenstockError, StoreError
from penstock.engine.publishing import Publisher

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

PROBLEM = "online"
POLL_S, AGAIN_S = 0.005, 1.0
TIMEOUT_S = 2.0
DRAIN_S = 5.0
"""How long the end of a run waits for what is not published yet; the next start publishes all of it."""


@contextmanager
def publishing(runtime: Runtime) -> Iterator[None]:
    """While open, the states of the keys of `runtime` are published, if its settings say where to."""
    if runtime.settings.online.url is None:
        yield
        return
    thread = _Publishing(runtime, runtime.settings.online.url)
    try:
        yield
    finally:
        thread.close()


class _Publishing:
    """What goes wrong stands in `Runtime.problems` under ``online``, and is tried again."""

    def __init__(self, runtime: Runtime, url: str) -> None:
        from penstock.stores.redis_blobs import RedisBlobs

        self._runtime = runtime
        self._blobs = RedisBlobs(url, timeout_s=TIMEOUT_S)
        self._stop = threading.Event()
        self._until_s = float("inf")
        self.publisher = Publisher(
            runtime.engine,
            store_id=runtime.store.store_id,
            wait_until_durable=self._wait_until_durable,
            blobs=self._blobs,
            namespace=namespace_of(runtime.settings.online.namespace, runtime.project.name),
            clock=runtime.clock,
        )
        self._thread = threading.Thread(target=self._run, name="penstock-online", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, once all is published, or after a moment."""
        self._until_s = time.monotonic() + DRAIN_S
        self._stop.set()
        self._thread.join()
        try:
            self._runtime.engine.flush()
            while self.publisher.step() and time.monotonic() < self._until_s:
                pass
        except PenstockError as error:
            self._runtime.problems[PROBLEM] = str(error)
        finally:
            self._blobs.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                wait_s = 0.0 if self.publisher.step() else POLL_S
                self._runtime.problems.pop(PROBLEM, None)
            except PenstockError as error:
                self._runtime.problems[PROBLEM], wait_s = str(error), AGAIN_S
            if wait_s:
                self._stop.wait(wait_s)

    def _wait_until_durable(self, position: int) -> None:
        while self._runtime.store.next_position < position:
            if self._runtime.engine.stopped or time.monotonic() > self._until_s:
                raise StoreError(
                    "online store: the engine stopped before what was to be published was durable."
                )
            time.sleep(0.0005)


def namespace_of(given: str | None, project: str) -> str:
    """Under which name a project's states are kept."""
    return given or project
