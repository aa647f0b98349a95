"""Who asks: the name that the audit log gets."""

from __future__ import annotations

from fastapi import Request

LOCAL = "local"


def actor_of(request: Request) -> str:
    """The name of the key that a request came with; ``local`` where there are none."""
    identity = request.scope.get("identity")
    return LOCAL if identity is None else str(identity.name)
