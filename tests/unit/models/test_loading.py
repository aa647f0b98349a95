"""No file, however damaged, hurts the process that serves."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import ArtifactError
from penstock.models import loading
from penstock.models.artifacts import MIN_GOLDEN_ROWS, write_files
from penstock.models.loading import check_in_child, load_model
from penstock.models.manifest import MANIFEST_NAME, FileEntry, ModelFiles, read_files, sha256
from penstock.models.verification import read_golden, write_golden


def forged(files, role, data):
    """The version with another content for one file, and every digest made to fit."""
    entries = tuple(
        FileEntry(e.name, e.role, len(data), sha256(data)) if e.role == role else e
        for e in files.manifest.files
    )
    manifest = replace(files.manifest, files=entries)
    return ModelFiles(manifest, sha256(manifest.to_bytes()), {**files.contents, role: data})


def corrupted(data, seed):
    """Bytes flipped, cut, or overwritten, in the middle of the file where the trees are."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(20):
        at = rng.randrange(len(out) // 10, len(out))
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out[: rng.randrange(len(out) // 2, len(out))]) if seed % 2 else bytes(out)


def test_a_sound_version_loads_and_answers_as_it_was_trained(files, folder, estimator, problem):
    model = load_model(folder, digest=files.digest, version="fraud:1")
    assert (model.version, model.digest, model.feature_names) == (
        "fraud:1",
        files.digest,
        tuple(f"f{i}" for i in range(6)),
    )
    assert model.score(problem.vectors) == pytest.approx(
        estimator.predict_proba(problem.vectors)[:, 1], abs=2e-7
    )


def test_the_child_reports_what_it_found(files, folder):
    found = check_in_child(folder, digest=files.digest)
    assert found.rows >= MIN_GOLDEN_ROWS
    assert found.score_difference < 2e-7
    assert found.path_difference == 0.0


def test_golden_rows_hold_nulls_and_thresholds(files):
    vectors, scores = read_golden(files["golden"], features=6)
    assert np.isnan(vectors).any()
    assert len(vectors) > 100
    assert scores.max() - scores.min() > 0.3


@pytest.mark.parametrize("name", ["model.onnx", "model.ubj", "golden.npy", MANIFEST_NAME])
@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "missing"])
def test_a_damaged_file_is_refused_before_it_is_parsed(name, damage, files, folder, monkeypatch):
    monkeypatch.setattr(loading, "check_in_child", lambda *_, **__: pytest.fail("parsed"))
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "longer":
        path.write_bytes(data + b"x")
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=name):
        load_model(folder, digest=files.digest, version="fraud:1")


def test_another_digest_is_refused(folder):
    with pytest.raises(ArtifactError, match="expected is 0000"):
        load_model(folder, digest="0" * 64, version="fraud:1")


@pytest.mark.parametrize("role", ["ubj", "onnx"])
@pytest.mark.parametrize("seed", range(4))
def test_a_hostile_file_with_a_right_digest_is_refused_and_the_parent_lives(role, seed, files, tmp_path):
    hostile = forged(files, role, corrupted(files[role], seed))
    write_files(hostile, tmp_path)
    assert read_files(tmp_path, digest=hostile.digest).digest == hostile.digest
    with pytest.raises(ArtifactError):
        load_model(tmp_path, digest=hostile.digest, version="fraud:1")


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 1000, b"{L" + b"\xff" * 64], ids=["empty", "zeros", "huge length"]
)
@pytest.mark.parametrize("role", ["ubj", "onnx", "golden"])
def test_nonsense_with_a_right_digest_is_refused(role, data, files, tmp_path):
    hostile = forged(files, role, data)
    write_files(hostile, tmp_path)
    with pytest.raises(ArtifactError):
        load_model(tmp_path, digest=hostile.digest, version="fraud:1")


def test_a_child_that_dies_is_reported_by_its_signal(files, folder, monkeypatch):
    monkeypatch.setattr(loading, "CHECK", ("-c", "import os; os.kill(os.getpid(), 11)"))
    with pytest.raises(ArtifactError, match="SIGSEGV"):
        load_model(folder, digest=files.digest, version="fraud:1")


def test_a_child_that_hangs_is_ended(files, folder, monkeypatch):
    monkeypatch.setattr(loading, "CHECK", ("-c", "import signal; signal.pause()"))
    with pytest.raises(ArtifactError, match=r"longer than 0\.5 s"):
        load_model(folder, digest=files.digest, version="fraud:1", timeout_s=0.5)


def test_other_scores_than_expected_are_refused(files, tmp_path):
    vectors, scores = read_golden(files["golden"], features=6)
    scores = scores.copy()
    scores[3] += 2e-6
    hostile = forged(files, "golden", write_golden(vectors, scores))
    write_files(hostile, tmp_path)
    with pytest.raises(ArtifactError, match="differ by up to 2e-06"):
        load_model(tmp_path, digest=hostile.digest, version="fraud:1")


def test_an_onnx_twin_of_another_model_is_refused(files, problem, tmp_path):
    from xgboost import XGBClassifier

    from penstock.models.export_xgboost import export_xgboost

    other = XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1, base_score=0.4999999)
    twin = export_xgboost(other.fit(problem.vectors, problem.labels), features=6).onnx
    hostile = forged(files, "onnx", twin)
    write_files(hostile, tmp_path)
    with pytest.raises(ArtifactError, match="differ"):
        load_model(tmp_path, digest=hostile.digest, version="fraud:1")


def test_a_manifest_cannot_name_files_outside_its_folder(files, folder):
    entry = files.manifest.files[0]
    manifest = replace(files.manifest, files=(replace(entry, name="../golden.npy"),))
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    with pytest.raises(ArtifactError, match="plain names inside the folder"):
        read_files(folder, digest=sha256(manifest.to_bytes()))


def test_a_manifest_of_a_later_format_is_refused(files, folder):
    manifest = replace(files.manifest, format_version=99)
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    with pytest.raises(ArtifactError, match="format version is 99"):
        read_files(folder, digest=sha256(manifest.to_bytes()))


def test_a_manifest_is_readable_json_and_survives_the_round_trip(files, folder):
    document = json.loads((folder / MANIFEST_NAME).read_text())
    assert document["features"][0] == {"name": "f0", "dtype": "Float64"}
    assert document["libraries"]["onnxruntime"]
    assert document["parameters"]["estimator"] == "XGBClassifier"
    assert read_files(folder, digest=files.digest).manifest == files.manifest
