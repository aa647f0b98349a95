"""New decisions, pushed to whoever watches: one look at the store a quarter of a second, however many they are.

A client gets at most `PER_LOOK` decisions a look, the newest ones, and is told how many were left out. One that reads too slowly is
dropped, and told so when it reads on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.concurrency import run_in_threadpool

from penstock.app.decision_list import Decided, Filter, newest_since
from penstock.app.runtime import open_reader
from penstock.core.errors import PenstockError
from penstock.core.time import from_us
from penstock.serving.problems import ProblemError
from penstock.serving.timely import TimelyStream

if TYPE_CHECKING:
    from penstock.serving.platform import Platform

LOOK_S = 0.25
PER_LOOK = 5
MOST_CLIENTS = 32
HEARTBEAT_S = 15.0
MOST_WAITING = 64
"""Messages that may wait for a client: 16 seconds of a busy stream."""

_encode = msgspec.json.Encoder().encode


@dataclass(eq=False, slots=True)
class Watcher:
    """A client of the stream."""

    wanted: Filter
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    ended: bool = False

    def tell(self, message: bytes) -> bool:
        """Let a message wait for the client; whether there was room."""
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    def end(self, why: bytes) -> None:
        """Tell the client no more than why it ends."""
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.tell(why)
        self.ended = True


class DecisionStream:
    """Looks for new decisions while somebody watches; used in the event loop.

    Parameters
    ----------
    platform
        Whose decisions.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        self._reached = 0

    def __len__(self) -> int:
        """How many clients watch."""
        return len(self._watchers)

    def watch(self, wanted: Filter) -> Watcher:
        """A new client; raises `ProblemError` where there are as many as may be."""
        if len(self._watchers) >= MOST_CLIENTS:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "overloaded",
                f"{MOST_CLIENTS} clients watch decisions, and no more may. End one, or ask GET /v1/decisions now and then.",
                retry_after_s=HEARTBEAT_S,
            )
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        if self._looking is None or self._looking.done():
            self._reached = self._platform.runtime.store.next_position
            self._looking = asyncio.get_running_loop().create_task(self._look())
        watcher.tell(event("start", {"position": self._reached}))
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """The client has gone."""
        self._watchers.discard(watcher)

    async def messages(self, watcher: Watcher) -> AsyncIterator[bytes]:
        """What the client is sent, until it is dropped or the server ends."""
        try:
            while not (watcher.ended and watcher.waiting.empty()):
                try:
                    yield await asyncio.wait_for(watcher.waiting.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": nothing new\n\n"
        finally:
            self.leave(watcher)

    async def _look(self) -> None:
        while self._watchers:
            await asyncio.sleep(LOOK_S)
            if self._platform.queue.closed:
                self._end_all(event("end", {"detail": "the server is shutting down"}))
                return
            try:
                found, self._reached = await run_in_threadpool(
                    self._found, {w.wanted for w in self._watchers}
                )
            except PenstockError as error:
                self._end_all(event("end", {"detail": str(error)}))
                return
            for watcher in list(self._watchers):
                message = found.get(watcher.wanted)
                if message is not None and not watcher.tell(message):
                    watcher.end(event("dropped", {"detail": "read too slowly; connect again"}))
                    self.leave(watcher)

    def _found(self, filters: set[Filter]) -> tuple[dict[Filter, bytes], int]:
        """The message for each filter that something new passes, and how far was looked."""
        runtime = self._platform.runtime
        stop = runtime.store.next_position
        if stop == self._reached:
            return {}, stop
        found: dict[Filter, bytes] = {}
        with open_reader(self._platform.root) as store:
            for wanted in filters:
                rows, left_out = newest_since(
                    store, runtime.plan, wanted, floor=self._reached, stop=stop, limit=PER_LOOK
                )
                if rows or left_out:
                    found[wanted] = event(
                        "decisions", {"decisions": [_row(one) for one in rows], "left_out": left_out}
                    )
        return found, stop

    def _end_all(self, why: bytes) -> None:
        for watcher in list(self._watchers):
            watcher.end(why)
            self.leave(watcher)


def event(name: str, data: Any) -> bytes:
    r"""A server-sent event.

    >>> event("start", {"position": 7})
    b'event: start\ndata: {"position":7}\n\n'
    """
    return b"event: " + name.encode() + b"\ndata: " + _encode(data) + b"\n\n"


def _row(one: Decided) -> dict[str, Any]:
    """As `DecisionRow` has it."""
    row = {
        name: getattr(one, name)
        for name in (
            "endpoint",
            "source",
            "position",
            "event_id",
            "keys",
            "score",
            "action",
            "model",
            "arm",
            "flags",
            "rule",
            "lists",
        )
    }
    row["event_time"] = None if one.event_time_us is None else from_us(one.event_time_us)
    row["decided_at"] = from_us(one.decided_at_us)
    return row


class EventStream(TimelyStream):
    """Server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        super().__init__(messages, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
