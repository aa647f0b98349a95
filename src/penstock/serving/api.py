"""The application: routes, errors, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

import penstock
from penstock.serving import problems
from penstock.serving.access import check_guarded, describe_security, guard_mounts
from penstock.serving.authentication import Authentication
from penstock.serving.bytes_route import HotRoutes, hot_routes_of
from penstock.serving.edge import Edge
from penstock.serving.platform import Platform
from penstock.serving.routes import (
    alerts,
    audit,
    catalog,
    datasets,
    dead_letters,
    decision_stream,
    endpoints,
    events,
    features,
    health,
    jobs,
    lists,
    models,
    monitoring,
    observing,
    policies,
    promotions,
    retraining,
    scoring,
    session,
    status,
    tecton,
)
from penstock.serving.watched_requests import WatchedRequests

if TYPE_CHECKING:
    from penstock.serving.replica import ReplicaPlatform

ROUTERS = (
    scoring.router,
    alerts.router,
    audit.router,
    catalog.router,
    datasets.router,
    dead_letters.router,
    decision_stream.router,
    endpoints.router,
    features.router,
    jobs.router,
    lists.router,
    models.router,
    monitoring.router,
    observing.router,
    policies.router,
    promotions.router,
    retraining.router,
    session.router,
    status.router,
    tecton.router,
    events.router,
    health.router,
)


def create_app(platform: Platform | None) -> FastAPI:
    """The HTTP API of a running project; None for its OpenAPI document alone."""
    app = FastAPI(
        title="Penstock",
        version=penstock.__version__,
        summary="Real-time machine learning from event to decision.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its pages come from a foreign server
        redoc_url=None,
        lifespan=closing,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it looks for a provider a request
    )
    app.state.platform = platform
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    describe_security(app)
    if platform is not None:
        protect(app, platform)
    return app


@asynccontextmanager
async def closing(app: FastAPI) -> AsyncIterator[None]:
    """End what the platform runs beside when the server ends."""
    yield
    platform: Platform | ReplicaPlatform | None = app.state.platform
    if platform is not None:
        await run_in_threadpool(platform.close)


def protect(app: FastAPI, platform: Platform | ReplicaPlatform) -> None:
    """Put the edge around an application; it must guard all that it has when it starts."""
    build = app.build_middleware_stack

    def guarded() -> ASGIApp:
        guard_mounts(app)
        check_guarded(app)
        authentication = Authentication(platform.keyring, platform.sessions, platform.proxies)
        routed = HotRoutes(build(), hot_routes_of(app), app.exception_handlers[Exception])
        edge = Edge(routed, platform.settings, authentication)
        seen = platform.observability  # around the edge: what it refuses is counted, too
        access = platform.runtime.settings.log.access
        return WatchedRequests(edge, requests=seen.requests, access=access, tracing=seen.tracing)

    app.build_middleware_stack = guarded  # type: ignore[method-assign]
