"""New decisions as server-sent events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from penstock.app.decision_list import Filter
from penstock.app.routing import endpoint_named
from penstock.serving.access import MISSING, GuardedRoute
from penstock.serving.decision_stream import EventStream
from penstock.serving.platform import platform_of

router = APIRouter(tags=["decisions"], route_class=GuardedRoute)

_EXAMPLE = """event: start
data: {"position":104211}

event: decisions
data: {"decisions":[{"endpoint":"checkout","source":"payments","position":104211,"event_id":"pay-81","score":0.9312,"action":"block"}],"left_out":0}

: nothing new
"""


@router.get(
    "/v1/decisions/stream",
    summary="Watch new decisions",
    response_class=Response,
    responses={
        **MISSING,
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {"example": _EXAMPLE}}},
    },
)
async def watch(
    request: Request,
    *,
    endpoint: Annotated[str | None, Query(description="Only of this endpoint.")] = None,
    action: Annotated[str | None, Query(description="Only with this action.")] = None,
    model: Annotated[
        str | None, Query(description="Only by this version (`fraud:3`) or model (`fraud`).")
    ] = None,
    arm: Annotated[str | None, Query(description="Only by this arm.")] = None,
    min_score: Annotated[float | None, Query(description="Scores from this one on.")] = None,
    max_score: Annotated[float | None, Query(description="Scores up to this one.")] = None,
) -> Response:
    """Decisions as they are made, from now on: `start`, then `decisions` with a list (as `GET /v1/decisions` has them, oldest first).

    At most 20 decisions a second are sent, the newest; `left_out` says how many there were besides. A comment line comes every 15
    seconds where nothing else does. A client that reads too slowly gets `dropped`, and all get `end` when the server ends.
    """
    platform = platform_of(request)
    if endpoint is not None:
        endpoint_named(platform.runtime.plan, endpoint)
    wanted = Filter(
        endpoint=endpoint, action=action, model=model, arm=arm, min_score=min_score, max_score=max_score
    )
    stream = platform.decision_stream
    return EventStream(stream.messages(stream.watch(wanted)))
