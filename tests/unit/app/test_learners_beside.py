"""The learners beside a run: which versions learn, what they serve, and what becomes of those in trouble."""

import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from penstock.app import learners_beside
from penstock.app.child import Child
from penstock.app.drifting import reference_of
from penstock.app.learners_beside import LearnersBeside, _Learner
from penstock.app.reasons import reasons_for
from penstock.app.runtime import learned_path, open_reader, plan_of
from penstock.app.served_vectors import ServedVectors
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.routing import RouteArm
from penstock.models.copies_log import KEPT_NAME
from penstock.models.learned_copies import Copies
from penstock.models.learning_model import (
    LearningModel,
    discard_learned,
    read_copy,
    served_from,
    states_of,
)
from penstock.models.online_state import seal, sealing_key
from penstock.models.prequential_scores import Held
from penstock.models.published import Constant, Published
from tests.unit.app import shop
from tests.unit.app.test_learning import DEFINITIONS, learning_of, project_in, trained

NARROW = DEFINITIONS.replace(
    '"model", features=features',
    '"model", features=FeatureService("narrow", features=[spending[["s", "n"]]])',
).replace('"endpoint", source=payments,', '"endpoint", source=payments, features=features,')


def filled(folder, definitions=DEFINITIONS, seed=0):
    root = project_in(folder, definitions)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 150, seed=seed)
    trained(root)
    return root


@pytest.fixture
def root(tmp_path):
    return filled(tmp_path / "shop")


def test_a_version_promoted_during_a_run_learns_and_the_one_before_ends(root):
    with shop.open_project(root) as runtime, LearnersBeside(runtime, every_s=1000.0) as learners:
        assert list(learners.progress) == ["model:1"]
        first = learners._learners["model:1"].child
        trained(root)
        runtime.load_routes()
        learners.reconcile()
        assert list(learners.progress) == ["model:2"]
        assert first.returncode is not None
        shop.feed(runtime, 60, seed=5, first=300)
        learners.finish()
        (progress,) = learners.progress.values()
        assert (progress.error, progress.behind) == ("", 0)


def test_a_version_in_an_arm_learns_whatever_its_stage(root):
    with shop.open_project(root) as runtime:
        learners = LearnersBeside(runtime)
        shadow = LearningModel("model:7", feature_names=(), definition="")
        runtime.routes._models["endpoint", "shadow"] = shadow
        assert learners._wanted() == {"model:1", "model:7"}


def test_a_version_of_other_definitions_serves_what_it_knew_and_learns_no_more(root):
    before = read_copy(states_of(learned_path(root), "model:1"))
    project_in(root, DEFINITIONS.replace("Adam(0.01)", "Adam(0.02)"))
    with shop.open_project(root) as runtime, LearnersBeside(runtime) as learners:
        learners.finish()
        assert "definition has changed" in learners.look()
    assert read_copy(states_of(learned_path(root), "model:1")) == before


def test_vectors_come_from_decisions_of_an_endpoint_with_more_features(tmp_path, monkeypatch):
    root = project_in(tmp_path / "shop", NARROW)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 40)
    project = load_project(root)
    plan = plan_of(project)
    with open_reader(root) as store:
        positions = np.concatenate([batch.positions for batch in store.read_decisions()])
        logged = ServedVectors(store, plan, plan.services["narrow"])
        recomputed = ServedVectors(store, plan, plan.services["narrow"])
        recomputed._endpoints = []
        expected = recomputed.at(positions)
        monkeypatch.setattr("penstock.app.served_vectors._History", None)
        np.testing.assert_array_equal(logged.at(positions), expected)


def test_held_vectors_are_let_go_of_when_they_were_asked_for():
    held, positions = Held(), np.arange(100)
    held.add(positions, np.zeros((100, 2)))
    out = np.ones((99, 2))
    assert held.fill(positions[:99], out).all()
    assert not out.any()
    assert [len(vectors) for _, vectors, _ in held._parts] == [1]
    assert held.fill(positions[99:], out[:1]).all()
    assert held._parts == []


def test_states_and_copies_of_another_log_are_not_gone_on_with(root, tmp_path):
    other = filled(tmp_path / "other", seed=9)
    shutil.rmtree(learned_path(other))
    shutil.copytree(learned_path(root), learned_path(other))
    with shop.open_project(other) as runtime:
        model = runtime.routes["endpoint"].serving[0].scorer
        assert model.newest is None
        assert "of another log" in model.refused
    with open_reader(other) as store:
        learning = learning_of(other, store)
        assert learning.started_from == "learned anew: the state is of another log"
        learning.catch_up()
        learning.save()
        assert read_copy(states_of(learned_path(other), "model:1")).log == store.store_id


