"""The way from pages to the API: over HTTP, in the same process, as whoever is signed in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.client import AsyncClient
from penstock.core.errors import InputError
from penstock.serving.access import Identity

BASE = "http://127.0.0.1"
TIMEOUT_S = 130.0
"""Tracing a decision back may take two minutes."""


class PageClient:
    """Asks the API that an application serves, as one identity or another.

    Parameters
    ----------
    app
        The application; requests to it take no socket.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._clients: dict[Identity, AsyncClient] = {}

    async def get(self, who: Identity, path: str) -> Any:
        """What the API says at a path with its query; raises what `AsyncClient` raises."""
        place, _, asked = path.partition("?")
        return await self._client(who).get(place, **dict(parse_qsl(asked)))

    async def send(self, who: Identity, method: str, path: str, body: object = None) -> Any:
        """Ask for a change: POST or PUT with a body, or DELETE with a query."""
        place, _, asked = path.partition("?")
        client, params = self._client(who), dict(parse_qsl(asked))
        if method == "POST":
            return await client.post(place, body, **params)
        if method == "PUT":
            return await client.put(place, body, **params)
        if method == "DELETE":
            return await client.delete(place, **params)
        raise InputError(f"page: method {method!r} found; allowed are POST, PUT and DELETE.")

    def _client(self, who: Identity) -> AsyncClient:
        found = self._clients.get(who)
        if found is None:
            # The client is that of all who look with the same key; when one of them has to go, the page's socket tells.
            lasting = replace(who, ends_us=0) if who.ends_us else who
            transport = httpx.ASGITransport(_As(self._app, lasting), raise_app_exceptions=False)
            found = self._clients[who] = AsyncClient(
                BASE, timeout=TIMEOUT_S, retries=False, transport=transport
            )
        return found


class _As:
    """An application as one identity sees it. Only who is in the same process can say who asks."""

    def __init__(self, app: ASGIApp, who: Identity) -> None:
        self._app, self._who = app, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "identity": self._who}, receive, send)


def query(path: str, **values: object) -> str:
    """A path with its query; what is empty is left out.

    >>> query("/v1/decisions", action="block", key="", limit=5)
    '/v1/decisions?action=block&limit=5'
    """
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
