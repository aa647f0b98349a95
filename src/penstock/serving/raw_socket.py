"""A connection that a browser turned into a web socket, as the bytes that pass over it.

The application gets ASGI's messages of a web socket, and what each holds is a piece of what came, as it came: the handshake's answer and frames
are the business of who is at the other end of a tunnel. ``scope["extensions"]`` says so by `BYTES`.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httptools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Scope

BYTES = "penstock.bytes"
PIECE = 64 << 10
_REFUSED = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class RawSocket:
    """One such connection; `run` it once.

    Parameters
    ----------
    transport
        The connection, of which a request's head was read.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = asyncio.StreamReader(limit=PIECE, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)
        self._is_told = self._is_open = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let `app` talk, until it has no more to say."""
        try:
            await app(scope, self._take, self._give)
        finally:
            self.shutdown()

    def shutdown(self) -> None:
        """Close it; a socket that was not opened is refused."""
        if not self._is_open and not self._writer.is_closing():
            self._writer.write(_REFUSED)
        self._writer.close()

    async def _take(self) -> Message:
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        piece = b""
        with suppress(OSError):
            piece = await self._reader.read(PIECE)
        return (
            {"type": "websocket.receive", "bytes": piece}
            if piece
            else {"type": "websocket.disconnect", "code": 1006}
        )

    async def _give(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.shutdown()
        elif message["type"] == "websocket.send":
            self._is_open = True
            self._writer.write(message["bytes"])
            await self._writer.drain()


def socket_scope(request: Mapping[str, Any], url: bytes) -> Scope:
    """The ASGI scope of a socket that a request asks for."""
    parsed = httptools.parse_url(url)
    return {
        **request,
        "type": "websocket",
        "scheme": "wss" if request["scheme"] == "https" else "ws",
        "path": urllib.parse.unquote(parsed.path.decode("ascii")),
        "raw_path": parsed.path,
        "query_string": parsed.query or b"",
        "subprotocols": [],
        "extensions": {BYTES: {}},
    }
