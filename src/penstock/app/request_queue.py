"""Requests on their way to the engine: a bounded queue between the threads that ask and the one that processes.

A request is waiting, taken or withdrawn. Only a waiting one can be withdrawn: what was taken is on its way into the log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import OverloadError

if TYPE_CHECKING:
    from penstock.app.tracing import RequestTimes

RETRY_AFTER_S = 1.0
EVENT_BYTES = 1024
"""How large an event may be on average when as many wait as are allowed."""


class Ask(msgspec.Struct, eq=False):
    """Events that somebody wants an answer to.

    Attributes
    ----------
    source
        Whose events they are.
    data, events
        NDJSON, and how many lines it has.
    deadline_s
        Until when it may wait, on the queue's clock.
    with_features
        Whether the answers shall hold the values of the features.
    ticket
        Whatever the asker knows it by.
    waiting
        Whether nobody has taken or withdrawn it.
    times
        Where it is to be noted when it was where; None where it is not traced.
    letters
        Ids of the dead letters that the lines are another attempt at, one a line. Without a source and lines: letters to drop.
    """

    source: str
    data: bytes
    events: int
    deadline_s: float
    with_features: bool = False
    ticket: object = None
    waiting: bool = True
    times: RequestTimes | None = None
    letters: tuple[int, ...] = ()


class RequestQueue:
    """A queue of requests, bounded by events and bytes.

    Parameters
    ----------
    max_events
        Most events that may wait.
    now_s
        A clock that only goes forward.

    Examples
    --------
    >>> queue = RequestQueue(max_events=2)
    >>> queue.put(Ask("payments", b"{}", 1, deadline_s=float("inf")))
    >>> [ask.source for ask in queue.take(100)]
    ['payments']
    """

    def __init__(self, *, max_events: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self.max_events = max_events
        self.max_bytes = max_events * EVENT_BYTES
        self.now_s = now_s
        self.refused = 0
        """Requests that found no room."""
        self._asks: deque[Ask] = deque()
        self._events = 0
        self._bytes = 0
        self._changed = Condition()
        self._closed = False
        self._woken = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._asks)

    @property
    def bytes_waiting(self) -> int:
        """How many bytes wait."""
        return self._bytes

    @property
    def events(self) -> int:
        """How many events wait."""
        return self._events

    @property
    def closed(self) -> bool:
        """Whether no more requests are let in."""
        return self._closed

    def put(self, ask: Ask) -> None:
        """Let a request wait; raises `OverloadError` where there is no room, or the queue is closed.

        A request larger than the queue is taken when nothing else waits.
        """
        with self._changed:
            if self._closed:
                raise OverloadError(
                    "the server is shutting down. Ask again when it is back.", retry_after_s=RETRY_AFTER_S
                )
            full = self._events + ask.events > self.max_events or self._bytes + len(ask.data) > self.max_bytes
            if full and self._asks:
                self.refused += 1
                raise OverloadError(
                    f"{self._events} events wait for the engine, and at most {self.max_events} may. Ask again later, or send less.",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._asks.append(ask)
            self._events += ask.events
            self._bytes += len(ask.data)
            self._changed.notify()

    def take(self, events: int) -> list[Ask]:
        """The requests that have waited longest, up to so many events, or one that has more."""
        found: list[Ask] = []
        with self._changed:
            left = events
            while self._asks and (self._asks[0].events <= left or not found):
                ask = self._asks.popleft()
                ask.waiting = False
                left -= ask.events
                self._events -= ask.events
                self._bytes -= len(ask.data)
                found.append(ask)
                if ask.times is not None:
                    ask.times.taken_s = self.now_s()
        return found

    def withdraw(self, ask: Ask) -> bool:
        """Take a request out that still waits; whether it did."""
        with self._changed:
            if not ask.waiting:
                return False
            ask.waiting = False
            self._asks.remove(ask)
            self._events -= ask.events
            self._bytes -= len(ask.data)
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until there is a request, or somebody wakes, or so long; whether there is one."""
        with self._changed:
            if not self._asks and not self._closed and not self._woken:
                self._changed.wait(seconds)
            self._woken = False
            return bool(self._asks)

    def wake(self) -> None:
        """End a `wait` that is under way, or else the next one at once: there is something else to do."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        """Let no more requests in."""
        with self._changed:
            self._closed = True
            self._changed.notify()
