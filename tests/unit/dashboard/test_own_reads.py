"""Decisions that are read beside are those that the API lists, field by field."""

import asyncio

import httpx
import pytest

from penstock.dashboard.own_reads import OwnReads
from penstock.dashboard.reading_plan import decoded, encoded
from penstock.serving.access import LOCAL
from penstock.serving.inside import AS, header_of
from tests.unit.serving.conftest import models_are_sound, shop, template  # noqa: F401 - fixtures

WHO = {AS.decode(): header_of(LOCAL).decode()}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?limit=3",
        "?action=block&limit=7",
        "?endpoint=checkout&min_score=0.2",
        "?key=card-1",
        "?endpoint=x",
    ],
)
def test_the_answer_is_the_api_s(shop, query):  # noqa: F811
    async def plan():
        return encoded(shop.runtime.plan)

    own = OwnReads(shop.runtime.project.root, plan)
    request = httpx.Request("GET", f"http://x/v1/decisions{query}", headers=WHO)
    assert not own.takes(request), "nothing is read before it can be"
    own.prepare()
    assert own.takes(request)

    async def go():
        answer = await own.answer(request)
        return answer.status_code, httpx.Response(200, content=await answer.aread()).json()

    status, body = asyncio.run(go())
    theirs = httpx.get(f"{shop.url}/v1/decisions{query}")
    expected = theirs.json()
    for answer in (body, expected):
        answer.pop("request_id", None)
        answer.pop("instance", None)
    assert (status, body) == (theirs.status_code, expected)
    assert query == "?endpoint=x" or "items" in body


def test_what_only_the_engine_finds_is_not_read_here(shop):  # noqa: F811
    own = OwnReads(shop.runtime.project.root, lambda: None)
    own.prepare()
    for path in ("/v1/decisions?event_id=a", "/v1/status"):
        assert not own.takes(httpx.Request("GET", f"http://x{path}"))
    assert not own.takes(httpx.Request("POST", "http://x/v1/decisions"))


def test_a_plan_is_read_as_it_is(shop):  # noqa: F811
    plan, found = shop.runtime.plan, decoded(encoded(shop.runtime.plan))
    assert {name: node.fields for name, node in found.sources.items()} == {
        name: node.fields for name, node in plan.sources.items()
    }
    assert set(found.endpoints) == set(plan.endpoints)
