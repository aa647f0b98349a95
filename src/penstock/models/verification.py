"""From checked bytes to a scoring model, and the proof that it answers what it answered when it was trained."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ArtifactError
from penstock.models.booster import Booster
from penstock.models.runtimes import OnnxModel, XGBoostModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.forest import Forest
    from penstock.models.manifest import ModelFiles

TOLERANCE = 1e-6
"""How far a score may be from what the trained estimator said, relative for values above one.

XGBoost rounds its probabilities to float32 (6e-8); ours come from the same sum in float64. Exported scikit-learn models
compute in float64 as the estimator does, and differ by a few units in the last place.
"""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of golden rows found.

    `score_difference` is the largest distance from the trained estimator's scores. `path_difference` is the largest
    between the engines (ONNX Runtime, XGBoost, compiled trees) on the same rows, in raw sums, which must be 0; None when
    there is one engine.
    """

    rows: int
    score_difference: float
    path_difference: float | None


def build_model(files: ModelFiles, *, version: str, compiled: bool = True) -> OnnxModel | XGBoostModel:
    """The scoring model that checked `files` hold. A hostile file may kill the process: see `loading`.

    `compiled` is whether an XGBoost model may be served by compiled code, which takes a second to load.
    """
    manifest = files.manifest
    onnx = OnnxModel(
        files["onnx"],
        version=version,
        digest=files.digest,
        feature_names=manifest.feature_names,
        link=manifest.link,
        kept_negatives=manifest.kept_negatives,
    )
    if manifest.engine == "onnx":
        return onnx
    booster = Booster(files["ubj"], features=len(manifest.features))
    forest = forest_of(booster) if compiled else None
    return XGBoostModel(
        onnx, booster=booster, link=manifest.link, kept_negatives=manifest.kept_negatives, forest=forest
    )


def forest_of(booster: Booster) -> Forest:
    """The booster's trees in memory, compiled."""
    from penstock.models.export_xgboost import ensemble_of
    from penstock.models.forest import Forest

    return Forest(ensemble_of(booster.document(), features=booster.features), features=booster.features)


def verify(model: OnnxModel | XGBoostModel, *, golden: bytes) -> Verification:
    """Score the golden rows on every path and compare.

    Raises
    ------
    ArtifactError
        When a score is further than `TOLERANCE` from the expected one, or two paths differ in any bit.
    """
    vectors, expected = read_golden(golden, features=len(model.feature_names))
    difference = score_difference(model.score(vectors), expected)
    path = model.path_difference(vectors) if isinstance(model, XGBoostModel) else None
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"Model {model.version!r}: its scores of the golden rows differ by up to {difference:.3g} from those of the "
            f"trained estimator; allowed is {TOLERANCE:g}. Train and register the model again."
        )
    if path is not None and path != 0.0:
        raise ArtifactError(
            f"Model {model.version!r}: ONNX Runtime, XGBoost and compiled trees differ by up to {path:.3g} on the golden rows; allowed "
            "is 0, so that a score does not depend on the size of its batch. Train and register the model again."
        )
    return Verification(len(vectors), difference, path)


def score_difference(scores: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest distance between scores, relative where the expected one is above one; NaN counts as infinite."""
    distance = np.abs(scores - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.nan_to_num(distance, nan=np.inf).max(initial=0.0))


def write_golden(vectors: NDArray[np.float64], scores: NDArray[np.float64]) -> bytes:
    """Golden rows as a NumPy file: float64, one row each, the expected score in the last column."""
    buffer = io.BytesIO()
    np.save(buffer, np.column_stack([vectors, scores]).astype(np.float64), allow_pickle=False)
    return buffer.getvalue()


def read_golden(data: bytes, *, features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors and expected scores of `write_golden`, whose digest has been checked."""
    try:
        table = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"Golden rows: {error}. Train and register the model again.") from error
    if table.dtype != np.float64 or table.ndim != 2 or table.shape[1] != features + 1 or not len(table):
        raise ArtifactError(
            f"Golden rows: {table.dtype} of shape {table.shape}; expected is float64 of shape [n, {features + 1}] with "
            "at least one row. Train and register the model again."
        )
    return np.ascontiguousarray(table[:, :-1]), table[:, -1]
