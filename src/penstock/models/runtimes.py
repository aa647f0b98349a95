"""Scoring: vectors in, scores out, on one thread, with the same bits in batches of any size.

An XGBoost model is served by its trees in memory (`penstock.models.forest`), which answer one row within two microseconds;
batches of a model that outgrows the CPU's cache by XGBoost's own predictor, which has a fixed cost of about 50 us a call.
ONNX Runtime stands in where nothing is compiled, in the process that checks a version. All three compute the same float32
sum in the same order (see `penstock.models.trees`), checked when a version is loaded; the step from sum to score is one
float64 formula of ours. So which engine answered cannot be seen in a score, let alone change a decision.

Everything else is served by ONNX Runtime alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from penstock.core.errors import ArtifactError, ModelError
from penstock.models.links import Link, LinkName, link_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.booster import Booster
    from penstock.models.forest import Forest

NATIVE_ROWS = 64
"""From this many rows on, XGBoost's own predictor is faster than ONNX Runtime (measured, one thread)."""
CACHED_BYTES = 1 << 20
"""Trees of this size stay in the CPU's cache, and are faster in memory whatever the number of rows."""


class ScoringModel(Protocol):
    """One model version, ready to score. Safe to call from several threads at once."""

    @property
    def version(self) -> str:
        """The version's name, as decisions record it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the version's manifest, which names every file by its own digest."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of a vector, in order."""

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of rows.

        Parameters
        ----------
        vectors
            float64, shape [n, len(feature_names)], C-contiguous; NaN is null.

        Returns
        -------
        float64, shape [n]: the probability of the positive class, or the predicted value.
        """


class OnnxModel:
    """A model served by ONNX Runtime."""

    __slots__ = (
        "_columns",
        "_input",
        "_link",
        "_output",
        "_run",
        "digest",
        "feature_names",
        "version",
    )

    def __init__(
        self,
        model: bytes,
        *,
        version: str,
        digest: str,
        feature_names: tuple[str, ...],
        link: LinkName,
        kept_negatives: float = 1.0,
    ) -> None:
        session = open_session(model)
        self._run = session.run
        self._input, self._output = _ends(session)
        self._link: Link = link_of(link, kept_negatives)
        self._columns = len(feature_names)
        self.version, self.digest, self.feature_names = version, digest, feature_names

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `ScoringModel.score`."""
        return self._link(self.raw(check_vectors(vectors, columns=self._columns)))

    def raw(self, vectors: NDArray[np.float64]) -> NDArray[Any]:
        """The model's output before the link; of several columns (classes) the last."""
        output: NDArray[Any] = self._run(self._output, {self._input: vectors})[0]
        return output if output.ndim == 1 else output[:, -1]


class XGBoostModel:
    """A gradient-boosted model: its trees in memory (else ONNX Runtime) for a few rows, XGBoost itself for many."""

    __slots__ = (
        "_booster",
        "_columns",
        "_few",
        "_few_rows",
        "_link",
        "_onnx",
        "digest",
        "feature_names",
        "version",
    )

    def __init__(
        self,
        few: OnnxModel,
        *,
        booster: Booster,
        link: LinkName,
        kept_negatives: float = 1.0,
        forest: Forest | None = None,
    ) -> None:
        self._onnx, self._booster = few, booster
        self._link: Link = link_of(link, kept_negatives)
        self._columns = booster.features
        self._few = few.raw if forest is None else forest.sums
        cached = forest is not None and forest.nbytes <= CACHED_BYTES
        self._few_rows = sys.maxsize if cached else NATIVE_ROWS
        self.version, self.digest, self.feature_names = few.version, few.digest, few.feature_names

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `ScoringModel.score`."""
        rows = check_vectors(vectors, columns=self._columns)
        return self._link(self._few(rows) if len(rows) < self._few_rows else self._booster.margins(rows))

    def path_difference(self, vectors: NDArray[np.float64]) -> float:
        """The largest difference between the raw sums of the engines, and of single rows: 0.0 when sound."""
        rows = check_vectors(vectors, columns=self._columns)
        native, onnx, batch = self._booster.margins(rows), self._onnx.raw(rows), self._few(rows)
        single = np.concatenate([self._few(rows[i : i + 1]) for i in range(len(rows))])
        return float(max(np.abs(native - other).max() for other in (onnx, batch, single)))


def open_session(model: bytes) -> Any:
    """An ONNX Runtime session on one thread that does not spin while idle.

    Raises
    ------
    ArtifactError
        When ONNX Runtime cannot read the model. The bytes' digest must have been checked before.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    refusals = (
        state.Fail,
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NotImplemented,
        state.RuntimeException,
        state.NoSuchFile,
        state.EngineError,
        state.EPFail,
        state.NoModel,
    )
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ArtifactError(f"ONNX model: ONNX Runtime refuses it: {str(error)[:300]}") from error


def check_vectors(vectors: NDArray[np.float64], *, columns: int) -> NDArray[np.float64]:
    """`vectors` as C-contiguous float64 rows, which the engines cast to their own type as their libraries do."""
    if vectors.ndim != 2 or vectors.shape[1] != columns:
        raise ModelError(
            f"Vectors: shape is {vectors.shape}; the model takes [n, {columns}]. Pass one row per event."
        )
    return np.ascontiguousarray(vectors, np.float64)  # itself, where it is that already


def _ends(session: Any) -> tuple[str, list[str]]:
    """The names of a session's input and output, of which there must be one each, the input float64."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(double)":
        found = ", ".join(f"{given.name}: {given.type}" for given in inputs)
        raise ArtifactError(
            f"ONNX model: its inputs are {found or 'none'}, and it has {len(outputs)} outputs; allowed are one input of "
            "tensor(double) and one output. Train and register the model again."
        )
    return inputs[0].name, [outputs[0].name]
