"""Pages are bounded in number; what they are made of is not."""

import asyncio

import pytest

from penstock.dashboard import mounting
from penstock.serving.problems import ProblemError


def ask(path):
    """What is asked of NiceGUI's application."""
    passed = []

    async def pages(scope, receive, send):
        passed.append(scope["path"])

    asyncio.run(mounting._Bounded(pages)({"type": "http", "method": "GET", "path": path}, None, None))
    return passed


def test_beyond_what_may_be_open_a_page_is_refused(monkeypatch):
    monkeypatch.setattr(mounting.Client, "instances", dict.fromkeys(range(mounting.MOST_PAGES - 1)))
    assert ask("/decisions") == ["/decisions"]
    mounting.Client.instances["one more"] = None
    with pytest.raises(ProblemError, match="100 pages are open") as refused:
        ask("/decisions")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 60.0)
    for part in ("/_nicegui/3/static/x.js", "/_nicegui_ws/socket.io/", "/_penstock/penstock.css"):
        assert ask(part) == [part]
