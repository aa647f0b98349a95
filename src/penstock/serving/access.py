"""Who may do what: identities, the table of routes and scopes, and the guards that hold to it.

A route of the API is a `GuardedRoute`: without an entry in `ROUTES` it cannot be built. What others add to the application (pages, static
files, sockets) is guarded by its place in `MOUNTS`. `unguarded` walks what came together in the end; an application in which it finds
something does not start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Mount, WebSocketRoute

from penstock.core.errors import DefinitionError
from penstock.serving.problems import ProblemError
from penstock.serving.shapes import ProblemShape
from penstock.stores.keys import Scope

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

__all__ = ["MOUNTS", "PUBLIC", "ROUTES", "GuardedRoute", "Identity", "Scope", "guard_mounts", "unguarded"]

ROUTES: dict[tuple[str, str], Scope] = {
    ("GET", "/v1/alert-messages"): Scope.READ,
    ("GET", "/v1/alerts"): Scope.READ,
    ("GET", "/v1/alerts/{alert}"): Scope.READ,
    ("POST", "/v1/alerts/{alert}/retry"): Scope.ADMIN,
    ("POST", "/v1/alerts/{alert}/silence"): Scope.ADMIN,
    ("POST", "/v1/alerts/{alert}/test"): Scope.ADMIN,
    ("GET", "/v1/audit"): Scope.ADMIN,
    ("GET", "/v1/audit/verify"): Scope.ADMIN,
    ("GET", "/v1/catalog"): Scope.READ,
    ("GET", "/v1/catalog/{name}"): Scope.READ,
    ("GET", "/v1/contracts"): Scope.READ,
    ("GET", "/v1/datasets"): Scope.READ,
    ("POST", "/v1/datasets"): Scope.WRITE,
    ("GET", "/v1/datasets/{dataset}"): Scope.READ,
    ("GET", "/v1/datasets/{dataset}/rows"): Scope.READ,
    ("GET", "/v1/dead-letters"): Scope.READ,
    ("POST", "/v1/dead-letters/drop"): Scope.WRITE,
    ("POST", "/v1/dead-letters/replay"): Scope.WRITE,
    ("DELETE", "/v1/dead-letters/{letter_id}"): Scope.WRITE,
    ("GET", "/v1/dead-letters/{letter_id}"): Scope.READ,
    ("POST", "/v1/dead-letters/{letter_id}/replay"): Scope.WRITE,
    ("GET", "/v1/decisions"): Scope.READ,
    ("GET", "/v1/decisions/stream"): Scope.READ,
    ("GET", "/v1/endpoints"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/curves"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/distributions"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/drift"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/drift/live"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/experiment"): Scope.READ,
    ("GET", "/v1/endpoints/{endpoint}/metrics"): Scope.READ,
    ("POST", "/v1/endpoints/{endpoint}/score"): Scope.SCORE,
    ("GET", "/v1/endpoints/{endpoint}/weights"): Scope.READ,
    ("PUT", "/v1/endpoints/{endpoint}/weights"): Scope.ADMIN,
    ("GET", "/v1/jobs"): Scope.READ,
    ("POST", "/v1/jobs"): Scope.WRITE,
    ("GET", "/v1/jobs/kinds"): Scope.READ,
    ("DELETE", "/v1/jobs/{job}"): Scope.WRITE,
    ("GET", "/v1/jobs/{job}"): Scope.READ,
    ("GET", "/v1/jobs/{job}/events"): Scope.READ,
    ("GET", "/v1/lineage"): Scope.READ,
    ("GET", "/v1/lists"): Scope.READ,
    ("GET", "/v1/lists/{name}"): Scope.READ,
    ("GET", "/v1/lists/{name}/changes"): Scope.READ,
    ("POST", "/v1/lists/{name}/changes"): Scope.WRITE,
    ("GET", "/v1/live"): Scope.READ,
    ("GET", "/v1/models"): Scope.READ,
    ("GET", "/v1/models/{model}"): Scope.READ,
    ("GET", "/v1/models/{model}/history"): Scope.READ,
    ("GET", "/v1/models/{model}/retraining"): Scope.READ,
    ("GET", "/v1/models/{model}/retraining/attempts"): Scope.READ,
    ("POST", "/v1/models/{model}/rollback"): Scope.ADMIN,
    ("GET", "/v1/models/{model}/versions"): Scope.READ,
    ("GET", "/v1/models/{model}/versions/{version}"): Scope.READ,
    ("POST", "/v1/models/{model}/versions/{version}/archive"): Scope.ADMIN,
    ("GET", "/v1/models/{model}/versions/{version}/gates"): Scope.READ,
    ("GET", "/v1/models/{model}/versions/{version}/gates/{digest}"): Scope.READ,
    ("GET", "/v1/models/{model}/versions/{version}/lineage"): Scope.READ,
    ("GET", "/v1/models/{model}/versions/{version}/plots/{name}"): Scope.READ,
    ("GET", "/v1/models/{model}/versions/{version}/profile"): Scope.READ,
    ("POST", "/v1/models/{model}/versions/{version}/promote"): Scope.ADMIN,
    ("GET", "/v1/plan"): Scope.READ,
    ("GET", "/v1/policies"): Scope.READ,
    ("GET", "/v1/policies/{digest}"): Scope.READ,
    ("POST", "/v1/reload"): Scope.ADMIN,
    ("POST", "/v1/services/{service}/features"): Scope.READ,
    ("GET", "/v1/sources"): Scope.READ,
    ("GET", "/v1/sources/{source}"): Scope.READ,
    ("POST", "/v1/sources/{source}/events"): Scope.WRITE,
    ("GET", "/v1/sources/{source}/events/{event_id:path}"): Scope.READ,
    ("GET", "/v1/status"): Scope.READ,
    ("GET", "/v1/system"): Scope.READ,
    ("GET", "/v1/version"): Scope.READ,
    ("POST", "/v1/views/{view}/features"): Scope.READ,
    ("POST", "/api/v1/feature-service/get-features"): Scope.READ,
    ("POST", "/ingest"): Scope.WRITE,
    ("GET", "/metrics"): Scope.READ,
}
"""What a caller needs for a route. A GET's scope is that of HEAD."""

