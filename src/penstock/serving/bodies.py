"""The events of a request's body, and what the request wants to know of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from penstock.app.event_lines import elements, lines, one_line
from penstock.serving.problems import ProblemError

MAX_EVENTS = 10_000
"""Most events in one request."""

MOST_LINES = 2 * MAX_EVENTS
MOST_COMMAS = 100 * MAX_EVENTS

AT_ONCE_BYTES = 64 << 10
"""Most bytes of a body that is taken apart in the event loop: handing it to another thread costs more."""

MAX_TIMEOUT_S = 300.0
_NDJSON = ("application/x-ndjson", "application/jsonl", "application/ndjson")
_YES, _NO = ("true", "1", "yes", ""), ("false", "0", "no")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Events:
    """Events as NDJSON; `single` where the body was one event and not a list."""

    data: bytes
    count: int
    single: bool


async def events_of(request: Request) -> Events:
    """The events of a body: one JSON object, a JSON list of them, or NDJSON by its content type."""
    is_lines = request.headers.get("content-type", "").startswith(_NDJSON)
    return await taken_apart(await body_of(request), _lines if is_lines else _json)


async def body_of(request: Request) -> bytes:
    """The whole body of a request, which the edge bounds in size and time."""
    message = await request.receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await request.receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def taken_apart(body: bytes, take: Callable[[bytes], T]) -> T:
    """What `take` makes of a body; a large one is taken apart in another thread, so that others are answered meanwhile."""
    if len(body) <= AT_ONCE_BYTES:
        return take(body)
    return await run_in_threadpool(take, body)


def _lines(body: bytes) -> Events:
    _check_parts(body.count(b"\n"), MOST_LINES, "lines")
    return _many(lines(body))


def _json(body: bytes) -> Events:
    event = one_line(body)
    if event.startswith(b"["):
        check_commas(event)
        parts = elements(event)
        if parts is None:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "malformed_json",
                "the body starts as a list of events and is not valid JSON; nothing of it was stored. Send a list of objects.",
            )
        return _many(parts)
    if not event:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "malformed_json",
            "the body is empty. Send an event as a JSON object, a list of them, or NDJSON as application/x-ndjson.",
        )
    return Events(event, 1, single=True)


def check_commas(body: bytes) -> None:
    """Raise `ProblemError` where a body has more commas than so many events can have."""
    _check_parts(body.count(b","), MOST_COMMAS, "commas")


def _check_parts(found: int, allowed: int, what: str) -> None:
    """Refuse what would only be taken apart to be refused; that would hold up everybody else."""
    if found > allowed:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_events",
            f"{found} {what} in one request; allowed are {allowed}. Nothing was stored: send the events in parts.",
        )


def _many(parts: list[bytes]) -> Events:
    if len(parts) > MAX_EVENTS:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_events",
            f"{len(parts)} events in one request; allowed are {MAX_EVENTS}. Nothing was stored: send them in parts.",
        )
    # An empty element would be no line, and each element has an answer: `null` is refused like any value that is no event.
    return Events(b"\n".join(part or b"null" for part in parts), len(parts), single=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for in its query, besides the answers."""

    features: bool
    reasons: bool
    timeout_s: float

    @classmethod
    def of(cls, request: Request, *, timeout_s: float) -> Wanted:
        """``?features=true&reasons=true&timeout_ms=50``; `timeout_s` where none is given."""
        if not request.scope["query_string"]:
            return cls(features=False, reasons=False, timeout_s=timeout_s)
        query = request.query_params
        given = query.get("timeout_ms")
        if given is not None:
            timeout_s = _timeout(given)
        return cls(flag_of(request, "features"), flag_of(request, "reasons"), timeout_s)


def flag_of(request: Request, name: str) -> bool:
    """A yes or no of the query; no where it is not given."""
    value = request.query_params.get(name, "false").lower()
    if value not in (*_YES, *_NO):
        raise _invalid(name, "true or false")
    return value in _YES


def _timeout(given: str) -> float:
    try:
        seconds = float(given) / 1000
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise _invalid("timeout_ms", f"a number of milliseconds up to {MAX_TIMEOUT_S * 1000:.0f}")
    return seconds


def _invalid(name: str, allowed: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", f"query parameter {name}: allowed is {allowed}."
    )
