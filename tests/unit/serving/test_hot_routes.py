"""Hot routes: called straight away or found by the router, they answer the same to the last byte."""

import asyncio
import gc
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from penstock.serving import bodies
from penstock.serving.access import LOCAL, Identity
from penstock.serving.bytes_route import HotRoutes, hot_routes_of
from penstock.serving.routes import scoring, tecton
from penstock.stores.keys import Scope
from tests.unit.serving.asgi import ask
from tests.unit.serving.shop import payments

SCORE, EVENTS = "/v1/endpoints/checkout/score", "/v1/sources/payments/events"
GOOD, ANOTHER = payments(2, 300)
ONE, LIST = json.dumps(GOOD).encode(), json.dumps([GOOD, ANOTHER, {"payment_id": "bad"}]).encode()
NDJSON = {"content-type": "application/x-ndjson"}


async def elsewhere(scope, receive, send):
    """What is behind the hot routes."""
    raise AssertionError(f"{scope['path']} is no hot route")


def ways(app):
    """An application's two ways to its hot routes."""
    defect = app.exception_handlers[Exception]
    return HotRoutes(elsewhere, hot_routes_of(app), defect), FastAPI.build_middleware_stack(app)


def asked(way, app, *given, identity=LOCAL, **more):
    """What one way answers, as from behind the edge."""

    async def inside(scope, receive, send):
        await way(scope | {"app": app, "identity": identity, "request_id": "0123456789"}, receive, send)

    return ask(inside, *given, **more)


@pytest.mark.parametrize(
    ("path", "body", "headers", "query", "status"),
    [
        (SCORE, ONE, {}, b"", 200),
        (SCORE, ONE, {}, b"features=true", 200),
        (SCORE, ONE, {}, b"reasons=true&timeout_ms=5000", 200),
        (SCORE, LIST, {}, b"", 200),
        (SCORE, LIST.strip(b"[]").replace(b"}, {", b"}\n{"), NDJSON, b"", 200),
        (EVENTS, ONE, {}, b"", 200),
        (EVENTS, LIST, {}, b"dry_run=true", 200),
        (SCORE, b"", {}, b"", 422),
        (SCORE, b"[{}", {}, b"", 422),
        (SCORE, b'{"payment_id": 7}', {}, b"", 422),
        (SCORE, json.dumps(GOOD | {"amount": 3.5}).encode(), {}, b"", 409),
        (SCORE, ONE, {}, b"features=perhaps", 422),
        (SCORE, ONE, {}, b"timeout_ms=0.0001", 503),
        (SCORE, b"\n" * 30_000, NDJSON, b"", 413),
        ("/v1/endpoints/nowhere/score", ONE, {}, b"", 404),
        ("/v1/endpoints/check%out/score", ONE, {}, b"", 404),
        ("/v1/sources/nowhere/events", ONE, {}, b"", 404),
    ],
)
def test_both_ways_answer_the_same(shop, path, body, headers, query, status):
    hot, routed = ways(shop.app)
    asked(hot, shop.app, "POST", path, headers, body, query_string=query)  # from now on it is a duplicate
    one = asked(hot, shop.app, "POST", path, headers, body, query_string=query)
    other = asked(routed, shop.app, "POST", path, headers, body, query_string=query)
    assert one == other
    assert one.status == status, one.body


@pytest.mark.parametrize(("identity", "status"), [(None, 401), (Identity("r", frozenset({Scope.READ})), 403)])
@pytest.mark.parametrize("path", [SCORE, EVENTS])
def test_who_may_not_is_told_so_before_the_body_is_read(shop, path, identity, status):
    for way in ways(shop.app):
        answer = asked(way, shop.app, "POST", path, {}, [0.5, b"{}"], identity=identity)
        assert answer.status == status


def test_what_is_no_hot_route_goes_on(shop):
    hot, routed = ways(shop.app)
    for method, path in (
        ("GET", SCORE),
        ("POST", SCORE + "/"),
        ("POST", "/v1" + SCORE),
        ("GET", "/v1/version"),
    ):
        with pytest.raises(AssertionError, match="no hot route"):
            asked(hot, shop.app, method, path)
    assert asked(routed, shop.app, "GET", SCORE).status == 405


def test_a_defect_is_told_and_raised_on_both_ways(shop, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(scoring, "endpoint_named", broken)
    seen = []
    for way in ways(shop.app):

        async def caught(scope, receive, send, way=way):
            with pytest.raises(ZeroDivisionError):
                await way(scope, receive, send)

        seen.append(asked(caught, shop.app, "POST", SCORE, {}, ONE))
    assert seen[0] == seen[1]
    assert (seen[0].status, json.loads(seen[0].body)["request_id"]) == (500, "0123456789")


def test_the_application_that_is_served_has_them_first(shop):
    assert {route.path for route in hot_routes_of(shop.app)} == {
        "/v1/endpoints/{endpoint}/score",
        "/v1/sources/{source}/events",
    }
    edge = shop.app.middleware_stack._app
    assert isinstance(edge._app, HotRoutes)


def test_large_bodies_are_taken_apart_in_another_thread():
    async def where(size):
        return await bodies.taken_apart(b"x" * size, lambda _: threading.get_ident())

    here = threading.get_ident()
    assert asyncio.run(where(bodies.AT_ONCE_BYTES)) == here
    assert asyncio.run(where(bodies.AT_ONCE_BYTES + 1)) != here


@pytest.mark.parametrize("path", [EVENTS, "/ingest"])
def test_a_large_request_does_not_hold_up_the_event_loop(served, client, monkeypatch, path):
    threads = []

    def noting(function):
        def noted(body):
            threads.append(threading.current_thread().name)
            return function(body)

        return noted

    monkeypatch.setattr(bodies, "_json", noting(bodies._json))
    monkeypatch.setattr(tecton, "_records", noting(tecton._records))
    rows = [row | {"payment_id": f"large-{i}"} for i, row in enumerate(payments() * 5)]
    client.post(
        path, {"records": {"payments": [{"record": row} for row in rows]}} if path == "/ingest" else rows
    )
    assert len(threads) == 1
    assert threads[0] != "penstock-http"


@pytest.mark.parametrize("path", [SCORE, EVENTS, "/ingest", "/v1/datasets"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_who_hangs_up_while_sending_leaves_no_traceback_and_no_event(served, caplog, path, kind):
    place, body = urlsplit(served.url), json.dumps(GOOD).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {2 * len(body)}\r\n\r\n"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head.encode() + body)
    counts = served.platform.observability.requests
    for _ in range(500):
        if found := counts.totals()[0]:
            break
        time.sleep(0.01)
    assert [(method, status) for _, method, status in found] == [("POST", "4xx")]
    assert not caplog.records
    assert served.runtime.engine.position == 0


def test_what_was_loaded_is_no_garbage_while_it_is_served(served):
    assert gc.get_freeze_count() > 10_000