PUBLIC: frozenset[tuple[str, str]] = frozenset(
    {
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
        ("GET", "/v1/openapi.json"),
    }
)
"""What needs no key. None of it tells anything of a project."""

MOUNTS: dict[str, Scope] = {
    "/": Scope.READ,
}
"""What a caller needs for everything below a path at which another application is mounted: the pages."""


SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer pst_...`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_REFUSALS = {
    400: "A header is malformed, or came twice.",
    401: "No key, or one that does not work.",
    403: "The key lacks the scope, or a browser sent this for another site.",
    408: "The body came too slowly. Nothing was stored.",
    413: "The body is too large. Nothing was stored.",
    421: "The host that the request names is not served here.",
    429: "More requests than the key may make: ask again after `Retry-After` seconds.",
    431: "Too many headers.",
}

NOTHING = "There is nothing of this name."
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ProblemShape, "description": NOTHING}}
"""For the OpenAPI document: a route whose query or body names something."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller.

    Attributes
    ----------
    name, scopes
        What people call it, and what it may do.
    key_id
        Its key; empty where none is needed.
    rate
        Requests a second that it may make; 0 for no limit.
    ends_us
        When its session ends, of somebody who logged in; else 0. Two sessions of one key are the same caller.
    """

    name: str
    scopes: frozenset[Scope]
    key_id: str = ""
    rate: float = 0.0
    ends_us: int = field(default=0, compare=False)

    def may(self, scope: Scope) -> bool:
        """Whether it may do what needs `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL = Identity("local", frozenset(Scope))
"""A caller from this machine, as long as the project has no keys."""


class GuardedRoute(APIRoute):
    """A route of the API, for those who may.

    Raises
    ------
    DefinitionError
        `ROUTES` and `PUBLIC` say nothing, or both something, about one of its methods.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        methods = {method.upper() for method in options.get("methods") or ("GET",)}
        self.required = {method: _required(method, path) for method in methods}
        answers = {**_REFUSALS, 404: NOTHING} if "{" in path else _REFUSALS
        super().__init__(path, endpoint, **_documented(options, [*self.required.values()], answers))

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or go on: before anything of the body is read."""
        required = self.required.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if required is not None:
            check(scope.get("identity"), required)
        await super().handle(scope, receive, send)


def check(identity: Identity | None, required: Scope) -> None:
    """Raise `ProblemError` unless the caller may do what needs `required`."""
    if identity is None:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "no key was given. Send one: `Authorization: Bearer pst_...`; `penstock keys create` makes it.",
        )
    if not identity.may(required):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            f"the key may not do this: it needs the scope {required.value}.",
        )


