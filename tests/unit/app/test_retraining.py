"""A model that is trained again without a hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.guard_log import note
from penstock.app.metering import labelled_decisions
from penstock.app.retraining import Retrainer
from penstock.app.retraining_beside import RetrainingBeside, follow
from penstock.app.retraining_data import recent_data
from penstock.app.retraining_journal import Journal, alone
from penstock.app.runtime import audit_log_of, registry_of, state_folder
from penstock.app.training import data_from_log
from penstock.cli.main import app
from penstock.models.evaluation import evaluate_binary
from penstock.models.triggers import Trigger
from penstock.testing.clock import ManualClock
from tests.unit.app.fraud_shop import START, Feed, stream, write_project

DAY = 720
HAND = Trigger("hand", "by hand")


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """The process that checks a version before it is loaded has tests of its own, and takes a second each time."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    monkeypatch.setattr("penstock.app.training.draw", lambda *_: {})


@pytest.fixture
def clock():
    return ManualClock(1_800_000_000_000_000)


def opened(folder, clock, rules="cooldown=timedelta(0)"):
    return Runtime.open(write_project(folder, rules), clock=clock)


def retrainer_of(runtime, clock):
    audit, registry = runtime.routes.audit, runtime.registry
    return Retrainer(runtime.project, runtime.store, registry=registry, audit=audit, clock=clock)


def live(runtime):
    return next(v.version for v in runtime.registry.versions("fraud") if v.stage == "Production")


