"""Scikit-learn models and pipelines as ONNX in float64, through skl2onnx, with tree ensembles converted exactly.

skl2onnx does linear models, scalers, networks and much else well when it is asked for float64: scores then agree with the
estimator's to about 1e-15. Its tree ensembles do not: float32 thresholds send some rows to the other side, missing
values take the wrong one, histogram gradient boosting fails outright. So trees go through `penstock.models.trees`,
as converters given to skl2onnx for one call (nothing global is registered), wherever they stand in a pipeline.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.export_xgboost import export_xgboost
from penstock.models.trees import Ensemble, Tree, constant_tree, node_attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.links import LinkName

_ML = "ai.onnx.ml"
OPSETS = {"": 17, _ML: 3}
_TREES_OPSET = 5  # of the finished model; skl2onnx itself knows no higher than 3
_OUTPUT = "penstock_score"
_DOUBLE, _FLOAT, _INT64 = 11, 1, 7  # onnx.TensorProto's numbers

Converter: TypeAlias = Callable[[Any, Any, Any], None]


def export_sklearn(estimator: Any, *, features: int) -> bytes:
    """A fitted estimator as an ONNX model: input ``vectors`` [n, features] float64, output ``penstock_score`` float64.

    The output has one column, or one a class; the score is the last.

    Raises
    ------
    ModelError
        When a step has no converter, or one that ONNX Runtime cannot run; the message names it.
    """
    from onnx.checker import ValidationError
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    refusals = (
        MissingConverter,
        MissingShapeCalculator,
        NotImplementedError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        ValidationError,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # skl2onnx reads attributes that scikit-learn retires
            model = convert_sklearn(
                estimator,
                initial_types=[("vectors", DoubleTensorType([None, features]))],
                target_opset=OPSETS,
                custom_conversion_functions=_converters(),
                custom_shape_calculators=_xgboost_shapes(),
                custom_parsers=_xgboost_parsers(),
                options={kind: {} for kind in _xgboost_parsers()},
            )
    except refusals as error:
        raise ModelError(
            f"Estimator {type(estimator).__name__}: it cannot be exported to ONNX: {str(error)[:300]}. Use estimators "
            "that skl2onnx supports, or XGBoost."
        ) from error
    return _finish(model)


def _finish(model: Any) -> bytes:
    """Keep one output, cast to float64, and only what it needs: the label's nodes would be computed for nothing."""
    from onnx import helper

    graph = model.graph
    # A classifier ends in a ZipMap, which turns its probabilities into dictionaries.
    source = next((node.input[0] for node in graph.node if node.op_type == "ZipMap"), graph.output[-1].name)
    needed, kept = {source}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    kept.append(helper.make_node("Cast", [source], [_OUTPUT], to=_DOUBLE))
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    output = helper.make_tensor_value_info(_OUTPUT, _DOUBLE, None)
    lean = helper.make_graph(kept, "model", list(graph.input), [output], initializers)
    domains = {"": OPSETS[""], _ML: _TREES_OPSET} | {
        entry.domain: entry.version for entry in model.opset_import if entry.domain not in OPSETS
    }
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    done = helper.make_model(lean, opset_imports=opsets, ir_version=8, producer_name="penstock")
    return bytes(done.SerializeToString())


def tree_parts(estimator: Any) -> TreeParts | None:
    """The trees of a fitted estimator, without what stands before it in a pipeline; None where it has none."""
    known = _tree_kinds().get(type(estimator))
    return None if known is None else known[0](estimator, known[1])


def has_trees(estimator: Any) -> bool:
    """Whether `tree_parts` knows estimators of this kind."""
    return type(estimator) in _tree_kinds()


def _tree_kinds() -> dict[type, tuple[Callable[[Any, bool], TreeParts], bool]]:
    """How the trees of each kind of estimator are read, and whether it is a classifier."""
    from sklearn import ensemble, tree

    table: dict[type, tuple[Callable[[Any, bool], TreeParts], bool]] = {
        tree.DecisionTreeClassifier: (_tree_parts, True),
        tree.DecisionTreeRegressor: (_tree_parts, False),
        ensemble.RandomForestClassifier: (_forest_parts, True),
        ensemble.RandomForestRegressor: (_forest_parts, False),
        ensemble.ExtraTreesClassifier: (_forest_parts, True),
        ensemble.ExtraTreesRegressor: (_forest_parts, False),
        ensemble.GradientBoostingClassifier: (_boosted_parts, True),
        ensemble.GradientBoostingRegressor: (_boosted_parts, False),
        ensemble.HistGradientBoostingClassifier: (_histogram_parts, True),
        ensemble.HistGradientBoostingRegressor: (_histogram_parts, False),
    }
    # XGBoost as a step of a pipeline; nothing when the process has not loaded XGBoost.
    xgboost = sys.modules.get("xgboost")
    if xgboost is not None:
        table |= {
            xgboost.XGBClassifier: (_xgboost_parts, True),
            xgboost.XGBRegressor: (_xgboost_parts, False),
        }
    return table


