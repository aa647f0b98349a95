"""What pages watch: one reader for each resource, however many pages look at it; none where nobody looks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from penstock.core.errors import PenstockError
from penstock.serving.access import Identity

Read = Callable[[Identity, str], Awaitable[Any]]
"""Reads a path as somebody, or raises a `PenstockError`."""

Show = Callable[[Any], None]

Pace = float | Callable[[Any], float]
"""Seconds from one reading to the next; or what says so of the newest value."""

SLOWER = 5.0
"""How many times slower a resource is read that cannot be read."""

MOST = 256
_log = logging.getLogger(__name__)


class Feed:
    """One resource as one identity sees it: its newest value, and who watches it."""

    def __init__(self, read: Callable[[], Awaitable[Any]]) -> None:
        self._read = read
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._watchers: dict[Show, Pace] = {}
        self.value: Any = None
        self.read_at = float("-inf")
        self._told: Any = None

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._watchers)

    async def get(self, max_age_s: float) -> Any:
        """The value, read anew where it is older; those who ask at once share the answer."""
        async with self._reading:
            if monotonic() - self.read_at > max_age_s:
                self.value = await self._read()
                self.read_at = monotonic()
            return self.value

    def watch(self, show: Show, every_s: Pace) -> None:
        """Call `show` with the value, and with each new one until `leave`; the most impatient watcher sets the pace."""
        self._watchers[show] = every_s
        if self.value is not None:
            asyncio.get_running_loop().call_soon(show, self.value)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def leave(self, show: Show) -> None:
        """Watch no more; the last one to leave ends the reading."""
        self._watchers.pop(show, None)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        while self._watchers:
            every_s = min(_pace(one, self.value) for one in self._watchers.values())
            try:
                if await self.get(every_s / 2) != self._told:
                    self._tell()
            except PenstockError as error:
                _log.debug("a page cannot be kept up to date: %s", error)
                every_s *= SLOWER
            await asyncio.sleep(every_s)

    def _tell(self) -> None:
        self._told = self.value
        for show in list(self._watchers):
            # One that fails is logged by the loop, and keeps no other from its news.
            asyncio.get_running_loop().call_soon(show, self.value)


def _pace(wanted: Pace, value: Any) -> float:
    return wanted(value) if callable(wanted) else wanted


class Feeds:
    """All resources that pages watch.

    Parameters
    ----------
    read
        How a path is read as a session.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._feeds: dict[tuple[Identity, str], Feed] = {}

    def feed(self, who: Identity, path: str) -> Feed:
        """The feed of a path, as somebody sees it: nobody is shown what another one may see."""
        found = self._feeds.get((who, path))
        if found is None:
            self._forget()
            found = self._feeds[who, path] = Feed(lambda: self._read(who, path))
        return found

    @property
    def watched(self) -> int:
        """How many resources are being read."""
        return sum(feed.watched for feed in self._feeds.values())

    def _forget(self) -> None:
        idle = sorted(
            (key for key, feed in self._feeds.items() if not feed.watched),
            key=lambda key: self._feeds[key].read_at,
        )
        for key in idle[: max(len(self._feeds) - MOST + 1, 0)]:
            del self._feeds[key]
