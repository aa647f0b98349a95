"""Between our own processes on one machine: requests over a Unix socket that nobody else can open, which say as whom they ask.

The sockets stand in a folder that only the server's own user may enter. What comes over them passes no host, origin or key: a header of the
request names the caller, as the process found it that let it in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.serving.access import Identity
from penstock.serving.bytes_route import JsonBytes
from penstock.stores.keys import Scope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

AS = b"x-penstock-as"
"""The header that names the caller."""


class _Caller(msgspec.Struct):
    """An `Identity` on its way; its rate was seen to where it came in."""

    name: str
    scopes: list[Scope]
    key_id: str
    ends_us: int


_decoder = msgspec.json.Decoder(_Caller)


def header_of(identity: Identity) -> bytes:
    """The header's value for a caller.

    >>> identity_of(header_of(Identity("ana", frozenset({Scope.READ}), "k1"))).may(Scope.READ)
    True
    """
    caller = {"name": identity.name, "scopes": sorted(identity.scopes), "key_id": identity.key_id}
    return json.dumps(caller | {"ends_us": identity.ends_us}).encode()  # ASCII, as headers are


def identity_of(value: bytes) -> Identity:
    """The caller that a header's value names."""
    found = _decoder.decode(value)
    return Identity(found.name, frozenset(found.scopes), key_id=found.key_id, ends_us=found.ends_us)


class Inside:
    """An application as our own processes see it.

    Parameters
    ----------
    app
        What answers; it finds the caller in the connection's scope.
    also
        Bodies, JSON, of more paths that are there for our own processes only.
    """

    def __init__(self, app: ASGIApp, also: Mapping[str, Callable[[], bytes]] | None = None) -> None:
        self.app = app
        self._also = also or {}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Hand on what one of our processes asks."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["path"] in self._also:
            await JsonBytes(self._also[scope["path"]]())(scope, receive, send)
            return
        named = next((value for name, value in scope["headers"] if name == AS), None)
        if named is not None:
            scope["identity"] = identity_of(named)
        await self.app(scope, receive, send)
