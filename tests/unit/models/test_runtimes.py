import subprocess
import sys
import threading

import numpy as np
import pytest

from penstock.core.errors import ArtifactError, MissingDependencyError, ModelError
from penstock.models import booster
from penstock.models.runtimes import NATIVE_ROWS, open_session
from penstock.models.verification import build_model


@pytest.fixture
def model(files):
    return build_model(files, version="fraud:1")


def test_margins_of_one_call_outlive_the_next(files, problem):
    native = booster.Booster(files["ubj"], features=6)
    first = native.margins(problem.vectors[:100])
    kept = first.copy()
    native.margins(problem.vectors[100:200])
    assert (first == kept).all()


def test_a_booster_of_another_width_is_refused(files):
    with pytest.raises(ArtifactError, match="it has 6 features; the manifest lists 7"):
        booster.Booster(files["ubj"], features=7)


def test_no_rows_no_scores(model):
    assert model.score(np.empty((0, 6))).shape == (0,)


@pytest.mark.parametrize("shape", [(6,), (1, 5), (2, 7), (1, 1, 6)])
def test_vectors_of_another_shape_are_refused(shape, model):
    with pytest.raises(ModelError, match=r"the model takes \[n, 6\]"):
        model.score(np.zeros(shape))


@pytest.mark.parametrize("rows", [5, 200])
def test_memory_layout_does_not_matter(rows, model, problem):
    vectors = problem.vectors[:rows]
    wide = np.zeros((rows, 12))
    wide[:, ::2] = vectors
    expected = model.score(vectors)
    assert (model.score(np.asfortranarray(vectors)) == expected).all()
    assert (model.score(wide[:, ::2]) == expected).all()


def test_scores_are_probabilities_in_float64(model, problem):
    scores = model.score(problem.vectors)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()


def test_threads_may_score_at_once(model, problem):
    expected = model.score(problem.vectors)
    wrong = []

    def score(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            start, rows = int(rng.integers(0, 2500)), int(rng.choice([1, 7, NATIVE_ROWS, 300]))
            if (model.score(problem.vectors[start : start + rows]) != expected[start : start + rows]).any():
                wrong.append(start)

    threads = [threading.Thread(target=score, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_onnx_with_another_input_is_refused(files):
    from onnx import load_from_string

    from penstock.models.runtimes import OnnxModel

    document = load_from_string(files["onnx"])
    document.graph.input[0].type.tensor_type.elem_type = 1
    document.graph.node[0].input[0] = "vectors"
    with pytest.raises(ArtifactError, match=r"one input of\s+tensor\(double\)"):
        OnnxModel(document.SerializeToString(), version="v", digest="", feature_names=("a",), link="identity")


def test_bytes_that_are_no_onnx_are_refused():
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it"):
        open_session(b"not a model")


def test_serving_needs_neither_the_xgboost_package_nor_scikit_learn(folder, files):
    code = (
        "import sys; from pathlib import Path; from penstock.models.manifest import read_files;"
        "from penstock.models.verification import build_model, verify;"
        f"f = read_files(Path({str(folder)!r}), digest={files.digest!r});"
        "verify(build_model(f, version='v'), golden=f['golden']);"
        "print(sorted({'xgboost', 'sklearn', 'scipy.sparse', 'pandas', 'onnx', 'skl2onnx', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_xgboost_is_named(monkeypatch):
    monkeypatch.setattr(booster.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="Install xgboost-cpu"):
        booster._library.__wrapped__()