def test_labels_fire_once_and_only_what_is_new_counts(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=500, cooldown=timedelta(0)") as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        assert retrainer.look("fraud") is None
        feed.send(2 * DAY)
        first = retrainer.look("fraud")
        assert (first.trigger, first.outcome) == ("labels", "promoted")
        origin = runtime.registry.get("fraud", 1).manifest().origin
        assert (origin.log, origin.position) == (runtime.store.store_id, first.position)
        assert origin.views
        for _ in range(3):
            assert retrainer.look("fraud") is None, "the same labels are no reason again"
        feed.send(480)
        assert retrainer.seen("fraud").labels == 480
        assert retrainer.look("fraud") is None
        feed.send(40)
        again = retrainer.look("fraud")
        assert again.why.startswith("520 new labels")
        assert again.outcome in {"kept", "promoted"}
        assert retrainer_of(runtime, clock).look("fraud") is None, "also after a restart"


def test_the_cooldown_holds_and_a_correction_is_no_new_label(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=100, cooldown=timedelta(hours=1)") as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(2 * DAY)
        assert retrainer.look("fraud").outcome == "promoted"
        runtime.ingest("frauds", [{"id": "e1", "fraud": True, "known_at": START + timedelta(days=2)}])
        assert retrainer.seen("fraud").labels == 0
        feed.send(DAY)
        assert retrainer.look("fraud") is None
        clock.advance(timedelta(hours=1))
        assert retrainer.look("fraud") is not None


def test_a_killed_attempt_counts_as_none_and_two_never_train_at_once(tmp_path, clock, monkeypatch):
    with opened(tmp_path, clock, "new_labels=500, cooldown=timedelta(hours=1)") as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(2 * DAY)

        def killed(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("penstock.app.retraining.train_model", killed)
            with pytest.raises(KeyboardInterrupt):
                retrainer.look("fraud")
        journal = Journal(runtime.routes.audit, "fraud")
        assert [one.outcome for one in journal.attempts()] == [""]
        assert journal.state().position == 0
        assert retrainer.look("fraud") is None, "its cooldown holds"
        clock.advance(timedelta(hours=1))
        with alone(state_folder(tmp_path)) as mine:
            assert mine
            assert retrainer.look("fraud") is None, "another trains"
        assert retrainer.look("fraud").outcome == "promoted"
        assert [one.outcome for one in journal.attempts()] == ["", "promoted"]


def test_what_fails_is_written_down_and_tried_again_with_new_labels_only(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=100, min_positives=1, cooldown=timedelta(0)") as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(480)
        failed = retrainer.look("fraud")
        assert failed.outcome == "failed"
        assert "Time split" in failed.detail["error"]
        assert retrainer.look("fraud") is None


def test_a_planted_drift_is_detected_and_recovered_from_without_a_hand(tmp_path, clock):
    rules = 'new_labels=None, on_drift=True, metric_floor={"average_precision": 0.5}, cooldown=timedelta(hours=12)'
    with opened(tmp_path, clock, rules) as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(3 * DAY)
        assert retrainer.attempt("fraud", HAND).outcome == "promoted"
        runtime.load_routes()
        came = []
        for half_day in range(20):
            feed.send(DAY // 2, changed=half_day >= 8)
            clock.advance(timedelta(hours=12))
            found = retrainer.look("fraud")
            runtime.load_routes()
            if found is not None:
                came.append((half_day, found.trigger, found.outcome))
        assert came, "nothing was noticed"
        assert min(half_day for half_day, _, _ in came) >= 8, "and nothing before the change"
        assert "promoted" in {outcome for _, _, outcome in came}
        precision = average_precision_by_day(runtime)
    before, during, after = (
        np.mean([precision[day] for day in (4, 5, 6)]),
        precision[7],
        precision[max(precision)],
    )
    assert during < 0.5 * before
    assert after > 0.85 * before, precision


def average_precision_by_day(runtime):
    """``{day: figure}`` from the scores with which events were decided, of days that had a model and have labels."""
    parts = [
        (decisions.scores, labels) for _, decisions, labels in labelled_decisions(runtime.store, "checkout")
    ]
    scores, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    found = {}
    for day in range(len(scores) // DAY):
        part = slice(day * DAY, (day + 1) * DAY)
        if not np.isnan(labels[part]).any() and not np.isnan(scores[part]).any():
            found[day] = evaluate_binary(labels[part], scores[part]).average_precision
    return found


def test_a_version_goes_through_the_shadow_and_is_judged_again_on_what_came_since(tmp_path, clock):
    rules = "new_labels=500, cooldown=timedelta(0), shadow_for=timedelta(hours=24)"
    with opened(tmp_path, clock, rules) as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(2 * DAY)
        assert retrainer.look("fraud").outcome == "promoted", "the first version shadows nobody"
        feed.send(2 * DAY, changed=True)
        shadowed = retrainer.look("fraud")
        assert shadowed.outcome == "shadowing"
        assert runtime.registry.get("fraud", "challenger").version == 2
        feed.send(DAY, changed=True)
        assert retrainer.look("fraud") is None, (
            "its labels are not there yet, and nothing else trains meanwhile"
        )
        assert live(runtime) == 1
        feed.send(DAY // 2 + 1, changed=True)
        settled = retrainer.look("fraud")
        assert (settled.number, settled.outcome) == (shadowed.number, "promoted")
        assert live(runtime) == 2
        report = json.loads(runtime.registry.report(runtime.registry.history("fraud")[-1]))
        assert report["holdout"]["start_us"] >= shadowed.detail["since_us"]


def test_a_shadow_that_is_no_better_is_archived_and_one_that_was_moved_is_left_alone(tmp_path, clock):
    rules = "new_labels=500, cooldown=timedelta(0), shadow_for=timedelta(hours=1)"
    with opened(tmp_path, clock, rules) as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(2 * DAY)
        retrainer.look("fraud")
        feed.send(2 * DAY, changed=True)
        assert retrainer.look("fraud").outcome == "shadowing"
        feed.send(DAY)  # back to how it was
        assert retrainer.look("fraud").outcome == "archived"
        assert runtime.registry.get("fraud", 2).stage == "Archived"
        feed.send(2 * DAY, changed=True)
        assert retrainer.look("fraud").outcome == "shadowing"
        runtime.registry.archive("fraud", 3, actor="ann", reason="no")
        feed.send(DAY, changed=True)
        assert retrainer.look("fraud").outcome == "overtaken"


def test_what_the_guard_refused_is_not_promoted_again(tmp_path, clock):
    with opened(tmp_path, clock) as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(3 * DAY)
        assert retrainer.attempt("fraud", HAND).outcome == "promoted"
        note(
            runtime.routes.audit,
            "checkout",
            "refused",
            version="fraud:1",
            what="scoring",
            numbers={},
            reason="it fails",
        )
        runtime.registry.archive("fraud", 1, actor="guard", reason="it fails")
        again = retrainer.attempt("fraud", HAND)
        assert again.outcome == "kept"
        assert runtime.registry.get("fraud", 2).stage == "None"


def test_to_staging_goes_no_further(tmp_path, clock):
    with opened(tmp_path, clock, "to='Staging'") as runtime:
        feed, retrainer = Feed(runtime), retrainer_of(runtime, clock)
        feed.send(2 * DAY)
        assert retrainer.look("fraud").outcome == "staged"
        row = runtime.registry.history("fraud")[-1]
        assert (row.stage, row.actor) == ("Staging", "retraining")
        assert row.gate


def test_the_rows_are_those_of_the_whole_log_cut_to_the_split(tmp_path, clock):
    with opened(tmp_path, clock) as runtime:
        Feed(runtime).send(4 * DAY)
        project, plan, store = runtime.project, runtime.plan, runtime.store
        model, stop = project.models["fraud"], store.next_position
        recent = recent_data(store, project, plan, model, stop=stop)
        whole = data_from_log(store, plan, model, runtime.features("service"), policy=None)
        kept = (whole.times_us >= recent.start_us) & (whole.times_us < recent.end_us)
        assert kept.sum() == len(recent.data.labels) == 2 * DAY
        assert recent.data.vectors.tobytes() == whole.vectors[kept].tobytes()
        assert recent.data.labels.tobytes() == whole.labels[kept].tobytes()
        assert not np.isnan(recent.data.labels).any()


def test_the_command_trains_by_hand_and_tells_what_it_waits_for(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=50_000") as runtime:
        Feed(runtime).send(2 * DAY)
    command = ["retrain", "fraud", "--project", str(tmp_path)]
    status = json.loads(CliRunner().invoke(app, [*command, "--status", "--json"]).stdout)
    assert status["seen"]["labels"] == 2 * DAY - 360
    nothing = CliRunner().invoke(app, command)
    assert nothing.exit_code == 0
    assert "nothing is due" in nothing.stdout
    trained = CliRunner().invoke(app, [*command, "--now"])
    assert trained.exit_code == 0, trained.output
    assert "promoted" in trained.stdout
    shown = CliRunner().invoke(app, [*command, "--status"])
    assert "by hand" in shown.stdout
    assert CliRunner().invoke(app, [*command, "--status", "--now"]).exit_code == 2


def test_the_loop_takes_over_definitions_that_are_applied_and_finishes_when_told(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=500") as runtime:
        Feed(runtime).send(2 * DAY)
        answers = iter(["go on", "finish"])
        follow(tmp_path, wait=lambda _: next(answers), clock=clock)
        assert [one.outcome for one in Journal(runtime.routes.audit, "fraud").attempts()] == ["promoted"]


def test_the_process_beside_a_run_trains_and_one_that_was_killed_leaves_nothing_behind(tmp_path, clock):
    with opened(tmp_path, clock, "new_labels=500, cooldown=timedelta(0)") as runtime:
        Feed(runtime).send(2 * DAY)
        with RetrainingBeside(runtime) as beside:
            beside.finish()
            assert "promoted" in beside.look()
    assert registry_of(tmp_path).get("fraud", "champion").version == 1


def test_a_run_over_files_ends_with_what_is_due_trained(tmp_path):
    write_project(tmp_path, "new_labels=500, cooldown=timedelta(0)")
    events, labels = stream(0, 3 * DAY)
    for name, rows in (("payments", events), ("frauds", labels)):
        lines = "\n".join(json.dumps(row, default=lambda at: at.isoformat()) for row in rows)
        (tmp_path / f"{name}.ndjson").write_text(lines + "\n")
    given = [f"{name}={tmp_path / name}.ndjson" for name in ("payments", "frauds")]
    ran = CliRunner().invoke(app, ["run", *given, "--project", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert "fraud:1 promoted" in ran.stdout
    assert registry_of(tmp_path).get("fraud", "champion").version == 1


def test_a_kill_in_the_middle_of_training_is_no_attempt(tmp_path, clock):
    slow = "\nimport time\nclass Slow(LogisticRegression):\n    def fit(self, X, y, **more):\n        time.sleep(60)\n"
    with opened(tmp_path, clock, "new_labels=500, cooldown=timedelta(0)") as runtime:
        Feed(runtime).send(2 * DAY)
    text = (tmp_path / "definitions.py").read_text()
    head, _, tail = text.partition("hour = timedelta(hours=1)")
    (tmp_path / "definitions.py").write_text(
        f"{head}{slow}\nhour = timedelta(hours=1){tail}".replace(
            "estimator=LogisticRegression()", "estimator=Slow()"
        )
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "penstock.app.retraining_beside", str(tmp_path)], stdin=subprocess.PIPE
    )
    journal = Journal(audit_log_of(tmp_path), "fraud")
    give_up = time.monotonic() + 60
    while not journal.attempts():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert [one.outcome for one in journal.attempts()] == [""]
    assert journal.state().position == 0
    assert registry_of(tmp_path).versions("fraud") == ()
    with alone(state_folder(tmp_path)) as mine:
        assert mine, "the lock went with the process"
