from __future__ import annotations

import asyncio
from typing import Any

from penstock.core.errors import StoreError
from penstock.dashboard.feeds import MOST, Feeds
from penstock.serving.access import Identity, Scope

ANA = Identity("ana", frozenset({Scope.READ}), "a")
BEN = Identity("ben", frozenset({Scope.READ}), "b")


class Api:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.value: Any = {"n": 0}
        self.fails = False

    async def read(self, who: Identity, path: str) -> Any:
        self.asked.append((who.name, path))
        await asyncio.sleep(0)
        if self.fails:
            raise StoreError("gone")
        return dict(self.value)


async def settle(seconds: float = 0.05) -> None:
    await asyncio.sleep(seconds)


def test_ten_pages_cost_what_one_costs():
    async def run() -> tuple[int, int]:
        api = Api()
        feeds = Feeds(api.read)
        shows = [[] for _ in range(10)]
        for shown in shows:
            feeds.feed(ANA, "/v1/live").watch(shown.append, 0.01)
        await settle(0.1)
        assert all(shown == [{"n": 0}] for shown in shows)
        ten = len(api.asked)
        api.asked.clear()
        for shown in shows[1:]:
            feeds.feed(ANA, "/v1/live").leave(shown.append)
        return ten, len(api.asked)

    ten, _ = asyncio.run(run())
    assert 3 <= ten <= 15


def test_only_changes_are_told():
    async def run() -> list[Any]:
        api = Api()
        feeds = Feeds(api.read)
        seen: list[Any] = []
        show = seen.append
        feeds.feed(ANA, "/v1/live").watch(show, 0.01)
        await settle()
        api.value = {"n": 1}
        await settle()
        feeds.feed(ANA, "/v1/live").leave(show)
        return seen

    assert asyncio.run(run()) == [{"n": 0}, {"n": 1}]


def test_what_nobody_watches_is_not_read():
    async def run() -> int:
        api = Api()
        feeds = Feeds(api.read)
        seen: list[Any] = []
        show = seen.append
        feed = feeds.feed(ANA, "/v1/live")
        feed.watch(show, 0.01)
        await settle()
        feed.leave(show)
        assert feeds.watched == 0
        before = len(api.asked)
        await settle()
        return len(api.asked) - before

    assert asyncio.run(run()) == 0


def test_nobody_is_shown_what_another_may_see():
    async def run() -> list[tuple[str, str]]:
        api = Api()
        feeds = Feeds(api.read)
        await feeds.feed(ANA, "/v1/models").get(60)
        await feeds.feed(BEN, "/v1/models").get(60)
        await feeds.feed(BEN, "/v1/models").get(60)
        return api.asked

    assert asyncio.run(run()) == [("ana", "/v1/models"), ("ben", "/v1/models")]


def test_those_who_ask_at_once_share_the_answer():
    async def run() -> int:
        api = Api()
        feeds = Feeds(api.read)
        await asyncio.gather(*(feeds.feed(ANA, "/v1/models").get(60) for _ in range(20)))
        return len(api.asked)

    assert asyncio.run(run()) == 1


def test_a_failing_read_is_tried_again_more_slowly():
    async def run() -> tuple[int, list[Any]]:
        api = Api()
        api.fails = True
        feeds = Feeds(api.read)
        seen: list[Any] = []
        show = seen.append
        feed = feeds.feed(ANA, "/v1/live")
        feed.watch(show, 0.01)
        await settle(0.12)
        asked = len(api.asked)
        api.fails = False
        await settle(0.12)
        feed.leave(show)
        return asked, seen

    asked, seen = asyncio.run(run())
    assert asked <= 4
    assert seen == [{"n": 0}]


def test_feeds_are_forgotten_when_they_are_many():
    async def run() -> int:
        feeds = Feeds(Api().read)
        for number in range(3 * MOST):
            await feeds.feed(ANA, f"/v1/jobs/{number}").get(60)
        return len(feeds._feeds)

    assert asyncio.run(run()) <= MOST
