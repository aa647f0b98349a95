"""Exploration and chosen thresholds, from the stream to the training set and back into the arm."""

import numpy as np
import pytest

from penstock.app import Runtime
from penstock.app.backtesting import Asked, backtest
from penstock.app.explaining import as_json, explain_event
from penstock.app.runtime import open_reader, plan_of, registry_of
from penstock.app.training import data_from_log, model_named, policy_of, train_model
from penstock.core.clock import SystemClock
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.history import features_from_log
from tests.unit.app.arms import promote, register, write_project
from tests.unit.app.test_backtesting import HEAD, RULES, labels, payments

CHOSEN = (HEAD + RULES).replace('"block": 0.8}', '"block": CostOptimal(0.8)}', 1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project that has decided on 1,600 payments with their labels, by a version without thresholds of its own."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    root = write_project(tmp_path, CHOSEN)
    promote(root, register(root))
    rows = payments(1600)
    with Runtime.open(root) as runtime:
        for at in range(0, 1600, 400):
            runtime.ingest("payments", rows[at : at + 400])
        runtime.ingest("frauds", labels(rows))
        counters = runtime.store.counters()
    assert counters["explored"] > 10
    assert counters["rule.huge"] > 10
    return root


def training_data(root):
    project = load_project(root)
    model, plan = model_named(project, "fraud"), plan_of(project)
    with open_reader(root) as store:
        logged = features_from_log(store, plan, plan.services["wide"])
        return project, model, data_from_log(store, plan, model, logged, policy=policy_of(project, model))


def test_training_counts_explored_labels_by_their_propensity(root):
    _, _, data = training_data(root)
    with open_reader(root) as store:
        parts = [Decisions.from_bytes(batch.payload) for batch in store.read_decisions()]
    flags, taken = (np.concatenate([getattr(d, name) for d in parts]) for name in ("flags", "taken"))
    fired = np.concatenate([np.zeros(len(d), np.uint8) if d.fired is None else d.fired for d in parts])
    explored = (flags & Flag.EXPLORED) > 0
    assert (data.weights[explored] == 1 / 0.2).all()
    assert (data.weights[(taken > 0) & (fired == 0)] == 0).all()
    assert (data.weights[(fired > 0) | ((taken == 0) & ~explored)] == 1).all()


def test_a_version_decides_by_the_threshold_that_it_was_trained_with(root, tmp_path):
    project, model, data = training_data(root)
    run = train_model(
        project,
        model,
        data,
        registry=registry_of(root),
        clock=SystemClock(),
        reports=tmp_path / "reports",
        actor="a",
        reason="r",
    )
    manifest = registry_of(root).get("fraud", run.version.version).manifest()
    threshold = manifest.chosen["block"]["threshold"]
    assert threshold != 0.8
    assert manifest.thresholds == {"review": 0.4, "block": threshold}
    assert "cost_block.png" in run.pictures
    promote(root, run.version)
    rows = payments(2400)[1600:]
    with Runtime.open(root) as runtime:
        assert not runtime.problems
        answers = runtime.ingest("payments", rows)
    plain = [
        a for a in answers if a.rule is None and "explored" not in a.flags and a.model == run.version.label
    ]
    assert {a.action for a in plain} >= {"approve", "block"}
    assert all((a.action == "block") == (a.score >= threshold) for a in plain)
    explored = next(a for a in answers if "explored" in a.flags and a.model == run.version.label)
    found = as_json(explain_event(root, explored.event_id))["decision"]
    assert (found["propensity"], found["action"]) == (0.2, "approve")
    assert found["thresholds"]["block"] == threshold
    again = []
    asked = Asked(models=(run.version.label,))
    backtest(root, "checkout", asked, watch=lambda _, block, d: again.append((block.decisions, d)))
    for before, after in again:
        mine = before.of_version(run.version.label)
        assert before.taken[mine].tolist() == after.taken[mine].tolist()
