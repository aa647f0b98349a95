"""Against attacks that go through a browser: the host that a request names, and the page that it comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    from starlette.types import Scope as Connection

    from penstock.serving.headers import Seen

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({b"same-origin", b"none"})


class Origins:
    """Which hosts may be named, and from which pages requests may come.

    A page of a foreign site whose name leads here (DNS rebinding) names a foreign host. A page of a foreign site that sends forms
    or opens sockets says so in ``Origin`` or ``Sec-Fetch-Site``, which no script can change.

    Parameters
    ----------
    host
        The address that is listened on.
    allowed_hosts
        More names, without ports.
    """

    def __init__(self, host: str, allowed_hosts: Sequence[str]) -> None:
        own = () if is_any_address(host) else (host,)
        self._allowed = frozenset(name.lower().rstrip(".") for name in (*LOOPBACK, *own, *allowed_hosts))

    def check(self, scope: Connection, seen: Seen) -> None:
        """Raise `ProblemError` unless a request may come from where it comes from, for where it goes to."""
        if seen.host is None or name_of(seen.host) not in self._allowed:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "foreign_host",
                "the host that the request names is not served here. Add it to allowed_hosts in [serve] of penstock.toml.",
            )
        if scope["type"] == "http" and scope["method"] in _SAFE:
            # A link may lead here; a foreign page's script may not even ask, since asking may begin long work.
            if seen.site is None or seen.site in _OWN_SITES or seen.mode == b"navigate":
                return
            raise _foreign()
        foreign = seen.origin is not None and _host_of(seen.origin) != seen.host.lower()
        if foreign or (seen.site is not None and seen.site not in _OWN_SITES):
            raise _foreign()


def _foreign() -> ProblemError:
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        "foreign_origin",
        "a browser sent this for a page of another site. Only the own pages may ask for anything.",
    )


@lru_cache(maxsize=1024)
def name_of(host: bytes) -> str:
    """The name in a Host header: without its port, in small letters.

    >>> name_of(b"Localhost:8000"), name_of(b"[::1]:8000"), name_of(b"127.0.0.1")
    ('localhost', '::1', '127.0.0.1')
    """
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        return name if not rest or _is_port(rest) else ""
    name, colon, port = text.partition(":")
    return name.rstrip(".") if not colon or _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isdigit()


def _host_of(origin: bytes) -> bytes:
    scheme, separator, host = origin.lower().partition(b"://")
    return host if separator and scheme in {b"http", b"https"} else b""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_any_address(host: str) -> bool:
    """Whether an address stands for all of the machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
