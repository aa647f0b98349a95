"""A replica beside an engine, over a real Redis: the same answers, and in time while Redis is stopped, frozen or slow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import httpx
import pytest

from penstock.app.publishing import publishing
from penstock.app.replica import ReplicaRuntime
from penstock.app.runtime import registry_of
from penstock.serving.replica import ReplicaPlatform, create_replica_app
from penstock.serving.server import Server
from penstock.testing.serving import serving_project
from services.base import HOST
from services.redis import Redis
from tests import services
from tests.unit.serving import shop

TIMEOUT_S = 0.1
SCORE = "/v1/endpoints/checkout/score?features=true"


class OwnServer(Redis):
    """A server that no other test uses."""

    name = "redis_faults"
    default_port = 16389


@pytest.fixture(scope="module")
def server():
    services.needed(started := OwnServer())
    yield started
    started.stop()


class SlowProxy:
    """Hands bytes on to a server, and waits before it hands answers back."""

    def __init__(self, port):
        self.delay_s, self.port, self._target = 0.0, 0, port
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    async def _listen(self):
        listening = await asyncio.start_server(self._serve, HOST, 0)
        self.port = listening.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._hand(reader, back, wait=False), self._hand(there, writer, wait=True))

    async def _hand(self, reader, writer, *, wait):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self.delay_s if wait else 0)
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def proxy(server):
    return SlowProxy(server.port)


@pytest.fixture
def both(proxy, tmp_path):
    """Clients of an engine and of a replica of it."""
    root = shop.write_template(tmp_path / "shop")
    with (root / "penstock.toml").open("a") as file:
        file.write(
            f"[online]\nurl = 'redis://{HOST}:{proxy.port}/0'\nnamespace = '{tmp_path.name}'\ntimeout_ms = {TIMEOUT_S * 1000}\n"
        )
    version = shop.register(root)
    registry_of(root).promote("fraud", version.version, stage="Production", actor="ann", reason="test")
    with serving_project(root) as served, publishing(served.runtime), ReplicaRuntime.open(root) as replica:
        platform = ReplicaPlatform(replica)
        anywhere = platform.settings.model_copy(update={"port": 0})
        with (
            Server(create_replica_app(platform), anywhere) as listening,
            httpx.Client(base_url=served.url, timeout=30) as engine,
            httpx.Client(base_url=listening.url, timeout=30) as other,
        ):
            yield engine, other


def settled(engine, replica, event, seconds=15.0):
    """The replica's preview, once it knows all that the engine has."""
    until = time.monotonic() + seconds
    wanted = engine.get("/v1/status").json()["log_length"]
    while True:
        found = replica.post(SCORE, json=event).json()
        if found.get("log_position") == wanted and "flags" not in found:
            return found
        assert time.monotonic() < until, (found, wanted)
        time.sleep(0.02)


def test_a_preview_is_the_decision_that_the_engine_then_makes(both):
    engine, replica = both
    for event in shop.payments(40):
        preview = settled(engine, replica, event)
        decision = engine.post(SCORE, json=event).json()
        assert (preview.pop("status"), preview.pop("recorded")) == ("preview", False)
        assert preview.pop("log_position") == decision.pop("position")
        assert decision.pop("status") == "scored"
        assert preview == decision
    assert engine.get("/v1/status").json()["log_length"] == 40, "previews are not recorded"


def test_what_breaks_its_contract_is_refused_and_lists_are_answered_in_order(both):
    engine, replica = both
    first, second = shop.payments(2)
    bad = {**first, "amount": "much"}
    assert replica.post(SCORE, json=bad).status_code == 422
    found = replica.post(SCORE, json=[first, bad, second]).json()["answers"]
    assert [one["status"] for one in found] == ["preview", "rejected", "preview"]
    told = engine.post(SCORE, json=[first, second]).json()["answers"]
    assert [one["features"] for one in (found[0], found[2])] == [one["features"] for one in told]
    assert replica.post("/v1/endpoints/nobody/score", json=first).status_code == 404
    assert replica.get("/health/ready").json() == {"status": "ready"}


def test_features_by_key_are_those_of_the_engine(both):
    engine, replica = both
    (event, *more) = shop.payments(10)
    engine.post(SCORE, json=[event, *more])
    settled(engine, replica, shop.payments(1, first=20)[0])
    asked = {"join_keys": {"card_id": event["card_id"]}}
    view = "card_spending"
    one, other = (c.post(f"/v1/views/{view}/features", json=asked).json() for c in (engine, replica))
    assert other["degraded"] is False
    assert [f["value"] for f in one["rows"][0]["features"]] == [
        f["value"] for f in other["rows"][0]["features"]
    ]


def through_a_fault(both, begin, end, seconds):
    """Answers of the replica while Redis is away, each with how long it took; the engine takes events meanwhile."""
    engine, replica = both
    events = shop.payments(60)
    engine.post(SCORE, json=events[:10])
    settled(engine, replica, events[10])
    begin()
    told, until = [], time.monotonic() + seconds
    rest = iter(events[10:50])
    try:
        while time.monotonic() < until:
            started = time.monotonic()
            answer = replica.post(SCORE, json=events[50])
            told.append((time.monotonic() - started, answer.json()))
            if (event := next(rest, None)) is not None:
                started = time.monotonic()
                assert engine.post(SCORE, json=event).json()["status"] == "scored"
                assert time.monotonic() - started < 1.0, "publishing holds up nobody"
            time.sleep(0.01)
    finally:
        end()
    for event in rest:
        engine.post(SCORE, json=event)
    preview = settled(engine, replica, events[50])
    decision = engine.post(SCORE, json=events[50]).json()
    assert preview["features"] == decision["features"], "the backlog drained"
    return told


def check_degraded(told):
    degraded = [(took, one) for took, one in told if "store_away" in one.get("flags", ())]
    assert degraded
    assert max(took for took, _ in told) < TIMEOUT_S + 0.9  # a machine that is busy with other tests
    one = degraded[-1][1]
    assert one["status"] == "preview"
    assert "degraded" in one["flags"]
    assert "log_position" not in one
    assert one["features"]["card_spending.amount_mean_1h_continuous"] is None


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.nightly)])
def test_redis_stopped(both, server, seconds):
    check_degraded(through_a_fault(both, server.stop, server.start, seconds))


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.nightly)])
def test_redis_frozen(both, server, seconds):
    check_degraded(through_a_fault(both, server.freeze, server.thaw, seconds))


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.nightly)])
def test_redis_slow(both, proxy, seconds):
    def slow():
        proxy.delay_s = 4 * TIMEOUT_S

    def well():
        proxy.delay_s = 0.0

    check_degraded(through_a_fault(both, slow, well, seconds))
