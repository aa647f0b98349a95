"""Writing a trained model as a folder of files that are data, never code (no pickle, no joblib).

XGBoost becomes UBJ and a bit-equal ONNX twin; every other estimator or pipeline becomes ONNX. With them go the golden
rows, rows of the training data with the scores that the trained estimator gave them, and the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.basis import basis_of, write_basis
from penstock.models.export_sklearn import export_sklearn
from penstock.models.export_xgboost import export_xgboost
from penstock.models.links import corrected
from penstock.models.manifest import (
    MANIFEST_NAME,
    DataRange,
    Engine,
    Feature,
    FileEntry,
    Manifest,
    ModelFiles,
    Role,
    Task,
    json_value,
    sha256,
)
from penstock.models.training_rows import write_sketch
from penstock.models.verification import build_model, verify, write_golden

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.models.links import LinkName
    from penstock.models.trees import Ensemble
    from penstock.monitoring.profile import Profile
    from penstock.plan.origins import Origin

FILE_NAMES: dict[Role, str] = {
    "onnx": "model.onnx",
    "ubj": "model.ubj",
    "golden": "golden.npy",
    "rows": "training_rows.npy",
    "basis": "basis.npz",
    "profile": "profile.json",
    "online": "online.json",
}
GOLDEN_ROWS = 64
EDGE_ROWS = 64
MIN_GOLDEN_ROWS = 32
LIBRARIES = ("numpy", "scikit-learn", "xgboost", "onnx", "onnxruntime", "skl2onnx")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a manifest says about where a model comes from; see `penstock.models.manifest.Manifest`."""

    name: str
    task: Task
    features: tuple[Feature, ...]
    service_fingerprint: str
    data: DataRange
    created_us: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    dataset: str | None = None
    kept_negatives: float = 1.0
    chosen: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    origin: Origin | None = None


def export_model(
    estimator: Any,
    vectors: NDArray[np.float64],
    *,
    provenance: Provenance,
    times_us: NDArray[np.int64] | None = None,
    profile: Profile | None = None,
) -> ModelFiles:
    """All files of a version, verified, in memory.

    Parameters
    ----------
    estimator
        A fitted scikit-learn estimator or pipeline, ``XGBClassifier`` or ``XGBRegressor``.
    vectors
        The training matrix, float64, shape [n, features], from which the golden rows are taken.
    provenance
        What the manifest says besides.
    times_us
        Event times of `vectors`, shape [n]; with them a sample of the rows is kept, by which a gate knows them again.
    profile
        What drift is measured against.

    Raises
    ------
    ModelError
        When the estimator cannot be exported.
    ArtifactError
        When what was exported does not answer as the estimator does.
    """
    exported = _export(estimator, features=len(provenance.features))
    golden = golden_rows(
        estimator,
        vectors,
        task=provenance.task,
        ensemble=exported.ensemble,
        kept_negatives=provenance.kept_negatives,
    )
    basis = write_basis(basis_of(estimator, vectors))
    contents: dict[Role, bytes] = exported.contents | {"golden": golden, "basis": basis}
    if times_us is not None:
        contents["rows"] = write_sketch(times_us, vectors)
    if profile is not None:
        contents["profile"] = profile.to_bytes()
    entries = tuple(
        FileEntry(FILE_NAMES[role], role, len(data), sha256(data)) for role, data in contents.items()
    )
    manifest = Manifest(
        name=provenance.name,
        task=provenance.task,
        engine=exported.engine,
        link=exported.link,
        features=provenance.features,
        service_fingerprint=provenance.service_fingerprint,
        data=provenance.data,
        parameters=parameters(estimator),
        metrics=dict(provenance.metrics),
        thresholds=dict(provenance.thresholds),
        libraries=library_versions(),
        files=entries,
        created_us=provenance.created_us,
        parent=provenance.parent,
        dataset=provenance.dataset,
        kept_negatives=provenance.kept_negatives,
        chosen=dict(provenance.chosen),
        origin=provenance.origin,
    )
    files = ModelFiles(manifest, sha256(manifest.to_bytes()), contents)
    verify(build_model(files, version=provenance.name), golden=golden)
    return files


