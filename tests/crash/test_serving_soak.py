"""The server for an hour: memory bounded, no 5xx, every event one decision. And beyond what it can: refused, recovered. And slow clients.

PENSTOCK_SOAK_S=180 python -m pytest -m nightly --log-cli-level=INFO tests/crash/test_serving_soak.py
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
import socket
import statistics
import time
from urllib.parse import urlsplit

import httpx
import pytest

from penstock.core.clock import SystemClock
from penstock.core.time import DAY_US
from penstock.testing.serving import serving_project
from tests.crash.engine_life import PROJECT
from tests.crash.served_process import QUIET, START_S, Traffic, up
from tests.crash.test_serving import check_whole, settings

SOAK_S = float(os.environ.get("PENSTOCK_SOAK_S", "3600"))
SAMPLE_S = 2.0
WARM_S = 60.0
GROWTH_MIB_AN_HOUR = 120.0
"""What may be added: two bytes an event id, figures that are kept, the allocator's fragments."""

SETTLING_MIB = 40.0
SCORE, NDJSON = "/v1/endpoints/checkout/score", {"content-type": "application/x-ndjson"}
CLOCK = SystemClock()
BEGUN_US = CLOCK.now_us()
AGO_US = 40 * DAY_US
log = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request


def event_time_us(speed=100):
    """So many times as fast as the clock, from forty days ago on: the longest window, an hour, is full after half a minute."""
    return BEGUN_US - AGO_US + (CLOCK.now_us() - BEGUN_US) * speed % AGO_US


