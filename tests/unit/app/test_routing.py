"""Arms, shadows, weights and hot swaps of a running project."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from penstock import Arm
from penstock.app import Runtime
from penstock.app.forgetting import forget
from penstock.app.route_watch import RouteWatch, running_notes
from penstock.app.routing import reset_weights, set_weights, weights_of, weights_since
from penstock.app.runtime import audit_log_of, registry_of, shadow_path
from penstock.core.clock import SystemClock
from penstock.core.errors import (
    DefinitionError,
    InputError,
    ModelError,
    NotFoundError,
    PenstockError,
    StoreError,
)
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.stores.shadows import ShadowStore
from tests.unit.app.arms import DEFINITIONS, Constant, events, promote, register, write_project


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """The process that checks a version before it is loaded has tests of its own, and takes a second each time."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)


@pytest.fixture
def root(tmp_path):
    return write_project(tmp_path)


@pytest.fixture
def served(root):
    """Champion and challenger, and a model with fewer features."""
    first, second = register(root), register(root, shift=30.0)
    promote(root, first)
    promote(root, second, "Staging")
    promote(root, register(root, "narrow"))
    return root


def send(runtime, start, count):
    return runtime.ingest("payments", events(start, count))


def test_arms_share_the_keys_and_decisions_name_who_made_them(served):
    with Runtime.open(served) as runtime:
        assert not runtime.problems
        answers = send(runtime, 0, 2000)
        arms = {}
        for event, answer in zip(events(0, 2000), answers, strict=True):
            arms.setdefault(event["card_id"], set()).add((answer.arm, answer.model))
        assert all(len(who) == 1 for who in arms.values()), "a key has one arm"
        counts = Counter(next(iter(who)) for who in arms.values())
        assert set(counts) == {("champion", "fraud:1"), ("challenger", "fraud:2")}
        assert counts["champion", "fraud:1"] > counts["challenger", "fraud:2"]
        again = send(runtime, 0, 2000)
        assert [(a.arm, a.model, a.score) for a in again] == [(a.arm, a.model, a.score) for a in answers]
        batch = next(iter(runtime.store.read_decisions()))
        stored = Decisions.from_bytes(batch.payload)
        digests = {v.label: v.digest for v in registry_of(served).versions("fraud")}
        assert {arm.version: arm.digest for arm in stored.arms} == digests
        assert stored.versions()[:3] == [a.model for a in answers[:3]]


def test_a_growing_weight_moves_keys_to_its_arm_only(served):
    with Runtime.open(served) as runtime:
        before = {e["card_id"]: a.arm for e, a in zip(events(0, 50), send(runtime, 0, 50), strict=True)}
        set_weights(
            runtime.plan.endpoints["checkout"],
            {"challenger": 80.0, "narrow": 40.0},
            runtime.routes.audit,
            actor="ann",
            reason="it does well",
        )
        assert runtime.routes.stale()
        runtime.load_routes()
        assert not runtime.routes.stale()
        after = {e["card_id"]: a.arm for e, a in zip(events(50, 50), send(runtime, 50, 50), strict=True)}
        moved = {after[c] for c in before if before[c] != after[c]}
        assert moved == {"challenger", "narrow"}
        narrow = [a for a in send(runtime, 100, 50) if a.arm == "narrow"]
        assert narrow
        assert {a.model for a in narrow} == {"narrow:1"}
        row = audit_log_of(served).newest("route", "checkout")
        assert (row.actor, row.reason) == ("ann", "it does well")
    with Runtime.open(served) as runtime:
        assert {arm.name: arm.weight for arm in runtime.routes["checkout"].serving} == {
            "champion": 80.0,
            "challenger": 80.0,
            "narrow": 40.0,
        }


def test_a_model_of_fewer_features_reads_its_own_columns(served):
    with Runtime.open(served) as runtime:
        send(runtime, 0, 300)
        runtime.shadows.flush()
        narrow = runtime.routes["checkout"].shadows[1]
        assert narrow.columns.tolist() == [0]
        stored = [Decisions.from_bytes(b.payload) for b in runtime.store.read_decisions()]
        vectors = np.concatenate([one.vectors for one in stored])
        with closing(ShadowStore(shadow_path(served))) as shadows:
            scores = np.concatenate([b.scores for b in shadows.read("checkout", "narrow_watcher")])
            watcher = list(shadows.read("checkout", "watcher"))
        model = narrow.scorer
        assert scores.tobytes() == model.score(np.ascontiguousarray(vectors[:, :1])).tobytes()
        assert {(b.version, b.digest) for b in watcher} == {
            ("fraud:2", registry_of(served).get("fraud", 2).digest)
        }
        assert np.concatenate([b.positions for b in watcher]).tolist() == list(range(300))


