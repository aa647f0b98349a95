"""Versions come and go under load, some of them damaged: no event without its decision, no bad file served, one digest each."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time

import pytest
from xgboost import XGBClassifier

from penstock.app import Runtime
from penstock.app.route_watch import RouteWatch
from penstock.app.runtime import registry_of
from penstock.engine.decisions import Decisions
from penstock.models import loading
from tests.crash.bad_versions import INSIDE, ON_DISK, BadVersions
from tests.unit.app.arms import DEFINITIONS, events, promote, register, trained, write_project

VERSIONS = 12
ONE_ARM = DEFINITIONS[: DEFINITIONS.index(" sticky=card,")] + ")\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with sound versions; it is copied, since each test adds bad ones."""
    root = write_project(tmp_path_factory.mktemp("swapped"), ONE_ARM)
    for i in range(VERSIONS):
        register(root, shift=5.0 * i)
    return root, trained(root, estimator=XGBClassifier(n_estimators=3, max_depth=3, n_jobs=1))


def swap_under_load(project, root, *, swaps, bad_share, seed):
    """Promote at random while events are scored; returns the seconds from each rollback until it served."""
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    chance = random.Random(seed)
    source, trees = project
    shutil.copytree(source, root, dirs_exist_ok=True)
    versions = list(registry_of(root).versions("fraud"))
    bad = BadVersions(chance, lambda files=None: fresh(root, files, chance), trees)
    good = {version.label: version.digest for version in versions}
    promote(root, versions[0])
    stop, sent, failures, sizes = threading.Event(), [0], [], random.Random(seed + 1)
    with Runtime.open(root) as runtime, RouteWatch(runtime, every_s=0.01):

        def load():
            while not stop.is_set():
                size = sizes.choice((1, 1, 7, 100))
                answers = runtime.ingest("payments", events(sent[0], size))
                failures.extend(a for a in answers if a.status != "scored" or a.model not in good or a.flags)
                sent[0] += size

        feeding = threading.Thread(target=load)
        feeding.start()
        spoilt = set(chance.sample(range(swaps), round(swaps * bad_share)))
        took = [
            refused_swap(root, runtime, bad) if i in spoilt else one_swap(root, runtime, chance, versions)
            for i in range(swaps)
        ]
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
    assert {kind for kind, _ in bad.made} == {kind.__name__ for kind in (*ON_DISK, *INSIDE)}
    return [seconds for seconds in took if seconds is not None]


def fresh(root, files, chance):
    """A version that nobody has seen: a sound one, or one of these files."""
    made = (
        trained(root, shift=chance.uniform(0, 60), created_us=chance.getrandbits(40))
        if files is None
        else files
    )
    return registry_of(root).register(made, actor="ann", reason="test")


def refused_swap(root, runtime, bad):
    registry = registry_of(root)
    live = registry.get("fraud", "champion")
    promote(root, bad.next())
    wait(lambda: "checkout" in runtime.problems, runtime)
    assert serves(runtime, live), f"{bad.made[-1]} took the place of a sound version"
    registry.rollback("fraud", actor="ann", reason="damaged")
    started = time.perf_counter()
    wait(lambda: "checkout" not in runtime.problems and serves(runtime, live), runtime)
    return time.perf_counter() - started


def one_swap(root, runtime, chance, versions):
    registry = registry_of(root)
    live = registry.get("fraud", "champion")
    chosen = chance.choice([v for v in versions if v.label != live.label])
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


@pytest.mark.parametrize("seed", [7])
def test_swaps_under_load(project, tmp_path, monkeypatch, seed):
    """Every way to be bad once; the child process checks those only whose digests are right."""
    sound = {version.digest for version in registry_of(project[0]).versions("fraud")}
    check = loading.check_in_child

    def checked(folder, *, digest, **more):
        return None if digest in sound else check(folder, digest=digest, **more)

    monkeypatch.setattr(loading, "check_in_child", checked)
    assert swap_under_load(project, tmp_path, swaps=30, bad_share=1 / 3, seed=seed)


@pytest.mark.nightly
def test_a_thousand_swaps_under_load(project, tmp_path):
    seed = int(os.environ.get("PENSTOCK_SWAP_SEED", random.SystemRandom().getrandbits(32)))
    took = swap_under_load(project, tmp_path, swaps=1_000, bad_share=0.1, seed=seed)
    assert max(took) <= 1.0, "a rollback waits for nothing"
