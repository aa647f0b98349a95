"""Traces of requests by OpenTelemetry, where its standard variables ask for them; nothing is loaded and nothing is made where they do not.

A request is one span with four inside: ``queue``, ``micro-batch``, ``commit``, ``answer``. On its way only times are noted; spans are made from
them when it has been answered. A ``traceparent`` header makes the request's span part of the caller's trace (W3C Trace Context). Spans name routes and
numbers, never events.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from penstock.core.errors import MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from penstock.app.answering import Deliver, Replies
    from penstock.core.clock import Clock

NAME = "penstock"
CLOSE_S = 3.0
_ENDPOINTS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_EXPORTERS = "OTEL_TRACES_EXPORTER"
_PROTOCOLS = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
_CARRIED = frozenset({b"traceparent", b"tracestate"})


class RequestTimes:
    """When a request was where, in seconds of `time.monotonic`; 0 where it never was.

    Attributes
    ----------
    began_s, queued_s, taken_s, durable_s
        It came; it waits for the engine; the engine took it; it is durable.
    commit_s
        How long the transaction took, at the end of which it was.
    events
        How many it brought.
    """

    __slots__ = (
        "_headers",
        "_token",
        "_tracing",
        "began_s",
        "commit_s",
        "durable_s",
        "events",
        "queued_s",
        "taken_s",
    )

    def __init__(self, tracing: Tracing, headers: Mapping[str, str]) -> None:
        self._tracing, self._headers = tracing, headers
        self._token: Token[RequestTimes | None] = present.set(self)
        self.began_s = time.monotonic()
        self.queued_s = self.taken_s = self.durable_s = self.commit_s = 0.0
        self.events = 0

    def waits(self, events: int) -> None:
        """It waits for the engine from now on."""
        self.queued_s, self.events = time.monotonic(), events

    def end(self, method: str, route: str | None, status: int) -> None:
        """It was answered: make its spans."""
        present.reset(self._token)
        self._tracing.record(self, self._headers, method=method, route=route, status=status)


present: ContextVar[RequestTimes | None] = ContextVar("penstock_request_times", default=None)
"""The times of the request that this coroutine serves; None where nothing is traced."""


class Tracing:
    """Makes spans of requests.

    Parameters
    ----------
    provider
        Where spans go.
    clock
        What time it is: spans have times of the wall clock.
    """

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._clock, self._trace = provider, clock, trace
        self._tracer = provider.get_tracer(NAME)
        self._propagator = TraceContextTextMapPropagator()

    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> RequestTimes:
        """A request came, with these headers."""
        carried = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers if k in _CARRIED}
        return RequestTimes(self, carried)

    def noting(self, deliver: Deliver, commit_s: Callable[[], float]) -> Deliver:
        """`deliver`, which notes in passing that requests are durable; `commit_s` says how long that took."""

        def durable(replies: Replies) -> None:
            now_s, took_s = time.monotonic(), commit_s()
            for ask, reply in replies:
                if ask.times is not None and isinstance(reply, list):  # and no error
                    ask.times.durable_s, ask.times.commit_s = now_s, took_s
            deliver(replies)

        return durable

    def record(
        self, times: RequestTimes, headers: Mapping[str, str], *, method: str, route: str | None, status: int
    ) -> None:
        """Make the spans of a request that was answered just now."""
        ended_s = time.monotonic()
        offset_ns = self._clock.now_us() * 1_000 - int(ended_s * 1e9)

        def at(seconds: float) -> int:
            return int(seconds * 1e9) + offset_ns

        trace = self._trace
        attributes: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            context=self._propagator.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes=attributes | ({"http.route": route} if route else {}),
            start_time=at(times.began_s),
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        if times.events:
            span.set_attribute("penstock.events", times.events)
        inside = trace.set_span_in_context(span)
        for name, start_s, stop_s in _stages(times, ended_s):
            stage = self._tracer.start_span(name, context=inside, start_time=at(start_s))
            stage.end(at(stop_s))
        span.end(at(ended_s))

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="penstock-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _stages(times: RequestTimes, ended_s: float) -> list[tuple[str, float, float]]:
    """The stages that a request passed through, as far as it came."""
    found = []
    if times.queued_s:
        found.append(("queue", times.queued_s, times.taken_s or ended_s))
    if times.taken_s:
        committing_s = max(times.durable_s - times.commit_s, times.taken_s)
        found.append(("micro-batch", times.taken_s, committing_s if times.durable_s else ended_s))
        if times.durable_s:
            found.append(("commit", committing_s, times.durable_s))
            found.append(("answer", times.durable_s, ended_s))
    return found


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables ask for traces.

    >>> is_wanted({}), is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    (False, True)
    >>> is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"})
    False
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environ.get(_EXPORTERS, "").strip().lower()
    return exporters != "none" and bool(exporters or any(environ.get(name) for name in _ENDPOINTS))


def tracing_of(clock: Clock, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing as OpenTelemetry's variables say; None where they do not ask for it.

    Sampler, resource, batches and limits are the SDK's own, by their ``OTEL_…`` variables.

    Raises
    ------
    MissingDependencyError
        The extra is not installed.
    SettingsError
        An exporter or protocol is asked for that there is not.
    """
    if not is_wanted(environ):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingDependencyError(
            "traces: OTEL_… variables ask for them, but OpenTelemetry is not installed. Run `pip install 'penstock[otel]'`, or set "
            "OTEL_SDK_DISABLED=true."
        ) from error
    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": NAME}
    provider = TracerProvider(resource=Resource.create(named))
    for name in environ.get(_EXPORTERS, "otlp").split(","):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip().lower(), environ)))
    return Tracing(provider, clock)


def _exporter(name: str, environ: Mapping[str, str]) -> Any:
    if name == "console":
        import sys

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise SettingsError(
            f"traces: {_EXPORTERS} is {name!r}; allowed are otlp, console and none. Correct the variable."
        )
    protocol = next((environ[one] for one in _PROTOCOLS if environ.get(one)), "http/protobuf")
    if protocol != "http/protobuf":
        raise SettingsError(
            f"traces: the OTLP protocol is {protocol!r}; allowed is http/protobuf, usually at port 4318. Set "
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingDependencyError(
            "traces: OTEL_… variables ask for OTLP, whose exporter is not installed. Run `pip install 'penstock[otel]'`."
        ) from error
    return OTLPSpanExporter()
