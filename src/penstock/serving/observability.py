"""What there is to see of a running project: counts, live history, metrics, traces, and the requests that are counted on their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from penstock.app.observing import Observing
from penstock.app.tracing import tracing_of
from penstock.monitoring.live_history import Step
from penstock.serving.metric_readings import MetricReader
from penstock.serving.prometheus import Exposition, Waiting
from penstock.serving.request_counts import RequestCounts

if TYPE_CHECKING:
    from penstock.app.alerting import Alerting
    from penstock.app.answering import Deliver
    from penstock.app.inputs import Input
    from penstock.app.request_queue import RequestQueue
    from penstock.app.runtime import Runtime


class Observability:
    """Counts a running project and its requests, and shows both.

    Parameters
    ----------
    runtime, queue
        The open project, and where its requests wait.

    Attributes
    ----------
    observing
        To be told of each micro-batch: ``observing.note``.
    requests
        To be told of each answered request.
    tracing
        Where spans of requests go; None where OpenTelemetry's variables do not ask for them.
    """

    def __init__(self, runtime: Runtime, queue: RequestQueue) -> None:
        self._runtime, self._queue = runtime, queue
        self.observing = Observing(runtime)
        self.requests = RequestCounts()
        self.tracing = tracing_of(runtime.clock)
        self._reader = MetricReader(runtime)
        self._exposition = self._exposing()

    @contextmanager
    def running(self, inputs: Sequence[Input] = ()) -> Iterator[None]:
        """Look at the process, its files and its stores while open."""
        self._reader = MetricReader(self._runtime, inputs)
        self._exposition = self._exposing()
        try:
            with self._reader, self.observing.sampling(queue=self._queue.__len__):
                yield
        finally:
            if self.tracing is not None:
                self.tracing.close()

    def tells(self, alerts: Alerting) -> None:
        """From now on show what becomes of alerts, too."""
        self._exposition.alerts = alerts

    def noting(self, deliver: Deliver) -> Deliver:
        """`deliver`, which notes when requests were durable, where that is traced."""
        engine = self._runtime.engine
        return deliver if self.tracing is None else self.tracing.noting(deliver, lambda: engine.commit_s)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The body of ``GET /metrics`` and its content type; takes about a millisecond: not for the event loop."""
        return self._exposition.render(accept)

    def live(self, step: Step, *, since_us: int | None = None) -> dict[str, Any]:
        """The body of ``GET /v1/live``."""
        return self.observing.history.read(step, now_us=self._runtime.clock.now_us(), since_us=since_us)

    def _exposing(self) -> Exposition:
        return Exposition(
            self._runtime,
            self.observing.counts,
            self._reader,
            requests=self.requests,
            waiting=self._waiting,
        )

    def _waiting(self) -> Waiting:
        queue = self._queue
        return Waiting(len(queue), queue.events, queue.bytes_waiting, queue.refused)
