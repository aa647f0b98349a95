"""The process beside a server that makes its pages: started with it, ended with it, started anew where it ended by itself.

It stands between two Unix sockets in a folder that nobody else may enter: on one it is asked for pages, over the other it asks the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starlette.routing import Mount

from penstock.app.child import Child
from penstock.dashboard.places import READING_PLAN, api_socket, pages_socket
from penstock.dashboard.reading_plan import encoded
from penstock.serving.inside import Inside
from penstock.serving.pages_proxy import PagesProxy

if TYPE_CHECKING:
    from fastapi import FastAPI

    from penstock.app.runtime import Runtime

AGAIN_S = 5.0
_END_S = 1.0


class PagesBeside:
    """Makes the pages of a project elsewhere; use it as a context manager around the server.

    Parameters
    ----------
    runtime
        The open project.
    """

    def __init__(self, runtime: Runtime, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._now_s = now_s
        self._started_s = -float("inf")
        self._folder: TemporaryDirectory[str] | None = None
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="penstock-")  # a short path: one of a socket has 107 bytes
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end(_END_S)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Where the sockets stand."""
        assert self._folder is not None, "it is entered first"
        return Path(self._folder.name)

    def mend(self) -> None:
        """Start the process where it does not run, `AGAIN_S` seconds after the last start at the earliest."""
        ended = self._child is None or self._child.returncode is not None
        if ended and self._now_s() - self._started_s >= AGAIN_S:
            self._started_s = self._now_s()
            pages_socket(self.folder).unlink(missing_ok=True)
            self._child = Child(
                "penstock.dashboard.process", str(self._runtime.project.root), str(self.folder), logs=True
            )

    def shown_on(self, app: FastAPI) -> tuple[Inside, Path]:
        """Let an application have the pages, at every path that it does not know, and say what is to listen for them, and where."""
        app.router.routes.append(Mount("/", PagesProxy(pages_socket(self.folder), self.mend)))
        return Inside(app, {READING_PLAN: lambda: encoded(self._runtime.plan)}), api_socket(self.folder)
