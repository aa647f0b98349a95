"""Model registries: one suite over the folder, MLflow's database and MLflow's server; and what is MLflow's own."""

import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from penstock.core.errors import ArtifactError, CorruptionError, StoreError
from penstock.models.artifacts import Provenance, export_model
from penstock.models.loading import load_model
from penstock.models.manifest import DataRange, Feature, FileEntry, ModelFiles, sha256
from penstock.models.registry import LocalRegistry
from penstock.testing.clock import ManualClock
from penstock.testing.registries import WHO, RegistryConformance, renamed

START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(400, 3))
    return vectors, (vectors[:, 0] + rng.normal(size=400) > 1).astype(np.float64)


def exported(data, estimator):
    vectors, labels = data
    provenance = Provenance(
        name="fraud",
        task="binary",
        features=tuple(Feature(f"view.f{i}", "Float64") for i in range(3)),
        service_fingerprint="service",
        data=DataRange(0, 1, 400, int(labels.sum()), "d" * 64),
        created_us=1,
        metrics={"roc_auc": 0.9, "thresholds": [{"action": "block", "recall": 0.5}]},
        parent="fraud:0",
        dataset="ds-1",
    )
    return export_model(estimator.fit(vectors, labels), vectors, provenance=provenance)


@pytest.fixture(scope="module")
def files(data):
    return exported(data, LogisticRegression())


@pytest.fixture
def clock():
    return ManualClock(START_US)


class TestLocal(RegistryConformance):
    @pytest.fixture
    def registry(self, tmp_path, clock):
        return LocalRegistry(tmp_path / "registry", clock=clock)


@pytest.fixture
def own_files(files):
    """The version under a name of its own: the tests share a database."""
    return renamed(files, f"fraud_{uuid.uuid4().hex[:8]}")


def opened(uri, cache, clock, mark):
    from penstock.models.mlflow_registry import MlflowRegistry

    return MlflowRegistry(uri, cache=cache, clock=clock, history_name=f"history-{mark}")


@pytest.mark.filterwarnings("ignore")
class OnMlflow(RegistryConformance):
    @pytest.fixture
    def files(self, own_files):
        return own_files

    @pytest.fixture
    def registry(self, uri, files, tmp_path, clock):
        return opened(uri, tmp_path / "cache", clock, files.manifest.name)


class TestMlflowDatabase(OnMlflow):
    @pytest.fixture(scope="class")
    def uri(self, database):
        return f"sqlite:///{database}/direct.db"


class TestMlflowServer(OnMlflow):
    @pytest.fixture(scope="class")
    def uri(self, server):
        return server


@pytest.fixture
def served(server, own_files, tmp_path, clock):
    """A registry on the server with three versions of a model, the second in production."""
    registry = opened(server, tmp_path / "cache", clock, own_files.manifest.name)
    for _ in range(3):
        registry.register(own_files, **WHO)
    registry.promote(own_files.manifest.name, 2, **WHO)
    return registry


def client_of(server):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server, registry_uri=server)


@pytest.mark.filterwarnings("ignore")
class TestWhatMlflowUsersSee:
    def test_run_aliases_stage_and_inputs(self, server, served, own_files):
        client, name = client_of(server), own_files.manifest.name
        version = client.get_model_version_by_alias(name, "champion")
        assert int(version.version) == 2
        assert version.tags["stage"] == "Production"
        run = client.get_run(version.run_id)
        assert run.data.params["estimator"] == "LogisticRegression"
        assert run.data.metrics["roc_auc"] == 0.9
        assert run.data.metrics["thresholds.block.recall"] == 0.5
        assert run.data.tags["penstock.dataset"] == "ds-1"
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.name == "ds-1"
        assert json.loads(used.dataset.profile)["rows"] == 400
        assert run.info.status == "FINISHED"
        served.attach(name, 2, "roc.png", b"png")
        assert [one.path for one in client.list_artifacts(version.run_id, "reports")] == ["reports/roc.png"]

    @pytest.mark.parametrize("kind", ["onnx", "xgboost"])
    def test_they_load_the_model_without_penstock(self, kind, server, data, tmp_path, clock):
        import mlflow
        import pandas as pd

        estimator = LogisticRegression() if kind == "onnx" else XGBClassifier(n_estimators=5, n_jobs=1)
        one = renamed(exported(data, estimator), f"plain_{uuid.uuid4().hex[:8]}")
        registry = opened(server, tmp_path / "cache", clock, one.manifest.name)
        version = registry.register(one, **WHO)
        registry.promote(version.name, 1, **WHO)
        mlflow.set_tracking_uri(server)
        loaded = mlflow.pyfunc.load_model(f"models:/{version.name}@champion")
        assert [column.name for column in loaded.metadata.signature.inputs] == [
            "view.f0",
            "view.f1",
            "view.f2",
        ]
        frame = pd.DataFrame(data[0][:7], columns=[f.name for f in one.manifest.features])
        answer = loaded.predict(frame)
        found = np.asarray(answer["penstock_score"] if isinstance(answer, dict) else answer)
        ours = load_model(version.folder, digest=version.digest, version=version.label)
        assert np.abs(found.reshape(7, -1)[:, -1] - ours.score(data[0][:7])).max() < 1e-6

    def test_a_version_that_goes_on_learning_is_kept_without_a_model_for_others(
        self, server, own_files, tmp_path, clock
    ):
        document = b'{"definition": "d", "labels": 1, "position": 1, "digest": "d"}'
        entry = FileEntry("online.json", "online", len(document), sha256(document))
        manifest = replace(own_files.manifest, engine="online", files=(entry,))
        learning = ModelFiles(manifest, sha256(manifest.to_bytes()), {"online": document})
        registry = opened(server, tmp_path / "cache", clock, manifest.name)
        version = registry.register(learning, **WHO)
        assert registry.promote(version.name, 1, **WHO).files().contents == learning.contents
        client = client_of(server)
        run_id = client.get_model_version(version.name, "1").run_id
        assert [one.path for one in client.list_artifacts(run_id)] == ["penstock"]
        assert registry.verify() == 2

    def test_another_machine_sees_the_same(self, server, served, own_files, tmp_path, clock):
        other = opened(server, tmp_path / "other", clock, own_files.manifest.name)
        assert other.history() == served.history()
        assert other.head() == served.head()
        assert other.get(own_files.manifest.name, "champion").files().contents == own_files.contents


