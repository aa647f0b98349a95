"""Trees in memory: the same sum as the library's, and nothing read outside its arrays whatever a model says."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import ArtifactError
from penstock.models.forest import Forest
from penstock.models.links import sigmoid
from penstock.models.trees import Ensemble, Tree, constant_tree

# x0 < 1 (missing: left) → 10, else x1 < 2 (missing: right) → 20, else 30; nodes in no order.
TREE = Tree(
    left=np.array([3, -1, -1, -1, 2]),
    right=np.array([4, -1, -1, -1, 1]),
    feature=np.array([0, 0, 0, 0, 1]),
    threshold=np.array([1.0, 0.0, 0.0, 0.0, 2.0]),
    missing_left=np.array([True, False, False, False, False]),
    value=np.array([0.0, 30.0, 20.0, 10.0, 0.0]),
)


def forest(*trees, features=2):
    return Forest(Ensemble(trees, comparison="<", dtype=np.float32), features=features)


@pytest.mark.parametrize("trees", [1, 3, 4, 9])
def test_rows_reach_their_leaves_and_trees_add_up(trees):
    rows = np.array([[0.5, 9], [1, 1.9], [1, 2], [np.nan, 0], [5, np.nan], [np.inf, -np.inf]])
    found = forest(constant_tree(0.25), *[TREE] * trees).sums(rows)
    assert found.tolist() == [0.25 + trees * leaf for leaf in (10, 20, 30, 10, 30, 20)]


def test_leaves_are_added_in_order_in_float32():
    values = [1e8, 1.0, -1e8, 1.0]
    total = np.float32(0)
    for value in values:
        total += np.float32(value)
    assert forest(*map(constant_tree, values)).sums(np.zeros((1, 2)))[0] == total


def test_no_rows_no_sums():
    assert forest(TREE).sums(np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    "damage",
    [
        {"right": np.array([5, -1, -1, -1, 1])},
        {"right": np.array([-1, -1, -1, -1, 1])},
        {"left": np.array([0, -1, -1, -1, 2])},
        {"left": np.array([0, -1, -1, -1, 2]), "right": np.array([0, -1, -1, -1, 1])},
        {"feature": np.array([2, 0, 0, 0, 1])},
        {"feature": np.array([-1, 0, 0, 0, 1])},
    ],
    ids=["no such child", "half a leaf", "a cycle", "two cycles", "no such feature", "a negative feature"],
)
def test_a_damaged_tree_is_refused(damage):
    with pytest.raises(ArtifactError, match="Train and register the model again"):
        forest(replace(TREE, **damage))


@pytest.mark.parametrize(("comparison", "dtype"), [("<=", np.float32), ("<", np.float64)])
def test_an_ensemble_that_computes_otherwise_is_refused(comparison, dtype):
    with pytest.raises(ArtifactError, match="Serve it with ONNX Runtime"):
        Forest(Ensemble((TREE,), comparison=comparison, dtype=dtype), features=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_does_not_depend_on_the_size_of_the_batch(dtype):
    raw = np.random.default_rng(0).normal(size=20_000).astype(dtype) * 8
    raw[:6] = [np.nan, np.inf, -np.inf, 0.0, -1e5, 1e5]
    one = np.concatenate([sigmoid(raw[i : i + 1]) for i in range(len(raw))])
    assert (one.view(np.int64) == sigmoid(raw).view(np.int64))[1:].all()
    assert np.isnan(one[0])
    assert np.isnan(sigmoid(raw)[0])
