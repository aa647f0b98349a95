"""Logging in to the pages with a key, and out."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from penstock.serving.access import GuardedRoute
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError

router = APIRouter(tags=["session"], route_class=GuardedRoute, include_in_schema=False)

_LONGEST = 1000
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Penstock: log in</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:15vh auto;padding:0 1rem}
input,button{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;margin:.25rem 0}small{opacity:.7}</style>
<h1>Penstock</h1><form method="post" action="/login">
<label>Key<input name="key" type="password" autocomplete="current-password" required autofocus></label>
<button>Log in</button></form><small>penstock keys create NAME --scope read</small></html>"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@router.get("/login")
async def form() -> HTMLResponse:
    """The form that asks for a key."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY, "cache-control": "no-store"})


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Start a session: the form's field ``key`` is the text of a key."""
    platform = platform_of(request)
    body = await request.body()
    given = parse_qs(body[:_LONGEST].decode("latin-1")).get("key", [""])[0].strip()
    key = platform.keyring.authenticate(given)
    if key is None:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "the key does not work: it is unknown, has expired, or was revoked. `penstock keys list` tells.",
        )
    headers = {"set-cookie": platform.sessions.log_in(key)}
    return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers)


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session of this browser."""
    headers = {"set-cookie": platform_of(request).sessions.log_out()}
    return RedirectResponse("/login", HTTPStatus.SEE_OTHER, headers)