@pytest.fixture
def root(tmp_path):
    return shutil.copytree(PROJECT, tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__"))


def payment(name, **more):
    number = hash(name)
    return {
        "id": name,
        "at": event_time_us(),
        "card": f"c{number % 4000}",
        "shop": f"s{number % 50}",
        "amount": number % 90 + 0.5,
        "device": "web",
        **more,
    }


def one(http, number):
    return http.post(SCORE, json=payment(f"one-{id(http)}-{number}"))


def many(http, number):
    lines = b"\n".join(json.dumps(payment(f"many-{number}-{i}")).encode() for i in range(50))
    return http.post("/v1/sources/payments/events", content=lines, headers=NDJSON)


def labels(http, number):
    rows = [{"id": f"many-{number}-0", "is_fraud": number % 9 == 0, "known_at": event_time_us()}]
    return http.post("/v1/sources/chargebacks/events", json=rows)


def wrong(http, number):
    bodies = [
        b"{",
        b"[]",
        b"\xff" * 999,
        b'{"id": NaN}',
        b"[" * 5000,
        json.dumps(payment("x") | {"at": "soon"}).encode(),
    ]
    return http.post(SCORE, content=bodies[number % len(bodies)])


LOOKS = itertools.cycle(
    [
        "/v1/status",
        "/v1/live",
        "/v1/decisions?limit=50",
        "/v1/decisions?action=block&limit=5",
        "/v1/dead-letters?limit=5",
        "/v1/sources",
        "/v1/endpoints/checkout/metrics",
        "/v1/endpoints/checkout/distributions",
        "/v1/system",
        "/metrics",
        "/v1/nothing",
        "/",
        "/decisions",
    ]
)


def look(http, number):
    return http.get(next(LOOKS), headers={"accept": "text/html, application/json"})


@pytest.mark.nightly
def test_for_an_hour_memory_stays_bounded_and_nothing_fails(root, tmp_path):
    with up(root, tmp_path / "stderr") as server:
        traffic = Traffic(server.url, [one, one, many, labels, wrong], every_s=0.02)
        looking = Traffic(server.url, [look], every_s=0.5)
        memory = []
        until = time.monotonic() + SOAK_S
        while time.monotonic() < until:
            time.sleep(SAMPLE_S)
            assert server.process.poll() is None, server.told.read_text()[-2000:]
            memory.append(server.memory_mib)
        traffic.end()
        looking.end()
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert time.monotonic() - begun <= 10
    log.info("answers %s, %s", dict(traffic.statuses), dict(looking.statuses))
    log.info("MiB %s", [round(mib) for mib in memory[:: len(memory) // 20 or 1]])
    assert traffic.failures == looking.failures == []
    assert set(traffic.statuses) <= {200, 409, 413, 422}
    ids = check_whole(root, set())
    assert len(ids) > SOAK_S * 20
    check_memory(memory)


def check_memory(memory):
    """After it has warmed up: the last quarter against the one after warming up."""
    warm = memory[int(min(WARM_S / SAMPLE_S, len(memory) / 3)) :]
    quarter = max(len(warm) // 4, 1)
    grown = statistics.median(warm[-quarter:]) - statistics.median(warm[:quarter])
    hours = len(warm) * SAMPLE_S / 3600
    assert grown <= SETTLING_MIB + GROWTH_MIB_AN_HOUR * hours, f"memory grew by {grown:.0f} MiB: {memory}"


def test_memory_that_grows_is_found():
    flat = [500.0 + number % 7 for number in range(1800)]
    check_memory(flat)
    with pytest.raises(AssertionError, match="memory grew"):
        check_memory([mib + 0.2 * number for number, mib in enumerate(flat)])


@pytest.mark.nightly
def test_five_times_what_it_can_is_refused_and_it_recovers(root, tmp_path):
    """Sixty-four clients as fast as they can, with a queue that holds a fifth of what they send at once."""

    def heavy(http, number):
        now_us = event_time_us(20_000)  # what windows hold shall not be what grows
        lines = b"\n".join(
            json.dumps(payment(f"{id(http)}-{number}-{i}", at=now_us + i)).encode() for i in range(200)
        )
        return http.post("/v1/sources/payments/events", content=lines, headers=NDJSON)

    more = {"PENSTOCK_SERVE__QUEUE_EVENTS": "2560", "PENSTOCK_SERVE__DASHBOARD": "false"}
    with up(root, tmp_path / "stderr", **QUIET, **more) as server:
        quiet = Traffic(server.url, [one])
        time.sleep(3)
        quiet.end()
        before = server.memory_mib
        traffic = Traffic(server.url, [heavy] * 64)
        most, until = before, time.monotonic() + min(60, SOAK_S)
        while time.monotonic() < until:
            time.sleep(0.5)
            most = max(most, server.memory_mib)
        traffic.end()
        begun = time.monotonic()
        with httpx.Client(base_url=server.url, timeout=30) as http:
            while one(http, 10**6 + int(begun)).status_code != 200 or _slow(http):
                assert time.monotonic() - begun <= 30, "it does not recover"
        log.info("answers %s, %.0f MiB before, %.0f at most", dict(traffic.statuses), before, most)
        log.info("recovered in %.1f s", time.monotonic() - begun)
    assert set(traffic.statuses) == {200, 429}
    assert traffic.failures == []
    assert most - before <= 300


def _slow(http):
    begun = time.monotonic()
    answer = http.post(SCORE, json=payment(f"after-{begun}"))
    return answer.status_code != 200 or time.monotonic() - begun > 0.25


def slow_bodies(url, count):
    """Connections that announce a body, and send of it what one sends who wants to hold a connection."""
    place = urlsplit(url)
    opened = []
    for _ in range(count):
        connection = socket.create_connection((place.hostname, place.port), timeout=30)
        connection.sendall(
            f"POST {SCORE} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 5000\r\n\r\n".encode()
        )
        opened.append(connection)
    return opened


def held_up(served, count, seconds):
    """How long good events took while so many send a byte now and then; and what those were told."""
    slow, took = slow_bodies(served.url, count), []
    until = time.monotonic() + seconds
    with httpx.Client(base_url=served.url, timeout=30) as http:
        for number in itertools.count():
            if time.monotonic() > until:
                break
            for connection in slow:
                try:
                    connection.sendall(b"[")
                except OSError:  # it was closed, as it should be
                    continue
            begun = time.perf_counter()
            assert one(http, number).status_code == 200
            took.append(time.perf_counter() - begun)
            time.sleep(0.1)
    told = [connection.recv(4096) for connection in slow]
    for connection in slow:
        connection.close()
    return took, told


def test_who_sends_a_byte_now_and_then_holds_up_nobody(root):
    with serving_project(root, settings=settings(body_timeout_s=1.0)) as served:
        took, told = held_up(served, 50, seconds=2.5)
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in told), told[:3]
        assert statistics.median(took) < 0.5


@pytest.mark.nightly
def test_five_hundred_slow_clients_for_a_minute(root):
    with serving_project(root, settings=settings()) as served:
        took, told = held_up(served, 500, seconds=min(60, max(SOAK_S, 15)))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in told), told[:3]
        assert statistics.median(took) < 0.5
        assert max(took) < START_S
