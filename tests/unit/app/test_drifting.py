import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.drift_page import drift_page
from penstock.app.drifting import drift_report, reference_of
from penstock.app.measuring import monitor_of
from penstock.app.runtime import registry_of
from penstock.app.training import data_from_log, policy_of, train_model
from penstock.cli.main import app
from penstock.core.errors import ModelError, NotFoundError
from tests.unit.app import watched

STEP = timedelta(minutes=10)
TRAINED, MORE = 3_200, 1_300


def train(runtime, folder):
    project, model = runtime.project, runtime.project.models["model"]
    policy = policy_of(project, model)
    data = data_from_log(runtime.store, runtime.plan, model, runtime.features("service"), policy=policy)
    options = {"clock": watched.CLOCK, "reports": folder / "reports", "actor": "me", "reason": "test"}
    run = train_model(project, model, data, registry=runtime.registry, **options)
    runtime.registry.promote("model", run.version.version, actor="me", reason="test")
    runtime.load_routes()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose model learnt from three weeks, with a week of decisions on the same kind of payments."""
    folder = watched.write(tmp_path_factory.mktemp("drifting"))
    with Runtime.open(folder, clock=watched.CLOCK) as runtime:
        rows = watched.payments(TRAINED, step=STEP)
        runtime.ingest("payments", rows)
        runtime.ingest("charges", watched.labels(rows, share=1.0))
        train(runtime, folder)
        feed(runtime, TRAINED, MORE)
    return folder


def feed(runtime, first, count, **options):
    rows = watched.payments(count, first=first, step=STEP, **options)
    runtime.ingest("payments", rows)
    runtime.ingest("charges", watched.labels(rows, share=0.9))


def report_of(runtime):
    reference = reference_of(registry_of(runtime.project.root), "model")
    monitor = monitor_of(runtime.project)
    return drift_report(runtime.store, runtime.plan, monitor, reference=reference)


def test_nothing_alarms_while_nothing_changed_then_the_shift_is_named(trained):
    with Runtime.open(trained, clock=watched.CLOCK) as runtime:
        quiet = report_of(runtime)
        assert quiet.drift.drifted == ()
        assert 900 < quiet.rows <= 1_100  # a week of payments every ten minutes
        names = ["score", "label", "payment.amount", "payment.large", "spending.n"]
        assert [column.name for column in quiet.drift.columns] == names
        assert quiet.drift.columns[0].rows == quiet.rows
        assert 0 < quiet.drift.columns[1].rows < quiet.rows
        feed(runtime, TRAINED + MORE, MORE, shift=0.2)
        moved = report_of(runtime)
    assert {"score", "payment.amount", "payment.large"} <= set(moved.drift.drifted)
    page, document = drift_page(moved), json.dumps(moved.to_dict())
    assert len(page.encode()) < 500_000
    assert len(document) < 500_000
    assert "Drifted: score" in page
    assert "http" not in page


def test_the_command_prints_and_writes(trained, tmp_path):
    page = tmp_path / "drift.html"
    command = ["drift", "checkout", "--project", str(trained)]
    shown = CliRunner().invoke(app, [*command, "--html", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "against model:1" in shown.output
    assert [
        line for line in shown.output.splitlines() if len(line) > 80 and not line.startswith("page:")
    ] == []
    assert page.read_text().startswith("<!doctype html>")
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert document["drift"]["false_alarms"] == 0.05


def test_a_version_that_is_not_there_is_named(trained):
    registry = registry_of(trained)
    with pytest.raises(NotFoundError, match="registered are model:1"):
        reference_of(registry, "model", "7")
    with pytest.raises(NotFoundError, match="none is in Production"):
        reference_of(registry, "other")


def test_a_version_without_a_profile_says_what_to_do(trained, monkeypatch):
    registry = registry_of(trained)
    version = registry.versions("model")[0]
    manifest = version.manifest()
    from dataclasses import replace

    kept = tuple(entry for entry in manifest.files if entry.role != "profile")
    monkeypatch.setattr(type(version), "manifest", lambda _: replace(manifest, files=kept))
    with pytest.raises(ModelError, match="penstock train model"):
        reference_of(registry, "model")
