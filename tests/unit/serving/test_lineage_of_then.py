"""A version whose definitions are gone still says what it was made from: to a command, in the catalog and over HTTP."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.app.model_lineage import lineage_of_version, model_lineage
from penstock.app.runtime import registry_of
from penstock.cli.main import app
from penstock.definitions.project import load_project
from penstock.models.manifest import read_manifest
from penstock.models.versions import ModelVersion
from tests.unit.serving.shop_server import asking, copied, template

VIEWS = {"payment", "card_spending", "shop_risk"}


@pytest.fixture(scope="module")
def then():
    """The lineage while the definitions are in force."""
    return model_lineage(template(), "fraud", 1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, then):
    """The project with other definitions: a view is gone, another is computed otherwise; and no record of the data set."""
    root = copied(template(), tmp_path_factory.mktemp("then"))
    path = root / "definitions.py"
    text = path.read_text("utf-8")
    start, end = text.index("shop_risk = StreamFeatureView("), text.index("@realtime_feature_view(")
    text = text[:start] + text[end:]
    text = text.replace("card_spending, shop_risk]", "card_spending]").replace("(hour < 6)", "(hour < 5)")
    path.write_text(text, "utf-8")
    shutil.rmtree(root / ".penstock" / "datasets")
    return root


def called(root, *arguments):
    done = CliRunner().invoke(app, [*arguments, "--project", str(root)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_while_the_definitions_are_in_force(then):
    assert then.in_force
    assert set(then.views) == VIEWS
    assert set(then.sources) == {"payments", "chargebacks"}
    assert set(then.tables) == {"events/payments", "labels/chargebacks"}
    assert then.log_position == 7950
    assert then.decisions == {"checkout": 1050}


def test_from_raw_data_to_decisions_when_they_are_not(shop, then):
    found = model_lineage(shop, "fraud", 1)
    assert not found.in_force
    assert found == replace(then, in_force=False)
    text = called(shop, "registry", "lineage", "fraud", "1")
    assert max(map(len, text.splitlines())) <= 80
    told = " ".join(text.split())
    for part in (
        "events/payments version",
        "shop_risk",
        "1,050 at checkout",
        "of other definitions than those",
    ):
        assert part in told
    assert json.loads(called(shop, "registry", "lineage", "fraud", "1", "--json"))["views"] == then.views


def test_the_graph_has_the_views_of_then(shop, then):
    found = json.loads(called(shop, "lineage", "fraud:1", "--upstream", "--json"))
    ids = {node["id"] for node in found["nodes"]}
    former = {f"former:{name}@{fingerprint[:8]}" for name, fingerprint in then.views.items()}
    assert former <= ids
    assert {"column:payments.amount", "column:payments.shop_id", "column:chargebacks.is_fraud"} <= ids
    assert not {one for one in ids if one.startswith(("view:", "service:"))}, "those of now did not make it"
    edges = {(edge["from"], edge["to"]) for edge in found["edges"]}
    assert {(one, "version:fraud:1") for one in former} <= edges
    spending, payment = (f"former:{name}@{then.views[name][:8]}" for name in ("card_spending", "payment"))
    assert {(spending, payment), ("column:payments.paid_at", payment)} <= edges
    (version,) = [node for node in found["nodes"] if node["id"] == "version:fraud:1"]
    assert f"trained on {then.dataset}, events/payments version" in version["description"]
    assert "the log up to 7,950" in called(shop, "catalog", "show", "fraud:1")
    assert max(map(len, called(shop, "lineage", "fraud:1").splitlines())) <= 80
    assert "former" not in called(shop, "catalog")


def test_a_version_of_the_definitions_of_now_hangs_on_its_model():
    found = json.loads(called(template(), "lineage", "fraud:1", "--upstream", "--json"))
    ids = {node["id"] for node in found["nodes"]}
    assert "view:shop_risk" in ids
    assert not {one for one in ids if one.startswith("former:")}


def test_over_http(shop, then):
    with asking(shop) as (_, client):
        found = client.get("/v1/models/fraud/versions/1/lineage").json()
        assert (found["views"], found["sources"], found["tables"]) == (then.views, then.sources, then.tables)
        assert (found["in_force"], found["log_position"]) == (False, 7950)
        former = client.get("/v1/catalog", params={"kind": "former"}).json()["items"]
        assert {one["name"].partition("@")[0] for one in former} == VIEWS
        assert f"former:{former[0]['name']}" in client.get("/v1/catalog/version:fraud:1").json()["upstream"]


def test_when_the_model_and_its_sources_are_gone(shop, tmp_path, then):
    root = copied(shop, tmp_path)
    path = root / "definitions.py"
    text = path.read_text("utf-8").replace("payments", "purchases").replace('"fraud",\n', '"risk",\n')
    path.write_text(text.replace("purchases.ndjson", "payments.ndjson"), "utf-8")
    assert called(root, "catalog", "show", "model:fraud").count("not defined any more") == 1
    found = json.loads(called(root, "lineage", "fraud:1", "--upstream", "--json"))
    ids = {node["id"] for node in found["nodes"]}
    assert {"model:fraud", "former:payments.amount", f"former:shop_risk@{then.views['shop_risk'][:8]}"} <= ids
    assert lineage_of_version(load_project(root), registry_of(root), "fraud", 1).views == then.views


def test_a_version_of_an_older_penstock_is_told_by_its_record_and_definitions(shop, then, monkeypatch):
    def older(self):
        return replace(read_manifest(self.folder, digest=self.digest), origin=None)

    monkeypatch.setattr(ModelVersion, "manifest", older)
    assert model_lineage(template(), "fraud", 1) == replace(then, files={}), (
        "the record and the definitions are there"
    )
    found = model_lineage(shop, "fraud", 1)
    assert (found.views, found.sources, found.tables, found.log_position) == ({}, {}, {}, None)
    assert found.dataset == then.dataset
    assert "not recorded" in called(shop, "registry", "lineage", "fraud", "1")


def test_a_version_that_was_trained_on_files_names_them(shop, tmp_path):
    root = copied(shop, tmp_path)
    given = [str(root / "data" / name) for name in ("payments.ndjson", "chargebacks.ndjson")]
    called(root, "train", "fraud", "--events", given[0], "--labels", given[1])
    found = model_lineage(root, "fraud", 3)
    assert found.files == {Path(one).name: sha256(Path(one).read_bytes()).hexdigest() for one in given}
    assert (found.tables, found.log_position, found.in_force) == ({}, None, True)
    assert f"payments.ndjson {found.files['payments.ndjson'][:12]}" in called(
        root, "registry", "lineage", "fraud", "3"
    )
