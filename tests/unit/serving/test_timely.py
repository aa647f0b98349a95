"""Answers that go on: who takes them is sent all, who does not is cut off."""

import asyncio
from types import SimpleNamespace

import pytest

from penstock.serving import timely
from penstock.serving.decision_stream import EventStream
from penstock.serving.routes import datasets, jobs


async def parts():
    for _ in range(5):
        yield b"part"


@pytest.mark.parametrize("kind", [timely.TimelyStream, EventStream, datasets._Rows])
def test_who_leaves_the_connection_full_is_cut_off(monkeypatch, kind):
    monkeypatch.setattr(timely, "SEND_S", 0.05)
    sent = []

    async def full(message):
        sent.append(message)
        if len(sent) > 2:
            await asyncio.sleep(60)

    stream = timely.TimelyStream.__new__(kind)
    timely.TimelyStream.__init__(stream, parts())
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(stream.stream_response(full), 5))
    assert len(sent) == 3
    assert not any(message.get("more_body") is False for message in sent), "it looks whole"


def test_a_watched_job_is_such_an_answer():
    job = SimpleNamespace(id="job", version=1, ended=True)
    platform = SimpleNamespace(jobs={"job": job}, job_watchers=0)
    request = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(platform=platform)))
    assert isinstance(asyncio.run(jobs.watch_job(request, "job")), EventStream)
