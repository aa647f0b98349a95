"""Who may do what."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route with a scope."""

    def get_route_handler(self) -> Handler:
        """The handler behind the guard."""
        return self.guarded(super().get_route_handler())

    def guarded(self, handler: Handler) -> Handler:
        """`handler`, for those who may."""
        return handler
