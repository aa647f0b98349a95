"""Spans of a request: which there are, when they are, whose trace they belong to; and none where nobody asks."""

import subprocess
import sys
import time
from itertools import pairwise

import pytest

from penstock.app.request_queue import Ask, RequestQueue
from penstock.app.tracing import Tracing, present, tracing_of
from penstock.core.clock import SystemClock
from penstock.core.errors import DeadlineError, SettingsError

trace = pytest.importorskip("opentelemetry.sdk.trace")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = [(b"host", b"localhost"), (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())]


@pytest.fixture
def spans():
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = trace.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider, SystemClock()), lambda: {one.name: one for one in exporter.get_finished_spans()}


def asked(tracing, reply, headers=HEADERS):
    """A request through the queue, with a commit of 5 ms."""
    times, queue = tracing.request(headers), RequestQueue(max_events=10)
    assert present.get() is times
    times.waits(3)
    ask = Ask("payments", b"{}", 3, float("inf"), times=times)
    queue.put(ask)
    time.sleep(0.002)
    queue.take(10)
    time.sleep(0.008)
    tracing.noting(lambda _: None, lambda: 0.005)([(ask, reply)])
    return times


def test_a_request_is_a_span_with_its_stages_inside(spans):
    tracing, found = spans
    before = SystemClock().now_us() * 1_000
    asked(tracing, []).end("POST", "/v1/sources/{source}/events", 200)
    after = SystemClock().now_us() * 1_000
    found = found()
    root = found.pop("POST /v1/sources/{source}/events")
    assert set(found) == {"queue", "micro-batch", "commit", "answer"}
    assert format(root.context.trace_id, "032x") == TRACE
    assert format(root.parent.span_id, "016x") == PARENT
    assert root.kind.name == "SERVER"
    assert dict(root.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/sources/{source}/events",
        "http.response.status_code": 200,
        "penstock.events": 3,
    }
    for one in found.values():
        assert one.parent.span_id == root.context.span_id
    stages = [found[name] for name in ("queue", "micro-batch", "commit", "answer")]
    for one, following in pairwise(stages):
        assert one.start_time <= one.end_time == following.start_time
    assert before - 1_000_000 <= root.start_time <= stages[0].start_time
    assert stages[-1].end_time == root.end_time <= after + 1_000_000
    assert found["commit"].end_time - found["commit"].start_time == pytest.approx(5e6, abs=2_000)
    assert found["queue"].end_time - found["queue"].start_time >= 2e6
    assert present.get() is None


def test_a_refused_request_has_no_commit(spans):
    tracing, found = spans
    asked(tracing, DeadlineError("late", taken=False), headers=[]).end("POST", None, 503)
    found = found()
    assert set(found) == {"POST", "queue", "micro-batch"}
    assert found["POST"].parent is None
    assert found["POST"].status.status_code.name == "ERROR"


def test_a_request_that_never_waits_is_one_span(spans):
    tracing, found = spans
    tracing.request([]).end("GET", "/health/live", 200)
    assert set(found()) == {"GET /health/live"}


@pytest.mark.parametrize(
    "header", [b"", b"00-zz-b7ad6b7169203331-01", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"]
)
def test_a_wrong_traceparent_begins_a_trace(spans, header):
    tracing, found = spans
    tracing.request([(b"traceparent", header)]).end("GET", None, 200)
    assert found()["GET"].parent is None


def test_variables_turn_it_on():
    clock = SystemClock()
    assert tracing_of(clock, {}) is None
    assert (
        tracing_of(clock, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) is None
    )
    assert tracing_of(clock, {"OTEL_SERVICE_NAME": "shop"}) is None
    tracing = tracing_of(clock, {"OTEL_TRACES_EXPORTER": "console"})
    assert tracing is not None
    tracing.close()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "otlp, console and none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
def test_what_there_is_not_is_told(environ, message):
    with pytest.raises(SettingsError, match=message):
        tracing_of(SystemClock(), environ)


def test_nothing_is_loaded_where_it_is_off():
    code = (
        "import sys, penstock.app.tracing as t; from penstock.core.clock import SystemClock\n"
        "assert t.tracing_of(SystemClock(), {}) is None\n"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
