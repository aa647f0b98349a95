"""The table of routes and scopes is complete: what is planted without an entry is found, wherever it is planted."""

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from penstock.core.errors import DefinitionError
from penstock.serving import access, problems
from penstock.serving.access import (
    PUBLIC,
    ROUTES,
    GuardedRoute,
    Identity,
    Scope,
    check_guarded,
    guard_mounts,
    unguarded,
)
from penstock.serving.api import create_app
from tests.unit.serving.asgi import ask, talk

SCORE = "/v1/endpoints/{endpoint}/score"


def plain(app):
    problems.install(app)
    return app


def routed(method="POST", path=SCORE):
    router = APIRouter(route_class=GuardedRoute)

    @router.api_route(path, methods=[method])
    async def route():
        return {"done": True}

    app = plain(FastAPI(openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None))
    app.include_router(router)
    return app


def test_everything_that_the_application_serves_is_guarded():
    app = create_app(None)
    guard_mounts(app)
    assert unguarded(app) == []
    served = {
        (m, c.path)
        for c in access.iter_route_contexts(app.router.routes)
        for m in c.methods or ()
        if m != "HEAD"
    }
    assert served == set(ROUTES) | set(PUBLIC), (
        "an entry for a route that is gone, or none for one that is there"
    )


def test_what_is_public_is_little_and_no_entry_says_two_things():
    assert not set(PUBLIC) & set(ROUTES)
    assert {path for _, path in PUBLIC} <= {
        "/health/live",
        "/health/ready",
        "/login",
        "/logout",
        "/v1/openapi.json",
    }


def test_a_route_without_an_entry_cannot_be_built():
    with pytest.raises(DefinitionError, match=r"route POST /v1/planted: no entry about its scope"):
        routed("POST", "/v1/planted")
    with pytest.raises(DefinitionError, match="route DELETE /v1/version: no entry"):
        routed("DELETE", "/v1/version")


def planted_on_the_app(app):
    @app.get("/v1/planted")
    async def planted():
        return {}

    return "GET /v1/planted"


def planted_on_a_router(app):
    router = APIRouter()

    @router.post("/planted")
    async def planted():
        return {}

    app.include_router(router, prefix="/v1")
    return "POST /v1/planted"


def planted_under_a_router(app):
    inner, outer = APIRouter(), APIRouter(prefix="/outer")

    @inner.get("/planted")
    async def planted():
        return {}

    outer.include_router(inner)
    app.include_router(outer)
    return "GET /outer/planted"


def planted_behind_a_prefix(app):
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/v1/version")
    async def version():
        return {}

    app.include_router(router, prefix="/elsewhere")
    return "GET /elsewhere/v1/version"


def planted_as_plain_route(app):
    app.router.routes.append(Route("/planted", lambda _: PlainTextResponse("x"), methods=["PUT"]))
    return "PUT /planted"


def planted_as_asgi(app):
    class Answer:
        async def __call__(self, scope, receive, send):
            """Anything."""

    app.router.routes.append(Route("/planted", Answer()))
    return "any /planted"


def planted_as_socket(app):
    @app.websocket("/planted")
    async def planted(socket: WebSocket):
        await socket.accept()

    return "websocket /planted"


def planted_as_mount(app):
    app.mount("/planted", FastAPI())
    return "mount /planted"


def planted_as_files(app, folder="."):
    app.mount("/files", StaticFiles(directory=folder))
    return "mount /files"


def planted_as_frontend(app):
    app.frontend("/site", directory=".", check_dir=False)
    return "Frontend"


def planted_as_frontend_of_a_router(app):
    router = APIRouter()
    router.frontend("/site", directory=".", check_dir=False)
    app.include_router(router)
    return "any "


@pytest.mark.parametrize(
    "plant",
    [
        planted_on_the_app,
        planted_on_a_router,
        planted_under_a_router,
        planted_behind_a_prefix,
        planted_as_plain_route,
        planted_as_asgi,
        planted_as_socket,
        planted_as_mount,
        planted_as_files,
        planted_as_frontend,
        planted_as_frontend_of_a_router,
    ],
)
def test_what_is_planted_beside_the_table_is_found(plant):
    app = create_app(None)
    name = plant(app)
    guard_mounts(app)
    (found,) = unguarded(app)
    assert name in found
    with pytest.raises(DefinitionError, match="nothing guards"):
        check_guarded(app)


def identity(*scopes):
    return Identity("test", frozenset(scopes), "k")


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(("method", "path"), list(ROUTES))
def test_each_route_is_for_its_scope_and_for_admins(method, path, scope):
    app = routed(method, path)
    answer = ask(app, method, path.replace("{", "").replace("}", ""), identity=identity(scope))
    allowed = scope in {ROUTES[method, path], Scope.ADMIN}
    assert answer.status == (200 if allowed else 403)
    assert allowed or b"needs the scope" in answer.body


def test_nobody_is_401_before_the_body_is_read():
    async def unread():
        raise AssertionError

    answer = ask(routed(), "POST", "/v1/endpoints/x/score", body=[b"{"] * 3, identity=None)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_head_needs_what_get_needs():
    app = routed("GET", "/v1/version")
    assert ask(app, "HEAD", "/v1/version", identity=None).status in {401, 405}


def mounted():
    app = plain(FastAPI(openapi_url=None, docs_url=None, redoc_url=None))
    inner = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @inner.get("/page")
    async def page():
        return {"page": True}

    @inner.websocket("/socket")
    async def socket(socket: WebSocket):
        await socket.accept()
        await socket.send_text(await socket.receive_text())

    app.mount("/", inner)
    guard_mounts(app)
    guard_mounts(app)
    assert unguarded(app) == []
    (mount,) = [r for r in app.router.routes if isinstance(r, Mount)]
    assert not isinstance(mount.app.app, access.GuardedMount), "one guard is enough"
    return app


def test_a_mounted_application_is_for_readers():
    app = mounted()
    assert ask(app, path="/page", identity=identity(Scope.READ)).status == 200
    assert ask(app, path="/page", identity=identity(Scope.SCORE)).status == 403
    assert ask(app, path="/page", identity=None).status == 401
    led = ask(app, path="/page", headers={"accept": "text/html,*/*"}, identity=None)
    assert (led.status, led.headers["location"]) == (303, "/login")
    assert talk(app, "hi", path="/socket", identity=identity(Scope.READ))[1]["text"] == "hi"
    for stranger in (None, identity(Scope.SCORE)):
        assert [m["type"] for m in talk(app, "hi", path="/socket", identity=stranger)] == ["websocket.close"]


def test_the_document_says_who_may_use_a_route_and_how_a_key_is_shown():
    document = create_app(None).openapi()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for (method, path), scope in ROUTES.items():
        operation = document["paths"][path.replace(":path", "")][method.lower()]
        assert (operation["x-scope"], len(operation["security"])) == (scope, 2)
        assert {"401", "403", "413", "421", "429", "431"} <= set(operation["responses"])
    assert document["paths"]["/health/live"]["get"]["security"] == []