def write_files(files: ModelFiles, folder: Path) -> None:
    """Write a version's files into the empty or new `folder`, on disk (fsync) when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in files.manifest.files:
        write_bytes(folder / entry.name, files[entry.role])
    write_bytes(folder / MANIFEST_NAME, files.manifest.to_bytes())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the folder's own entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def predict_scores(estimator: Any, vectors: NDArray[np.float64], *, task: Task) -> NDArray[np.float64]:
    """The fitted estimator's own scores: probability of the positive class, or prediction."""
    if task == "regression":
        return np.asarray(estimator.predict(vectors), np.float64).reshape(len(vectors))
    if not hasattr(estimator, "predict_proba"):
        raise ModelError(
            f"Estimator {type(estimator).__name__}: it has no predict_proba; a binary task needs probabilities. Wrap it in "
            "sklearn.calibration.CalibratedClassifierCV."
        )
    return np.asarray(estimator.predict_proba(vectors)[:, 1], np.float64)


def golden_rows(
    estimator: Any,
    vectors: NDArray[np.float64],
    *,
    task: Task,
    ensemble: Ensemble | None = None,
    kept_negatives: float = 1.0,
) -> bytes:
    """Rows to check a version with, and what the estimator says of them, as the bytes of a NumPy file.

    Rows of the training data, evenly over the range of its scores and with those that hold nulls; where the trees are
    known, also rows that lie exactly on a split's threshold, since there a wrong comparison or rounding shows.
    """
    if not len(vectors):
        raise ModelError("Golden rows: the training matrix is empty; at least one row is needed.")
    sample = _spread(vectors, predict_scores(estimator, vectors, task=task))
    if ensemble is not None:
        sample = np.concatenate([sample, _edge_rows(sample, ensemble)])
    scores = corrected(predict_scores(estimator, sample, task=task), kept_negatives)
    if not np.isfinite(scores).all():
        raise ModelError(
            f"Estimator {type(estimator).__name__}: it predicts values that are not finite. Look for infinite or huge "
            "values in the training data."
        )
    return write_golden(sample, scores)


def parameters(estimator: Any) -> dict[str, Any]:
    """The estimator's class and parameters as JSON values; what JSON cannot hold is written as text."""
    given = estimator.get_params(deep=True)
    values = {name: _plain(value) for name, value in sorted(given.items()) if value is not None}
    return {"estimator": type(estimator).__name__, **values}


def library_versions(*, also: Sequence[str] = ()) -> dict[str, str]:
    """The versions of the libraries that took part, as installed, and those of others that may have."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for library in (*LIBRARIES, "xgboost-cpu", *also):
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # xgboost goes by two names
            continue
    return found


@dataclass(frozen=True, slots=True)
class _Exported:
    engine: Engine
    link: LinkName
    contents: dict[Role, bytes]
    ensemble: Ensemble | None = None


def _export(estimator: Any, *, features: int) -> _Exported:
    if hasattr(estimator, "get_booster"):
        model = export_xgboost(estimator, features=features)
        return _Exported("xgboost", model.link, {"onnx": model.onnx, "ubj": model.ubj}, model.ensemble)
    return _Exported("onnx", "identity", {"onnx": export_sklearn(estimator, features=features)})


def _spread(vectors: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Up to `GOLDEN_ROWS` rows over the whole range of scores, and up to as many with nulls.

    A smaller matrix is repeated up to `MIN_GOLDEN_ROWS`.
    """
    by_score = np.argsort(scores, kind="stable")
    with_null = np.flatnonzero(np.isnan(vectors).any(axis=1))
    chosen = np.union1d(_even(by_score, GOLDEN_ROWS), _even(with_null, GOLDEN_ROWS))
    repeats = -(-MIN_GOLDEN_ROWS // len(chosen))
    return vectors[np.tile(chosen, repeats)]


def _even(items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if len(items) <= count:
        return items
    return items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)]


def _edge_rows(sample: NDArray[np.float64], ensemble: Ensemble) -> NDArray[np.float64]:
    """Rows of `sample`, each with one feature put on a threshold or on the next number below it."""
    splits = ensemble.thresholds()
    picked = _even(np.arange(len(splits), dtype=np.int64), EDGE_ROWS // 2)
    rows = []
    for number, split in enumerate(picked):
        feature, threshold = splits[split]
        for value in (threshold, float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))):
            row = sample[number % len(sample)].copy()
            row[feature] = value
            rows.append(row)
    return np.array(rows, np.float64).reshape(len(rows), sample.shape[1])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | bool):
        return json_value(value)
    if isinstance(value, Sequence) and all(isinstance(item, str | int | float | bool) for item in value):
        return json_value(list(value))
    return type(value).__name__


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, on disk (fsync) when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
