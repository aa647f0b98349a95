"""A version that goes on learning at the gate: it is never judged on a row whose label it knew."""

import json

import numpy as np
import pytest

from penstock.app.gate_learners import learner_at_gate
from penstock.app.gating import judge_version
from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
from penstock.app.training import data_from_log
from penstock.core.clock import SystemClock
from penstock.definitions.project import load_project
from penstock.engine.history import features_from_log
from penstock.models.learning_model import read_copy, states_of
from tests.unit.app import shop
from tests.unit.app.test_learning import DEFINITIONS, learning_of, project_in, trained

pytest.importorskip("river")


@pytest.fixture
def root(tmp_path):
    """A champion that has decided on later events and then learned them; and a second version of the same age."""
    root = project_in(tmp_path / "shop", DEFINITIONS)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 300)
    trained(root)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 200, seed=1, first=300)
    with open_reader(root) as store:
        learning = learning_of(root, store)
        learning.catch_up()
        learning.save()
    return root


def gathered(root):
    project = load_project(root)
    plan, model = plan_of(project), project.models["model"]
    with open_reader(root) as store:
        logged = features_from_log(store, plan, plan.services["features"])
        return project, plan, model, data_from_log(store, plan, model, logged, policy=None)


def learner(root, data, plan, model):
    version = registry_of(root).get("model", 1)
    with open_reader(root) as store:
        return learner_at_gate(store, plan, model, version, data, states=learned_path(root))


def test_its_scores_are_those_that_it_served_and_none_of_what_it_learned_else(root):
    _, plan, model, data = gathered(root)
    copy, scores = learner(root, data, plan, model)
    learned_to = read_copy(states_of(learned_path(root), "model:1")).position
    first = data.positions[np.isfinite(scores)].min()
    later = (data.positions >= first) & (data.positions <= learned_to)
    assert np.isnan(scores[data.positions < first]).all()  # learned before the version decided on anything
    assert later.sum() > 100
    assert np.isfinite(scores[later]).all()
    assert (
        np.abs(scores[later] - copy.score(data.vectors[later])).max() > 1e-6
    )  # not those of what it knows now


def test_rows_from_elsewhere_are_not_taken_where_they_may_be_those_it_learned(root):
    from dataclasses import replace

    _, plan, model, data = gathered(root)
    _, scores = learner(root, replace(data, positions=None), plan, model)
    learned_to = read_copy(states_of(learned_path(root), "model:1")).position
    assert np.isnan(scores[data.positions <= learned_to]).all()


def test_the_report_says_so(root):
    project, _, _, data = gathered(root)
    later = judge_version(project, "model", 1, registry=registry_of(root), clock=SystemClock(), gathered=data)
    rules = {rule.name: rule for rule in later.rules}
    assert rules["unseen rows"].verdict == "pass"
    assert "goes on learning" in rules["unseen rows"].text
    assert "either's training" not in rules["holdout"].text

    from dataclasses import replace

    away = replace(data, positions=None)
    report = judge_version(
        project, "model", 1, registry=registry_of(root), clock=SystemClock(), gathered=away
    )
    assert report.verdict == "inconclusive"
    assert {rule.name: rule.verdict for rule in report.rules}["unseen rows"] == "inconclusive"
    assert "has learned" in json.dumps([rule.text for rule in report.rules])
