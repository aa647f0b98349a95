"""Who acts and why: what every request that changes something says."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LOCAL = "local"
"""Who acts where there are no keys."""

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Because(BaseModel):
    """Why something is changed; kept in the history, with who did it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"reason": "better on last week"}}
    )

    reason: Reason = Field(description="Kept in the history.")


def actor_of(request: Request) -> str:
    """The name of whoever sent a request."""
    identity = request.scope.get("identity")
    return LOCAL if identity is None else str(identity.name)
