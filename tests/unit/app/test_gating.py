"""`penstock gate` and `registry promote` on a project: what is judged, what is kept, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from penstock.app.gating import judge_version, report_page
from penstock.app.runtime import plan_of, registry_of, store_path
from penstock.app.training import data_from_log, model_named, policy_of, train_model
from penstock.cli.main import app
from penstock.core.clock import SystemClock
from penstock.core.errors import InputError
from penstock.definitions.project import load_project
from penstock.engine.history import features_from_log
from penstock.models.gates import GateReport
from penstock.monitoring.report import render_html
from penstock.stores.reader import ProjectReader
from tests.unit.app.shop import DEFINITIONS, START, open_project, write_project

MODEL = """
from penstock import Gate
simple = FeatureService("simple", features=[ratio, received[["usual"]]])
model = Model(
    "model", features=simple, label=frauds, estimator=make_pipeline(SimpleImputer(), LogisticRegression()),
    split=TimeSplit(train=96 * HOUR, delay=12 * HOUR, test=96 * HOUR), gate=Gate(max_false_positive_rate=0.2, max_latency_ms=50),
)
endpoint = Endpoint("endpoint", source=payments, model=model, policy=Policy("policy", actions={"block": 0.5}))
"""
HEAD = "from sklearn.impute import SimpleImputer\nfrom sklearn.pipeline import make_pipeline\n"


def world(count=1500):
    """Payments of which large ones tend to be fraud, and their labels, known an hour later."""
    from datetime import timedelta

    rng = np.random.default_rng(3)
    events, labels = [], []
    for number in range(count):
        fraud = rng.random() < 0.15
        amount = float(np.round(rng.gamma(2.0, 20.0) + (120 if fraud and rng.random() < 0.8 else 0), 2))
        at = START + timedelta(minutes=10 * number)
        card = int(rng.integers(1, 6))
        row = {"id": f"p{number}", "card_id": card, "to_card": card, "shop": "a", "at": at, "amount": amount}
        events.append(row)
        labels.append({"id": row["id"], "fraud": bool(fraud), "known_at": at + timedelta(hours=1)})
    return events, labels


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a log, a sound version 1 and a worse version 2 (labels shuffled)."""
    definitions = HEAD + DEFINITIONS.split("features = FeatureService(")[0] + MODEL
    folder = write_project(tmp_path_factory.mktemp("gated"), definitions)
    events, labels = world()
    with open_project(folder) as runtime:
        for first in range(0, len(events), 300):
            runtime.ingest("payments", events[first : first + 300])
            runtime.ingest("frauds", labels[first : first + 300])
    train(folder, shuffled=False)
    train(folder, shuffled=True)
    return folder


@pytest.fixture(scope="module")
def judged(project):
    """The history's row of a version that went through the gate."""
    run(project, "registry", "promote", "model", "1")
    return registry_of(project).history("model")[-1]


def train(folder, *, shuffled):
    loaded = load_project(folder)
    model = model_named(loaded, "model")
    plan = plan_of(loaded)
    with ProjectReader.open_reader(store_path(folder)) as store:
        logged = features_from_log(store, plan, plan.services["simple"])
        data = data_from_log(store, plan, model, logged, policy=policy_of(loaded, model))
    if shuffled:
        np.random.default_rng(1).shuffle(data.labels)
    train_model(
        loaded,
        model,
        data,
        registry=registry_of(folder),
        clock=SystemClock(),
        reports=folder / "reports",
        actor="t",
        reason="t",
    )


def run(folder, *arguments, code=0):
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(app, [*arguments])
    finally:
        os.chdir(before)
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_life_of_a_model(project, tmp_path):
    """Refused, promoted through the gate, challenged in vain, forced, and told at any time."""
    project = shutil.copytree(project, tmp_path / "own")
    registry = registry_of(project)
    refused = json.loads(run(project, "registry", "promote", "model", "2", "--json", code=1))
    assert refused["promoted"] is False
    assert refused["report"]["verdict"] != "pass"
    assert registry.get("model", 2).stage == "None"

    run(project, "registry", "promote", "model", "1")
    row = registry.history("model")[-1]
    report = GateReport.from_bytes(registry.report(row))
    assert (report.verdict, report.challenger, report.champion) == ("pass", "model:1", None)
    assert report.digest == row.gate
    assert report.holdout["positives"] > 30
    kept = json.loads(run(project, "registry", "report", "model", "1", "--json"))
    assert kept["digest"] == row.gate

    worse = json.loads(run(project, "gate", "model", "2", "--json", code=1))
    assert worse["verdict"] == "fail"
    assert worse["champion"] == "model:1"
    assert {rule["name"]: rule["verdict"] for rule in worse["rules"]}["recall"] == "fail"

    text = run(project, "registry", "promote", "model", "2", code=1)
    assert "model:2 is not promoted: the gate's verdict is fail" in text
    run(project, "registry", "promote", "model", "2", "--skip-gate", "the demo needs it")
    assert registry.history("model")[-1].gate == "skipped: the demo needs it"
    assert "skipped:" in run(project, "registry", "history")
    assert (
        "its gate was skipped"
        in CliRunner().invoke(app, ["registry", "report", "model", "2", "--project", str(project)]).output
    )

    live = json.loads(run(project, "registry", "live-at", "model", "2020-01-01", "--json"))
    assert live["version"] is None
    live = json.loads(run(project, "registry", "live-at", "model", "2100-01-01T00:00:00Z", "--json"))
    assert live["version"]["label"] == "model:2"
    assert live["since"]["gate"] == "skipped: the demo needs it"
    assert "model:2 was live" in run(project, "registry", "live-at", "model", "2100-01-01")
    run(project, "registry", "rollback", "model")
    assert json.loads(run(project, "registry", "verify", "--json"))["clean"]