def _documented(
    options: dict[str, Any], required: Sequence[Scope | None], refusals: Mapping[int, str]
) -> dict[str, Any]:
    """A route's options, with what OpenAPI says about who may use it and what else it may be answered."""
    scopes = sorted({scope.value for scope in required if scope is not None})
    extra = {
        "security": [{"bearer": []}, {"header": []}] if scopes else [],
        **(options.get("openapi_extra") or {}),
    }
    if scopes:
        extra["x-scope"] = scopes[0]
    answers = {status: {"model": ProblemShape, "description": text} for status, text in refusals.items()}
    return {**options, "openapi_extra": extra, "responses": {**answers, **(options.get("responses") or {})}}


def describe_security(app: FastAPI) -> None:
    """Let the OpenAPI document of an application say how a key is shown."""
    make = app.openapi

    def described() -> dict[str, Any]:
        document = make()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document

    app.openapi = described  # type: ignore[method-assign]


def _required(method: str, path: str) -> Scope | None:
    wanted = (method, path)
    if (wanted in ROUTES) == (wanted in PUBLIC):
        found = "two entries" if wanted in ROUTES else "no entry"
        raise DefinitionError(
            f"route {method} {path}: {found} about its scope; allowed is one, in ROUTES or PUBLIC of penstock.serving.access. "
            "Say there who may use it."
        )
    return ROUTES.get(wanted)


class GuardedMount:
    """An application for those who may, HTTP and sockets; people without a session are led to the login."""

    def __init__(self, app: ASGIApp, required: Scope) -> None:
        self.app = app
        self.required = required

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Hand on what a caller may see."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        identity = scope.get("identity")
        if scope["type"] == "websocket":
            if identity is None or not identity.may(self.required):
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
                return
        elif identity is None and _is_page(scope):
            await send({"type": "http.response.start", "status": 303, "headers": [(b"location", b"/login")]})
            await send({"type": "http.response.body", "body": b""})
            return
        else:
            check(identity, self.required)
        await self.app(scope, receive, send)


def _is_page(scope: Connection) -> bool:
    accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return scope["method"] in {"GET", "HEAD"} and b"text/html" in accepted


def guard_mounts(app: FastAPI) -> None:
    """Put a guard before each application that is mounted at a path of `MOUNTS`; call it when all are there."""
    for route in app.router.routes:
        if isinstance(route, Mount) and not isinstance(route.app, GuardedMount):
            required = MOUNTS.get(route.path or "/")
            if required is not None:
                route.app = GuardedMount(route.app, required)


def unguarded(app: FastAPI) -> list[str]:
    """Whatever of an application answers without a guard and is not `PUBLIC`: method or kind, and path."""
    return [text for route in _all_routes(app) for text in _open_ways(route)]


def check_guarded(app: FastAPI) -> None:
    """Raise `DefinitionError` where `unguarded` finds something."""
    found = unguarded(app)
    if found:
        raise DefinitionError(
            f"application: nothing guards {', '.join(found)}; allowed is nothing without a guard. Make it a GuardedRoute with an entry "
            "in ROUTES of penstock.serving.access, or mount it at a path of MOUNTS before guard_mounts."
        )


def _all_routes(app: FastAPI) -> Iterator[Any]:
    router: Any = app.router
    yield from iter_route_contexts(router.routes)
    # Files that FastAPI serves as a frontend, of the application and of routers that it includes.
    lower: Sequence[Any] = getattr(router, "_low_priority_routes", ())
    yield from iter_route_contexts(lower)
    for route in router.routes:
        yield from getattr(route, "effective_low_priority_routes", tuple)()


def _open_ways(context: Any) -> list[str]:
    route = context.original_route
    path = getattr(context, "path", None) or getattr(route, "path", type(route).__name__)
    if isinstance(route, GuardedRoute):
        moved = path != route.path  # included under a prefix: its entry is of another path
        return [f"{method} {path}" for method in sorted(context.methods or ())] if moved else []
    if isinstance(route, Mount):
        return [] if isinstance(route.app, GuardedMount) else [f"mount {path or '/'}"]
    if isinstance(route, WebSocketRoute):
        return [f"websocket {path}"]
    methods = getattr(context, "methods", None) or ("any",)
    return [
        f"{method} {path}" for method in sorted(methods) if method != "HEAD" and (method, path) not in PUBLIC
    ]
