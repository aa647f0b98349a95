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
<style>
:root{color-scheme:light;--ground:#f5f7f7;--surface:#fff;--line:#c6d0d3;--ink:#0f191d;--soft:#475860;--accent:#0a6a78;--on:#fff;--bad:#b0281f}
@media(prefers-color-scheme:dark){:root{color-scheme:dark;--ground:#0b1113;--surface:#121a1d;--line:#37464d;--ink:#e7eef0;--soft:#aab8be;
--accent:#4fc3d1;--on:#062126;--bad:#ff857b}}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--ground);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
form{width:min(340px,calc(100vw - 48px));display:flex;flex-direction:column;gap:14px}h1{font-size:22px;letter-spacing:-.02em;margin:0}
h1,svg{display:flex;align-items:center;gap:10px}svg{width:30px;height:30px;fill:none;stroke:var(--accent);stroke-width:2.4;stroke-linecap:round}
p{margin:0;color:var(--soft)}label{display:flex;flex-direction:column;gap:5px;font-weight:500}
code{display:block;margin-top:4px;font-size:13px;white-space:nowrap;overflow-x:auto;user-select:all}
input,button{font:inherit;min-height:38px;padding:0 12px;border-radius:8px;border:1px solid var(--line);background:var(--surface);color:var(--ink)}
button{background:var(--accent);border-color:var(--accent);color:var(--on);font-weight:600;cursor:pointer}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}.bad{color:var(--bad)}
</style>
<form method="post" action="/login"><h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M3 4h5l8 12h5"/>
<path d="M3 9h2.4l8 12H21" opacity=".45"/><circle cx="19" cy="7" r="2.6" fill="var(--accent)" stroke="none"/></svg>Penstock</h1><p>The pages show what your key may see.</p>WRONG
<label>Key<input name="key" type="password" autocomplete="current-password" required autofocus></label>
<button>Log in</button><p>No key yet? <code>penstock keys create NAME --scope read</code></p></form></html>"""
_WRONG = '<p class="bad" role="alert">This key does not work: it is unknown, has expired, or was revoked.</p>'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@router.get("/login")
async def form() -> HTMLResponse:
    """The form that asks for a key."""
    return _page(HTTPStatus.OK)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Start a session: the form's field ``key`` is the text of a key."""
    platform = platform_of(request)
    body = await request.body()
    given = parse_qs(body[:_LONGEST].decode("latin-1")).get("key", [""])[0].strip()
    key = platform.keyring.authenticate(given)
    if key is None and "text/html" in request.headers.get("accept", ""):
        return _page(HTTPStatus.UNAUTHORIZED, _WRONG)
    if key is None:
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "the key does not work: it is unknown, has expired, or was revoked. `penstock keys list` tells.",
        )
    headers = {"set-cookie": platform.sessions.log_in(key, is_secure=_is_secure(request))}
    return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers)


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session of this browser."""
    headers = {"set-cookie": platform_of(request).sessions.log_out(is_secure=_is_secure(request))}
    return RedirectResponse("/login", HTTPStatus.SEE_OTHER, headers)


def _is_secure(request: Request) -> bool:
    proto = ", ".join(request.headers.getlist("x-forwarded-proto"))
    return platform_of(request).proxies.is_secure(request.scope, proto.encode("latin-1") or None)


def _page(status: HTTPStatus, wrong: str = "") -> HTMLResponse:
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return HTMLResponse(_PAGE.replace("WRONG", wrong), status, headers)
