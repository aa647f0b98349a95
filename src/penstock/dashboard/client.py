"""The way from pages to the API: over HTTP, in the same process, as whoever is signed in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.types import ASGIApp

from penstock.core.errors import NotFoundError, PenstockError

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
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 0))
        self._http = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=TIMEOUT_S)

    async def get(self, session: str, path: str) -> Any:
        """What the API says."""
        return await self.send(session, "GET", path)

    async def send(self, session: str, method: str, path: str, body: object = None) -> Any:
        """The answer to a request, as the caller whose cookies `session` holds.

        Raises
        ------
        NotFoundError
            There is no such thing.
        RefusedError
            It may not be, or not now; the message is the API's own.
        """
        headers = {"cookie": session} if session else {}
        try:
            answer = await self._http.request(method, path, headers=headers, json=body)
        except httpx.HTTPError as error:
            raise RefusedError(f"{method} {path}: {error}", 0) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        message = _detail(answer)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(message)
        raise RefusedError(message, answer.status_code)


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
