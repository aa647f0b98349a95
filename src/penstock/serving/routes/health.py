"""Whether the server lives and is ready, and what it is."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

import penstock
from penstock.serving.access import GuardedRoute
from penstock.serving.platform import platform_of

router = APIRouter(tags=["health"], route_class=GuardedRoute)


class Health(BaseModel):
    """Whether it lives, or is ready."""

    status: str


class Version(BaseModel):
    """What runs."""

    version: str
    project: str
    plan: str


@router.get("/health/live", summary="Is it alive")
async def live() -> Health:
    """Whether the process answers."""
    return Health(status="live")


@router.get("/health/ready", summary="Is it ready")
async def ready(request: Request) -> Health:
    """Whether events are taken now; 503 where they are not."""
    platform_of(request).check_ready()
    return Health(status="ready")


@router.get("/v1/version", summary="What runs")
async def version(request: Request) -> Version:
    """The version of Penstock, the project's name and its plan's fingerprint."""
    runtime = platform_of(request).runtime
    return Version(version=penstock.__version__, project=runtime.project.name, plan=runtime.plan.fingerprint)
