"""Versions that are taken out of service without a hand, and those that are left alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from penstock.app import Runtime, routing
from penstock.app.guard_labels import LabelGuard
from penstock.app.guard_log import verdict_on
from penstock.app.guarding import GuardWatch, Watched
from penstock.app.retraining import Retrainer
from penstock.app.route_watch import RouteWatch
from penstock.app.routing import weights_of
from penstock.core.errors import ModelError
from penstock.models.triggers import Trigger
from penstock.testing.clock import ManualClock
from tests.unit.app.fraud_shop import Feed, write_project

DAY = 720
HAND = Trigger("hand", "by hand")
ARMS = """policy=Policy("card", actions={"block": 0.3}), sticky=card,
    arms=[Arm("champion", weight=50), Arm("challenger", version="challenger", weight=50)]"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    monkeypatch.setattr("penstock.app.training.draw", lambda *_: {})


class Bad:
    """A version whose scoring went wrong after it was registered."""

    def __init__(self, model, score):
        self.version, self.digest, self.feature_names = model.version, model.digest, model.feature_names
        self.model, self._score = model, score

    def score(self, vectors):
        return self._score(self.model, vectors)


def failing(_model, _vectors):
    raise ModelError("it fails")


def half_nothing(model, vectors):
    scores = model.score(vectors).copy()
    scores[::2] = np.nan
    return scores


def slow(model, vectors):
    time.sleep(0.008)
    return model.score(vectors)


