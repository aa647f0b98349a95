"""Lists of decisions, which pages show twice a second: read from the store here, so that who scores has no work with it.

The route is the API's own, the same function with the same checks; only where it runs is another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import httpx

from penstock.dashboard.reading_plan import ReadingPlan, decoded
from penstock.serving.inside import Inside

if TYPE_CHECKING:
    from fastapi import FastAPI

DECISIONS = "/v1/decisions"
PLAN_S = 2.0
"""How old the definitions may be by which decisions are read."""


@dataclass(slots=True)
class ReadRuntime:
    """What the route knows of a running project."""

    plan: ReadingPlan


@dataclass(frozen=True, slots=True)
class ReadPlatform:
    """As `penstock.serving.platform.Platform`, for this one route."""

    root: Path
    runtime: ReadRuntime


class OwnReads:
    """Answers what can be read here.

    Parameters
    ----------
    root
        The project's folder.
    plan
        Asks for the reading plan of the definitions in force.
    """

    def __init__(
        self, root: Path, plan: Callable[[], Awaitable[bytes]], *, now_s: Callable[[], float] = monotonic
    ) -> None:
        self._runtime = ReadRuntime(ReadingPlan({}, {}, {}))
        self._platform = ReadPlatform(root, self._runtime)
        self._plan, self._now_s = plan, now_s
        self._read_s = -float("inf")
        self._app: httpx.ASGITransport | None = None

    def prepare(self) -> None:
        """Load what reads columns; until then nothing is read here. It takes a second of a processor."""
        self._app = httpx.ASGITransport(Inside(_application(self._platform)), raise_app_exceptions=False)

    def takes(self, request: httpx.Request) -> bool:
        """Whether a request is answered here: by event id only the engine finds decisions."""
        return (
            self._app is not None
            and request.method == "GET"
            and request.url.path == DECISIONS
            and "event_id" not in request.url.params
        )

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request that it takes."""
        assert self._app is not None, "it takes nothing before it is prepared"
        if self._now_s() - self._read_s > PLAN_S:
            self._runtime.plan = decoded(await self._plan())
            self._read_s = self._now_s()
        return await self._app.handle_async_request(request)


def _application(platform: ReadPlatform) -> FastAPI:
    from fastapi import FastAPI

    from penstock.serving import problems
    from penstock.serving.routes import events

    app = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
    app.state.platform = platform
    problems.install(app)
    app.include_router(events.router)
    return app
