"""The application: routes, errors, and the OpenAPI document."""

from __future__ import annotations

from fastapi import FastAPI

import penstock
from penstock.serving import problems
from penstock.serving.platform import Platform
from penstock.serving.routes import (
    dead_letters,
    decision_stream,
    events,
    features,
    health,
    scoring,
    tecton,
)

ROUTERS = (
    scoring.router,
    features.router,
    decision_stream.router,
    events.router,
    dead_letters.router,
    tecton.router,
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
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it looks for a provider a request
    )
    app.state.platform = platform
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