def rewrite(client, history, number, change):
    """Edit a row by hand, as whoever may write to the server can."""
    document = json.loads(client.get_model_version(history, str(number)).description)
    change(document)
    client.update_model_version(history, str(number), json.dumps(document))


@pytest.mark.filterwarnings("ignore")
class TestTheHistoryHolds:
    def test_edits_are_detected(self, server, served, own_files):
        client, history = client_of(server), f"history-{own_files.manifest.name}"
        before = client.get_model_version(history, "4").description

        def rename(document):
            document["row"]["actor"] = "eve"

        def rehash(document):
            from penstock.models.history import HistoryRow

            document["row"]["actor"] = "eve"
            document["hash"] = HistoryRow(**document["row"]).hash_after(document["previous"])

        for number, change in ((4, rename), (2, rename), (2, rehash), (1, rehash)):
            kept = client.get_model_version(history, str(number)).description
            rewrite(client, history, number, change)
            with pytest.raises(CorruptionError, match="does not follow"):
                served.history()
            client.update_model_version(history, str(number), kept)
        assert client.get_model_version(history, "4").description == before
        assert served.verify() == 4

    def test_a_row_that_is_removed_is_missed(self, server, served, own_files):
        client_of(server).delete_model_version(f"history-{own_files.manifest.name}", "2")
        with pytest.raises(CorruptionError, match="row 3 does not follow"):
            served.history()

    def test_a_cut_is_noticed_where_the_end_was_seen(self, server, served, own_files, tmp_path, clock):
        name = own_files.manifest.name
        client_of(server).delete_model_version(f"history-{name}", "4")
        with pytest.raises(CorruptionError, match="this machine has seen a later one"):
            served.history()
        # Who has never seen it cannot know: what `head` is for.
        assert len(opened(server, tmp_path / "new", clock, name).history()) == 3

    def test_two_who_write_at_once_both_count(self, server, served, own_files, tmp_path, clock, monkeypatch):
        """Between reading and writing of one, the other writes."""
        name = own_files.manifest.name
        other = opened(server, tmp_path / "other", clock, name)
        write, raced = served._write, []

        def late(row, *, previous):
            if not raced:
                raced.append(True)
                other.archive(name, 3, actor="bob", reason="first")
            return write(row, previous=previous)

        monkeypatch.setattr(served, "_write", late)
        served.promote(name, 1, actor="ada", reason="second")
        assert [row.reason for row in served.history()][-2:] == ["first", "second"]
        assert [row.sequence for row in served.history()] == [1, 2, 3, 4, 5, 6]
        assert other.history() == served.history()
        assert served.verify() == 6

    def test_aliases_moved_by_another_hand_are_told_and_mended(self, server, served, own_files):
        name = own_files.manifest.name
        client_of(server).set_registered_model_alias(name, "champion", "1")
        with pytest.raises(CorruptionError, match="moved them by another way"):
            served.verify()
        assert served.get(name, "champion").version == 2
        served.archive(name, 3, **WHO)
        assert served.verify() == 5

    def test_a_changed_file_is_detected(self, server, served, own_files, tmp_path):
        client = client_of(server)
        run_id = client.get_model_version(own_files.manifest.name, "1").run_id
        (tmp_path / "golden.npy").write_bytes(b"forged")
        client.log_artifact(run_id, str(tmp_path / "golden.npy"), "penstock")
        with pytest.raises(ArtifactError, match=r"golden\.npy"):
            served.verify()

    def test_a_server_that_does_not_answer_is_named(self, tmp_path, clock, monkeypatch, database):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        registry = opened("http://127.0.0.1:9", tmp_path, clock, "x")
        with pytest.raises(StoreError, match=r"Model registry http://127\.0\.0\.1:9: .*Check the address"):
            registry.history()


def test_the_settings_choose(tmp_path, database, monkeypatch):
    from penstock.app.runtime import registry_of
    from penstock.models.mlflow_registry import MlflowRegistry

    (tmp_path / "penstock.toml").write_text("")
    assert isinstance(registry_of(tmp_path), LocalRegistry)
    monkeypatch.setenv("PENSTOCK_REGISTRY__URI", "http://127.0.0.1:9")
    assert isinstance(registry_of(tmp_path), MlflowRegistry)
    monkeypatch.setenv("PENSTOCK_REGISTRY__URI", "sqlite:///data/mlflow.db")
    monkeypatch.setattr(MlflowRegistry, "__init__", lambda self, uri, **_: opened.append(uri))
    opened = []
    registry_of(tmp_path)
    assert opened == [f"sqlite:///{tmp_path}/data/mlflow.db"]
