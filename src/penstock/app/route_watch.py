"""Hot swap: a running engine takes over promotions, rollbacks and weights within a second, without a pause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

LOOK_EVERY_S = 0.25


class RouteWatch:
    """Looks for changes in registry and audit log, and loads what is new beside the engine; use it as a context manager.

    Versions are verified before they serve. What goes wrong is noted in `Runtime.problems`, and the engine goes on as it was.

    Parameters
    ----------
    runtime
        The running project.
    every_s
        How often to look.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = LOOK_EVERY_S) -> None:
        self._runtime = runtime
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-routes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                if self._runtime.routes.stale():
                    self._runtime.load_routes()
                self._runtime.problems.pop("routes", None)
            except PenstockError as error:
                self._runtime.problems["routes"] = str(error)
