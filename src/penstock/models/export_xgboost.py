"""XGBoost models as files: UBJ, XGBoost's own format, and an ONNX twin that computes the same bits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.booster import Booster
from penstock.models.trees import Ensemble, Tree, constant_tree, to_onnx

if TYPE_CHECKING:
    import xgboost

    from penstock.models.links import LinkName

LINK_OF_OBJECTIVE: dict[str, LinkName] = {
    "binary:logistic": "logit",
    "reg:logistic": "logit",
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "reg:gamma": "log",
    "reg:tweedie": "log",
    "count:poisson": "log",
}


@dataclass(frozen=True, slots=True)
class ExportedBooster:
    """The bytes of both files, the link from margin to score, and the ensemble they hold."""

    ubj: bytes
    onnx: bytes
    link: LinkName
    ensemble: Ensemble


def export_xgboost(estimator: Any, *, features: int) -> ExportedBooster:
    """Export a fitted ``XGBClassifier`` or ``XGBRegressor``.

    After early stopping only the rounds up to the best are kept, which is what the estimator itself predicts with.

    Raises
    ------
    ModelError
        For boosters other than ``gbtree``, objectives without a known link, several targets, categorical splits.
    """
    if not np.isnan(estimator.missing):
        raise ModelError(
            f"XGBoost model: missing is {estimator.missing!r}; allowed is nan, which is what a null becomes. Leave it out."
        )
    booster = _best_rounds(estimator)
    document = json.loads(bytes(booster.save_raw("json")))
    link = _link(document)
    ensemble = ensemble_of(document, features=features)
    ubj = bytes(booster.save_raw("ubj"))
    return ExportedBooster(ubj, to_onnx(ensemble, features=features), link, ensemble)


def _best_rounds(estimator: Any) -> xgboost.Booster:
    booster: xgboost.Booster = estimator.get_booster()
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def _link(document: dict[str, Any]) -> LinkName:
    learner = document["learner"]
    objective, kind = learner["objective"]["name"], learner["gradient_booster"]["name"]
    if kind != "gbtree":
        raise ModelError(f"XGBoost model: booster is {kind!r}; allowed is 'gbtree'. Set booster=\"gbtree\".")
    if objective not in LINK_OF_OBJECTIVE:
        raise ModelError(
            f"XGBoost model: objective is {objective!r}; allowed are {', '.join(LINK_OF_OBJECTIVE)}. Choose one."
        )
    if learner["learner_model_param"]["num_target"] not in {"0", "1"}:
        raise ModelError("XGBoost model: it has several targets; one is allowed. Train one model a target.")
    return LINK_OF_OBJECTIVE[objective]


def ensemble_of(document: dict[str, Any], *, features: int) -> Ensemble:
    """The trees of a model as XGBoost's JSON, the base score before them."""
    trees = document["learner"]["gradient_booster"]["model"]["trees"]
    parts = (constant_tree(_base_margin(document, features=features)), *map(_tree, trees))
    return Ensemble(parts, comparison="<", dtype=np.float32)


def _tree(tree: dict[str, Any]) -> Tree:
    if any(tree["split_type"]):
        raise ModelError(
            "XGBoost model: it splits on categories; numeric splits are allowed. Encode categories as numbers."
        )
    # A leaf keeps its value where an inner node keeps its threshold.
    conditions = np.array(tree["split_conditions"], np.float64)
    return Tree(
        left=np.array(tree["left_children"], np.int64),
        right=np.array(tree["right_children"], np.int64),
        feature=np.array(tree["split_indices"], np.int64),
        threshold=conditions,
        missing_left=np.array(tree["default_left"], np.bool_),
        value=conditions,
        cover=np.array(tree["sum_hessian"], np.float64),
    )


def _base_margin(document: dict[str, Any], *, features: int) -> float:
    """The sum's first term, from XGBoost itself: what the model without its trees answers.

    The file holds the base score as a probability in decimal; the margin is its logit in XGBoost's float32 arithmetic,
    which nothing else reproduces to the last bit.
    """
    learner = document["learner"]
    model = learner["gradient_booster"]["model"]
    empty = model | {
        "trees": [],
        "tree_info": [],
        "iteration_indptr": [0],
        "gbtree_model_param": model["gbtree_model_param"] | {"num_trees": "0"},
    }
    # Without this XGBoost takes the score of a model without trees for one that is still to be estimated.
    given = learner["learner_model_param"] | {"boost_from_average": "0"}
    bare = learner | {
        "gradient_booster": learner["gradient_booster"] | {"model": empty},
        "learner_model_param": given,
    }
    document = document | {"learner": bare}
    booster = Booster(json.dumps(document).encode(), features=features)
    return float(booster.margins(np.zeros((1, features)))[0])
