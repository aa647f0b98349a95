"""Models: what is trained, on what, and how its data are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name
from penstock.definitions.gates import Gate, check_gate
from penstock.definitions.learning import DEFAULT_PERIODS, Online, check_detects, check_learns
from penstock.definitions.retraining import Retraining, check_retraining
from penstock.definitions.segment_names import check_segments
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import EventSource, LabelSource, check_not_negative
from penstock.definitions.tags import Tags, tags_of
from penstock.definitions.view_checks import check_no_arrays

TASKS = ("binary", "regression", "anomaly")
IMBALANCE = (None, "weight", "undersample")
_ESTIMATOR = ("fit", "predict", "get_params")


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """A split by event time: train, then a gap in which labels arrive, then test.

    Parameters
    ----------
    train, delay, test
        Lengths of the three periods. A label counts for training only when it was known by the end of the gap.
    start
        The first instant of training; default: as late as the data allow.

    Examples
    --------
    >>> TimeSplit(train=timedelta(days=7), delay=timedelta(days=7), test=timedelta(days=7)).start is None
    True
    """

    train: timedelta
    delay: timedelta
    test: timedelta
    start: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            length = getattr(self, name)
            if not isinstance(length, timedelta) or length <= timedelta(0):
                raise DefinitionError(
                    f"TimeSplit: {name} is {length!r}; allowed is a timedelta longer than zero. Write for example "
                    f"{name}=timedelta(days=7)."
                )
        check_not_negative(self.delay, owner="TimeSplit", argument="delay")
        start: object = self.start
        if start is not None and not isinstance(start, datetime):
            raise DefinitionError(
                f"TimeSplit: start is {start!r}; allowed are a datetime and None. Write for example "
                "start=datetime(2018, 7, 25, tzinfo=UTC)."
            )


@dataclass(frozen=True, slots=True, init=False)
class Model:
    """What is trained: features, label, estimator and how its data are split.

    Parameters
    ----------
    name
        The name under which versions are registered.
    features
        The `FeatureService` whose features the model consumes, in order.
    label
        The `LabelSource` with the truth. For anomalies it may be left out: there it is for evaluation only.
    estimator
        Any scikit-learn-style estimator, pipeline, or XGBoost's; it is cloned before fitting. For anomalies a detector:
        `NearestNeighbours`, one of ``river.anomaly``, or an `Ensemble` of such.
    task
        ``"binary"``, ``"regression"`` or ``"anomaly"``. A detector of anomalies learns each event after it was scored, without
        labels; its score is the share of its own past scores that were lower.
    imbalance
        ``"weight"`` to weight the classes against their imbalance; ``"undersample"`` to train on all positives and ten negatives each,
        with scores corrected so that they are probabilities all the same; None to leave the data as they are.
    split
        How training and test periods are cut. A model that learns from every label is judged on the test period alone; for
        it the default is a week of each.
    gate
        What a version must show before it is promoted; default: `Gate` as it is.
    learning
        `Online` for a model that goes on learning; None for one that is trained and then stays as it is. Detectors of
        anomalies always go on learning; what `Online` counts are then events.
    retraining
        When it is trained again while the project runs, and how far the new version goes; None: by hand only.
    """

    name: str
    features: FeatureService
    label: LabelSource | None
    estimator: Any
    task: str
    imbalance: str | None
    split: TimeSplit
    gate: Gate
    learning: Online | None
    retraining: Retraining | None
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        features: FeatureService,
        label: LabelSource | None = None,
        estimator: Any,
        split: TimeSplit | None = None,
        task: str = "binary",
        imbalance: str | None = None,
        gate: Gate | None = None,
        learning: Online | None = None,
        retraining: Retraining | None = None,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"Model {check_name(name, what='Model')!r}"
        if not isinstance(features, FeatureService):
            raise DefinitionError(
                f"{what}: features is {features!r}; allowed is a FeatureService. Make one of the views."
            )
        given: object = label
        if not isinstance(given, LabelSource) and (given is not None or task != "anomaly"):
            raise DefinitionError(
                f"{what}: label is {label!r}; allowed is a LabelSource. Give the one with the truth; only a model with "
                'task="anomaly" does without.'
            )
        if task not in TASKS or imbalance not in IMBALANCE or (imbalance and task != "binary"):
            raise DefinitionError(
                f"{what}: task is {task!r} and imbalance {imbalance!r}; allowed are tasks {', '.join(TASKS)} and "
                'imbalance None or, for binary, "weight" and "undersample". Choose among these.'
            )
        if task == "anomaly":
            learning = learning or Online()
        if learning is not None:
            split = _check_learning(learning, estimator, split, imbalance=imbalance, task=task, owner=what)
        elif isinstance(estimator, type) or not all(hasattr(estimator, name) for name in _ESTIMATOR):
            raise DefinitionError(
                f"{what}: estimator is {estimator!r}; allowed is an object with {', '.join(_ESTIMATOR)}. Write for "
                "example XGBClassifier(n_estimators=100)."
            )
        if not isinstance(split, TimeSplit):
            raise DefinitionError(
                f"{what}: split is {split!r}; allowed is a TimeSplit. "
                "Write TimeSplit(train=timedelta(days=7), delay=timedelta(days=7), test=timedelta(days=7))."
            )
        _check_numeric(features, owner=what)
        check_gate(gate, task=task, owner=what)
        if gate is not None and label is not None:
            check_gate_segments(gate, features, label.of, owner=what)
        check_retraining(retraining, learns=learning is not None, start=split.start, owner=what)
        values = (
            ("name", name),
            ("features", features),
            ("label", label),
            ("estimator", estimator),
            ("task", task),
            ("imbalance", imbalance),
            ("split", split),
            ("gate", gate or Gate()),
            ("learning", learning),
            ("retraining", retraining),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)


def check_gate_segments(gate: Gate, features: FeatureService, source: EventSource, *, owner: str) -> None:
    """Raise `DefinitionError` where a segment of the gate is neither a feature nor a column of the stream's events."""
    if gate.segments is not None:
        check_segments(gate.segments, source=source, features=features, short=True, owner=f"{owner}, gate")


def _check_learning(
    learning: object,
    estimator: Any,
    split: TimeSplit | None,
    *,
    imbalance: str | None,
    task: str,
    owner: str,
) -> TimeSplit:
    """The split of a model that goes on learning, whose definition can mean something."""
    if not isinstance(learning, Online) or imbalance is not None:
        raise DefinitionError(
            f"{owner}: learning is {learning!r} and imbalance {imbalance!r}; allowed are an Online with imbalance None, and "
            "None. Write learning=Online(), and give weights to the estimator's own loss."
        )
    if task == "anomaly":
        check_detects(estimator, owner=owner)
    else:
        check_learns(estimator, owner=owner)
    if split is not None:
        return split
    train, delay, test = DEFAULT_PERIODS
    return TimeSplit(train=train, delay=delay, test=test)


def _check_numeric(service: FeatureService, *, owner: str) -> None:
    texts = [name for name, dtype in service.feature_types.items() if dtype.kind == "text"]
    if texts:
        raise DefinitionError(
            f"{owner}: feature {texts[0]!r} is a String; allowed are numbers. Encode it in a realtime feature view "
            "and select the encoded feature."
        )
    check_no_arrays(service.feature_types, owner=owner, taker="a model")
