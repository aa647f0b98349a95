"""The edge of the HTTP API: what every request passes before the application sees it. Pure ASGI.

In this order: headers within bounds, a request id, the host, the origin, who asks, the caller's rate; then the body, bounded and in time.
Answers of the edge are small and say nothing that the request said.

Who is in the same process may put an `Identity` into the connection's scope (``scope["identity"]``); nobody outside can. Such
requests pass host, origin, authentication and rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.core.errors import StoreError
from penstock.core.limits import MAX_EVENT_BYTES
from penstock.serving.access import PUBLIC, Identity
from penstock.serving.authentication import Authentication
from penstock.serving.exchange import Exchange, Held
from penstock.serving.headers import Seen, look_at
from penstock.serving.origins import Origins
from penstock.serving.problems import ProblemError, problem_of, response_of
from penstock.serving.rates import Rates

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

    from penstock.app.settings import ServeSettings

MOST_PUBLIC_BYTES = 4096
"""Most bytes in the body of a request that needs no key."""

MANY_EVENTS = ("/v1/endpoints/", "/v1/sources/", "/ingest", "/api/")
"""How paths begin whose bodies may hold many events."""


class Edge:
    """Guards an application.

    Parameters
    ----------
    app
        What is behind it.
    settings
        ``[serve]`` of the project.
    authentication
        Tells who asks.
    now_s
        Seconds that only go forward.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServeSettings,
        authentication: Authentication,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._authentication = authentication
        self._origins = Origins(settings.host, settings.allowed_hosts)
        self._rates = Rates(settings.rate, now_s=now_s)
        self._held = Held()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer what must not pass, and hand on the rest."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        seen = look_at(scope["headers"])
        scope["request_id"] = seen.request_id
        exchange = Exchange(scope, receive, send, held=self._held, settings=self._settings)
        try:
            identity = self._identity(scope, seen)
            scope["identity"] = identity
            exchange.bound(seen, self._most_bytes(scope))
        except ProblemError as problem:
            await self._refuse(scope, exchange, problem)
            return
        alive = self._authentication.alive(identity)
        if kind == "websocket":
            await exchange.socket(self._app, alive)
        else:
            await exchange.request(self._app, alive)

    def _identity(self, scope: Connection, seen: Seen) -> Identity | None:
        """Who asks; raises `ProblemError` for who may not even ask."""
        if seen.problem is not None:
            raise seen.problem
        inside = scope.get("identity")
        if isinstance(inside, Identity):
            return inside
        self._origins.check(scope, seen)
        try:
            identity = self._authentication.identity(scope, seen)
        except StoreError as error:
            raise problem_of(error) from error
        if identity is not None:
            self._rates.take(identity)
        return identity

    def _most_bytes(self, scope: Connection) -> int:
        if (scope.get("method"), scope["path"]) in PUBLIC:
            return MOST_PUBLIC_BYTES
        if scope["path"].startswith(MANY_EVENTS):
            return self._settings.max_body_bytes
        return MAX_EVENT_BYTES

    async def _refuse(self, scope: Connection, exchange: Exchange, problem: ProblemError) -> None:
        if scope["type"] == "websocket":
            await exchange.refuse_socket()
            return
        await exchange.answer(response_of(problem, scope["request_id"]))