def test_forgotten_events_leave_the_shadows(served):
    with Runtime.open(served) as runtime:
        send(runtime, 0, 300)
    forget(served, "card", ["c7"], clock=SystemClock())
    with closing(ShadowStore(shadow_path(served))) as shadows:
        left = np.concatenate([b.positions for b in shadows.read("checkout", "watcher")])
    assert left.tolist() == [i for i in range(300) if i % 50 != 7]


def test_a_shadow_never_holds_up_the_endpoint_and_what_it_leaves_out_is_counted(served, monkeypatch):
    monkeypatch.setattr("penstock.app.shadowing.MAX_BATCHES", 20)
    let_go = threading.Event()

    class Stuck(Constant):
        def score(self, vectors):
            assert let_go.wait(60)
            return super().score(vectors)

    with Runtime.open(served) as runtime:
        runtime.routes.serve("checkout", Stuck("fraud:9", 0.3), arm="watcher")
        for i in range(200):
            assert send(runtime, i, 1)[0].status == "scored"
        let_go.set()
        runtime.shadows.flush()
        scored, dropped = runtime.shadows.scored["checkout/watcher"], runtime.shadows.dropped["checkout"]
        assert 20 <= scored <= 21
        assert scored + dropped == 200


def test_a_failing_shadow_is_counted_and_a_failing_arm_degrades_its_own_decisions(served):
    class Broken(Constant):
        def score(self, vectors):
            raise ModelError("model: broken")

    with Runtime.open(served) as runtime:
        runtime.routes.serve("checkout", Broken("fraud:9", 0.3), arm="watcher")
        runtime.routes.serve("checkout", Broken("fraud:8", 0.3), arm="challenger")
        answers = send(runtime, 0, 200)
        runtime.shadows.flush()
        assert runtime.shadows.failed["checkout/watcher"] == 200
        degraded = [a for a in answers if "degraded" in a.flags]
        assert degraded
        assert {a.arm for a in degraded} == {"challenger"}
        assert {a.action for a in degraded} == {"approve"}


def test_an_arm_without_a_version_leaves_its_keys_to_the_others(root):
    promote(root, register(root))
    with Runtime.open(root) as runtime:
        assert {a.arm for a in send(runtime, 0, 200)} == {"champion"}
        promote(root, register(root, shift=20.0), "Staging")
        runtime.load_routes()
        assert {a.arm for a in send(runtime, 200, 200)} == {"champion", "challenger"}
        promote(root, registry_of(root).get("fraud", 2))  # no challenger any more
        runtime.load_routes()
        assert {(a.arm, a.model) for a in send(runtime, 400, 200)} == {("champion", "fraud:2")}


def test_promotions_and_rollbacks_reach_a_running_engine_within_a_second(served):
    with Runtime.open(served) as runtime, RouteWatch(runtime, every_s=0.05):
        promote(served, registry_of(served).get("fraud", 2))
        live = wait_for(runtime, "fraud:2")
        started = time.perf_counter()
        registry_of(served).rollback("fraud", actor="ann", reason="worse")
        live = wait_for(runtime, "fraud:1")
        assert time.perf_counter() - started < 1.0, "what was live is kept ready"
        assert live


def test_a_version_with_a_damaged_file_never_serves(served):
    third = register(served, shift=60.0)
    name = next(path for path in third.folder.iterdir() if path.suffix == ".onnx")
    data = bytearray(name.read_bytes())
    data[len(data) // 2] ^= 1
    name.write_bytes(data)
    with Runtime.open(served) as runtime, RouteWatch(runtime, every_s=0.05):
        promote(served, third)
        deadline = time.perf_counter() + 10
        while "checkout" not in runtime.problems and time.perf_counter() < deadline:
            time.sleep(0.02)
        assert "The file was changed after it was registered" in runtime.problems["checkout"]
        assert {a.model for a in send(runtime, 0, 100)} <= {"fraud:1", "fraud:2"}
        registry_of(served).rollback("fraud", actor="ann", reason="damaged")
        while "checkout" in runtime.problems and time.perf_counter() < deadline:
            time.sleep(0.02)
        assert not runtime.problems


def wait_for(runtime, label):
    deadline = time.perf_counter() + 10
    while time.perf_counter() < deadline:
        if runtime.routes["checkout"].serving[0].scorer.version == label:
            return True
        time.sleep(0.01)
    raise AssertionError(f"{label} is not live: {runtime.problems}")


def test_a_model_with_other_features_is_not_swapped_in(served):
    with Runtime.open(served) as runtime:
        for other in (("spending.sum", "renamed"), ("spending.count", "spending.sum"), ("spending.sum",)):
            with pytest.raises(ModelError, match="Deploy it with the feature service"):
                runtime.routes.serve("checkout", Constant("fraud:9", 0.5, other))
        assert runtime.routes["checkout"].serving[0].scorer.version == "fraud:1"


def test_weights_that_leave_nobody_are_refused(served):
    audit = audit_log_of(served)
    with Runtime.open(served) as runtime:
        node = runtime.plan.endpoints["checkout"]
    nobody = {"champion": 0.0, "challenger": 0.0}
    for changes, kind, words in (
        (nobody, InputError, "no arm decides"),
        ({"nobody": 1.0}, NotFoundError, "has no arm 'nobody'"),
        ({"watcher": 1.0}, InputError, "is a shadow"),
        ({"champion": float("nan")}, DefinitionError, "finite number"),
    ):
        with pytest.raises(kind, match=words):
            set_weights(node, changes, audit, actor="ann", reason="test")
    assert audit.head()[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", sticky=card,", ",", "no entity by which they share"),
        ('Arm("champion", weight=80)', 'Arm("challenger", weight=80)', "occurs twice"),
        ('Arm("champion", weight=80)', 'Arm("champion", weight=-1)', "finite number"),
        ('version="challenger", weight=20', "version=0, weight=20", "version is 0"),
        ("model=model, policy", "model=narrow, policy", "is not one of FeatureService 'small'"),
    ],
)
def test_arms_that_mean_nothing_are_refused(tmp_path, old, new, words):
    assert old in DEFINITIONS
    text = DEFINITIONS.replace(old, new)
    if "narrow, policy" in new:
        text = text.replace('Arm("narrow", model=narrow, weight=0)', 'Arm("wide", model=model)')
    with pytest.raises(PenstockError, match=words):
        load_project(write_project(tmp_path, text))