def _converters() -> dict[type, Converter]:
    from sklearn import impute

    trees = {kind: _converter(parts, classes=classes) for kind, (parts, classes) in _tree_kinds().items()}
    return trees | {impute.SimpleImputer: _convert_imputer}


def _xgboost_shapes() -> dict[type, Callable[[Any], None]]:
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes

    xgboost = sys.modules.get("xgboost")
    if xgboost is None:
        return {}
    return {
        xgboost.XGBClassifier: _declared_shapes,
        xgboost.XGBRegressor: calculate_linear_regressor_output_shapes,
    }


def _declared_shapes(operator: Any) -> None:
    """Two columns of probabilities; `_parse_classifier` has declared the types."""
    operator.outputs[0].type.shape = [None]
    operator.outputs[1].type.shape = [None, 2]


def _xgboost_parsers() -> dict[type, Callable[..., list[Any]]]:
    xgboost = sys.modules.get("xgboost")
    return {} if xgboost is None else {xgboost.XGBClassifier: _parse_classifier}


def _parse_classifier(scope: Any, model: Any, inputs: list[Any], **_: Any) -> list[Any]:
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    operator = scope.declare_local_operator(type(model).__name__, model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    operator.outputs.append(scope.declare_local_variable("probabilities", DoubleTensorType()))
    return list(operator.outputs)


@dataclass(frozen=True, slots=True, eq=False)
class TreeParts:
    """How an estimator's trees make its answer: sum, then a division, then the link.

    `rounds_input` says that the library rounds its input to float32 before comparing with float64 thresholds.
    """

    ensemble: Ensemble
    divisor: int = 1
    link: LinkName = "identity"
    rounds_input: bool = True


def _converter(parts_of: Callable[[Any, bool], TreeParts], *, classes: bool) -> Converter:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        _add_trees(
            scope, operator, container, parts=parts_of(operator.raw_operator, classes), classes=classes
        )

    return convert


def _add_trees(scope: Any, operator: Any, container: Any, *, parts: TreeParts, classes: bool) -> None:
    def step(kind: str, inputs: list[str], **attributes: Any) -> str:
        output: str = scope.get_unique_variable_name(kind.lower())
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, output, name=name, **attributes)
        return output

    vectors = operator.inputs[0].full_name
    if parts.rounds_input:
        vectors = step("Cast", [vectors], to=_FLOAT)
    vectors = step("Cast", [vectors], to=_FLOAT if parts.ensemble.dtype is np.float32 else _DOUBLE)
    attributes = node_attributes(parts.ensemble)
    score = step("TreeEnsemble", [vectors], op_domain=_ML, op_version=OPSETS[_ML], **attributes)
    score = step("Cast", [score], to=_DOUBLE)
    if parts.divisor != 1:
        score = step("Div", [score, _constant(scope, container, float(parts.divisor))])
    if parts.link != "identity":
        score = step("Sigmoid" if parts.link == "logit" else "Exp", [score])
    if not classes:
        container.add_node(
            "Identity", score, operator.outputs[0].full_name, name=scope.get_unique_operator_name("Out")
        )
        return
    other = step("Sub", [_constant(scope, container, 1.0), score])
    label, probabilities = (output.full_name for output in operator.outputs)
    container.add_node(
        "Concat", [other, score], probabilities, axis=1, name=scope.get_unique_operator_name("Probabilities")
    )
    largest = step("ArgMax", [probabilities], axis=1, keepdims=0)
    container.add_node("Cast", largest, label, to=_INT64, name=scope.get_unique_operator_name("Label"))


