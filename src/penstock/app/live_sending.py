"""Sending a live stream on time, whatever becomes of it: rows are due by the clock, not when the row before was answered.

What is due while a request is under way goes with the next one, so a slow server gets larger requests and not fewer events. A latency is
measured from when its row was due, not from when it was sent: waiting behind a slow answer counts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from penstock.connectors.http_push import Pushed
from penstock.monitoring.live import LatencyHistogram

if TYPE_CHECKING:
    from penstock.app.live_replay import Due

MOST_ROWS = 500
"""Rows of one request."""
MOST_WAITING = 50_000
"""Rows that may be due and not sent; beyond, the stream is held back, and that is said."""
LOOK_S = 0.05
END_S = 5.0
REPORT_S = 0.5


class Target(Protocol):
    """Where rows go."""

    async def send(self, source: str, lines: Sequence[bytes], pushed: Pushed) -> None:
        """Send rows of a source, and note in `pushed` what becomes of them."""


class FileTarget:
    """Appends rows to ``SOURCE.ndjson`` in a folder, or to one file where there is one source.

    Parameters
    ----------
    path
        A folder, or a file by its ending ``.ndjson`` or ``.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_file = path.suffix in {".ndjson", ".jsonl"}
        (path.parent if self._is_file else path).mkdir(parents=True, exist_ok=True)

    @property
    def is_file(self) -> bool:
        """Whether all rows go to one file."""
        return self._is_file

    async def send(self, source: str, lines: Sequence[bytes], pushed: Pushed) -> None:
        """See `Target`."""
        path = self._path if self._is_file else self._path / f"{source}.ndjson"
        with path.open("ab") as file:
            file.write(b"\n".join(lines) + b"\n")
        pushed.statuses["written"] += len(lines)


@dataclass(slots=True, eq=False)
class Sent:
    """What was sent so far.

    Attributes
    ----------
    elapsed_s, due
        Since the start, and rows that were due by then; `events` of them are no labels.
    statuses, retries, problem
        Of all rows; see `Pushed`.
    latencies
        From when the first row of a request was due until its answer.
    behind_s
        The longest that a row was sent after it was due.
    held_back
        Whether too much waited, so that the stream was not on time any more.
    """

    elapsed_s: float = 0.0
    due: int = 0
    events: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    problem: str = ""
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)
    behind_s: float = 0.0
    held_back: bool = False

    @property
    def answered(self) -> int:
        """Rows that were answered, or written."""
        return self.statuses.total() - self.statuses["failed"] - self.statuses["unanswered"]

    @property
    def rate(self) -> float:
        """Events a second that were due and sent, since the start."""
        return self.events / max(self.elapsed_s, 1e-3)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "elapsed_s": self.elapsed_s,
            "rows": self.due,
            "events": self.events,
            "events_per_s": self.rate,
            "statuses": dict(self.statuses),
            "retries": self.retries,
            "p50_s": self.latencies.quantile(0.5),
            "p99_s": self.latencies.quantile(0.99),
            "behind_s": self.behind_s,
            "held_back": self.held_back,
            "problem": self.problem,
        }


Show = Callable[[Sent], None]


class Sending:
    """Sends rows as they are due.

    Parameters
    ----------
    target
        Where they go.
    connections
        Requests under way at once for each source; with more than one, rows may overtake each other.
    stop
        Set to end: what is under way is finished, what waits is dropped.
    """

    def __init__(self, target: Target, *, stop: Event, connections: int = 1) -> None:
        self._target, self._stop, self._connections = target, stop, connections
        self._queues: dict[str, deque[Due]] = {}
        self._filled: dict[str, asyncio.Event] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._began_s = 0.0
        self._over = False
        self.sent = Sent()

    async def run(self, rows: Iterable[Due], show: Show) -> Sent:
        """Send all rows, or until stopped; raises what a target raises."""
        self._began_s = time.monotonic()
        shown = asyncio.create_task(self._show(show))
        try:
            await self._feed(rows)
            self._over = True
            for filled in self._filled.values():
                filled.set()
            await self._finish()
        finally:
            for task in (shown, *self._workers):
                task.cancel()
            await asyncio.gather(shown, *self._workers, return_exceptions=True)
            self.sent.elapsed_s = self._now_s()
        return self.sent

    async def _feed(self, rows: Iterable[Due]) -> None:
        for row in rows:
            while (wait_s := row.due_s - self._now_s()) > 0 or self._waits() >= MOST_WAITING:
                self.sent.held_back |= wait_s <= 0
                await asyncio.sleep(min(max(wait_s, 0.001), LOOK_S))
                if self._ends():
                    return
            self._put(row)
            if self.sent.due % 64 == 0:  # behind time: let the workers in
                await asyncio.sleep(0)
                if self._ends():
                    return

    async def _finish(self) -> None:
        """Wait for what is under way; once asked to stop, for a few seconds."""
        while self._workers and not self._stop.is_set():
            _, left = await asyncio.wait(self._workers, timeout=LOOK_S)
            if not left:
                break
        if self._workers:
            await asyncio.wait(self._workers, timeout=END_S)
        self._ends()

    def _ends(self) -> bool:
        for worker in self._workers:
            if worker.done() and not worker.cancelled():
                worker.result()  # it ends early by an error alone
        return self._stop.is_set()

    def _put(self, row: Due) -> None:
        self.sent.due += 1
        self.sent.events += row.is_event
        if row.source not in self._queues:
            self._queues[row.source], self._filled[row.source] = deque(), asyncio.Event()
            self._workers += [asyncio.create_task(self._work(row.source)) for _ in range(self._connections)]
        self._queues[row.source].append(row)
        self._filled[row.source].set()

    async def _work(self, source: str) -> None:
        queue, filled = self._queues[source], self._filled[source]
        while not (self._over and not queue) and not (self._stop.is_set() and self._over):
            if not queue:
                filled.clear()
                await filled.wait()
                continue
            taken = [queue.popleft() for _ in range(min(len(queue), MOST_ROWS))]
            due_s = taken[0].due_s
            self.sent.behind_s = max(self.sent.behind_s, self._now_s() - due_s)
            pushed = Pushed()
            try:
                await self._target.send(source, [row.data for row in taken], pushed)
                self.sent.latencies.add(self._now_s() - due_s)
            finally:
                self._count(pushed, len(taken))

    def _count(self, pushed: Pushed, rows: int) -> None:
        self.sent.statuses += pushed.statuses
        self.sent.statuses += Counter(unanswered=rows - pushed.statuses.total())
        self.sent.retries += pushed.retries
        self.sent.problem = pushed.problem or self.sent.problem

    async def _show(self, show: Show) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self.sent.elapsed_s = self._now_s()
            show(self.sent)

    def _waits(self) -> int:
        return sum(map(len, self._queues.values()))

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s
