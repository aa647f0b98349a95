"""The parts together: an application over a running engine, its requests counted, traced and logged by template."""

import asyncio
import json
import threading

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.app.logs import logging_as
from penstock.app.running import Runner
from penstock.app.settings import LogSettings
from penstock.serving.api import create_app
from penstock.serving.platform import Platform
from tests.unit.app.observed import serve
from tests.unit.app.shop import open_project, payments, write_project


class Served:
    """A platform whose engine runs in a thread, and a client without a socket."""

    def __init__(self, runtime):
        self.runtime, self.platform, self.stop = runtime, Platform(runtime), threading.Event()
        self.runner = Runner(
            runtime,
            [],
            stop=self.stop,
            watch=self.platform.saw,
            observe=self.platform.observability.observing.note,
            answering=self.platform.answering,
        )
        self.app = create_app(self.platform)
        self.thread = threading.Thread(target=lambda: self.runner.follow(poll_s=0.01))

    def __enter__(self):
        self.thread.start()
        while self.platform.live is None:
            self.stop.wait(0.005)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def ask(self, *requests):
        async def go():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return [await client.request(method, path, **rest) for method, path, rest in requests]

        return asyncio.run(go())


@pytest.fixture
def served(tmp_path, monkeypatch):
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    settings = "[log]\naccess = true\n"
    with open_project(write_project(tmp_path, settings=settings)) as runtime:
        serve(runtime)
        with Served(runtime) as one:
            yield one


def scored(number):
    row = payments(1, 7, number)[0]
    return "POST", "/v1/endpoints/endpoint/score", {"json": row | {"at": row["at"].isoformat()}}


def values(text):
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


def test_what_is_asked_is_counted_by_template(served):
    answers = served.ask(
        *map(scored, range(4)), scored(3), ("GET", "/v1/nothing/p3", {}), ("GET", "/metrics", {})
    )
    assert [one.status_code for one in answers] == [200] * 5 + [404, 200]
    found = values(answers[-1].text)
    route = "/v1/endpoints/{endpoint}/score"
    name = "penstock_http_request"
    assert found[f"{name}s_total", ("method", "POST"), ("route", route), ("status", "2xx")] == 5
    assert found[f"{name}_duration_seconds_count", ("route", route)] == 5
    assert found[f"{name}s_total", ("method", "(other)"), ("route", "(other)"), ("status", "4xx")] == 1
    assert found["penstock_events_total", ("outcome", "scored"), ("source", "payments")] == 4
    assert found["penstock_events_total", ("outcome", "duplicate"), ("source", "payments")] == 1
    assert found["penstock_queue_requests",] == 0
    assert "p3" not in answers[-1].text


def test_openmetrics_by_accept(served):
    [answer] = served.ask(("GET", "/metrics", {"headers": {"Accept": "application/openmetrics-text"}}))
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("step", ["second", "minute", "hour"])
def test_live_shows_the_last_events(served, step):
    *_, answer = served.ask(*map(scored, range(3)), ("GET", f"/v1/live?step={step}", {}))
    found = answer.json()
    assert sum(found["events"]) == sum(found["scored"]) == 3
    since = "2100-01-01T00:00:00Z"
    [later] = served.ask(("GET", f"/v1/live?step={step}&since={since}", {}))
    assert later.json()["start_us"] == []


def test_live_refuses_other_steps(served):
    [answer] = served.ask(("GET", "/v1/live?step=day", {}))
    assert answer.status_code == 422


def test_access_lines_name_the_route_and_no_event(served, capsys):
    with logging_as(LogSettings(format="json")):
        served.ask(scored(1))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = [line for line in lines if line["logger"] == "penstock.access"]
    assert (line["event"], line["method"], line["status"]) == ("request", "POST", 200)
    assert line["route"] == "/v1/endpoints/{endpoint}/score"
    assert "p1" not in json.dumps(line)


def test_a_request_is_traced_through_the_engine(tmp_path):
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from penstock.app.tracing import Tracing

    provider, exporter = trace.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with open_project(write_project(tmp_path)) as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.serving.observability.tracing_of", lambda clock: Tracing(provider, clock))
        serve(runtime)
        with Served(runtime) as served:
            served.ask(*map(scored, range(3)))
    names = [one.name for one in exporter.get_finished_spans()]
    assert sorted(names) == sorted(
        ["queue", "micro-batch", "commit", "answer", "POST /v1/endpoints/{endpoint}/score"] * 3
    )
    for one in exporter.get_finished_spans():
        assert one.end_time >= one.start_time
