"""What may be wrong with an event: the reasons of dead letters, and how a decoder's error becomes one of them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, NoReturn

import msgspec

from penstock.core.errors import ContractError
from penstock.core.limits import MAX_EVENT_BYTES, MAX_TEXT_BYTES

REASONS = {
    "malformed_json": "the bytes are not one JSON object",
    "undecodable": "the bytes are no message of the format and schema that the source has",
    "malformed_csv": "the line does not hold one value for each column of the header",
    "not_an_object": "a value other than an object stands where an event should",
    "missing_field": "a required field is absent",
    "null_field": "a required field is null",
    "wrong_type": "a field holds a value of another type",
    "number_out_of_range": "a number does not fit its type",
    "not_finite": "a number is NaN or infinite",
    "time_out_of_range": "an event time lies before 1900 or after 2200",
    "invalid_unicode": "a text is not valid Unicode",
    "too_long": f"a text is longer than {MAX_TEXT_BYTES} bytes",
    "event_too_large": f"the event is larger than {MAX_EVENT_BYTES} bytes",
    "card_number": "a text or a number holds the number of a payment card, and the source does not keep these",
    "in_history": "the source has no event ids, and the event is not later than the history that was loaded for it",
    "in_future": "the event time is further ahead of the clock than the source's max_future_skew",
    "conflict": "the event id was accepted before with other values",
    "erased": "the event id belongs to an event that was erased",
    "view_failed": "a feature view's function failed on the event",
}

Problems = dict[int, tuple[str, str]]
"""Row number to reason and what was found."""

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
TYPES: dict[str, Any] = {
    "Int64": _Int64,
    "Int32": _Int32,
    "Float64": float,
    "Float32": float,
    "Bool": bool,
    "String": str,
    "Timestamp": _Int64 | datetime,
}
"""What a field's value is in JSON and in Python, as msgspec types."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def reason_of(error: msgspec.ValidationError) -> str:
    """The reason code for what msgspec found."""
    message = str(error)
    if "missing required field" in message:
        return "missing_field"
    if "Expected `object`" in message and " - at `" not in message:
        return "not_an_object"
    if "got `null`" in message:
        return "null_field"
    if "out of range" in message or re.search(r"Expected `int` [<>]=", message):
        return "number_out_of_range"
    return "wrong_type"


def why_malformed(line: bytes, error: msgspec.DecodeError) -> ContractError:
    """What is wrong with a line that is not JSON: NaN and lone surrogates have reasons of their own."""
    try:
        json.loads(line, parse_constant=_stop_at_constant)
    except _ConstantFoundError as found:
        return ContractError("not_finite", f"{found} stands where JSON has no such number")
    except (ValueError, RecursionError):
        return ContractError("malformed_json", str(error))
    if _SURROGATE.search(line):
        return ContractError("invalid_unicode", "one half of a surrogate pair stands alone")
    return ContractError("malformed_json", str(error))


def _stop_at_constant(constant: str) -> NoReturn:
    raise _ConstantFoundError(constant)


class _ConstantFoundError(Exception):
    """A literal NaN or Infinity: Python reads it, JSON does not have it."""
