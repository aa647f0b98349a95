"""The pages as an application of their own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from nicegui import Client, core, ui
from nicegui import app as nicegui_app
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import penstock
from penstock.core.errors import AccessError, NotFoundError, PenstockError
from penstock.dashboard.client import PageClient
from penstock.dashboard.elements import blank
from penstock.dashboard.feeds import Feeds
from penstock.dashboard.frame import frame, headline
from penstock.dashboard.pages import PAGES
from penstock.dashboard.theme import STATIC, STATIC_URL, head
from penstock.dashboard.view import View
from penstock.serving import problems
from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    Page = Callable[[View], Awaitable[None]]

BUILD_S = 20.0
MOST_PAGES = 100
"""Most pages that are open at once: each is kept here as long as somebody has it in a browser, and a minute longer."""
PARTS = ("/_nicegui", STATIC_URL)
"""How paths begin of what a page is made of."""
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="6" fill="#0a6a78"/>'
    '<path d="M4 7h4l6.500 9.500H20" fill="none" stroke="#fff" stroke-width="2.400" stroke-linecap="round" stroke-linejoin="round"/>'
    '<circle cx="17.500" cy="8" r="2.200" fill="#fff"/></svg>'
)


def pages_over(api: PageClient) -> FastAPI:
    """An application of the pages that ask `api`. Once in a process: NiceGUI keeps its pages in one place."""
    app = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
    problems.install(app)
    feeds = Feeds(api.get)
    for name in (
        "nicegui",
        "uvicorn.error",
    ):  # a line for each page that opens or closes says nothing to an operator
        logging.getLogger(name).setLevel(logging.WARNING)
    nicegui_app.add_static_files(STATIC_URL, STATIC, max_cache_age=86_400)
    ui.add_head_html(head(penstock.__version__), shared=True)
    for path, page in PAGES.items():
        _add(path, page, api, feeds)
    ui.run_with(
        app,
        title="Penstock",
        favicon=_ICON,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        message_history_length=200,
        show_welcome_message=False,
        gzip_middleware_factory=None,
    )
    for route in app.router.routes:
        if isinstance(route, Mount) and route.app is core.app:
            route.app = _Bounded(core.app)
    return app


def _add(path: str, page: Page, api: PageClient, feeds: Feeds) -> None:
    async def build(request: Request) -> None:
        view = View(request, api, feeds)
        version = await view.find("/v1/version")
        with frame(request.url.path, version, who=view.who.name if view.who.key_id else ""):
            try:
                await page(view)
            except NotFoundError as error:
                _instead(view, HTTPStatus.NOT_FOUND, "Not found", what="There is no such thing", why=error)
            except AccessError as error:
                _instead(
                    view,
                    HTTPStatus.FORBIDDEN,
                    "Not with this key",
                    what="The key may not see this",
                    why=error,
                    command="penstock keys create NAME --scope read",
                )
            except PenstockError as error:
                _instead(
                    view,
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Not now",
                    what="This page could not be made",
                    why=error,
                )

    ui.page(path, response_timeout=BUILD_S)(build)


def _instead(
    view: View, status: HTTPStatus, title: str, *, what: str, why: object, command: str = ""
) -> None:
    """Say why there is no page."""
    view.client.status_code = status
    with headline(title):
        pass
    blank(what, str(why), command)


class _Bounded:
    """NiceGUI's application, with no more pages at once than may be open."""

    def __init__(self, pages: ASGIApp) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_page(scope) and len(Client.instances) >= MOST_PAGES:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                f"{MOST_PAGES} pages are open, and no more may be. Close some, and ask again in a minute.",
                retry_after_s=60.0,
            )
        await self._pages(scope, receive, send)


def _is_page(scope: Scope) -> bool:
    return scope["type"] == "http" and not scope["path"].startswith(PARTS)
