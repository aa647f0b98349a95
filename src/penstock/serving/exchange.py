"""One request and its answer: the body counted and timed as it comes, safe headers on what goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from penstock.serving.problems import ProblemError, response_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Send
    from starlette.types import Scope as Connection

    from penstock.app.settings import ServeSettings
    from penstock.serving.headers import Seen

MOST_HELD = 256 << 20
"""Most bytes of bodies that are held at the same time, of all requests together."""

PAGE_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    b"font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What pages may load: nothing from elsewhere. NiceGUI's pages start from inline scripts, and compile templates in the browser."""

_DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with none, browsers send the origin of a form as "null"
    (b"cross-origin-resource-policy", b"same-origin"),
]
_DATA = [*_SAFE, (b"content-security-policy", _DATA_POLICY), (b"cache-control", b"no-store")]
_PAGE = [*_SAFE, (b"content-security-policy", PAGE_POLICY)]
_PASSED_ON = frozenset({b"text/css", b"text/javascript", b"application/javascript", b"font/woff2"})


class Held:
    """How many bytes of bodies are held now."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Exchange:
    """A request on its way in and its answer on its way out."""

    __slots__ = (
        "_alive",
        "_bytes",
        "_deadline",
        "_done",
        "_ends",
        "_held",
        "_most",
        "_problem",
        "_receive",
        "_scope",
        "_send",
        "_settings",
        "_started",
    )

    def __init__(
        self, scope: Connection, receive: Receive, send: Send, *, held: Held, settings: ServeSettings
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._held, self._settings = held, settings
        self._most = self._bytes = 0
        self._deadline = 0.0
        self._problem: ProblemError | None = None
        self._alive: Callable[[], bool] = lambda: True
        self._done = self._started = self._ends = False

    def bound(self, seen: Seen, most: int) -> None:
        """Take at most so many bytes of a body; raises `ProblemError` where more are announced."""
        self._most = most
        length = seen.content_length
        if length is None:
            return
        if not length.isdigit() or len(length) > 18:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "bad_headers", "the header content-length is no number."
            )
        if int(length) > most:
            raise _too_large(most)

    async def request(self, app: ASGIApp, alive: Callable[[], bool]) -> None:
        """Let `app` answer; what breaks a bound is answered here, whatever `app` makes of it.

        An answer that goes on and on ends when the caller's identity holds no more. One that has told its length is sent to its end, as the
        identity held when it was asked for: half a page is nothing that a browser could show, or ask for again.
        """
        self._alive = alive
        try:
            await app(self._scope, self._take, self._give)
        except Exception:
            if self._problem is None:
                raise
        finally:
            self._held.count -= self._bytes
        if self._problem is not None and not self._started:
            response = response_of(self._problem, self._scope["request_id"])
            response.headers["connection"] = "close"  # the rest of the body is not waited for
            await self.answer(response)

    async def answer(self, response: Response) -> None:
        """Send an answer of the edge's own."""
        self._problem = None
        await response(self._scope, self._receive, self._give)

    async def _take(self) -> Message:
        if self._done:
            return await self._receive()
        if self._problem is not None:
            raise self._problem
        loop = asyncio.get_running_loop()
        if not self._deadline:
            self._deadline = loop.time() + self._settings.body_timeout_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise self._broken(_too_slow(self._settings.body_timeout_s)) from None
        if message["type"] == "http.disconnect":
            raise self._broken(_gone())
        if not message.get("more_body", False):
            self._done = True
        size = len(message.get("body", b""))
        self._bytes += size
        self._held.count += size
        if self._bytes > self._most:
            raise self._broken(_too_large(self._most))
        if self._held.count > MOST_HELD:
            raise self._broken(_too_many())
        return message

    def _broken(self, problem: ProblemError) -> ProblemError:
        self._problem = problem
        return problem

    async def _give(self, message: Message) -> None:
        if self._problem is not None and not self._started:
            return  # what the application says of it is not needed
        if message["type"] == "http.response.start":
            self._started = True
            self._ends = any(name == b"content-length" for name, _ in message["headers"])
            message["headers"] = [*message["headers"], *self._added(message["headers"])]
            if message["status"] == HTTPStatus.UNAUTHORIZED:
                message["headers"].append((b"www-authenticate", b"Bearer"))
        elif message.get("more_body", False) and not self._ends and not self._alive():
            raise self._broken(_ended())
        await self._send(message)

    def _added(self, headers: Any) -> list[tuple[bytes, bytes]]:
        kind, has_policy = b"", False
        for name, value in headers:
            if name == b"content-type":
                kind = value.partition(b";")[0]
            elif name == b"content-security-policy":
                has_policy = True
        identified = (b"x-request-id", self._scope["request_id"].encode())
        if has_policy or kind in _PASSED_ON or kind.startswith((b"image/", b"font/")):
            return [*_SAFE, identified]
        return [*(_PAGE if kind == b"text/html" else _DATA), identified]

    async def socket(self, app: ASGIApp, alive: Callable[[], bool]) -> None:
        """Let `app` talk over a socket for as long as the caller's identity holds."""

        async def take() -> Message:
            message = await self._receive()
            return message if alive() else {"type": "websocket.disconnect", "code": 1008}

        async def give(message: Message) -> None:
            if message["type"] == "websocket.send" and not alive():
                message = {"type": "websocket.close", "code": 1008}
            await self._send(message)

        await app(self._scope, take, give)

    async def refuse_socket(self) -> None:
        """Do not open a socket."""
        await self._receive()  # the wish to connect
        await self._send({"type": "websocket.close", "code": 1008, "reason": ""})


def _ended() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "the key does not work any more: it has expired, or was revoked.",
    )


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"the body is larger than {most} bytes; nothing of it was stored. Send the events in parts.",
    )


def _too_slow(seconds: float) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_TIMEOUT,
        "body_too_slow",
        f"the body did not come within {seconds:g} seconds; nothing of it was stored.",
    )


def _gone() -> ProblemError:
    """Told to nobody, and counted as the caller's."""
    return ProblemError(
        HTTPStatus.BAD_REQUEST,
        "connection_closed",
        "the connection closed before the whole body had come; nothing of it was stored.",
    )


def _too_many() -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "busy",
        "too many large requests at the same time; nothing of this one was stored. Ask again later.",
        retry_after_s=1.0,
    )
