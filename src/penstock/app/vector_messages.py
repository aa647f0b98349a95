"""What a message with a feature vector says: one form, whoever computed it, the engine for a decision or Spark for a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

encode = msgspec.json.Encoder().encode


def vector_message(
    said: Mapping[str, Any], service: str, names: Sequence[str] | None, values: Sequence[Any]
) -> bytes:
    """The JSON of one event's features.

    Parameters
    ----------
    said
        What else the message says: the event's id and time.
    service
        Fingerprint of the service whose features they are.
    names
        ``view.feature``, in the order of `values`; None where nobody knows them any more.
    values
        float64 for numbers, truth values and times (microseconds), as models take them; None, NaN and infinity are null.

    Examples
    --------
    >>> vector_message({"event_id": "a"}, "f3", ["card.count"], [2.0])
    b'{"event_id":"a","service":"f3","features":{"card.count":2.0}}'
    """
    plain = [finite(value) for value in values]
    found: Any = plain if names is None else dict(zip(names, plain, strict=True))
    return encode({**said, "service": service, "features": found})


def finite(value: Any) -> Any:
    """A value as JSON has it: of numbers and lists of them those that are finite, else None.

    >>> finite([1.5, float("nan")])
    [1.5, None]
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [finite(one) for one in value] if isinstance(value, list) else value
