"""The events of a request's body, and what the request wants to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from penstock.app.event_lines import elements, lines, one_line
from penstock.serving.problems import ProblemError

MAX_EVENTS = 10_000
"""Most events in one request."""

MOST_LINES = 2 * MAX_EVENTS
MOST_COMMAS = 100 * MAX_EVENTS

MAX_TIMEOUT_S = 300.0
_NDJSON = ("application/x-ndjson", "application/jsonl", "application/ndjson")
_YES, _NO = ("true", "1", "yes", ""), ("false", "0", "no")


@dataclass(frozen=True, slots=True)
class Events:
    """Events as NDJSON; `single` where the body was one event and not a list."""

    data: bytes
    count: int
    single: bool


async def events_of(request: Request) -> Events:
    """The events of a body: one JSON object, a JSON list of them, or NDJSON by its content type."""
    body = await request.body()
    if request.headers.get("content-type", "").startswith(_NDJSON):
        _check_parts(body.count(b"\n"), MOST_LINES, "lines")
        return _many(lines(body))
    event = one_line(body)
    if event.startswith(b"["):
        _check_parts(event.count(b","), MOST_COMMAS, "commas")
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