def report_of(project, row):
    folder = registry_of(project).get("model", row.version).folder
    return folder.with_name(f"{row.version}.more") / f"gate-{row.gate[:16]}.json"


def test_a_changed_report_is_found(project, judged):
    path = report_of(project, judged)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"pass"', b'"PASS"', 1))
    assert (
        "report that its history names was changed"
        in json.loads(run(project, "registry", "verify", "--json", code=1))["error"]
    )
    path.write_bytes(data)
    run(project, "registry", "verify")


def test_a_missing_report_is_told(project, judged):
    path = report_of(project, judged)
    aside = path.rename(path.with_name("aside"))
    found = json.loads(run(project, "registry", "verify", "--json", code=1))
    assert found["clean"] is False
    assert "is missing" in found["error"]
    aside.rename(path)


def test_what_was_judged_is_promoted_though_its_alias_moves_on_meanwhile(project, monkeypatch):
    registry = registry_of(project)
    who = {"actor": "t", "reason": "t"}
    for version in (1, 2):
        registry.archive("model", version, **who)
    registry.promote("model", 1, stage="Staging", **who)

    def judge_and_move(*arguments, **options):
        report = judge_version(*arguments, **options)
        registry.promote("model", 2, stage="Staging", **who)
        return report

    monkeypatch.setattr("penstock.app.gating.judge_version", judge_and_move)
    run(project, "registry", "promote", "model", "challenger")
    live = registry.get("model", "champion")
    assert (live.version, registry.get("model", "challenger").version) == (1, 2)
    assert GateReport.from_bytes(registry.report(registry.history("model")[-1])).challenger == "model:1"


def test_staging_needs_no_gate_and_a_skip_needs_a_reason(project):
    run(project, "registry", "promote", "model", "2", "--stage", "Staging")
    run(project, "registry", "promote", "model", "challenger", "--skip-gate", " ", code=2)


def test_the_holdout_begins_after_training_and_gap(project):
    loaded = load_project(project)
    report = judge_version(loaded, "model", 1, registry=registry_of(project), clock=SystemClock())
    data = registry_of(project).get("model", 1).manifest().data
    assert report.holdout["start_us"] >= data.end_us + 12 * 3_600_000_000
    page = render_html(report_page(report))
    assert "Gate: model:1" in page
    assert "false alarms" in page


def test_no_later_label_is_said(project, tmp_path):
    rows, _ = world(300)
    events, labels = tmp_path / "e.ndjson", tmp_path / "l.ndjson"
    events.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    labels.write_text("".join(json.dumps(row, default=str) + "\n" for row in world(300)[1]))
    result = CliRunner().invoke(
        app,
        ["gate", "model", "1", "--project", str(project), "--events", str(events), "--labels", str(labels)],
    )
    assert result.exit_code == 2
    assert "the newest event with a label is of" in result.output
    assert "--skip-gate REASON" in result.output
    result = CliRunner().invoke(
        app, ["gate", "model", "1", "--project", str(project), "--events", str(events)]
    )
    assert "go together" in result.output


def test_a_gate_about_an_unknown_action_is_refused(project):
    from penstock.app.gating import served_threshold
    from penstock.definitions.gates import Gate

    loaded = load_project(project)
    model, manifest = loaded.models["model"], registry_of(project).get("model", 1).manifest()
    assert served_threshold(loaded, model, manifest) == 0.5
    object.__setattr__(model, "gate", Gate(action="review"))
    with pytest.raises(InputError, match="the policy has block"):
        served_threshold(loaded, model, manifest)
