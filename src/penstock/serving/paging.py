"""Lists in parts: ``limit``, an opaque ``cursor``, and ``next`` in the answer."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel, Field

from penstock.serving.problems import ProblemError

MOST = 1000
T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=MOST, description="Most items of an answer.")]
Cursor = Annotated[
    str | None,
    Query(max_length=1000, description="`next` of the answer before; without: from the beginning."),
]


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = Field(None, description="The cursor of what comes after; null at the end.")


def cursor_of(place: Any) -> str:
    """A cursor that goes on after `place`, JSON values.

    >>> place_of(cursor_of(["fraud", 3]))
    ['fraud', 3]
    """
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def place_of(cursor: str, kind: Any = Any) -> Any:
    """The place that a cursor says, of type `kind`; `ProblemError` where it is no cursor of ours."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(data, type=kind)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            "cursor: it is none of this list; allowed is `next` of an answer of the same route.",
        ) from error


def part(
    items: Iterable[T],
    place: Callable[[T], Any],
    *,
    cursor: str | None,
    limit: int,
    descending: bool = False,
) -> tuple[list[T], str | None]:
    """Up to `limit` of `items` that come after the cursor, and the next one.

    `items` must be ascending (or descending) by `place`, a str or int of each, no two the same.
    """
    if cursor is not None:
        after = place_of(cursor, str | int)
        try:
            items = [one for one in items if (place(one) < after if descending else place(one) > after)]
        except TypeError as error:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "invalid_request",
                "cursor: it is of another list. Use `next` of an answer of the same route.",
            ) from error
    found = list(islice(items, limit + 1))
    return found[:limit], cursor_of(place(found[limit - 1])) if len(found) > limit else None
