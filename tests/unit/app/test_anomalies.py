"""A model of anomalies in a project: taught by the log's events, with labels for its evaluation or without any."""

import numpy as np
import pytest

from penstock.app.arrivals import Arrivals
from penstock.app.drifting import drift_report, reference_of
from penstock.app.gating import judge_version
from penstock.app.learners_beside import LearnersBeside
from penstock.app.learning import Learning, new_fold
from penstock.app.measuring import monitor_of, stored_board, stored_metrics
from penstock.app.online_training import learn_from_log, register_learning
from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
from penstock.app.version_thresholds import VersionThresholds
from penstock.core.errors import DefinitionError
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.history import features_from_log
from penstock.engine.recovery import no_progress
from penstock.models.learning_model import STATE_NAME, read_copy, states_of
from penstock.monitoring.anomalies import PrequentialAnomalies
from tests.unit.app import shop

OF_ANOMALIES = (
    'task="anomaly", estimator=NearestNeighbours(window=200, neighbours=3), '
    "learning=Online(batch=5, publish_every=50),"
)
LABELLED = (
    shop.DEFINITIONS.replace("estimator=LogisticRegression(),", OF_ANOMALIES)
    .replace("train=24 * HOUR, delay=HOUR, test=24 * HOUR", "train=24 * HOUR, delay=0 * HOUR, test=24 * HOUR")
    .replace('actions={"block": 0.5}', 'actions={"block": AlertBudget(3)}')
)
UNLABELLED = LABELLED.replace('"model", features=features, label=frauds,', '"model", features=features,')


def write(folder, definitions):
    return shop.write_project(folder, definitions, "[audit]\nrate = 0\n[offline]\nexport = false\n")


def trained(root):
    project = load_project(root)
    plan, model = plan_of(project), project.models["model"]
    with open_reader(root) as store:
        learned = learn_from_log(plan, project, model, store, progress=no_progress)
    return register_learning(
        plan,
        model,
        learned,
        registry=registry_of(root, clock=shop.CLOCK),
        clock=shop.CLOCK,
        states=learned_path(root),
        reports=root / "reports",
        actor="test",
        reason="test",
        erasures=0,
    )


@pytest.fixture(params=[LABELLED, UNLABELLED], ids=["labelled", "unlabelled"])
def root(request, tmp_path):
    """A project with a log, a version in Production, and decisions since."""
    root = write(tmp_path / "shop", request.param)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 500)
    trained(root)
    registry_of(root, clock=shop.CLOCK).promote("model", 1, actor="test", reason="test")
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 200, seed=1, first=500)
    return root


def from_scratch(root, chunk=10**9):
    project = load_project(root)
    plan, model = plan_of(project), project.models["model"]
    fold, copy, at = new_fold(model, plan), None, 0
    with open_reader(root) as store:
        logged = features_from_log(store, plan, plan.services["features"])
        arrivals = Arrivals(store, plan, model)
        while at < store.next_position:
            arrived = arrivals.between(at, min(at + chunk, store.next_position))
            rows = np.searchsorted(logged.positions, arrived.event_positions)
            for _ in fold.learn(arrived, logged.features.values[rows]):
                copy = fold.copy()
            at += chunk
    return fold, copy


def learning_of(root, store):
    project = load_project(root)
    states = states_of(learned_path(root), "model:1")
    return Learning(plan_of(project), project.models["model"], store=store, states=states)


def test_every_event_is_learned_once_from_decisions_as_from_the_log(root):
    fold, copy = from_scratch(root)
    pieces, _ = from_scratch(root, chunk=31)
    assert fold.counts.labels + fold.waiting == 700
    with open_reader(root) as store:
        learning = learning_of(root, store)
        assert learning.started_from == "state"
        followed = learning.catch_up()
        learning.save()
        assert learning.fold.counts == fold.counts == pieces.counts
        assert followed.form == copy.form
        assert learning_of(root, store).fold.cursor == fold.cursor


def test_a_lost_state_is_learned_anew_to_the_same_bits(root):
    (states_of(learned_path(root), "model:1") / STATE_NAME).unlink()
    with open_reader(root) as store:
        learning = learning_of(root, store)
        assert learning.started_from == "nothing"
        assert learning.catch_up().form == from_scratch(root)[1].form


def test_decisions_have_scores_and_name_what_was_learned(root):
    with open_reader(root) as store:
        newest = Decisions.from_bytes(list(store.read_decisions())[-1].payload)
    assert newest.decided_by(0).version == "model:1+500"
    assert ((newest.scores >= 0) & (newest.scores <= 1)).all()


def test_a_learner_beside_the_run_publishes_what_a_fold_of_the_log_knows(root):
    with shop.open_project(root) as runtime, LearnersBeside(runtime) as learners:
        shop.feed(runtime, 100, seed=2, first=700)
        learners.finish()
        (progress,) = learners.progress.values()
        assert not progress.error
        assert runtime.routes["endpoint"].serving[0].scorer.newest.labels == 800
    assert read_copy(states_of(learned_path(root), "model:1")).form == from_scratch(root)[1].form


