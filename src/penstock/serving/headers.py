"""One look at the headers of a request: those that the edge needs, and whether there are too many."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from http import HTTPStatus

from penstock.serving.problems import ProblemError

MAX_COUNT = 100
MAX_BYTES = 32 << 10

_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")
_SINGLE = frozenset(
    {
        b"host",
        b"origin",
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"x-request-id",
        b"sec-fetch-mode",
        b"sec-fetch-site",
    }
)
_PROXIED = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""What proxies add; one that adds nothing cannot be seen."""

_WANTED = _SINGLE | _PROXIED | {b"cookie"}


class Seen:
    """What was found among the headers; None where one is missing.

    `problem` is set where they are more than a request needs, or one that must stand alone stands twice.
    """

    __slots__ = (
        "authorization",
        "content_length",
        "cookie",
        "forwarded",
        "host",
        "key",
        "mode",
        "origin",
        "problem",
        "proto",
        "request_id",
        "site",
    )

    def __init__(self, found: dict[bytes, bytes], problem: ProblemError | None) -> None:
        get = found.get
        self.host = get(b"host")
        self.origin = get(b"origin")
        self.site = get(b"sec-fetch-site")
        self.mode = get(b"sec-fetch-mode")
        self.authorization = get(b"authorization")
        self.key = get(b"x-api-key")
        self.cookie = get(b"cookie")
        self.proto = get(b"x-forwarded-proto")
        self.forwarded = not _PROXIED.isdisjoint(found)
        self.content_length = get(b"content-length")
        self.problem = problem
        given = get(b"x-request-id")
        self.request_id = (
            given.decode() if given is not None and _ID.fullmatch(given) else os.urandom(12).hex()
        )


def look_at(headers: Sequence[tuple[bytes, bytes]]) -> Seen:
    """What the edge needs of the headers, of which the names are in small letters."""
    if len(headers) > MAX_COUNT:
        return Seen({}, _too_large(f"more than {MAX_COUNT} headers"))
    found: dict[bytes, bytes] = {}
    total = 0
    problem = None
    for name, value in headers:
        total += len(name) + len(value)
        if name in _WANTED:
            if name not in found:
                found[name] = value
            elif name in _SINGLE:
                problem = _twice(name)
            else:
                found[name] += b"; " + value
    if total > MAX_BYTES:
        problem = _too_large(f"more than {MAX_BYTES} bytes of headers")
    return Seen(found, problem)


def _too_large(found: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", f"{found} came; send fewer."
    )


def _twice(name: bytes) -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST,
        "bad_headers",
        f"the header {name.decode()} came more than once; send it once.",
    )
