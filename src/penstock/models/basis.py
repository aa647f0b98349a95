"""What a version needs to give reasons besides its model: how the features were distributed, and what ONNX does not keep.

A NumPy archive, data and no code: quantiles of each feature in training; for linear models weights and means; for trees of
scikit-learn the trees with how much of the training data came to each node (XGBoost's file has that itself); and the
steps of a pipeline that come before, as far as they change each feature by itself.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from penstock.core.errors import ArtifactError
from penstock.models.export_sklearn import TreeParts, tree_parts
from penstock.models.links import LINKS, LinkName
from penstock.models.trees import Ensemble, Tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
StepKind = Literal["fill", "subtract", "divide", "multiply", "add"]
Step: TypeAlias = "tuple[StepKind, NDArray[np.float64]]"
Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"
_PARTS = ("left", "right", "feature", "threshold", "missing_left", "value", "cover")


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``intercept + weights · x``, and the training data's means of x."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    intercept: float
    link: LinkName


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """See the module. `model` is None where the model's own file says all (XGBoost), or where nothing is known."""

    quantiles: NDArray[np.float64]
    steps: tuple[Step, ...] = ()
    model: Linear | TreeParts | None = None

    def prepared(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """`vectors` after the steps, as the last step of the pipeline sees them."""
        rows = np.array(vectors, np.float64)
        for kind, values in self.steps:
            if kind == "fill":
                rows = np.where(np.isnan(rows), values, rows)
            elif kind == "subtract":
                rows -= values
            elif kind == "divide":
                rows /= values
            elif kind == "multiply":
                rows *= values
            else:
                rows += values
        return rows


def basis_of(estimator: Any, vectors: NDArray[np.float64]) -> Basis:
    """The basis of a fitted estimator and the matrix that it was trained on, float64 [n, features]."""
    quantiles = np.full((vectors.shape[1], len(QUANTILES)), np.nan)
    for i, column in enumerate(vectors.T):
        if len(known := column[~np.isnan(column)]):
            quantiles[i] = np.quantile(known, QUANTILES)
    whole = list(estimator.steps) if hasattr(estimator, "steps") else [("", estimator)]
    steps = steps_of([step for _, step in whole[:-1]])
    if steps is None or hasattr(estimator, "get_booster"):
        return Basis(quantiles)
    last = whole[-1][1]
    if (parts := tree_parts(last)) is not None:
        return Basis(quantiles, steps, parts)
    prepared = Basis(quantiles, steps).prepared(vectors)
    return Basis(quantiles, steps, linear_of(last, prepared))


def steps_of(before: list[Any]) -> tuple[Step, ...] | None:
    """Steps that change each feature by itself; None where one does not, or is not known here."""
    from sklearn import impute, preprocessing

    found: list[Step] = []
    for step in before:
        if step is None or step == "passthrough":
            continue
        kind = type(step)
        if kind is impute.SimpleImputer:
            found.append(("fill", np.asarray(step.statistics_, np.float64)))
        elif kind is preprocessing.StandardScaler:
            found += [("subtract", step.mean_)] if step.with_mean else []
            found += [("divide", step.scale_)] if step.with_std else []
        elif kind is preprocessing.RobustScaler:
            found += [("subtract", step.center_)] if step.with_centering else []
            found += [("divide", step.scale_)] if step.with_scaling else []
        elif kind is preprocessing.MinMaxScaler and not step.clip:
            found += [("multiply", step.scale_), ("add", step.min_)]
        elif kind is preprocessing.MaxAbsScaler:
            found.append(("divide", step.scale_))
        else:
            return None
    return tuple(found)


def linear_of(last: Any, prepared: NDArray[np.float64]) -> Linear | None:
    """A fitted linear model as its numbers, with the means of `prepared`; None where it is none, or there are nulls."""
    from sklearn import linear_model

    plain = (
        linear_model.LinearRegression,
        linear_model.Ridge,
        linear_model.Lasso,
        linear_model.ElasticNet,
    )
    kind = type(last)
    binary = kind is linear_model.LogisticRegression and len(last.classes_) == 2
    if not (binary or kind in plain) or np.isnan(prepared).any():
        return None
    weights = np.ravel(np.asarray(last.coef_, np.float64))
    intercept = float(np.ravel(last.intercept_)[0])
    return Linear(weights, prepared.mean(axis=0), intercept, "logit" if binary else "identity")


def write_basis(basis: Basis) -> bytes:
    """The basis as the bytes of a NumPy archive; equal bases give equal bytes."""
    arrays: dict[str, NDArray[Any]] = {"quantiles": basis.quantiles}
    for i, (kind, values) in enumerate(basis.steps):
        arrays[f"step.{i}.{kind}"] = values
    if isinstance(basis.model, Linear):
        arrays |= {
            "linear.weights": basis.model.weights,
            "linear.means": basis.model.means,
            "linear.intercept": np.array(basis.model.intercept),
            "link": np.array(basis.model.link),
        }
    elif basis.model is not None:
        arrays |= _tree_arrays(basis.model)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_basis(data: bytes, *, features: int) -> Basis:
    """The basis of `write_basis`, whose digest has been checked.

    Raises
    ------
    ArtifactError
        When it is not one, or one of another number of features.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        basis = Basis(arrays["quantiles"], _read_steps(arrays), _read_model(arrays))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"Basis of reasons: {error}. Train and register the model again.") from error
    if basis.quantiles.shape != (features, len(QUANTILES)):
        raise ArtifactError(
            f"Basis of reasons: it is of {len(basis.quantiles)} features; the manifest lists {features}. Train and "
            "register the model again."
        )
    return basis


def _tree_arrays(parts: TreeParts) -> dict[str, NDArray[Any]]:
    trees = parts.ensemble.trees
    whole = {
        f"tree.{name}": np.concatenate(
            [np.ones(1) if name == "cover" and t.cover is None else getattr(t, name) for t in trees]
        )
        for name in _PARTS
    }
    return whole | {
        "tree.sizes": np.array([len(tree.left) for tree in trees]),
        "tree.divisor": np.array(parts.divisor),
        "tree.strict": np.array(parts.ensemble.comparison == "<"),
        "tree.float32": np.array(parts.ensemble.dtype is np.float32),
        "tree.rounds_input": np.array(parts.rounds_input),
        "link": np.array(parts.link),
    }


def _read_steps(arrays: Arrays) -> tuple[Step, ...]:
    kinds: dict[str, StepKind] = {
        kind: kind for kind in ("fill", "subtract", "divide", "multiply", "add")
    }  # as their types
    named = [name.split(".") for name in arrays if name.startswith("step.")]
    ordered = sorted(named, key=lambda parts: int(parts[1]))
    return tuple((kinds[kind], arrays[f"step.{i}.{kind}"].astype(np.float64)) for _, i, kind in ordered)


def _read_model(arrays: Arrays) -> Linear | TreeParts | None:
    if "link" not in arrays:
        return None
    link = next(name for name in LINKS if name == str(arrays["link"]))
    if "linear.weights" in arrays:
        return Linear(
            arrays["linear.weights"], arrays["linear.means"], float(arrays["linear.intercept"]), link
        )
    ends = np.cumsum(arrays["tree.sizes"])
    split = {name: np.split(arrays[f"tree.{name}"], ends[:-1]) for name in _PARTS}
    trees = tuple(Tree(**{name: split[name][i] for name in _PARTS}) for i in range(len(ends)))
    dtype = np.float32 if arrays["tree.float32"] else np.float64
    ensemble = Ensemble(trees, comparison="<" if arrays["tree.strict"] else "<=", dtype=dtype)
    return TreeParts(ensemble, int(arrays["tree.divisor"]), link, bool(arrays["tree.rounds_input"]))
