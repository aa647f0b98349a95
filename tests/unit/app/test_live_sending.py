"""Sending on time: open loop, honest latencies, bounded waiting, a clean end."""

import asyncio
import threading
import time

import pytest

from penstock.app import live_sending
from penstock.app.live_replay import Due
from penstock.app.live_sending import FileTarget, Sending
from penstock.core.errors import InputError


class Slow:
    """A target that takes a while for each request."""

    def __init__(self, seconds=0.0, fail_after=None):
        self.seconds, self.requests, self.at, self.fail_after = seconds, [], [], fail_after

    async def send(self, source, lines, pushed):
        self.requests.append((source, list(lines)))
        self.at.append(time.monotonic())
        if self.fail_after is not None and len(self.requests) > self.fail_after:
            raise InputError("no such source")
        await asyncio.sleep(self.seconds)
        pushed.statuses["scored"] += len(lines)

    def rows(self, source="payments"):
        return [line for name, lines in self.requests if name == source for line in lines]


def every(seconds, count, source="payments", *, is_event=True):
    return [Due(i * seconds, source, b'{"n":%d}' % i, is_event) for i in range(count)]


def run(target, rows, **options):
    sending = Sending(target, stop=options.pop("stop", threading.Event()), **options)
    return asyncio.run(sending.run(rows, lambda _: None))


def test_rows_are_sent_when_they_are_due_each_once_and_in_order():
    target = Slow()
    began = time.monotonic()
    sent = run(target, every(0.01, 40))
    assert target.rows() == [b'{"n":%d}' % i for i in range(40)]
    for at, row in zip(target.at, every(0.01, 40), strict=False):
        assert at - began >= row.due_s - 0.001
    assert sent.due == sent.events == sent.answered == 40
    assert sent.elapsed_s >= 0.39


def test_a_slow_server_gets_larger_requests_and_not_fewer_events():
    target = Slow(0.1)
    sent = run(target, every(0.005, 100))
    assert len(target.rows()) == 100
    assert len(target.requests) < 12
    assert sent.elapsed_s < 1.5


def test_a_latency_counts_from_when_a_row_was_due():
    sent = run(Slow(0.2), every(0.01, 20))
    assert sent.latencies.quantile(0.99) > 0.25


def test_sources_do_not_wait_for_each_other():
    rows = sorted([*every(0.01, 20), *every(0.01, 20, "frauds", is_event=False)])
    target = Slow(0.01)
    sent = run(target, rows)
    assert len(target.rows("payments")) == len(target.rows("frauds")) == 20
    assert (sent.events, sent.due) == (20, 40)


def test_what_waits_is_bounded_and_that_is_said(monkeypatch):
    monkeypatch.setattr(live_sending, "MOST_WAITING", 50)
    monkeypatch.setattr(live_sending, "MOST_ROWS", 10)
    seen = []

    class Watching(Slow):
        async def send(self, source, lines, pushed):
            seen.append(sending._waits())
            await super().send(source, lines, pushed)

    target = Watching(0.005)
    sending = Sending(target, stop=threading.Event())
    sent = asyncio.run(sending.run(every(0.0, 400), lambda _: None))
    assert max(seen) <= 50
    assert sent.held_back
    assert len(target.rows()) == 400


def test_it_ends_when_asked_to_and_finishes_what_is_under_way():
    stop, target = threading.Event(), Slow(0.05)
    threading.Timer(0.15, stop.set).start()
    began = time.monotonic()
    sent = run(target, every(0.01, 10_000), stop=stop)
    assert time.monotonic() - began < 2
    assert 0 < sent.answered < 100


def test_a_target_that_hangs_does_not_hold_the_end_up(monkeypatch):
    monkeypatch.setattr(live_sending, "END_S", 0.1)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    sent = run(Slow(600.0), every(0.01, 100), stop=stop)
    assert time.monotonic() - began < 2
    assert sent.answered == 0
    assert sent.statuses["unanswered"] > 0


def test_a_refusal_ends_it():
    with pytest.raises(InputError, match="no such source"):
        run(Slow(fail_after=3), every(0.01, 1_000))


def test_rows_are_appended_to_files(tmp_path):
    rows = [*every(0.0, 3), *every(0.0, 2, "frauds", is_event=False)]
    assert run(FileTarget(tmp_path / "live"), rows).statuses == {"written": 5}
    run(FileTarget(tmp_path / "live"), every(0.0, 1))
    assert (tmp_path / "live/payments.ndjson").read_text().splitlines() == [
        '{"n":0}',
        '{"n":1}',
        '{"n":2}',
        '{"n":0}',
    ]
    assert len((tmp_path / "live/frauds.ndjson").read_text().splitlines()) == 2
    run(FileTarget(tmp_path / "one.ndjson"), every(0.0, 2))
    assert len((tmp_path / "one.ndjson").read_text().splitlines()) == 2
