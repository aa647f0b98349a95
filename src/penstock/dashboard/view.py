"""What a page has at hand: its address, the API as its reader, and news for as long as somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from penstock.core.errors import PenstockError
from penstock.dashboard.client import PageClient
from penstock.dashboard.elements import el
from penstock.dashboard.feeds import Feeds, Pace, Show
from penstock.serving.access import Identity

TOAST_S = 7.0


class View:
    """One open page.

    Parameters
    ----------
    request
        The request that it was asked with.
    api
        The API.
    feeds
        What all pages watch.
    """

    def __init__(self, request: Request, api: PageClient, feeds: Feeds) -> None:
        self.request = request
        self.who: Identity = request.scope["identity"]
        self._api, self._feeds = api, feeds
        self._watched: dict[Show, tuple[str, Pace]] = {}
        self._looked_at = False
        self.client = ui.context.client
        self.client.on_connect(lambda: self._look(seen=True))
        self.client.on_disconnect(lambda: self._look(seen=False))
        self.client.on_delete(lambda: self._look(seen=False))
        ui.on("seen", lambda event: self._look(seen=bool(event.args)))

    def path(self, name: str) -> str:
        """A part of the page's path, as it was written."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """A value of the page's query."""
        return self.request.query_params.get(name, default)

    async def get(self, path: str, *, max_age_s: float = 0.5) -> Any:
        """What the API says; an answer that is no older serves too."""
        return await self._feeds.feed(self.who, path).get(max_age_s)

    async def find(self, path: str) -> Any | None:
        """As `get`, and None where there is no such thing or it may not be read."""
        try:
            return await self.get(path)
        except PenstockError:
            return None

    async def send(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API to change something."""
        return await self._api.send(self.who, method, path, body)

    async def watch(self, path: str, every_s: Pace, show: Callable[[Any], None]) -> None:
        """Show what the API says, now and whenever it says something else while somebody looks at the page."""
        first = await self.get(path)
        show(first)
        last = [first]

        def shown(value: Any) -> None:
            if value != last[0]:
                last[0] = value
                with self.client:
                    show(value)

        self._watched[shown] = (path, every_s)
        if self._looked_at:
            self._feeds.feed(self.who, path).watch(shown, every_s)

    def leave(self) -> None:
        """Watch nothing more, as before other things are watched."""
        self._look(seen=False)
        self._watched.clear()
        self._looked_at = self.client.has_socket_connection

    def say(self, text: str, tone: str = "good") -> None:
        """Tell the reader something, for a few seconds."""
        with self.client, el("div", "toasts", role="alert") as toast, el("div", f"problem {tone}"):
            el("span", "", text)
        ui.timer(TOAST_S, toast.delete, once=True)

    def go(self, path: str) -> None:
        """Open another page."""
        ui.navigate.to(path)

    def _look(self, *, seen: bool) -> None:
        if seen == self._looked_at:
            return
        self._looked_at = seen
        for show, (path, every_s) in self._watched.items():
            feed = self._feeds.feed(self.who, path)
            if seen:
                feed.watch(show, every_s)
            else:
                feed.leave(show)


def part(text: object) -> str:
    """A name as a part of a path.

    >>> part("a/b ?")
    'a%2Fb%20%3F'
    """
    return quote(str(text), safe="")


async def together(*reads: Any) -> list[Any]:
    """Several reads at once; None for one that failed."""
    found = await asyncio.gather(*reads, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, PenstockError):
            raise one
    return [None if isinstance(one, BaseException) else one for one in found]
