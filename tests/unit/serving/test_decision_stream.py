"""The stream of decisions: what is new, sampled where there is much, and an end that is told."""

import asyncio
import threading
import time

import httpx
import pytest

import penstock
from penstock.app.decision_list import Filter
from penstock.core.errors import NotFoundError, OverloadError
from penstock.serving import decision_stream
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK, payments


def test_new_decisions_come_within_a_second(client):
    client.score("checkout", payments(3))
    stream = client.watch_decisions()
    waiting = threading.Timer(0.5, lambda: client.score("checkout", payments(2, 3)))
    waiting.start()
    found = next(stream)
    waiting.join()
    assert [one["event_id"] for one in found["decisions"]] == [row["payment_id"] for row in payments(2, 3)]
    assert found["left_out"] == 0
    (listed, *_) = client.decisions(limit=1)["items"]
    assert found["decisions"][-1] == listed
    stream.close()


def test_of_many_the_newest_are_sent_and_the_others_counted(client):
    stream = client.watch_decisions()
    waiting = threading.Timer(0.5, lambda: client.score("checkout", payments(100)))
    waiting.start()
    found, left_out = [], 0
    while len(found) + left_out < 100:
        message = next(stream)
        assert len(message["decisions"]) <= decision_stream.PER_LOOK
        found += message["decisions"]
        left_out += message["left_out"]
    waiting.join()
    assert found[-1]["event_id"] == payments(100)[-1]["payment_id"]
    assert len(found) + left_out == 100
    stream.close()


def test_filters(client):
    scores = [one["score"] for one in client.score("checkout", payments(50))]
    least = sorted(scores)[10]
    stream = client.watch_decisions(min_score=least)
    waiting = threading.Timer(0.5, lambda: client.score("checkout", payments(100, 50)))
    waiting.start()
    found = next(stream)
    waiting.join()
    assert all(one["score"] >= least for one in found["decisions"])
    stream.close()


def test_an_unknown_endpoint_is_an_error_at_once(client):
    with pytest.raises(NotFoundError, match="nowhere"):
        next(client.watch_decisions(endpoint="nowhere"))


def test_no_more_clients_than_may_be(client, served, monkeypatch):
    monkeypatch.setattr(decision_stream, "MOST_CLIENTS", 1)
    with httpx.stream("GET", f"{served.url}/v1/decisions/stream", timeout=5) as first:
        lines = first.iter_lines()
        assert next(lines) == "event: start"
        with (
            penstock.Client(served.url, retries=False) as other,
            pytest.raises(OverloadError, match="1 clients watch"),
        ):
            next(other.watch_decisions())


def test_the_server_ends_although_somebody_watches(project):
    lines = []
    with serving_project(project, clock=CLOCK) as served:
        stream = httpx.stream("GET", f"{served.url}/v1/decisions/stream", timeout=20)
        response = stream.__enter__()
        reading = threading.Thread(target=lambda: lines.extend(response.iter_lines()))
        reading.start()
        until = time.perf_counter() + 10
        while not len(served.platform.decision_stream) and time.perf_counter() < until:
            time.sleep(0.01)
        begun = time.perf_counter()
    assert time.perf_counter() - begun < 4
    reading.join(5)
    stream.__exit__(None, None, None)
    assert "event: end" in lines


def test_a_slow_client_is_dropped_and_told(served):
    stream = decision_stream.DecisionStream(served.platform)

    async def slow():
        watcher = stream.watch(Filter())
        while watcher.tell(b"news"):
            pass
        with penstock.Client(served.url) as client:
            await asyncio.to_thread(client.score, "checkout", payments(2))
        for _ in range(40):
            if watcher.ended:
                break
            await asyncio.sleep(0.05)
        return [message async for message in stream.messages(watcher)]

    (told,) = asyncio.run(slow())
    assert told.startswith(b"event: dropped")
    assert len(stream) == 0
