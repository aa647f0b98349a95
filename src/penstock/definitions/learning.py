"""Models that go on learning: how often, on how much, and how several are combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name
from penstock.definitions.detectors import is_detector

CHOICES = ("mean", "best")
DEFAULT_PERIODS = (timedelta(days=7), timedelta(days=7), timedelta(days=7))
"""Train, delay and test of a learning model that gives no split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """A model learns each label when it arrives, on the features as they were served.

    What it has learned is a fold of the log: the labels in the order in which they joined their events, in batches. All counts
    below are of labels, so that the clock and the speed of a machine change nothing.

    Parameters
    ----------
    batch
        Labels in a step. A step after which the model is not sound is taken back to the last published copy.
    publish_every
        After how many labels a copy is published; a multiple of `batch`.
    refit_every
        After how many labels an estimator that only has ``fit`` is fitted; a multiple of `publish_every`.
    window
        On how many of the newest labels it is then fitted.
    negatives
        It keeps one of so many negatives, with so much weight: a window of rare positives reaches further back.
    continued
        For XGBoost and LightGBM: how often in a row it goes on with the trees that it has, adding as many on the labels since,
        before it is fitted anew.

    Examples
    --------
    >>> Online(publish_every=500).batch
    100
    """

    batch: int = 100
    publish_every: int = 1_000
    refit_every: int = 50_000
    window: int = 500_000
    negatives: int = 1
    continued: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "publish_every", "refit_every", "window", "negatives", "continued"):
            value, least = getattr(self, name), int(name != "continued")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise DefinitionError(
                    f"Online: {name} is {value!r}; allowed is a whole number of at least {least}. Leave it out for "
                    f"{_default(name)}."
                )
        for whole, part in (("publish_every", "batch"), ("refit_every", "publish_every")):
            if getattr(self, whole) % getattr(self, part):
                raise DefinitionError(
                    f"Online: {whole} is {getattr(self, whole)} and {part} {getattr(self, part)}; allowed is a multiple. "
                    f"Write for example {whole}={10 * getattr(self, part)}."
                )


@dataclass(frozen=True, slots=True, init=False)
class Ensemble:
    """Several estimators that learn the same labels, and answer together.

    Parameters
    ----------
    members
        ``{name: estimator}``: River's, scikit-learn's, XGBoost's or LightGBM's, mixed as you like.
    choose
        ``"mean"``: the mean of their scores. ``"best"``: the one with the smallest loss on labels before it learned them.
    half_life
        For ``"best"``: after how many labels a loss counts half.

    Notes
    -----
    River's own ensembles and selectors (``river.ensemble``, ``river.model_selection``) are estimators as any other.
    """

    members: tuple[tuple[str, Any], ...]
    choose: str
    half_life: int

    def __init__(self, members: Mapping[str, Any], *, choose: str = "mean", half_life: int = 10_000) -> None:
        if choose not in CHOICES:
            raise DefinitionError(
                f"Ensemble: choose is {choose!r}; allowed are {', '.join(CHOICES)}. For a bandit write Bandit(...)."
            )
        length: object = half_life
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise DefinitionError(
                f"Ensemble: half_life is {half_life!r}; allowed is a whole number of labels of at least 1. "
                "Leave it out for 10000."
            )
        object.__setattr__(self, "members", _members(members, owner="Ensemble"))
        object.__setattr__(self, "choose", choose)
        object.__setattr__(self, "half_life", half_life)


@dataclass(frozen=True, slots=True, init=False)
class Bandit:
    """Several estimators of which one learns each batch, as a bandit policy says; the one that it ranks first answers.

    Parameters
    ----------
    members
        ``{name: estimator}``, as in `Ensemble`.
    policy
        One of ``river.bandit``; its reward is minus the loss on the batch before it is learned. Give it a seed.
    """

    members: tuple[tuple[str, Any], ...]
    policy: Any

    def __init__(self, members: Mapping[str, Any], *, policy: Any) -> None:
        if isinstance(policy, type) or not all(
            hasattr(policy, name) for name in ("pull", "update", "ranking")
        ):
            raise DefinitionError(
                f"Bandit: policy is {policy!r}; allowed is a policy of river.bandit. Write for example "
                "river.bandit.EpsilonGreedy(epsilon=0.1, burn_in=10, seed=0)."
            )
        object.__setattr__(self, "members", _members(members, owner="Bandit"))
        object.__setattr__(self, "policy", policy)


def check_learns(estimator: Any, *, owner: str) -> None:
    """Raise `DefinitionError` unless `estimator` can go on learning."""
    if isinstance(estimator, Ensemble | Bandit):
        for name, member in estimator.members:
            check_learns(member, owner=f"{owner}, member {name!r}")
        return
    able = any(hasattr(estimator, name) for name in ("learn_one", "partial_fit", "fit"))
    if isinstance(estimator, type) or not able:
        raise DefinitionError(
            f"{owner}: estimator is {estimator!r}; allowed with learning=Online(...) is an object of River, or with "
            "partial_fit or fit, an Ensemble or a Bandit. Write for example StandardScaler() | LogisticRegression()."
        )


def check_detects(estimator: Any, *, owner: str) -> None:
    """Raise `DefinitionError` unless `estimator` can find anomalies without labels."""
    if isinstance(estimator, Ensemble) and estimator.choose == "mean":
        for name, member in estimator.members:
            check_detects(member, owner=f"{owner}, member {name!r}")
        return
    if not is_detector(estimator):
        raise DefinitionError(
            f'{owner}: estimator is {_called(estimator)}; allowed with task="anomaly" are NearestNeighbours, a '
            'detector of river.anomaly with what stands before it, and an Ensemble of such with choose="mean". Write for example '
            "estimator=NearestNeighbours()."
        )


def _called(estimator: Any) -> str:
    """Its class; River's policies cannot be printed before their first reward."""
    return (
        f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
    )


def _members(members: object, *, owner: str) -> tuple[tuple[str, Any], ...]:
    if not isinstance(members, Mapping) or len(members) < 2:
        raise DefinitionError(
            f"{owner}: members is {members!r}; allowed is a dict of at least two names and estimators. Write for example "
            '{"linear": ..., "trees": ...}.'
        )
    return tuple((check_name(name, what=f"{owner}, member"), member) for name, member in members.items())


def _default(name: str) -> int:
    default: int = Online.__dataclass_fields__[name].default  # type: ignore[assignment]
    return default
