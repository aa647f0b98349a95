"""The pages, which a process of their own makes and keeps up to date: requests for them are handed on, and what comes back, as it comes.

Who may see them is settled before anything gets here; the process beside is told who asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpcore
from starlette.exceptions import HTTPException
from starlette.requests import Request

from penstock.serving.inside import AS, header_of
from penstock.serving.problems import ProblemError
from penstock.serving.raw_socket import BYTES, PIECE

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

API = ("/v1/", "/api/", "/health/")
START_S = 20.0
"""How long a page waits for the process that makes it, which may just be starting."""

ANSWER_S = 25.0
"""How long for an answer, or for the next piece of one: more than a page may take to be built."""

LOOK_S = 0.05
_OWN = frozenset(
    {
        *(AS, b"authorization", b"x-api-key", b"cookie"),
        *(b"connection", b"keep-alive", b"transfer-encoding", b"te", b"content-length", b"expect"),
    }
)
"""Headers of a request that end here: those of the connection, and what shows who asks."""
_OF_CONNECTION = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date"})


class PagesProxy:
    """An ASGI application that hands everything on, but for the API's paths: what is unknown there is a problem, not a page.

    Parameters
    ----------
    path
        The Unix socket on which the pages are served.
    mend
        Called where nobody answers there: to start it anew.
    """

    def __init__(self, path: Path, mend: Callable[[], None]) -> None:
        self._path, self._mend = path, mend
        # A connection a request: to connect here costs little, and none is left from a process that has ended.
        self._pool = httpcore.AsyncConnectionPool(
            uds=str(path), max_connections=64, max_keepalive_connections=0
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or a socket."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["path"].startswith(API):
            raise HTTPException(
                404,
                f"there is no {scope['method']} {scope['path']}; GET /v1/openapi.json lists all that there is.",
            )
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        target = b"?".join(filter(None, (scope["raw_path"], scope["query_string"])))
        request = httpcore.Request(
            scope["method"],
            httpcore.URL(scheme=b"http", host=b"pages", target=target),
            headers=[*_passed_on(scope), (b"content-length", b"%d" % len(body))],
            content=body,
            extensions={"timeout": {"connect": 1.0, "read": ANSWER_S, "write": ANSWER_S, "pool": ANSWER_S}},
        )
        answer = await self._answer(request)
        try:
            headers = [one for one in answer.headers if one[0].lower() not in _OF_CONNECTION]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for piece in answer.aiter_stream():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _answer(self, request: httpcore.Request) -> httpcore.Response:
        until = time.monotonic() + START_S
        while True:
            try:
                return await self._pool.handle_async_request(request)
            except httpcore.ConnectError as error:
                self._mend()
                if time.monotonic() > until:
                    raise _away() from error
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                raise _away() from error
            await asyncio.sleep(LOOK_S)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the wish to connect
        if BYTES not in scope.get("extensions", {}):
            raise RuntimeError("the web server gives sockets as messages, not as bytes")
        try:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=PIECE)
        except OSError:
            self._mend()
            await send({"type": "websocket.close", "code": 1013})
            return
        target = b"?".join(filter(None, (scope["raw_path"], scope["query_string"])))
        lines = [b"GET " + target + b" HTTP/1.1", b"connection: Upgrade"]
        lines += [name + b": " + value for name, value in _passed_on(scope)]
        writer.write(b"\r\n".join((*lines, b"", b"")))
        ways = {
            asyncio.ensure_future(_there(receive, writer)),
            asyncio.ensure_future(_back(reader, send)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
        await send({"type": "websocket.close", "code": 1000})


async def _there(receive: Receive, writer: asyncio.StreamWriter) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        writer.write(message["bytes"])
        await writer.drain()


async def _back(reader: asyncio.StreamReader, send: Send) -> None:
    while piece := await reader.read(PIECE):
        await send({"type": "websocket.send", "bytes": piece})


def _passed_on(scope: Scope) -> Iterator[tuple[bytes, bytes]]:
    for name, value in scope["headers"]:
        if name not in _OWN:
            yield name, value
    yield AS, header_of(scope["identity"])


def _away() -> ProblemError:
    from http import HTTPStatus

    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "busy",
        "the pages do not answer; they are started anew. Ask again in a moment. Events are taken all the while.",
        retry_after_s=2.0,
    )
