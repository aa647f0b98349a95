"""Asking the engine from the event loop: a request waits in the queue, and its coroutine for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from penstock.app.answering import Reply, waited_too_long
from penstock.app.request_queue import Ask, RequestQueue
from penstock.app.tracing import present
from penstock.core.errors import DeadlineError, PenstockError
from penstock.engine.answers import Answer

Waiting = asyncio.Future[list[Answer]]


class Asker:
    """The event loop's end of a request queue.

    Parameters
    ----------
    queue
        Whose other end is a `penstock.app.answering.Answering` that delivers to `deliver`.
    """

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(
        self,
        source: str,
        data: bytes,
        events: int,
        *,
        timeout_s: float,
        with_features: bool = False,
        letters: tuple[int, ...] = (),
    ) -> list[Answer]:
        """One answer for each of `events` lines of NDJSON, when they are durable; `letters` are those of `Ask`.

        Raises
        ------
        OverloadError
            There is no room in the queue.
        DeadlineError
            The time has passed; it says whether the events may have been stored.
        PenstockError
            What kept the engine from processing them.
        """
        loop = self._loop = asyncio.get_running_loop()
        waiting: Waiting = loop.create_future()
        ask = Ask(
            source, data, events, self._queue.now_s() + timeout_s, with_features, waiting, letters=letters
        )
        if (times := present.get()) is not None:
            times.waits(events)
            ask.times = times
        self._queue.put(ask)
        timer = loop.call_later(timeout_s, self._expire, ask, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()

    def deliver(self, replies: Sequence[tuple[Ask, Reply]]) -> None:
        """Hand replies to those who wait for them; called from other threads."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, replies)

    def _expire(self, ask: Ask, waiting: Waiting) -> None:
        if waiting.done():
            return
        if self._queue.withdraw(ask):
            waiting.set_exception(waited_too_long())
            return
        waiting.set_exception(
            DeadlineError(
                "the deadline passed while the events were processed, and they may be stored. Send them again with the same "
                "ids: what is stored is answered, not stored twice.",
                taken=True,
            )
        )


def _resolve(replies: Sequence[tuple[Ask, Reply]]) -> None:
    for ask, reply in replies:
        waiting = cast("Waiting", ask.ticket)
        if waiting.done():
            continue
        if isinstance(reply, PenstockError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)
