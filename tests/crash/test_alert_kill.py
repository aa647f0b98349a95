"""kill -9 of a project that tells of its decisions, to a receiver that fails at random: none is lost, none has two keys."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from penstock.app.alerting import alerts_path
from penstock.stores.alerts import AlertStore
from tests.crash.nursery import Nursery
from tests.unit.app.receiver import SECRET, Receiver
from tests.unit.app.told import hook, write_project

pytest.importorskip("httpx")
EVENTS = 200  # as in `killed_alerting`, which needs httpx to be imported


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (2, 3, 4))])
def test_every_decision_is_told_and_each_under_one_key(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("CARDS_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    chance = random.Random(seed)
    with Receiver(lambda: chance.choice([204, 503, 204]), takes=lambda _: True) as cards:
        alert = f'block = Alert("block", on=OnDecision(checkout, action="block"), to=[{hook(cards)}])\n'
        write_project(tmp_path, alert)
        nursery = Nursery("tests.crash.killed_alerting")
        lives = 0
        try:
            while not everything_told(tmp_path):
                nursery.kill_one(tmp_path, delay=chance.uniform(0.01, 0.2), since="commit")
                lives += 1
                assert lives < 200
        finally:
            nursery.close()
    assert lives > 2, "it must have been killed"
    keys = {}
    for key, body in zip(cards.keys, cards.bodies, strict=True):
        keys.setdefault(body["data"]["event_id"], []).append(key)
    assert sorted(keys) == sorted(f"p{i}" for i in range(EVENTS) if is_blocked(i))
    assert all(len(set(found)) == 1 for found in keys.values())
    assert len({found[0] for found in keys.values()}) == len(keys)
    assert max(map(len, keys.values())) > 1, "a message whose answer was lost must have come again"


def is_blocked(number):
    return number % 5 % 2 == 0  # batches of five: high, low, high, low, high


def everything_told(folder):
    if not alerts_path(folder).exists():
        return False
    with closing(AlertStore(alerts_path(folder))) as store:
        return store.cursor() == EVENTS and set(store.counts().get("block", {})) == {"sent"}
