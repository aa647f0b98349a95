"""Lists in pages: how many rows, and where the next page goes on."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Query

from penstock.core.time import from_us, to_us
from penstock.serving.problems import ProblemError

MOST = 1000

Limit = Annotated[int, Query(ge=1, le=MOST, description="Most rows in the answer.")]
Cursor = Annotated[
    str | None,
    Query(max_length=64, description="`next` of the answer before, with the same filters; none: from the beginning."),
]


def cursor_of(number: int) -> str:
    """A number as an opaque text.

    >>> number_of(cursor_of(1234))
    1234
    """
    return base64.urlsafe_b64encode(f"v1.{number}".encode()).decode().rstrip("=")


def number_of(cursor: str | None) -> int | None:
    """The number of a cursor; raises `ProblemError` for what is none."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    number = text.removeprefix("v1.")
    if not text.startswith("v1.") or not number.isdigit() or len(number) > 18:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            "query parameter cursor: allowed is `next` of an answer before, as it was given.",
        )
    return int(number)


def moment(us: int) -> datetime:
    """Microseconds since the epoch as the answers have them: ISO 8601, UTC."""
    return from_us(us)


def microseconds(value: datetime | None) -> int | None:
    """An instant of a request; without a zone it is UTC."""
    return None if value is None else to_us(value)
