"""An MLflow server in other hands: what it answers must not reach beyond the cache."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from penstock.core.chains import GENESIS
from penstock.core.errors import ArtifactError, CorruptionError
from penstock.models.artifacts import write_files
from penstock.models.history import HistoryRow
from penstock.models.manifest import FileEntry, Manifest, ModelFiles, sha256
from penstock.testing.clock import ManualClock
from tests.unit.models.test_gates import manifest

pytest.importorskip("mlflow")

DOCUMENT = b"{}"


class Pages(list):
    token = None


class Server:
    """What `MlflowClient` gives: history rows as texts, and one folder of files for every run."""

    def __init__(self, files=None):
        self.texts, self.files = [], files

    def write(self, row, previous=GENESIS):
        hashed = HistoryRow(**row).hash_after(previous)
        self.texts.append(json.dumps({"previous": previous, "hash": hashed, "row": row}))
        return hashed

    def search_model_versions(self, _filter, *, max_results, page_token=None, order_by=None):
        found = [SimpleNamespace(version=str(i), description=text) for i, text in enumerate(self.texts, 1)]
        return Pages((found[::-1] if order_by else found)[:max_results])

    def get_model_version(self, _name, _version):
        return SimpleNamespace(run_id="run")

    def download_artifacts(self, _run, path, folder):
        from pathlib import Path

        write_files(self.files, Path(folder) / path)
        return f"{folder}/{path}"


def version_files():
    entry = FileEntry("model.json", "online", len(DOCUMENT), sha256(DOCUMENT))
    one: Manifest = manifest(engine="online", files=(entry,))
    return ModelFiles(one, sha256(one.to_bytes()), {"online": DOCUMENT})


def row(**changes):
    values = asdict(HistoryRow(1, 5, "ada", "promote", "fraud", 1, "Production", "x", "d" * 64))
    return values | changes


def opened(folder, server):
    from penstock.models.mlflow_registry import MlflowRegistry

    registry = MlflowRegistry("http://127.0.0.1:9", cache=folder / "cache", clock=ManualClock(1))
    registry._client = server
    return registry


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "../../../../victim"},
        {"version": 0},
        {"version": True},
        {"name": "../victim"},
        {"stage": "../victim"},
        {"digest": "../victim"},
        {"gate": 5},
    ],
)
def test_a_row_that_is_no_row_of_ours_is_refused_and_nothing_is_touched(tmp_path, changes):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    server = Server(version_files())
    server.write(row(**changes))
    registry = opened(tmp_path / "a" / "b", server)
    for ask in (
        lambda: registry.versions("fraud"),
        lambda: registry.get("fraud", "champion"),
        registry.history,
    ):
        with pytest.raises(CorruptionError, match="row 1 is not one of Penstock's"):
            ask()
    assert (victim / "kept").read_text() == "kept"


def test_a_cache_that_leads_elsewhere_is_not_followed(tmp_path):
    files = version_files()
    server = Server(files)
    server.write(row(digest=files.digest))
    victim = tmp_path / "victim"
    (victim / "1").mkdir(parents=True)
    (victim / "1" / "kept").write_text("kept")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fraud").symlink_to(victim)
    with pytest.raises(CorruptionError, match="leads out of"):
        opened(tmp_path, server).get("fraud", 1)
    assert (victim / "1" / "kept").read_text() == "kept"


def test_files_of_another_digest_never_get_their_place(tmp_path):
    files = version_files()
    server = Server(files)
    server.write(row(digest="e" * 64))
    registry = opened(tmp_path, server)
    with pytest.raises(ArtifactError, match="SHA-256"):
        registry.get("fraud", 1)
    (version,) = registry.versions("fraud")  # the others of the model can still be had
    assert not version.folder.exists()
    with pytest.raises(ArtifactError):
        version.files()


def test_sound_files_do(tmp_path):
    files = version_files()
    server = Server(files)
    server.write(row(digest=files.digest))
    assert opened(tmp_path, server).get("fraud", "champion").files().contents == files.contents
