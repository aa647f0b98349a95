"""Pushing events: what is tried again, with the same lines, and what is not."""

import asyncio
import json

import httpx
import pytest

from penstock.connectors.http_push import HttpPush, Pushed
from penstock.core.errors import InputError

LINES = [b'{"id":"a"}', b'{"id":"b"}']


def pushed(answers, *, give_up_s=60.0, key=None, monkeypatch=None):
    """What comes of two events where the server answers so; the requests that it got, and the waits."""
    requests, waits, left = [], [], iter(answers)

    def handle(request):
        requests.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pause(seconds):
        waits.append(seconds)

    async def go():
        push = HttpPush(
            "http://localhost:1",
            key=key,
            give_up_s=give_up_s,
            chance=lambda: 0.0,
            transport=httpx.MockTransport(handle),
        )
        async with push:
            found = Pushed()
            await push.send("payments", LINES, found)
            return found

    monkeypatch.setattr("penstock.connectors.http_push.asyncio.sleep", pause)
    return asyncio.run(go()), requests, waits


def ok(*statuses):
    return httpx.Response(200, json={"answers": [{"status": one, "position": 3} for one in statuses]})


def test_events_are_lines_and_answers_are_counted(monkeypatch):
    found, [request], _ = pushed([ok("scored", "rejected")], key="pst_a_b", monkeypatch=monkeypatch)
    assert request.url.path == "/v1/sources/payments/events"
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["authorization"] == "Bearer pst_a_b"
    assert request.content == b"\n".join(LINES)
    assert found.statuses == {"scored": 1, "rejected": 1}
    assert found.retries == 0


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(429),
        httpx.Response(503),
        httpx.Response(504),
        httpx.Response(500),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut off"),
    ],
)
def test_what_may_succeed_is_sent_again_with_the_same_lines(monkeypatch, trouble):
    found, requests, waits = pushed([trouble, trouble, ok("duplicate", "scored")], monkeypatch=monkeypatch)
    assert len({request.content for request in requests}) == 1
    assert found.statuses == {"duplicate": 1, "scored": 1}
    assert found.retries == 2
    assert waits == [0.1, 0.2]
    assert found.problem


def test_retry_after_is_kept(monkeypatch):
    _, _, waits = pushed(
        [httpx.Response(429, headers={"Retry-After": "3"}), ok("scored", "scored")], monkeypatch=monkeypatch
    )
    assert waits == [3.0]


def test_retries_have_a_budget(monkeypatch):
    found, requests, waits = pushed([httpx.Response(503)] * 100, give_up_s=10.0, monkeypatch=monkeypatch)
    assert found.statuses == {"failed": 2}
    assert sum(waits) <= 10.0
    assert len(requests) == len(waits) + 1 < 12


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_cannot_succeed_ends_it_with_the_reason(monkeypatch, status):
    answer = httpx.Response(status, json={"detail": "source 'payments' is not in the plan"})
    with pytest.raises(InputError, match=f"{status}.*not in the plan"):
        pushed([answer], monkeypatch=monkeypatch)


def test_another_server_is_told(monkeypatch):
    with pytest.raises(InputError, match="not the API of Penstock"):
        pushed([httpx.Response(404, text="<html>")], monkeypatch=monkeypatch)
    assert json.loads(LINES[0])
