"""What is going on: metrics for Prometheus, and the last minutes, hours and days for pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from penstock.core.time import to_us
from penstock.monitoring.live_history import Step
from penstock.serving.access import GuardedRoute
from penstock.serving.platform import platform_of

router = APIRouter(tags=["observing"], route_class=GuardedRoute)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "The metrics of docs/metrics.md, as text or OpenMetrics by the Accept header.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
def metrics(request: Request) -> Response:
    """Counters, gauges and histograms of the running project, in Prometheus' text format or as OpenMetrics."""
    body, content_type = platform_of(request).observability.metrics(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


@router.get("/v1/live", summary="The last minutes, hours or days")
def live(
    request: Request,
    step: Annotated[Step, Query(description="The last 15 minutes, 24 hours, or 30 days.")] = "second",
    since: Annotated[
        datetime | None, Query(description="Only slots that begin at this time or later; naive is UTC.")
    ] = None,
) -> dict[str, Any]:
    """Events, decisions, scores, latencies and the process by second, minute or hour: a list for each figure, oldest first.

    The last slot may be under way; it counts up to ``until_us``.
    """
    since_us = None if since is None else to_us(since)
    return platform_of(request).observability.live(step, since_us=since_us)