def test_a_version_brings_the_threshold_that_keeps_the_budget_and_is_served_by_it(root):
    manifest = registry_of(root).get("model", 1).manifest()
    chosen = manifest.chosen["block"]
    assert chosen["threshold"] == pytest.approx(1 - 3 / chosen["events_per_day"])
    assert manifest.metrics["task"] == "anomaly"
    assert manifest.metrics["alarms"][0]["threshold"] == chosen["threshold"]
    with open_reader(root) as store:
        batches = [Decisions.from_bytes(batch.payload) for batch in store.read_decisions()]
    scores = np.concatenate([one.scores for one in batches])[500:]
    taken = np.concatenate([one.taken for one in batches])[500:]
    assert ((scores >= chosen["threshold"]) == (taken > 0)).all()


def test_figures_need_no_labels_and_use_those_that_there_are(root):
    project = load_project(root)
    plan, monitor = plan_of(project), monitor_of(project)
    labelled = project.models["model"].label is not None
    thresholds = VersionThresholds(plan.endpoints["endpoint"], registry_of(root))
    with open_reader(root) as store:
        board = stored_board(store, plan, monitor, thresholds=thresholds)
        found = stored_metrics(store, plan, monitor, thresholds=thresholds).to_dict()
    assert isinstance(board.total(), PrequentialAnomalies)
    assert found["anomalies"]["rows"] == 200
    assert found["total"]["alerts"] == (found["anomalies"]["alarms"][0]["alerts"],)
    assert abs(found["total"]["unevenness"] - found["anomalies"]["unevenness"]) < 0.01
    assert found["total"]["calibration_error"] is None
    assert found["anomalies"]["labelled"] > 0  # the stream's labels, whether or not the model names them
    assert found["anomalies"]["alarms"][0]["nab"] is not None
    assert labelled == ("label=frauds, task" in (root / "definitions.py").read_text())


def test_a_gate_judges_a_detector_with_what_there_is(root):
    project = load_project(root)
    trained(root)
    with shop.open_project(root) as runtime, LearnersBeside(runtime) as learners:
        shop.feed(runtime, 300, seed=4, first=700)
        learners.finish()
    report = judge_version(project, "model", 2, registry=registry_of(root), clock=shop.CLOCK)
    names = [rule.name for rule in report.rules]
    assert names[:3] == ["holdout", "schema", "unseen rows"]
    assert (
        report.thresholds["model:2"]
        == registry_of(root).get("model", 2).manifest().chosen_thresholds["block"]
    )


def test_a_gate_without_any_label_judges_how_often_it_alarms_and_how_even_scores_are(tmp_path):
    root = write(tmp_path / "shop", UNLABELLED)
    rows = shop.payments(900)
    with shop.open_project(root) as runtime:
        runtime.ingest("payments", rows[:500])
    trained(root)
    registry_of(root, clock=shop.CLOCK).promote("model", 1, actor="test", reason="test")
    with shop.open_project(root) as runtime:
        for at in range(500, 900, 50):
            runtime.ingest("payments", rows[at : at + 50])
    report = judge_version(load_project(root), "model", 1, registry=registry_of(root), clock=shop.CLOCK)
    rules = {rule.name: rule for rule in report.rules}
    assert {"alerts", "scores", "latency"} <= rules.keys()
    assert report.holdout["positives"] is None
    assert rules["alerts"].numbers["challenger"] < 0.2


def test_drift_is_measured_without_a_column_of_labels(root):
    project = load_project(root)
    with open_reader(root) as store:
        report = drift_report(
            store,
            plan_of(project),
            monitor_of(project),
            reference=reference_of(registry_of(root), "model"),
        )
    assert report.rows == 700


def test_labels_take_no_part_in_what_is_learned(tmp_path):
    roots = [write(tmp_path / name, text) for name, text in (("with", LABELLED), ("without", UNLABELLED))]
    copies = []
    for root in roots:
        with shop.open_project(root) as runtime:
            shop.feed(runtime, 300)
        copies.append(from_scratch(root)[1])
    assert copies[0].form == copies[1].form


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("NearestNeighbours(window=200, neighbours=3)", "LogisticRegression()", "NearestNeighbours"),
        (
            'task="anomaly", estimator=NearestNeighbours(window=200, neighbours=3)',
            "estimator=LogisticRegression()",
            "LabelSource",
        ),
    ],
)
def test_what_is_no_model_of_anomalies_is_refused(tmp_path, old, new, match):
    root = write(tmp_path / "shop", UNLABELLED.replace(old, new))
    with pytest.raises(DefinitionError, match=match):
        load_project(root)


def test_a_budget_of_alerts_is_for_anomalies(tmp_path):
    text = shop.DEFINITIONS.replace('actions={"block": 0.5}', 'actions={"block": AlertBudget(3)}')
    with pytest.raises(DefinitionError, match="AlertBudget"):
        load_project(write(tmp_path / "shop", text))


def test_a_gates_segment_that_nothing_bears_is_refused_when_definitions_are_planned(tmp_path):
    """Of a model without labels its definition does not know the stream."""
    wrong = UNLABELLED.replace(OF_ANOMALIES, OF_ANOMALIES + ' gate=Gate(segments=["shopp"]),')
    right = wrong.replace("shopp", "shop")
    imported = "from penstock import Gate\n"
    with pytest.raises(DefinitionError, match=r"Model 'model', gate: segments holds 'shopp'.*Perhaps 'shop'"):
        plan_of(load_project(write(tmp_path / "wrong", imported + wrong)))
    assert plan_of(load_project(write(tmp_path / "right", imported + right)))
