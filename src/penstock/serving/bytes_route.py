"""Hot routes: bytes in, bytes out, without FastAPI's parameters and models, and past the router and the layers of an application.

A `BytesRoute` is in the application like every other route: in its OpenAPI document, in the table of scopes, in the router's list. `HotRoutes`,
around the application, finds it by its path first and calls it straight away; the two ways end in the same `BytesRoute.answer`. What no hot
route is for (another path, another method) goes to the application.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.routing import iter_route_contexts
from starlette.middleware.errors import ServerErrorMiddleware

from penstock.core.errors import PenstockError
from penstock.serving.access import GuardedRoute, check
from penstock.serving.problems import ProblemError, answer_to

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

_JSON = (b"content-type", b"application/json")


class BytesRoute(GuardedRoute):
    """A route whose function takes the request and the path's parameters, and is called with nothing in between."""

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer what the router found."""
        if scope["method"] in self.required:
            await self.answer(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    async def answer(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer a request whose path and method are this route's; 401 or 403 before anything of the body is read."""
        function: Callable[..., Awaitable[Response]] = self.endpoint
        try:
            if (required := self.required[scope["method"]]) is not None:
                check(scope.get("identity"), required)
            response = await function(Request(scope, receive, send), **scope["path_params"])
        except (ProblemError, PenstockError) as error:
            response = answer_to(error, str(scope.get("request_id", "")))
        await response(scope, receive, send)


class JsonBytes(Response):
    """A success whose body is JSON already."""

    def __init__(self, body: bytes) -> None:
        # What the class above finds out about its arguments is known here.
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [_JSON, (b"content-length", b"%d" % len(body))]


class HotRoutes:
    """An application whose `BytesRoute`s are tried first.

    Parameters
    ----------
    app
        Answers all that is not theirs.
    routes
        What to try, in order.
    defect
        The application's own answer to an error that nobody foresaw.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BytesRoute], defect: Any = None) -> None:
        self._app = app
        self._ways = [
            (method, route.path_regex.match, route) for route in routes for method in route.required
        ]
        self._hot = ServerErrorMiddleware(_answer, handler=defect)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Call the route that a request is for, or the application."""
        if scope["type"] == "http" and not scope.get("root_path"):
            for method, match, route in self._ways:
                if method == scope["method"] and (found := match(scope["path"])) is not None:
                    scope["route"], scope["path_params"] = route, _parameters(route, found.groupdict())
                    await self._hot(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(scope: Connection, receive: Receive, send: Send) -> None:
    await scope["route"].answer(scope, receive, send)


def _parameters(route: BytesRoute, found: Mapping[str, str]) -> dict[str, Any]:
    return {name: route.param_convertors[name].convert(text) for name, text in found.items()}


def hot_routes_of(app: FastAPI) -> list[BytesRoute]:
    """The hot routes of an application, in the order of its router."""
    found = (context.original_route for context in iter_route_contexts(app.router.routes))
    return [route for route in found if isinstance(route, BytesRoute)]