def test_an_arm_is_a_value():
    assert Arm("a") == Arm("a", version="champion", weight=1.0)


def test_a_registry_that_fails_once_loses_no_promotion(served, monkeypatch):
    with Runtime.open(served) as runtime:
        promote(served, registry_of(served).get("fraud", 2))
        with monkeypatch.context() as patched:
            patched.setattr(runtime.registry, "versions", Fails(StoreError("registry: away")))
            runtime.load_routes()
            assert runtime.problems["routes"] == "registry: away"
            assert {a.model for a in send(runtime, 0, 50)} == {"fraud:1", "fraud:2"}
        assert runtime.routes.stale()
        runtime.load_routes()
        assert "routes" not in runtime.problems
        assert runtime.routes["checkout"].serving[0].named.version == "fraud:2"


def test_the_watch_survives_what_nobody_expects_and_tells(served, monkeypatch):
    with Runtime.open(served) as runtime:
        with RouteWatch(runtime, every_s=0.01), monkeypatch.context() as patched:
            patched.setattr(runtime.registry, "head", Fails(FileNotFoundError("gone")))
            until(lambda: "routes" in runtime.problems)
            until(lambda: (notes := running_notes(served)) is not None and notes.problems)
            assert running_notes(served).problems["routes"] == "FileNotFoundError: gone"
            patched.undo()
            until(lambda: "routes" not in runtime.problems)
            until(lambda: not running_notes(served).problems)
            assert running_notes(served).routes["checkout"]["champion"] == "fraud:1"
        assert running_notes(served) is None


def test_shadows_survive_a_model_that_raises_anything_and_a_store_that_fails(served, monkeypatch):
    class Broken(Constant):
        def score(self, vectors):
            raise ZeroDivisionError("nobody expects it")

    with Runtime.open(served) as runtime:
        runtime.routes.serve("checkout", Broken("fraud:9", 0.3), arm="watcher")
        send(runtime, 0, 100)
        runtime.shadows.flush()
        assert runtime.shadows.failed["checkout/watcher"] == 100
        assert "ZeroDivisionError" in runtime.shadows.problem
        with monkeypatch.context() as patched:
            patched.setattr("penstock.stores.shadows._encoded", lambda _: object())  # SQLite takes no object
            send(runtime, 100, 100)
            runtime.shadows.flush()
        assert runtime.shadows.lost["checkout/narrow_watcher"] == 100
        send(runtime, 200, 100)
        runtime.shadows.flush()
    with closing(ShadowStore(shadow_path(served))) as shadows:
        stored = np.concatenate([b.positions for b in shadows.read("checkout", "narrow_watcher")])
    assert stored.tolist() == [*range(100), *range(200, 300)], "what came after the failure is stored"


def test_weights_go_back_to_the_definition_and_say_since_when(served):
    audit = audit_log_of(served)
    with Runtime.open(served) as runtime:
        node = runtime.plan.endpoints["checkout"]
        set_weights(node, {"challenger": 80.0}, audit, actor="ann", reason="more", position=123)
        assert (weights_of(node, audit)["challenger"], weights_since(node, audit)) == (80.0, 123)
        reset_weights(node, audit, actor="ann", reason="back", position=456)
        assert (weights_of(node, audit)["challenger"], weights_since(node, audit)) == (20.0, 456)


class Fails:
    def __init__(self, error):
        self.error = error

    def __call__(self, *_, **__):
        raise self.error


def until(happened):
    deadline = time.perf_counter() + 20
    while not happened():
        assert time.perf_counter() < deadline
        time.sleep(0.01)
