"""Proxies that end TLS: whose word counts for how a request came."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope as Connection

_SECURE = frozenset({"https", "wss"})


class Proxies:
    """The proxies of ``[serve] trusted_proxies``.

    Parameters
    ----------
    trusted
        Their networks; one address is a network, too.

    Examples
    --------
    >>> came = {"scheme": "http", "client": ("127.0.0.1", 4711)}
    >>> Proxies([IPv4Network("127.0.0.1")]).is_secure(came, b"https"), Proxies([]).is_secure(came, b"https")
    (True, False)
    """

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    def is_secure(self, scope: Connection, proto: bytes | None) -> bool:
        """Whether the browser used HTTPS: as the connection says, or the ``X-Forwarded-Proto`` of a trusted proxy.

        Each proxy on the way may add a value, the nearest one last; that is the one that counts.
        """
        if scope["scheme"] in _SECURE:
            return True
        if proto is None or not self._trusted:
            return False
        nearest = proto.replace(b";", b",").rpartition(b",")[2].strip().lower()
        return nearest == b"https" and self._is_trusted(scope.get("client"))

    def _is_trusted(self, client: tuple[str, int] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return False
        return any(address in network for network in self._trusted)
