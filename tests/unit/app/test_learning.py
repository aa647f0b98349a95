"""A model that learns beside the stream: its log, its state, its processes."""

import pickle  # noqa: TID251 - what must not be read
import random
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from penstock.app.arrivals import arrived_of
from penstock.app.forgetting import forget
from penstock.app.learners_beside import LearnersBeside
from penstock.app.learning import Learning, new_fold
from penstock.app.online_training import learn_from_log, register_learning
from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.history import features_from_log
from penstock.engine.recovery import no_progress
from penstock.models import learning_model
from penstock.models.learning_model import COPY_NAME, STATE_NAME, digest_of, read_copy, served_from, states_of
from penstock.models.online_state import dump, load, seal, sealing_key
from penstock.models.published import Constant, Published
from tests.unit.app import shop

pytest.importorskip("river")

IMPORTS = "from river import linear_model, optim, preprocessing\n"
LIVES = 5
ESTIMATOR = "preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam(0.01))"
LEARNING = f"estimator={ESTIMATOR}, learning=Online(batch=5, publish_every=20),"
DEFINITIONS = IMPORTS + shop.DEFINITIONS.replace("estimator=LogisticRegression(),", LEARNING).replace(
    "train=24 * HOUR, delay=HOUR, test=24 * HOUR", "train=4 * HOUR, delay=HOUR, test=24 * HOUR"
)


def project_in(folder, definitions=DEFINITIONS):
    return shop.write_project(folder, definitions, "[audit]\nrate = 0\n[offline]\nexport = false\n")


def trained(root):
    """Register and promote a version with what the log teaches so far."""
    project = load_project(root)
    plan, model = plan_of(project), project.models["model"]
    registry = registry_of(root, clock=shop.CLOCK)
    with open_reader(root) as store:
        learned = learn_from_log(plan, project, model, store, progress=no_progress)
    run = register_learning(
        plan,
        model,
        learned,
        registry=registry,
        clock=shop.CLOCK,
        states=learned_path(root),
        reports=root / "reports",
        actor="test",
        reason="test",
        erasures=0,
    )
    registry.promote("model", run.version.version, actor="test", reason="test")
    return run


def from_scratch(root, chunk=10**9):
    """All labels of the log in one fold, on vectors recomputed from the log."""
    project = load_project(root)
    plan, model = plan_of(project), project.models["model"]
    fold, copy = new_fold(model, plan), None
    with open_reader(root) as store:
        logged = features_from_log(store, plan, plan.services["features"])
        at = 0
        while at < store.next_position:
            arrived = arrived_of(store.labels_arrived(at, min(at + chunk, store.next_position)))
            rows = np.searchsorted(logged.positions, arrived.event_positions)
            for _ in fold.learn(arrived, logged.features.values[rows]):
                copy = fold.copy()
            at += chunk
    return fold, copy


def learning_of(root, store):
    project = load_project(root)
    states = states_of(learned_path(root), "model:1")
    return Learning(plan_of(project), project.models["model"], store=store, states=states)


@pytest.fixture
def root(tmp_path):
    """A project with a log, a version, and decisions since."""
    root = project_in(tmp_path / "shop")
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 300)
    trained(root)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 200, seed=1, first=300)
    return root


def test_labels_arrive_once_each_in_the_order_in_which_they_met_their_events(root):
    with open_reader(root) as store:
        whole = arrived_of(store.labels_arrived(0, store.next_position))
        every = store.latest_labels()
        pieces = [arrived_of(store.labels_arrived(at, at + 7)) for at in range(0, store.next_position, 7)]
    assert sorted(whole.event_positions.tolist()) == every.event_positions.tolist()
    assert whole.positions.tolist() == sorted(whole.positions.tolist())
    assert (whole.label_positions < whole.event_positions).any()
    assert np.concatenate([p.label_positions for p in pieces]).tolist() == whole.label_positions.tolist()