def test_states_lie_in_the_project_whichever_registry_it_has(tmp_path):
    root = project_in(tmp_path / "shop")
    with (root / "penstock.toml").open("a") as file:
        file.write('[registry]\nuri = "../../models"\n')
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 150)
    trained(root)
    with shop.open_project(root) as runtime:
        assert runtime.routes["endpoint"].serving[0].scorer.newest is not None
    assert (root / ".penstock" / "online" / "model" / "1" / "state.bin").exists()


def published(labels, score=0.5, **more):
    return Published(Constant(score), labels, 0, "d", **more)


def test_what_is_learned_anew_serves_once_it_knows_as_much():
    model = LearningModel("m:1", feature_names=("a",), definition="d")
    model.put(published(100, log="l"))
    model.put(published(20, log="l"))
    assert model.version == "m:1+100"
    model.put(published(20, log="l", erasures=1))
    assert model.version == "m:1+20"
    model.put(published(40, log="l", erasures=1))
    assert model.version == "m:1+40"


def test_a_copy_on_disk_is_not_replaced_by_one_that_is_behind(root):
    states = states_of(learned_path(root), "model:1")
    before = read_copy(states)
    with open_reader(root) as store:
        learning = learning_of(root, store)
        learning._published = Published(
            Constant(0.5), 20, 0, learning.definition, store.store_id, before.erasures
        )
        learning.save()
    assert read_copy(states) == before


def test_an_arm_names_the_digest_of_the_copy_that_scored():
    model = LearningModel("m:1", feature_names=("a",), definition="d")
    arm = RouteArm("champion", 1.0, model)
    for score in (0.1, 0.2):
        model.put(published(20, score))
        arm.score(np.zeros((1, 1)))
        assert (arm.named.version, arm.named.digest) == ("m:1+20", model.digest)


def decided(runtime, first):
    """What was decided on one more payment, as `explain-event` has it."""
    runtime.ingest("payments", shop.payments(1, first=first))
    decision = Decisions.from_bytes(list(runtime.store.read_decisions())[-1].payload)
    return SimpleNamespace(decision=decision, endpoint=SimpleNamespace(name="endpoint"))


def test_a_learning_version_has_a_profile_and_reasons_by_the_copy_that_decided(root):
    with shop.open_project(root) as runtime:
        profile = reference_of(runtime.registry, "model").profile
        assert profile.column("score") is not None
        assert {c.name for c in profile.columns} > set(runtime.plan.services["features"].feature_names)
        before = decided(runtime, 900)
        with LearnersBeside(runtime, every_s=1000.0) as learners:
            shop.feed(runtime, 150, seed=5, first=300)
            learners.finish()
        after = decided(runtime, 901)
        label, newest = (one.decision.decided_by(0).version for one in (before, after))
        assert label != newest
    discarded = served_from(states_of(learned_path(root), "model:1"))
    for found, wanted in ((before, label), (after, newest)):
        explained, why = reasons_for(root, found)
        assert why == ""
        assert (explained.model, explained.note, explained.space) == (wanted, "", "log-odds")
        assert explained.score == pytest.approx(float(found.decision.scores[0]), abs=1e-6)
        assert explained.base + sum(r.contribution for r in explained.reasons) == pytest.approx(
            explained.total
        )
    # Elsewhere, and where copies of then are gone, the newest one explains, and says so.
    discarded.recent = Copies()
    assert reasons_for(root, after)[0].note == ""  # the copy in force is known in any case
    (states_of(learned_path(root), "model:1") / KEPT_NAME).unlink()
    explained, why = reasons_for(root, before)
    assert why == ""
    assert explained.model == newest
    assert label in explained.note


def test_a_version_without_any_copy_says_that_it_knows_nothing_here(root):
    with shop.open_project(root) as runtime:
        found = decided(runtime, 900)
        discard_learned(learned_path(root))
    assert reasons_for(root, found)[0] is None
    assert "not on this machine" in reasons_for(root, found)[1]


@pytest.fixture
def silent(tmp_path):
    """A learner that says nothing and ends only when it is killed."""
    child = Child("timeit", "-n1", "-r1", "import time; time.sleep(600)", speaks=True)
    learner = _Learner("m:1", tmp_path, child)
    learner._hearing = threading.Thread(target=learner._hear, args=(b"k",), daemon=True)
    learner._hearing.start()
    yield learner
    learner.end()


def test_a_learner_that_says_nothing_is_not_waited_for_for_ever(silent, monkeypatch):
    monkeypatch.setattr(learners_beside, "_SILENT_S", 0.2)
    monkeypatch.setattr(learners_beside, "_PAUSE_S", 0.1)
    silent.finish()
    assert "said nothing" in silent.text()


def test_whatever_is_wrong_with_a_message_is_told(silent, tmp_path):
    key = sealing_key(tmp_path)
    silent._take(seal(b"\xc1", key=key), key)
    assert "stopped learning" in silent.text()
