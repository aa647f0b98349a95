"""Hot routes: bytes in, bytes out, without FastAPI's parameters and models."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from penstock.serving.access import GuardedRoute


class BytesRoute(GuardedRoute):
    """A route whose function takes the request and the path's parameters, and is called with nothing in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            return await endpoint(request, **request.path_params)

        return handle