def test_only_the_first_label_of_an_event_is_learned(tmp_path):
    root = project_in(tmp_path / "shop")
    with shop.open_project(root) as runtime:
        rows = shop.payments(30)
        runtime.ingest("payments", rows)
        for fraud in (True, False, True):
            runtime.ingest(
                "frauds", [{"id": row["id"], "fraud": fraud, "known_at": row["at"]} for row in rows]
            )
    with open_reader(root) as store:
        found = store.labels_arrived(0, store.next_position)
    assert found.values.tolist() == [1.0] * 30


def test_a_version_serves_what_was_learned_and_decisions_name_how_much(root):
    with shop.open_project(root) as runtime:
        version = runtime.registry.get("model", 1)
        assert version.manifest().engine == "online"
        assert version.manifest().origin.log == runtime.store.store_id
        labels = read_copy(states_of(learned_path(root), version.label)).labels
        assert not runtime.problems
        newest = Decisions.from_bytes(list(runtime.store.read_decisions())[-1].payload)
        assert newest.decided_by(0).version == f"model:1+{labels}"
        assert np.isfinite(newest.scores).all()


def test_following_decisions_and_recomputing_from_the_log_teach_the_same(root):
    fold, copy = from_scratch(root)
    pieces, _ = from_scratch(root, chunk=31)
    with open_reader(root) as store:
        learning = learning_of(root, store)
        assert learning.started_from == "state"
        followed = learning.catch_up()
        learning.save()
        assert learning.fold.counts == fold.counts == pieces.counts
        assert followed.form == copy.form
        again = learning_of(root, store)
        assert again.progress.labels == fold.counts.labels
        assert again.fold.cursor == fold.cursor


def test_vectors_without_decisions_are_recomputed_from_a_log_that_grows(root):
    """Without endpoint no vector is logged for the model; what is learned is the same."""
    fold, copy = from_scratch(root)
    project = load_project(root)
    plan = replace(plan_of(project), endpoints={})
    with open_reader(root) as store:
        states = root / ".penstock" / "online" / "model" / "9"
        learning = Learning(plan, project.models["model"], store=store, states=states)
        while learning.progress.behind:
            learning.step(rows=97)
        assert learning.fold.counts == fold.counts
        assert learning.catch_up().form == copy.form


def test_a_run_learns_beside_and_serves_what_it_learned(root):
    with shop.open_project(root) as runtime, LearnersBeside(runtime) as learners:
        before = runtime.routes["endpoint"].serving[0].scorer.newest.version
        shop.feed(runtime, 200, seed=2, first=500)
        learners.finish()
        (progress,) = learners.progress.values()
        after = runtime.routes["endpoint"].serving[0].scorer.newest.version
        assert not progress.error
        assert progress.behind == 0
        assert "labels learned" in learners.look()
    fold, copy = from_scratch(root)
    assert progress.labels == fold.counts.labels
    assert after == f"model:1+{copy.labels}" != before
    states = states_of(learned_path(root), "model:1")
    assert read_copy(states).form == copy.form


def test_each_batch_is_scored_by_one_copy_while_copies_change(root):
    """A thread publishes copies whose score is their number of labels; every decision names the copy that scored it."""
    with shop.open_project(root) as runtime:
        model = runtime.routes["endpoint"].serving[0].scorer
        ended = threading.Event()

        def publish():
            labels = 0
            while not ended.is_set():
                labels += 1
                model.put(Published(Constant(float(labels)), labels, 0, model.definition))

        thread = threading.Thread(target=publish)
        thread.start()
        first = runtime.engine.position
        shop.feed(runtime, 200, seed=3, first=500)
        ended.set()
        thread.join()
        versions = set()
        for batch in runtime.store.read_decisions(first):
            decisions = Decisions.from_bytes(batch.payload)
            assert {f"model:1+{score:.0f}" for score in decisions.scores.tolist()} == set(
                decisions.versions()
            )
            versions |= set(decisions.versions())
    assert len(versions) > 10


