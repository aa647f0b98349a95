"""Around the application: every request is counted by the template of its route, logged where that is asked for, and traced."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.app.logs import logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from penstock.app.tracing import Tracing
    from penstock.serving.request_counts import RequestCounts

_log = logger("penstock.access")
FAILED = 500
"""The status of a request that ended without an answer."""


class WatchedRequests:
    """Pure ASGI middleware; it adds some microseconds to a request.

    Parameters
    ----------
    app
        What it stands around.
    requests
        Told of each request that was answered.
    access
        Whether to log a line for each.
    tracing
        Where spans go; None: none are made.
    """

    def __init__(
        self, app: ASGIApp, *, requests: RequestCounts, access: bool = False, tracing: Tracing | None = None
    ) -> None:
        self._app, self._requests, self._access, self._tracing = app, requests, access, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = FAILED, time.perf_counter()
        times = None if self._tracing is None else self._tracing.request(scope["headers"])

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            route = template_of(scope)
            self._requests.add(route, scope["method"], status, seconds)
            if times is not None:
                times.end(scope["method"], route, status)
            if self._access:
                _log.info(
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status,
                    ms=round(seconds * 1000, 3),
                    request_id=str(scope.get("request_id", "")),
                )


def template_of(scope: Scope) -> str | None:
    """The template of the route that a request came to, such as ``/v1/sources/{source}/events``; None where there was none."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None