def _constant(scope: Any, container: Any, value: float) -> str:
    name: str = scope.get_unique_variable_name("constant")
    container.add_initializer(name, _DOUBLE, [1], [value])
    return name


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """SimpleImputer in float64, which ONNX Runtime's own operator does not know."""
    imputer = operator.raw_operator
    fills = np.asarray(imputer.statistics_, np.float64)
    missing = imputer.missing_values
    if (
        imputer.add_indicator
        or np.isnan(fills).any()
        or not (isinstance(missing, float) and np.isnan(missing))
    ):
        raise NotImplementedError(
            "SimpleImputer is supported for missing_values=nan, without add_indicator, and with no column that is "
            "empty in training"
        )
    vectors = operator.inputs[0].full_name
    fill, null = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("null")
    container.add_initializer(fill, _DOUBLE, [1, len(fills)], fills.tolist())
    container.add_node("IsNaN", vectors, null, name=scope.get_unique_operator_name("IsNaN"))
    where = scope.get_unique_operator_name("Where")
    container.add_node("Where", [null, fill, vectors], operator.outputs[0].full_name, name=where)


def _plain_tree(fitted: Any, *, column: int, scale: float = 1.0) -> Tree:
    """A scikit-learn ``tree_``; a leaf's value is that of class `column`."""
    return Tree(
        left=fitted.children_left.astype(np.int64),
        right=fitted.children_right.astype(np.int64),
        feature=fitted.feature.astype(np.int64),
        threshold=fitted.threshold.astype(np.float64),
        missing_left=fitted.missing_go_to_left.astype(np.bool_),
        value=fitted.value[:, 0, column] * scale,
        cover=np.asarray(fitted.weighted_n_node_samples, np.float64),
    )


def _tree_parts(estimator: Any, classes: bool) -> TreeParts:  # noqa: FBT001 - called by `_converter` alone
    return TreeParts(_doubles([_plain_tree(estimator.tree_, column=_column(estimator, classes))]))


def _forest_parts(estimator: Any, classes: bool) -> TreeParts:  # noqa: FBT001 - as above
    column = _column(estimator, classes)
    trees = [_plain_tree(member.tree_, column=column) for member in estimator.estimators_]
    return TreeParts(_doubles(trees), divisor=len(trees))


def _boosted_parts(estimator: Any, classes: bool) -> TreeParts:  # noqa: FBT001 - as above
    if estimator.init is not None and not isinstance(estimator.init, str):
        raise NotImplementedError(f"{type(estimator).__name__} is supported with init=None or 'zero'")
    _column(estimator, classes)
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_)))  # noqa: SLF001 - no public name
    rate = estimator.learning_rate
    trees = [_plain_tree(member.tree_, column=0, scale=rate) for member in estimator.estimators_[:, 0]]
    return TreeParts(_doubles([constant_tree(float(start[0, 0])), *trees]), link=_link(classes))


def _histogram_parts(estimator: Any, classes: bool) -> TreeParts:  # noqa: FBT001 - as above
    _column(estimator, classes)
    if not classes and estimator.loss not in {"squared_error", "absolute_error", "quantile"}:
        raise NotImplementedError(
            f"HistGradientBoostingRegressor is not supported with loss={estimator.loss!r}"
        )
    start = float(np.ravel(estimator._baseline_prediction)[0])  # noqa: SLF001 - no public name
    trees = [_histogram_tree(rounds[0].nodes) for rounds in estimator._predictors]  # noqa: SLF001 - as above
    return TreeParts(_doubles([constant_tree(start), *trees]), link=_link(classes), rounds_input=False)


def _xgboost_parts(estimator: Any, classes: bool) -> TreeParts:  # noqa: FBT001 - as above
    _column(estimator, classes)
    exported = export_xgboost(estimator, features=estimator.n_features_in_)
    return TreeParts(exported.ensemble, link=exported.link)


def _doubles(trees: list[Tree]) -> Ensemble:
    return Ensemble(tuple(trees), comparison="<=", dtype=np.float64)


def _link(classes: bool) -> LinkName:  # noqa: FBT001 - as above
    return "logit" if classes else "identity"


def _histogram_tree(nodes: NDArray[Any]) -> Tree:
    if nodes["is_categorical"].any():
        raise NotImplementedError("categorical splits are not supported; encode categories as numbers")
    leaf = nodes["is_leaf"].astype(np.bool_)
    return Tree(
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        value=nodes["value"].astype(np.float64),
        cover=nodes["count"].astype(np.float64),
    )


def _column(estimator: Any, classes: bool) -> int:  # noqa: FBT001 - as above
    """Where a leaf keeps its answer: the positive class, or the only value."""
    if not classes:
        return 0
    if len(estimator.classes_) != 2:
        raise NotImplementedError(f"it has {len(estimator.classes_)} classes; two are supported")
    return 1
