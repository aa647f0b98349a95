"""Who acts and why: what every request that changes something says."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from urllib.parse import unquote

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from penstock.engine.card_numbers import masked_text
from penstock.serving.access import LOCAL
from penstock.serving.problems import ProblemError

ACTOR_HEADER = "x-actor"
"""Who acts, where nobody has a key: who is on this machine may say so."""

MOST_LETTERS = 200

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(masked_text),  # it is kept for ever
]


class Because(BaseModel):
    """Why something is changed; kept in the history, with who did it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"reason": "better on last week"}}
    )

    reason: Reason = Field(description="Kept in the history.")


def actor_of(request: Request) -> str:
    """The name of whoever sent a request: of its key, or, where there are no keys, as the header says.

    Raises
    ------
    ProblemError
        The header names somebody, and there is a key, whose name counts.
    """
    identity = request.scope.get("identity")
    who: str = LOCAL.name if identity is None else identity.name
    named = request.headers.get(ACTOR_HEADER)
    if named is None:
        return who
    named = unquote(named).strip()[:MOST_LETTERS]
    if identity is not LOCAL or not named.isprintable() or not named:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"the header {ACTOR_HEADER} says who acts, and the key does, too: {who!r}. Leave the header out (`--actor`).",
        )
    return named
