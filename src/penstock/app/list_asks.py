"""Changes of lists that threads beside the engine ask for, such as alerts: they wait until the engine's own thread takes them in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from penstock.core.errors import PenstockError
from penstock.engine.answers import Answer, answers_of

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.engine.local import Processed

    Note = Callable[[Processed, float], None]


class ListAsks:
    """The queue of a runtime; short, since whoever asks waits for the answer before asking again."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes, Future[list[Answer]]]] = deque()

    def put(self, source: str, data: bytes) -> Future[list[Answer]]:
        """Ask, in any thread; the future has the answers when the changes are durable. Cancel it to withdraw."""
        answers: Future[list[Answer]] = Future()
        self._waiting.append((source, data, answers))
        return answers

    def serve(self, runtime: Runtime, note: Note | None = None) -> None:
        """Take in what waits, in the engine's thread; `note` is called with what was processed and when that began."""
        while self._waiting:
            source, data, answers = self._waiting.popleft()
            if not answers.set_running_or_notify_cancel():
                continue
            started_s = time.monotonic()
            try:
                decoded = runtime.decode(source, data)
            except PenstockError as error:  # definitions may have changed since it was asked
                answers.set_exception(error)
                continue
            try:
                processed = runtime.process([(source, decoded)], overlap=False)
            except BaseException as error:
                answers.set_exception(error)
                raise
            answers.set_result(answers_of(processed.outcomes[0], runtime.plan, runtime.engine.rows))
            if note is not None:
                note(processed, started_s)
