"""The way from pages to the API: over HTTP, in the same process, as whoever is signed in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.core.errors import NotFoundError, PenstockError
from penstock.serving.access import Identity

BASE = "http://127.0.0.1"
TIMEOUT_S = 30.0


class RefusedError(PenstockError):
    """The API answered that a request cannot be, and why.

    Attributes
    ----------
    status
        The status of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PageClient:
    """Asks the API that an application serves.

    Parameters
    ----------
    app
        The application; requests to it take no socket.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._clients: dict[Identity, httpx.AsyncClient] = {}

    async def get(self, who: Identity, path: str) -> Any:
        """What the API says."""
        return await self.send(who, "GET", path)

    async def send(self, who: Identity, method: str, path: str, body: object = None) -> Any:
        """The answer to a request of `who`, who may what the API says that they may.

        Raises
        ------
        NotFoundError
            There is no such thing.
        RefusedError
            It may not be, or not now; the message is the API's own.
        """
        try:
            answer = await self._client(who).request(method, path, json=body)
        except httpx.HTTPError as error:
            raise RefusedError(f"{method} {path}: {error}", 0) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        message = _detail(answer)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(message)
        raise RefusedError(message, answer.status_code)

    def _client(self, who: Identity) -> httpx.AsyncClient:
        found = self._clients.get(who)
        if found is None:
            transport = httpx.ASGITransport(_As(self._app, who), raise_app_exceptions=False)
            found = self._clients[who] = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=TIMEOUT_S)
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


def _detail(answer: httpx.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        found = None
    detail = found.get("detail") if isinstance(found, dict) else None
    return str(detail or f"status {answer.status_code}")
