"""Quality for ``GET /metrics``: made anew now and then by a process of its own, while somebody scrapes, at a bounded share of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from penstock.app.child import Child
from penstock.app.quality_figures import EndpointQuality, measured, read_quality
from penstock.definitions.project import Project

RATE = 0.05
"""The share of one processor that it may take."""
LEAST_PAUSE_S = 60.0
WANTED_S = 600.0
"""Nothing is made where nobody has asked for so long."""
_END_S = 1.0


class QualityBeside:
    """Starts the process, one at a time, and reads what it wrote.

    Parameters
    ----------
    root
        The project's folder.
    project
        The definitions now.
    """

    def __init__(
        self, root: Path, project: Callable[[], Project], *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._project, self._now_s = root, project, now_s
        self._child: Child | None = None
        self._begun_s, self._next_s, self._asked_s = 0.0, float("-inf"), float("-inf")
        self.newest: list[EndpointQuality] = []
        """What was made last."""

    def ask(self) -> None:
        """Somebody wants to know; any thread may say so."""
        self._asked_s = self._now_s()

    def look(self) -> None:
        """Read what came, and start anew where it is time; call it every few seconds, from one thread."""
        now = self._now_s()
        if self._child is not None:
            if self._child.returncode is None:
                return
            self._child.wait()
            self._child = None
            self._next_s = now + max((now - self._begun_s) / RATE, LEAST_PAUSE_S)
        defined = {monitor.endpoint.name for monitor in measured(self._project())}
        self.newest = [one for one in read_quality(self._root) if one.endpoint in defined]
        if defined and now >= self._next_s and now - self._asked_s < WANTED_S:
            self._begun_s = now
            self._child = Child("penstock.app.quality_figures", str(self._root))

    def close(self) -> None:
        """End what is under way."""
        if self._child is not None:
            self._child.end(_END_S)
            self._child = None
