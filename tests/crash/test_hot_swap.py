"""Versions come and go under load, some of them damaged: no event without its decision, no bad file served, one digest each."""

from __future__ import annotations

import random
import threading
import time

import pytest

from penstock.app import Runtime
from penstock.app.route_watch import RouteWatch
from penstock.app.runtime import registry_of
from penstock.engine.decisions import Decisions
from tests.unit.app.arms import DEFINITIONS, events, promote, register, write_project

VERSIONS = 12
ONE_ARM = DEFINITIONS[: DEFINITIONS.index(" sticky=card,")] + ")\n"


def damage(version, chance):
    path = chance.choice([path for path in sorted(version.folder.iterdir()) if path.stat().st_size])
    data = bytearray(path.read_bytes())
    if chance.random() < 0.5:
        del data[chance.randrange(len(data)) :]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def swap_under_load(root, *, swaps, seed):
    """Promote at random while events are scored; returns the seconds from each rollback until it served."""
    chance = random.Random(seed)
    write_project(root, ONE_ARM)
    versions = [register(root, shift=5.0 * i) for i in range(VERSIONS)]
    bad = versions[-2:]
    for version in bad:
        damage(version, chance)
    good = {version.label: version.digest for version in versions if version not in bad}
    promote(root, versions[0])
    stop, sent, failures = threading.Event(), [0], []
    with Runtime.open(root) as runtime, RouteWatch(runtime, every_s=0.01):

        def load():
            while not stop.is_set():
                size = chance.choice((1, 1, 7, 100))
                answers = runtime.ingest("payments", events(sent[0], size))
                failures.extend(a for a in answers if a.status != "scored" or a.model not in good or a.flags)
                sent[0] += size

        feeding = threading.Thread(target=load)
        feeding.start()
        took = [one_swap(root, runtime, chance, versions, bad) for _ in range(swaps)]
        stop.set()
        feeding.join()
        assert not failures, failures[:3]
        assert runtime.store.counters()["scored"] == sent[0]
        named = {
            (arm.version, arm.digest)
            for batch in runtime.store.read_decisions()
            for arm in Decisions.from_bytes(batch.payload).arms
        }
    assert named <= set(good.items()), "a decision names a version with another's digest"
    assert len(named) > 3, "nothing was ever swapped under load"
    return [seconds for seconds in took if seconds is not None]


def one_swap(root, runtime, chance, versions, bad):
    registry = registry_of(root)
    live = registry.get("fraud", "champion")
    if chance.random() < 0.1:
        promote(root, chance.choice(bad))
        wait(lambda: "checkout" in runtime.problems, runtime)
        registry.rollback("fraud", actor="ann", reason="damaged")
        started = time.perf_counter()
        wait(lambda: "checkout" not in runtime.problems and serves(runtime, live), runtime)
        return time.perf_counter() - started
    chosen = chance.choice([v for v in versions if v not in bad and v.label != live.label])
    promote(root, chosen)
    wait(lambda: serves(runtime, chosen), runtime)
    if chance.random() < 0.3:
        registry.rollback("fraud", actor="ann", reason="worse")
        started = time.perf_counter()
        wait(lambda: serves(runtime, live), runtime)
        return time.perf_counter() - started
    return None


def serves(runtime, version):
    return runtime.routes["checkout"].serving[0].named.digest == version.digest


def wait(happened, runtime):
    deadline = time.perf_counter() + 60
    while not happened():
        assert time.perf_counter() < deadline, runtime.problems
        time.sleep(0.002)


def test_swaps_under_load(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    assert swap_under_load(tmp_path, swaps=40, seed=7)


@pytest.mark.nightly
def test_a_thousand_swaps_under_load(tmp_path):
    took = swap_under_load(tmp_path, swaps=1_000, seed=random.SystemRandom().getrandbits(32))
    assert max(took) <= 1.0, "a rollback waits for nothing"
