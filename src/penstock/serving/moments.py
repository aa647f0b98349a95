"""Instants over HTTP: ISO 8601 in UTC outside, microseconds inside; and places in the log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from penstock.core.time import from_us, to_us

Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
"""A position in the log, or a number of the store's, in a cursor."""


def moment(us: int) -> datetime:
    """Microseconds since the epoch as the answers have them.

    >>> moment(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return from_us(us)


def microseconds(value: datetime | None) -> int | None:
    """An instant of a request; without a zone it is UTC."""
    return None if value is None else to_us(value)
