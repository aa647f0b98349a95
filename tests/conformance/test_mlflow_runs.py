"""What `penstock train` leaves in MLflow, fetched by MLflow's own client: from its database, and from its server over HTTP."""

import hashlib
import io
import json
import pathlib
import shutil

import matplotlib.image
import pytest
from typer.testing import CliRunner

from penstock.app.runtime import plan_of, registry_of
from penstock.cli.main import app
from penstock.definitions.project import load_project
from tests.unit.serving.shop_server import copied, template

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's
PLOTS = {"roc.png", "precision_recall.png", "calibration.png"}
LEARNING = """
from river import linear_model, optim, preprocessing
from penstock import Online

online = Model(
    "online", features=fraud_features, label=chargebacks, split=fraud.split, learning=Online(publish_every=100),
    estimator=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01)),
)
"""


@pytest.fixture(scope="module", params=["database", "server"])
def trained(request, tmp_path_factory):
    """A project with its registry in MLflow, what `penstock train` said of a model of each kind, and MLflow's client."""
    from mlflow import MlflowClient

    place = request.getfixturevalue(request.param)
    uri = place if request.param == "server" else f"sqlite:///{place}/runs.db"
    root = copied(template(), tmp_path_factory.mktemp(request.param))
    shutil.rmtree(root / ".penstock")  # the template has run on: its newest events have no labels yet
    with (root / "definitions.py").open("a", encoding="utf-8") as file:
        file.write(LEARNING)
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENSTOCK_REGISTRY__URI", uri)
        called(root, "run")
        for model in ("fraud", "online"):
            said[model] = json.loads(called(root, "train", model, "--json"))
        yield root, said, MlflowClient(tracking_uri=uri, registry_uri=uri)


def called(root, *arguments):
    done = CliRunner().invoke(app, [*arguments, "--project", str(root)])
    assert done.exit_code == 0, done.output
    return done.stdout


def run_of(client, model):
    return client.get_run(client.get_model_version(model, "1").run_id)


@pytest.mark.parametrize("model", ["fraud", "online"])
def test_its_plots_can_be_downloaded_and_are_those_that_were_drawn(trained, model, tmp_path):
    _, said, client = trained
    run_id = run_of(client, model).info.run_id
    listed = client.list_artifacts(run_id, "reports")
    assert {one.path for one in listed} == {f"reports/{name}" for name in PLOTS}
    folder = client.download_artifacts(run_id, "reports", str(tmp_path))
    for name in PLOTS:
        with pathlib.Path(f"{folder}/{name}").open("rb") as file:
            data = file.read()
        with pathlib.Path(said[model]["pictures"][name]).open("rb") as file:
            assert data == file.read()
        picture = matplotlib.image.imread(io.BytesIO(data))
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.05, "something is drawn"


@pytest.mark.parametrize("model", ["fraud", "online"])
def test_its_metrics_and_parameters_are_those_of_the_report(trained, model):
    _, said, client = trained
    run, report = run_of(client, model), said[model]["report"]
    assert run.info.status == "FINISHED"
    for name in ("roc_auc", "average_precision", "log_loss", "brier", "rows", "positives"):
        assert run.data.metrics[name] == report[name]
    at = {one["action"]: one for one in report["thresholds"]}
    assert {f"thresholds.{action}.recall": one["recall"] for action, one in at.items()}.items() <= (
        run.data.metrics.items()
    )
    estimator = run.data.params["estimator"]
    assert ("XGBClassifier" if model == "fraud" else "LogisticRegression") in estimator


def test_its_training_set_is_its_input(trained):
    root, said, client = trained
    run = run_of(client, "fraud")
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == said["fraud"]["dataset"] == run.data.tags["penstock.dataset"]
    manifest = registry_of(root).get("fraud", 1).manifest()
    assert manifest.data.digest.startswith(used.dataset.digest)
    profile = json.loads(used.dataset.profile)
    assert (profile["rows"], profile["positives"]) == (manifest.data.rows, manifest.data.positives)
    names = [one["name"] for one in json.loads(used.dataset.schema)["features"]]
    assert names == list(plan_of(load_project(root)).services["fraud_features"].feature_names)
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_its_signature_names_the_features(trained, tmp_path):
    from mlflow.models import Model

    root, _, client = trained
    folder = client.download_artifacts(run_of(client, "fraud").info.run_id, "model", str(tmp_path))
    signature = Model.load(folder).signature
    wanted = plan_of(load_project(root)).services["fraud_features"].feature_names
    assert signature.inputs.input_names() == list(wanted)
    assert {str(one.type) for one in signature.inputs} == {"DataType.double"}
    assert signature.outputs is not None


def test_its_files_are_those_of_the_registry(trained, tmp_path):
    root, _, client = trained
    version = registry_of(root).get("fraud", 1)
    folder = client.download_artifacts(run_of(client, "fraud").info.run_id, "penstock", str(tmp_path))
    for entry in version.manifest().files:
        with pathlib.Path(f"{folder}/{entry.name}").open("rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == entry.sha256