def test_kills_at_any_moment_teach_no_label_twice(root):
    """Each life of the learner gets a few milliseconds more; the last one ends by itself."""
    fold, copy = from_scratch(root)
    draw = random.Random(4)
    version = registry_of(root).get("model", 1)
    (states_of(learned_path(root), version.label) / STATE_NAME).unlink()
    command = [sys.executable, "-P", "-m", "penstock.app.learning", str(root), str(root), "model", "1"]
    for life in range(LIVES):
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            child.stdin.write(b".")
            child.stdin.flush()
            if life < LIVES - 1:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(draw.uniform(0.5, 3.0))
                child.kill()
            child.wait()
    assert child.returncode == 0
    with open_reader(root) as store:
        learning = learning_of(root, store)
        assert learning.started_from == "state"
        assert learning.progress.behind <= 1 or learning.catch_up() is None
        assert learning.fold.counts == fold.counts
    assert read_copy(states_of(learned_path(root), version.label)).form == copy.form


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("harm", ["bit", "cut", "pickle", "foreign_seal"])
def test_a_state_that_is_not_ours_is_refused_before_it_is_read(root, tmp_path, harm):
    states = states_of(learned_path(root), "model:1")
    path, canary = states / STATE_NAME, tmp_path / "canary"
    good = path.read_bytes()
    bad = {
        "bit": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "cut": good[:-1],
        "pickle": good[:40] + pickle.dumps(Canary(canary)),
        "foreign_seal": seal(dump(Canary(canary)), key=b"x" * 32),
    }[harm]
    path.write_bytes(bad)
    (states / COPY_NAME).write_bytes(bad)
    learning_model._LOADED.clear()  # as in a process that starts
    with shop.open_project(root) as runtime:
        model = runtime.routes["endpoint"].serving[0].scorer
        assert "seal" in model.refused
        assert model.version == "model:1+0"
        answers = runtime.ingest("payments", shop.payments(5, first=900))
        assert [answer.score for answer in answers] == [None] * 5
    fold, copy = from_scratch(root)
    with open_reader(root) as store:
        learning = learning_of(root, store)
        assert "its seal is not this project's" in learning.started_from
        assert learning.catch_up().form == copy.form
        assert learning.fold.counts == fold.counts
    assert not canary.exists()


def test_a_state_of_other_definitions_or_libraries_is_learned_anew(root, monkeypatch):
    monkeypatch.setattr("penstock.app.learning.versions_in_use", lambda: {"river": "9.9", "python": "3"})
    with open_reader(root) as store:
        assert "river" in learning_of(root, store).started_from
    monkeypatch.undo()
    project_in(root, DEFINITIONS.replace("Adam(0.01)", "Adam(0.02)"))
    with open_reader(root) as store:
        assert learning_of(root, store).started_from == "learned anew: the definition changed"


def test_a_state_whose_objects_cannot_be_read_is_learned_anew(root, monkeypatch):
    monkeypatch.setattr("penstock.models.fold.load", lambda data: load(data[:-20]))
    with open_reader(root) as store:
        assert "cannot be read any more" in learning_of(root, store).started_from
    monkeypatch.undo()
    monkeypatch.setattr("penstock.__version__", "9.9")
    with open_reader(root) as store:
        assert "penstock" in learning_of(root, store).started_from


def test_the_seals_key_is_the_owners_alone(tmp_path):
    key = sealing_key(tmp_path / "online")
    assert sealing_key(tmp_path / "online") == key
    assert len(key) == 32
    assert (tmp_path / "online" / "key").stat().st_mode & 0o777 == 0o600


def test_the_registered_digest_is_of_the_copy_that_is_served(root):
    version = registry_of(root).get("model", 1)
    described = version.files()["online"]
    assert digest_of(read_copy(states_of(learned_path(root), version.label))).encode() in described
    assert registry_of(root).verify() == 2


def test_forgetting_a_key_leaves_nothing_of_what_was_learned_with_it(root):
    states = learned_path(root)
    assert served_from(states_of(states, "model:1")) is not None
    forget(root, "card", ["1"], clock=shop.CLOCK)
    assert [path.name for path in states.rglob("*") if path.is_file()] == ["key"]
    with shop.open_project(root) as runtime:
        model = runtime.routes["endpoint"].serving[0].scorer
        assert model.newest is None
        assert "no published copy" in model.refused
    with open_reader(root) as store:
        assert learning_of(root, store).catch_up() is not None
