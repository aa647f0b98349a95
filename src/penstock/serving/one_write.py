"""uvicorn's HTTP protocol, whose answers leave in one piece.

uvicorn writes the head of an answer and then its body, and uvloop hands each to the system at once: two calls an answer here, and two wake-ups
for whoever waits for it. Here a head waits for what is written next, at most until the event loop comes round again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.serving.raw_socket import RawSocket, socket_scope

if TYPE_CHECKING:
    import asyncio


class OneWriteProtocol(HttpToolsProtocol):
    """The protocol of a connection; of sockets only until they are open."""

    def connection_made(self, transport: Any) -> None:
        """Take a new connection."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]

    def handle_websocket_upgrade(self) -> None:
        """Give the connection away as it came; what passes over it is not looked at here."""
        transport: Any = self.transport
        transport.flush()
        self.connections.discard(self)
        raw = RawSocket(transport.underlying, self.loop)
        self.connections.add(raw)  # type: ignore[arg-type]  # it can be shut down, as the others
        task = self.loop.create_task(raw.run(self.app, socket_scope(self.scope, self.url)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: self.connections.discard(raw))


class OneWrite:
    """A transport that writes two things at a time.

    Parameters
    ----------
    underlying
        What it writes to; all else that a transport can do is left to it.
    loop
        Whose next round sends what nothing followed.
    """

    __slots__ = ("_held", "_loop", "is_closing", "underlying")

    def __init__(self, underlying: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.underlying, self._loop = underlying, loop
        self.is_closing = underlying.is_closing
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the first, and send it with the second."""
        if self._held is None:
            self._held = data
            self._loop.call_soon(self.flush)
        else:
            held, self._held = self._held, None
            self.underlying.writelines((held, data))

    def flush(self) -> None:
        """Send what is kept."""
        held, self._held = self._held, None
        if held is not None and not self.is_closing():
            self.underlying.write(held)

    def close(self) -> None:
        """Send what is kept, and close."""
        self.flush()
        self.underlying.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.underlying, name)
