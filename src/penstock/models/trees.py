"""Tree ensembles as ONNX, exact to the last bit.

The usual converters lose bits: thresholds pass through decimal text or float32, the base score is added at
another place in the sum, and missing values of scikit-learn's trees are not carried over at all. ONNX's
``TreeEnsemble`` operator (ai.onnx.ml 5) can hold a tree as it is, in the float type its library computes in,
and ONNX Runtime adds the trees in order when it has one thread. So:

1. every tree becomes two flat lists, inner nodes and leaves;
2. a base score becomes a first tree that is a single leaf, since libraries start their sum with it;
3. comparison (``<`` or ``<=``), float type and the side missing values take are the library's own.

What comes out of the operator is then the library's own raw sum, bit for bit, in batches of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Comparison = Literal["<", "<="]

NO_CHILD = -1
_MODES: dict[Comparison, int] = {"<=": 0, "<": 1}
_SUM, _NO_TRANSFORM = 1, 0


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One decision tree as flat arrays of n nodes; node 0 is the root.

    A leaf has `left` = -1. A row goes left where its feature compares true with the threshold, or where it is
    missing and `missing_left` is set. `cover` is how much of the training data came to each node, where it is known.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    cover: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Trees whose leaf values add up, in order, in `dtype`."""

    trees: tuple[Tree, ...]
    comparison: Comparison
    dtype: type[np.float32 | np.float64]

    def thresholds(self) -> list[tuple[int, float]]:
        """Every split as (feature, threshold), without repetitions, in order."""
        found = {
            (int(f), float(t))
            for tree in self.trees
            for f, t, left in zip(tree.feature, tree.threshold, tree.left, strict=True)
            if left != NO_CHILD
        }
        return sorted(found)


def constant_tree(value: float) -> Tree:
    """A tree that is one leaf: how a base score enters the sum."""
    nothing = np.zeros(1, np.int64)
    leaf = np.full(1, NO_CHILD, np.int64)
    return Tree(
        leaf, leaf, nothing, np.zeros(1), np.zeros(1, np.bool_), np.array([value], np.float64), np.ones(1)
    )


def node_attributes(ensemble: Ensemble) -> dict[str, Any]:
    """The attributes of the ``TreeEnsemble`` operator that computes the ensemble's sum, shape [n, 1]."""
    from onnx import numpy_helper

    flat = [_flatten(tree) for tree in ensemble.trees]
    node_offsets = np.cumsum([0, *(len(f.feature) for f in flat)])
    leaf_offsets = np.cumsum([0, *(len(f.leaf_values) for f in flat)])

    def targets(side: Literal["true", "false"]) -> tuple[list[int], list[int]]:
        ids, leaves = [], []
        for tree, node_offset, leaf_offset in zip(flat, node_offsets, leaf_offsets, strict=False):
            child, leaf = (tree.true, tree.true_leaf) if side == "true" else (tree.false, tree.false_leaf)
            ids.append(child + np.where(leaf, leaf_offset, node_offset))
            leaves.append(leaf)
        return _ints(ids), _ints(leaves)

    true_ids, true_leaves = targets("true")
    false_ids, false_leaves = targets("false")
    thresholds = np.concatenate([f.threshold for f in flat]).astype(ensemble.dtype)
    leaf_values = np.concatenate([f.leaf_values for f in flat]).astype(ensemble.dtype)
    modes = np.full(len(thresholds), _MODES[ensemble.comparison], np.uint8)
    return {
        "n_targets": 1,
        "aggregate_function": _SUM,
        "post_transform": _NO_TRANSFORM,
        "tree_roots": node_offsets[:-1].tolist(),
        "nodes_featureids": _ints([f.feature for f in flat]),
        "nodes_modes": numpy_helper.from_array(modes, name="nodes_modes"),
        "nodes_splits": numpy_helper.from_array(thresholds, name="nodes_splits"),
        "nodes_missing_value_tracks_true": _ints([f.missing_true for f in flat]),
        "nodes_truenodeids": true_ids,
        "nodes_trueleafs": true_leaves,
        "nodes_falsenodeids": false_ids,
        "nodes_falseleafs": false_leaves,
        "leaf_targetids": [0] * len(leaf_values),
        "leaf_weights": numpy_helper.from_array(leaf_values, name="leaf_weights"),
    }


def to_onnx(ensemble: Ensemble, *, features: int) -> bytes:
    """A whole ONNX model: input ``vectors`` float64 [n, features], output ``sum`` [n, 1] of the ensemble's type."""
    from onnx import TensorProto, helper

    element = TensorProto.FLOAT if ensemble.dtype is np.float32 else TensorProto.DOUBLE
    nodes = [
        helper.make_node("Cast", ["vectors"], ["rows"], to=element),
        helper.make_node("TreeEnsemble", ["rows"], ["sum"], domain="ai.onnx.ml", **node_attributes(ensemble)),
    ]
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("vectors", TensorProto.DOUBLE, [None, features])],
        [helper.make_tensor_value_info("sum", element, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="penstock")
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, eq=False)
class _FlatTree:
    """Inner nodes, whose children are numbered within their kind, and leaves."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_true: NDArray[np.bool_]
    true: NDArray[np.int64]
    true_leaf: NDArray[np.bool_]
    false: NDArray[np.int64]
    false_leaf: NDArray[np.bool_]
    leaf_values: NDArray[np.float64]


def _flatten(tree: Tree) -> _FlatTree:
    inner = tree.left != NO_CHILD
    if not inner.any():
        return _single_leaf(tree)
    number = np.where(inner, np.cumsum(inner), np.cumsum(~inner)) - 1
    left, right = tree.left[inner], tree.right[inner]
    return _FlatTree(
        feature=tree.feature[inner],
        threshold=tree.threshold[inner],
        missing_true=tree.missing_left[inner],
        true=number[left],
        true_leaf=~inner[left],
        false=number[right],
        false_leaf=~inner[right],
        leaf_values=tree.value[~inner],
    )


def _single_leaf(tree: Tree) -> _FlatTree:
    """The operator wants an inner node: one whose two sides are the same leaf."""
    zero, yes = np.zeros(1, np.int64), np.ones(1, np.bool_)
    return _FlatTree(zero, np.zeros(1), ~yes, zero, yes, zero, yes, tree.value[:1])


def _ints(parts: Sequence[NDArray[Any]]) -> list[int]:
    return [int(value) for value in np.concatenate(parts)]
