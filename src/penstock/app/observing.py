"""Observing a running engine: every micro-batch is counted once, for metrics and for the live history; the process is looked at once a second.

observing = Observing(runtime)
with observing.sampling(queue=lambda: len(queue)):
    ...  # after each micro-batch, in the engine's thread: observing.note(processed, started_s)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.app.runtime import state_folder
from penstock.monitoring.batch_facts import facts_of
from penstock.monitoring.live_history import Sample
from penstock.monitoring.live_history_file import load, save
from penstock.monitoring.stream_counts import StreamCounts
from penstock.monitoring.system import SystemReader, SystemReading

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.engine.local import Processed

FILE = "live.bin"
PROBLEM = "live history"
SAMPLE_EVERY_S, SAVE_EVERY_S = 1.0, 60.0


def nothing_waits() -> int:
    """The length of a queue that is not there."""
    return 0


class Observing:
    """What a running engine did, in numbers.

    Parameters
    ----------
    runtime
        The open project. Its live history is taken up where the last run left it; what is wrong with it stands in
        `Runtime.problems` under ``live history``.
    now_s
        The clock that micro-batches are timed with.

    Attributes
    ----------
    counts
        Totals since the process started, for Prometheus.
    history
        Minutes, hours and days, for pages.
    """

    def __init__(self, runtime: Runtime, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._now_s = runtime, now_s
        self._path = state_folder(runtime.project.root) / FILE
        self.counts = StreamCounts()
        self.history, problem = load(self._path)
        self._empty_because = problem
        if problem is not None:
            runtime.problems[PROBLEM] = problem

    def note(self, processed: Processed, started_s: float) -> None:
        """Count a micro-batch that was just processed; call it in the engine's thread."""
        facts = facts_of(processed, self._runtime.plan)
        self.counts.add(facts)
        self.history.add(facts, at_us=self._runtime.clock.now_us())

        def durable(done: Future[None]) -> None:
            if done.exception() is None:
                seconds = self._now_s() - started_s
                self.counts.durable(seconds, commit_s=self._runtime.engine.commit_s)
                self.history.durable(seconds, at_us=self._runtime.clock.now_us())

        if processed.committed.done():
            durable(processed.committed)
        else:
            processed.committed.add_done_callback(durable)

    @contextmanager
    def sampling(
        self, *, queue: Callable[[], int] = nothing_waits, every_s: float = SAMPLE_EVERY_S
    ) -> Iterator[None]:
        """Look at the process once a second while open, and write the live history each minute and at the end."""
        stop = threading.Event()
        thread = threading.Thread(
            target=self._sample, args=(stop, queue, every_s), name="penstock-sampling", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.save()

    def save(self) -> None:
        """Write the live history to its file; where it cannot be written, that is a problem, and no error."""
        try:
            save(self.history, self._path)
        except OSError as error:
            self._runtime.problems[PROBLEM] = f"it cannot be written ({error}); decisions are not affected"
            return
        if self._runtime.problems.get(PROBLEM) != self._empty_because:
            self._runtime.problems.pop(PROBLEM, None)

    def _sample(self, stop: threading.Event, queue: Callable[[], int], every_s: float) -> None:
        reader = SystemReader(self._runtime.project.root)
        before, at_s = reader.read(), self._now_s()
        saved_s = at_s
        while not stop.wait(every_s):
            now, now_s = reader.read(), self._now_s()
            lag_s = self.lag_s()
            sample = _between(before, now, now_s - at_s)._replace(lag_s=lag_s or 0.0, queue=queue())
            self.history.sample(sample, at_us=self._runtime.clock.now_us())
            before, at_s = now, now_s
            if now_s - saved_s >= SAVE_EVERY_S:
                saved_s = now_s
                self.save()

    def lag_s(self) -> float | None:
        """How far the newest event time that was accepted since the start is behind the clock; None before the first event."""
        newest = self.counts.newest_us()
        return None if newest is None else (self._runtime.clock.now_us() - newest) / 1e6


def _between(before: SystemReading, now: SystemReading, seconds: float) -> Sample:
    return Sample(
        cpu=(now.process_cpu_s - before.process_cpu_s) / max(seconds, 1e-3),
        memory_bytes=now.process_memory_bytes,
        read_bytes=_more(before.process_read_bytes, now.process_read_bytes),
        written_bytes=_more(before.process_written_bytes, now.process_written_bytes),
    )


def _more(before: int | None, now: int | None) -> float:
    return 0.0 if before is None or now is None else max(now - before, 0)
