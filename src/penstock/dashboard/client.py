"""The way from pages to the API: over HTTP and a socket of our own, as whoever is signed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx

from penstock.client import AsyncClient
from penstock.core.errors import InputError
from penstock.dashboard.live_reads import LIVE, LiveReads
from penstock.dashboard.own_reads import OwnReads
from penstock.dashboard.places import READING_PLAN, api_socket
from penstock.serving.access import Identity
from penstock.serving.inside import AS, header_of

BASE = "http://127.0.0.1"
TIMEOUT_S = 130.0
"""Tracing a decision back may take two minutes."""

MOST_LIVE = 32
"""Live histories that are kept: a caller has three."""


class PageClient:
    """Asks the API as one identity or another.

    Parameters
    ----------
    transport
        The way to it.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._clients: dict[Identity, AsyncClient] = {}
        self._live: dict[tuple[Identity, str], LiveReads] = {}

    async def get(self, who: Identity, path: str) -> Any:
        """What the API says at a path with its query; raises what `AsyncClient` raises."""
        place, _, asked = path.partition("?")
        client, params = self._client(who), dict(parse_qsl(asked))
        if place == LIVE and "since" not in params:
            return await self._live_of(who, path, client, params).get()
        return await client.get(place, **params)

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
            found = self._clients[who] = AsyncClient(
                BASE, timeout=TIMEOUT_S, retries=False, transport=_As(self._transport, who)
            )
        return found

    def _live_of(self, who: Identity, path: str, client: AsyncClient, params: dict[str, str]) -> LiveReads:
        found = self._live.get((who, path))
        if found is None:
            if len(self._live) >= MOST_LIVE:
                self._live.clear()
            found = self._live[who, path] = LiveReads(
                lambda since: client.get(LIVE, **params | ({} if since is None else {"since": since}))
            )
        return found


class Ways(httpx.AsyncBaseTransport):
    """To the API over its socket; what the store says is read here.

    Parameters
    ----------
    root
        The project's folder.
    folder
        Where the socket stands.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._api = httpx.AsyncHTTPTransport(uds=str(api_socket(folder)))
        self._own = OwnReads(root, self._reading_plan)
        self.prepare: Callable[[], None] = self._own.prepare

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask the one or the other."""
        if self._own.takes(request):
            return await self._own.answer(request)
        return await self._api.handle_async_request(request)

    async def _reading_plan(self) -> bytes:
        answer = await self._api.handle_async_request(httpx.Request("GET", f"{BASE}{READING_PLAN}"))
        return await answer.aread()


class _As(httpx.AsyncBaseTransport):
    """A way for one identity."""

    def __init__(self, way: httpx.AsyncBaseTransport, who: Identity) -> None:
        # The client is that of all who look with the same key; when one of them has to go, the page's socket tells.
        self._way, self._who = way, header_of(replace(who, ends_us=0)).decode()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers[AS.decode()] = self._who
        return await self._way.handle_async_request(request)


def query(path: str, **values: object) -> str:
    """A path with its query; what is empty is left out.

    >>> query("/v1/decisions", action="block", key="", limit=5)
    '/v1/decisions?action=block&limit=5'
    """
    given = {name: value for name, value in values.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
