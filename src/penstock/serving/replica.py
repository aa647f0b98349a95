"""The HTTP API of a replica: previews of decisions, and features by key. The same paths, edge and keys as the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

import penstock
from penstock.app.api_keys import keys_path
from penstock.app.tracing import tracing_of
from penstock.serving import problems
from penstock.serving.access import describe_security
from penstock.serving.api import closing, protect
from penstock.serving.bodies import Wanted, events_of
from penstock.serving.bytes_route import BytesRoute
from penstock.serving.keyring import Keyring
from penstock.serving.proxies import Proxies
from penstock.serving.request_counts import RequestCounts
from penstock.serving.routes import features, health
from penstock.serving.routes.scoring import answer_of
from penstock.serving.sessions import Sessions
from penstock.serving.shapes import EVENTS_BODY, QUERY
from penstock.stores.secrets import kept_secret

if TYPE_CHECKING:
    from penstock.app.replica import ReplicaRuntime
    from penstock.app.settings import ServeSettings

router = APIRouter(tags=["scoring"], route_class=BytesRoute)
_encode = msgspec.json.Encoder().encode


class ReplicaPlatform:
    """What the routes of a replica have in common: see `penstock.serving.platform.Platform`."""

    def __init__(self, runtime: ReplicaRuntime) -> None:
        self.runtime = runtime
        self.settings: ServeSettings = runtime.settings.serve
        self.observability = ReplicaObservability(runtime)
        self.keyring = Keyring(keys_path(self.root), clock=runtime.clock)
        self.sessions = Sessions(
            self.keyring,
            lambda: kept_secret(keys_path(self.root).parent / "sessions.key"),
            clock=runtime.clock,
            hours=self.settings.session_hours,
        )
        self.proxies = Proxies(self.settings.trusted_proxies)

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.runtime.project.root

    def close(self) -> None:
        """Nothing runs beside."""

    def check_ready(self) -> None:
        """It is ready as soon as it listens: without Redis its answers are degraded, or 503, as the settings say."""


class ReplicaObservability:
    """Counts a replica's requests."""

    def __init__(self, runtime: ReplicaRuntime) -> None:
        self.requests = RequestCounts()
        self.tracing = tracing_of(runtime.clock)


def create_replica_app(platform: ReplicaPlatform) -> FastAPI:
    """The HTTP API of a replica."""
    app = FastAPI(
        title="Penstock replica",
        version=penstock.__version__,
        summary="Previews of decisions, and features by key.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=closing,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.platform = platform
    problems.install(app)
    for one in (router, features.router, health.router):
        app.include_router(one)
    describe_security(app)
    protect(app, platform)
    return app


@router.post(
    "/v1/endpoints/{endpoint}/score",
    summary="Preview decisions on events",
    openapi_extra={**EVENTS_BODY, "parameters": [QUERY[0]]},
)
async def preview(request: Request, endpoint: str) -> Response:
    """What would be decided on events if they came now. Nothing is recorded: send them to the engine, too."""
    platform: ReplicaPlatform = request.app.state.platform
    wanted = Wanted.of(request, timeout_s=platform.settings.timeout_s)
    events = await events_of(request)
    runtime = platform.runtime
    answers = (
        await run_in_threadpool(runtime.preview, endpoint, events.data, with_features=wanted.features)
        if events.count
        else []
    )
    return answer_of(request, events, answers)
