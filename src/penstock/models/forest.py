"""A tree ensemble in memory: the sum of a row within microseconds, with the bits of the library that it comes from.

1. A node is two words: the second is its threshold or leaf value, the first says the feature and where the children lie, side by
   side. All trees lie one behind the other.
2. A row takes as many steps in each tree as the tree is deep; a leaf leads to itself. So no branch depends on a comparison.
3. Four trees are walked at a time, since each step waits for the one before it.
4. The leaves are added up in the order of the trees, in float32, as XGBoost and ONNX Runtime do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import types

from penstock.core.errors import ArtifactError
from penstock.kernel.bits import float_of
from penstock.kernel.jit import I8, entry, inlined, unchecked
from penstock.models.trees import NO_CHILD, Ensemble, Tree, constant_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = types.Array(types.float64, 2, "C", readonly=True)
# A node's words: where its left child lies, and below that the feature and two flags; then its threshold or leaf value.
NODE_WORDS = 2
_MISSING_LEFT, _SPLITS, _FEATURE_SHIFT, _CHILD_SHIFT = 1, 2, 2, 24
_TREES_AT_ONCE = 4
_MAX_FEATURES = 1 << (_CHILD_SHIFT - _FEATURE_SHIFT)


@inlined
def _number(nodes: NDArray[np.int64], at: int) -> float:
    """Return the threshold or leaf value of the node at `at`."""
    return float_of(nodes[np.uint64(at + 1)])


@inlined
def _child(row: NDArray[np.float64], nodes: NDArray[np.int64], at: int) -> int:
    """Return the node that follows the one at `at` for a row: its left or right child, or of a leaf itself."""
    node = nodes[np.uint64(at)]
    x = row[np.uint64((node >> _FEATURE_SHIFT) & (_MAX_FEATURES - 1))]
    right = np.int64(not x < _number(nodes, at)) & ~(np.int64(x != x) & node)
    following: int = (node >> _CHILD_SHIFT) + (right & (node >> 1) & 1) * NODE_WORDS
    return following


@entry(types.void, _ROWS, types.float64[::1], I8, I8, types.float32[::1])
def _sums(
    vectors: NDArray[np.float64],
    row: NDArray[np.float64],
    trees: NDArray[np.int64],
    nodes: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Add up the leaves that each row reaches, tree after tree, four trees at a time.

    `trees` are (root, depth) of each, a multiple of four; `row` is scratch.
    """
    for i in range(len(out)):
        for j in range(len(row)):
            row[j] = np.float32(vectors[i, j])
        total = np.float32(0.0)
        for t in range(0, len(trees), 8):
            a, b, c, d = trees[t], trees[t + 2], trees[t + 4], trees[t + 6]
            for _ in range(max(trees[t + 1], trees[t + 3], trees[t + 5], trees[t + 7])):
                a, b = _child(row, nodes, a), _child(row, nodes, b)
                c, d = _child(row, nodes, c), _child(row, nodes, d)
            total += np.float32(_number(nodes, a))
            total += np.float32(_number(nodes, b))
            total += np.float32(_number(nodes, c))
            total += np.float32(_number(nodes, d))
        out[i] = total


_sum = unchecked(_sums)


class Forest:
    """The trees of an ensemble that compares by ``<`` in float32, in memory.

    Raises
    ------
    ArtifactError
        Where a tree is none, or the ensemble computes otherwise.

    Examples
    --------
    >>> from penstock.models.trees import constant_tree
    >>> half = Ensemble((constant_tree(0.5),), comparison="<", dtype=np.float32)
    >>> Forest(half, features=3).sums(np.zeros((2, 3))).tolist()
    [0.5, 0.5]
    """

    __slots__ = ("_nodes", "_trees")

    def __init__(self, ensemble: Ensemble, *, features: int) -> None:
        if ensemble.comparison != "<" or ensemble.dtype is not np.float32:
            raise ArtifactError(
                f"tree ensemble: it compares by {ensemble.comparison!r} in {np.dtype(ensemble.dtype)}; allowed is '<' in "
                "float32. Serve it with ONNX Runtime."
            )
        # Adding -0.0 changes no sum.
        rest = [constant_tree(-0.0)] * (-len(ensemble.trees) % _TREES_AT_ONCE)
        nodes, trees = [], []
        start = 0
        for tree in (*ensemble.trees, *rest):
            order, depth = _pairs(tree)
            nodes.append(_nodes(tree, order, start, features))
            trees += [start, depth]
            start += NODE_WORDS * len(order)
        self._trees = np.array(trees, np.int64)
        self._nodes = np.concatenate(nodes)

    @property
    def nbytes(self) -> int:
        """How much memory the nodes take."""
        return self._nodes.nbytes

    def sums(self, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
        """Raw sums, shape [n], of C-contiguous float64 `vectors` [n, features]; NaN is a missing value."""
        rows, columns = vectors.shape
        out = np.empty(rows, np.float32)
        add_up = _sum if rows == 1 else _sums
        add_up(vectors, np.empty(columns), self._trees, self._nodes, out)
        return out


def _pairs(tree: Tree) -> tuple[NDArray[np.int64], int]:
    """The nodes in an order in which the two children of each lie side by side, level by level; and the depth."""
    level = np.zeros(1, np.int64)
    order, count = [level], 1
    while len(splits := level[tree.left[level] != NO_CHILD]):
        level = np.column_stack([tree.left[splits], tree.right[splits]]).ravel()
        order.append(level)
        count += len(level)
        if level.min() < 0 or level.max() >= len(tree.left) or count > len(tree.left):
            raise ArtifactError(
                "tree ensemble: a node's child is none, or another node's too. Train and register the model again."
            )
    return np.concatenate(order), len(order) - 1


def _nodes(tree: Tree, order: NDArray[np.int64], start: int, columns: int) -> NDArray[np.int64]:
    """The words of each node, which lie from `start` on."""
    splits = tree.left[order] != NO_CHILD
    features = np.where(splits, tree.feature[order], 0)
    allowed = min(columns, _MAX_FEATURES)
    if features.min() < 0 or features.max() >= allowed:
        raise ArtifactError(
            f"tree ensemble: it splits on features {features.min()} to {features.max()}; allowed is 0 to {allowed - 1}. "
            "Train and register the model again."
        )
    places = np.arange(len(order))
    children = start + NODE_WORDS * np.where(splits, 2 * np.cumsum(splits) - 1, places)
    flags = np.where(splits, _SPLITS, 0) | np.where(splits & tree.missing_left[order], _MISSING_LEFT, 0)
    numbers = np.where(splits, tree.threshold[order], tree.value[order]).astype(np.float32)
    words = np.empty((len(order), NODE_WORDS), np.int64)
    words[:, 0] = (children << _CHILD_SHIFT) | (features << _FEATURE_SHIFT) | flags
    words[:, 1] = numbers.astype(np.float64).view(np.int64)
    return words.ravel()
