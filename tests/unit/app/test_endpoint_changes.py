"""What a change does to endpoints that decide: said, and refused while a version of their model is in Production."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from penstock.app import changing, plan_of
from penstock.app.changing import ensure_applied, plan_change
from penstock.cli.main import app
from penstock.core.errors import ProjectError
from penstock.definitions.project import load_project
from tests.unit.app.shop import DEFINITIONS, feed, open_project, payments, write_project

ENDPOINT = 'endpoint = Endpoint("endpoint", source=payments, model=model,'
assert ENDPOINT in DEFINITIONS
GONE = DEFINITIONS[: DEFINITIONS.index(ENDPOINT)]
OTHER_LABELS = """
chargebacks = LabelSource("chargebacks", of=payments, label=Field("charged", Bool), known_at="known_at")
few = FeatureService("few", features=[spending[["n", "s"]]])
second = Model(
    "second", features=few, label=chargebacks, estimator=LogisticRegression(),
    split=TimeSplit(train=24 * HOUR, delay=HOUR, test=24 * HOUR),
)
"""
POINTED = DEFINITIONS.replace(ENDPOINT, OTHER_LABELS + ENDPOINT.replace("model=model", "model=second"))
RENAMED = DEFINITIONS.replace('"endpoint", source', '"till", source')


@pytest.fixture
def project(tmp_path):
    folder = write_project(tmp_path / "shop")
    ensure_applied(load_project(folder), actor="ann")
    with open_project(folder) as runtime:
        feed(runtime, 30)
    return folder


def in_production(monkeypatch, project, *services):
    """Versions in Production: of ``model``, or of those of the services in the project's files."""
    models = {"features": "model", "few": "second"}
    plan = plan_of(load_project(project))
    versions = {models[name]: version(models[name], plan.services[name].fingerprint) for name in services}
    registry = SimpleNamespace(names=lambda: tuple(versions), versions=lambda name: (versions[name],))
    monkeypatch.setattr(changing, "registry_of", lambda _: registry)


def version(model, fingerprint):
    return SimpleNamespace(
        name=model,
        label=f"{model}:1",
        stage="Production",
        manifest=lambda: SimpleNamespace(service_fingerprint=fingerprint),
    )


def applying(project):
    change = plan_change(load_project(project))
    return changing.apply(change, project, actor="ann", reason="test")


def said(project):
    return [one.text for one in plan_change(load_project(project)).endpoints]


def test_an_endpoint_that_serves_is_not_taken_away(project, monkeypatch):
    in_production(monkeypatch, project, "features")
    write_project(project, GONE)
    assert said(project) == ["endpoint endpoint is gone: events of payments get no decision any more"]
    with pytest.raises(ProjectError, match=r"model:1 is in Production behind it.* archive model:1 first"):
        applying(project)
    in_production(monkeypatch, project)
    assert applying(project).version == 2


def test_a_model_that_nothing_could_serve_does_not_take_its_place(project, monkeypatch):
    in_production(monkeypatch, project, "features")
    write_project(project, POINTED)
    assert said(project) == ["endpoint endpoint: model second decides in place of model"]
    with pytest.raises(ProjectError, match="no version of 'second' in Production could take its place"):
        applying(project)
    in_production(monkeypatch, project, "features", "few")
    assert applying(project).version == 2


def test_a_version_of_other_features_could_not_serve_it(project, monkeypatch):
    write_project(project, POINTED)
    in_production(monkeypatch, project, "features", "few")
    write_project(project, POINTED.replace('["n", "s"]', '["n"]'))
    with pytest.raises(ProjectError, match="could take its place"):
        applying(project)


def test_labels_that_decisions_wait_for_are_taken_in(project, monkeypatch):
    def without_labels(text):
        text = text.replace(" risk, ", " ")
        begin, end = text.index("risk = "), text.index("@realtime")
        return text[:begin] + text[end:]

    write_project(project, POINTED)
    in_production(monkeypatch, project, "features", "few")
    assert applying(project).version == 2, "the model is defined still, and so are its labels"
    kept = plan_of(load_project(project)).sources
    assert {"frauds", "chargebacks"} <= set(kept)
    write_project(project, without_labels(DROPPED))
    (text,) = said(project)
    assert "labels of frauds for its 30 decisions are not taken in any more" in text
    with pytest.raises(ProjectError, match=r"labels of .frauds.*archive model:1 first"):
        applying(project)
    in_production(monkeypatch, project, "few")
    assert applying(project).version == 3, "the version that they were for has had its time"
    write_project(project, without_labels(DROPPED).replace('"chargebacks"', '"disputes"'))
    with pytest.raises(ProjectError, match=r"labels of 'chargebacks'.*second:1 is in Production"):
        applying(project)


DROPPED = POINTED.replace(
    POINTED[POINTED.index("model = Model(") : POINTED.index("\nchargebacks")], ""
).replace("features = FeatureService", "other = FeatureService")


def test_another_name_is_no_other_endpoint(project, monkeypatch):
    in_production(monkeypatch, project, "features")
    write_project(project, RENAMED)
    assert "is named till from now on" in said(project)[0]
    assert applying(project).version == 2


def test_the_command_says_it_and_fails(project, monkeypatch):
    in_production(monkeypatch, project, "features")
    write_project(project, GONE)
    shown = CliRunner().invoke(app, ["plan", "--project", str(project)])
    assert shown.exit_code != 0
    assert "endpoint endpoint is gone" in shown.stdout
    assert "Not possible: endpoint 'endpoint'" in shown.stdout
    in_production(monkeypatch, project)
    assert CliRunner().invoke(app, ["plan", "--project", str(project)]).exit_code == 0


def test_labels_of_a_model_without_an_endpoint_are_taken_in(tmp_path):
    folder = write_project(tmp_path / "other", GONE)
    with open_project(folder) as runtime:
        rows = payments(3)
        runtime.ingest("payments", rows)
        answers = runtime.ingest("frauds", [{"id": "p0", "fraud": True, "known_at": rows[0]["at"]}])
    assert [one.status for one in answers] == ["logged"]