def shifted(model, vectors):
    return np.sqrt(model.score(vectors))


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project with two versions, the second still to be promoted; `spoil` makes a version score otherwise when it is loaded."""
    spoiled = {}
    load = routing.load_model

    def loaded(folder, *, digest, version, **_):
        model = load(folder, digest=digest, version=version)
        return Bad(model, spoiled[version]) if version in spoiled else model

    monkeypatch.setattr(routing, "load_model", loaded)
    clock = ManualClock(1_800_000_000_000_000)
    root = write_project(tmp_path, "to='Staging'")
    text = (root / "definitions.py").read_text()
    (root / "definitions.py").write_text(text.replace('policy=Policy("card", actions={"block": 0.3})', ARMS))
    with Runtime.open(root, clock=clock) as runtime:
        shop = Shop(runtime, clock, spoiled)
        yield shop


class Shop:
    def __init__(self, runtime, clock, spoiled):
        self.runtime, self.spoiled, self.feed = runtime, spoiled, Feed(runtime)
        audit = runtime.routes.audit
        retrainer = Retrainer(
            runtime.project, runtime.store, registry=runtime.registry, audit=audit, clock=clock
        )
        self.feed.send(2 * DAY)
        for _ in range(2):
            retrainer.attempt("fraud", HAND)
            self.feed.send(DAY)
        self.promote(1)

    def promote(self, version, stage="Production"):
        self.runtime.registry.promote("fraud", version, stage=stage, actor="ann", reason="test")
        self.load()

    def load(self):
        """Load all versions anew, so that those that are spoiled since are."""
        self.runtime.routes._ready.clear()
        self.runtime.routes._models.clear()
        self.runtime.load_routes()

    def guard(self):
        return GuardWatch(self.runtime)

    def send(self, guard, count=DAY, **options):
        """Send payments in small micro-batches, with looks of the guard between."""
        for _ in range(count // 20):
            self.feed.send(20, step=20, **options)
            guard.look()

    def live(self):
        return self.runtime.registry.get("fraud", "champion").version

    def verdict(self, version, what="scoring"):
        return verdict_on(self.runtime.routes.audit, "checkout", f"fraud:{version}", what=what)


@pytest.mark.parametrize("how", [failing, half_nothing, slow, shifted])
def test_a_bad_champion_is_rolled_back_once_with_its_numbers(shop, how):
    guard = shop.guard()
    shop.spoiled["fraud:2"] = how
    shop.promote(2)
    guard.look()
    shop.send(guard, 1_200)
    assert shop.live() == 1
    row = shop.runtime.registry.history("fraud")[-1]
    assert (row.action, row.actor, row.version) == ("rollback", "guard", 1)
    assert "fraud:2 at endpoint checkout: " in row.reason
    assert shop.verdict(2) == "refused"
    assert [arm.scorer.version for arm in shop.runtime.routes["checkout"].serving] == ["fraud:1"]
    rows = len(shop.runtime.registry.history("fraud"))
    shop.spoiled["fraud:1"] = how  # nothing swings: who came back is not watched
    shop.send(guard)
    assert len(shop.runtime.registry.history("fraud")) == rows


def test_a_bad_challenger_gets_no_more_keys(shop):
    guard = shop.guard()
    shop.spoiled["fraud:2"] = failing
    shop.promote(2, "Staging")
    guard.look()
    shop.send(guard, 1_600)
    assert shop.live() == 1
    weights = weights_of(shop.runtime.plan.endpoints["checkout"], shop.runtime.routes.audit)
    assert weights == {"champion": 50.0, "challenger": 0.0}
    assert shop.runtime.routes.audit.newest("route", "checkout").actor == "guard"
    assert shop.runtime.registry.get("fraud", 2).stage == "Staging"


def test_a_person_may_promote_what_the_guard_refused(shop):
    guard = shop.guard()
    shop.spoiled["fraud:2"] = failing
    shop.promote(2)
    guard.look()
    shop.send(guard)
    assert shop.live() == 1
    shop.promote(2)
    guard.look()
    shop.send(guard)
    assert shop.live() == 2


def test_a_good_version_passes_once_and_is_unwrapped(shop):
    guard = shop.guard()
    shop.promote(2)
    guard.look()
    assert isinstance(shop.runtime.routes["checkout"].serving[0].scorer, Watched)
    for _ in range(14):
        shop.feed.send(DAY)
        guard.look()
    guard.look()
    assert shop.live() == 2
    assert shop.verdict(2) == "passed"
    assert not isinstance(shop.runtime.routes["checkout"].serving[0].scorer, Watched)
    again = shop.guard()
    again.look()
    assert not isinstance(shop.runtime.routes["checkout"].serving[0].scorer, Watched), "also after a restart"


def test_the_first_version_of_all_stays_and_it_is_told(shop):
    guard = shop.guard()
    shop.spoiled["fraud:1"] = failing
    shop.load()
    guard.look()
    shop.send(guard, 1_600)
    assert shop.live() == 1
    assert "no version before it" in shop.runtime.problems["guard"]


def test_the_threads_take_a_failing_champion_out_within_seconds(shop):
    shop.spoiled["fraud:2"] = failing
    shop.runtime.routes._ready.clear()
    stop = threading.Event()
    with RouteWatch(shop.runtime), GuardWatch(shop.runtime):
        shop.runtime.registry.promote("fraud", 2, actor="ann", reason="test")
        began = time.monotonic()
        while shop.live() == 2 and time.monotonic() - began < 60:
            shop.feed.send(20, step=20)
            stop.wait(0.002)
        assert shop.live() == 1


def test_a_version_that_ranks_worse_is_rolled_back_when_labels_had_their_time(shop):
    runtime = shop.runtime
    audit, registry = runtime.routes.audit, runtime.registry
    labels = LabelGuard(runtime.project, runtime.plan, runtime.store, registry=registry, audit=audit)
    shop.spoiled["fraud:2"] = lambda model, vectors: model.score(np.ascontiguousarray(vectors[:, ::-1]))
    shop.promote(2)
    shop.feed.send(DAY // 2)
    assert labels.look() == []
    assert shop.live() == 2, "no label had its time"
    shop.feed.send(3 * DAY)
    labels.look()
    assert shop.live() == 1
    assert "average precision against fraud:1" in registry.history("fraud")[-1].reason


def test_one_that_ranks_alike_passes(shop):
    runtime = shop.runtime
    audit, registry = runtime.routes.audit, runtime.registry
    labels = LabelGuard(runtime.project, runtime.plan, runtime.store, registry=registry, audit=audit)
    shop.promote(2)
    for _ in range(5):
        shop.feed.send(DAY)
        labels.look()
    assert shop.live() == 2
    assert shop.verdict(2, "labels") == "passed"
