"""Who asks over the socket inside is who the header says; from outside the header says nothing."""

import asyncio

import httpx
import pytest

from penstock.serving.access import LOCAL, Identity
from penstock.serving.inside import AS, Inside, header_of, identity_of
from penstock.stores.keys import Scope
from tests.unit.serving.asgi import Door

ANA = Identity("Ana Müller", frozenset({Scope.READ, Scope.WRITE}), "k1", ends_us=7)


@pytest.mark.parametrize("who", [ANA, LOCAL])
def test_a_caller_is_the_same_behind_the_header(who):
    found = identity_of(header_of(who))
    assert (found.name, found.scopes, found.key_id) == (who.name, who.scopes, who.key_id)
    assert found.ends_us == who.ends_us


def test_the_application_finds_who_asks():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope.get("identity"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def go():
        transport = httpx.ASGITransport(Inside(app, {"/own": lambda: b"[1]"}))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.get("/a", headers={AS.decode(): header_of(ANA).decode()})
            await client.get("/a")
            assert (await client.get("/own")).json() == [1]

    asyncio.run(go())
    assert [who and who.name for who in seen] == ["Ana Müller", None]


def test_from_outside_nobody_says_who_he_is(tmp_path):
    door = Door(tmp_path)
    door.ask(headers={AS.decode(): header_of(LOCAL).decode()}, client=("10.0.0.9", 5))
    assert door.calls[-1]["identity"] is None
