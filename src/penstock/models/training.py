"""Fitting a model on what was known, and judging it on what came after.

Vectors are float64 with NaN for null. Labels of rows that have none are NaN and take no part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock.core.errors import ModelError
from penstock.models.artifacts import Provenance, export_model, predict_scores
from penstock.models.choosing import choose_by_cost
from penstock.models.evaluation import (
    EvaluationReport,
    RankedEntities,
    evaluate_binary,
    evaluate_regression,
)
from penstock.models.evaluation_anomaly import Series, evaluate_anomalies
from penstock.models.links import corrected
from penstock.models.manifest import DataRange, Feature, ModelFiles, Task
from penstock.models.split import Split, SplitLengths, split_by_time
from penstock.models.thresholds import ChosenThreshold
from penstock.models.weighting import check_takes_weights, undersampled, weigh_classes, weight_argument
from penstock.monitoring.hours import mean_by_hour
from penstock.monitoring.losses import losses
from penstock.monitoring.profile import Profile, profile_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.policies import AlertBudget, CostMatrix, CostOptimal
    from penstock.kernel.columns import Columns
    from penstock.plan.origins import Origin

Imbalance = Literal["weight", "undersample"]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train and how to judge it.

    Parameters
    ----------
    name
        The name under which versions are registered.
    estimator
        Any scikit-learn-style estimator or pipeline, or XGBoost's. It is cloned, never changed.
    split
        A `TimeSplit`.
    task
        ``"binary"``, ``"regression"`` or ``"anomaly"``.
    imbalance
        ``"weight"`` to weight the classes against their imbalance: ``scale_pos_weight`` in XGBoost, ``class_weight`` or
        sample weights elsewhere. ``"undersample"`` to fit on all positives and ten negatives each, with scores corrected for what was
        left out. None leaves the data as they are.
    thresholds, costs
        The policy's, for evaluation.
    chosen
        The actions whose thresholds are chosen by cost, with their costs; each is among `thresholds`.
    top_k
        For Card Precision, when the data have entities.
    """

    name: str
    estimator: Any
    split: SplitLengths
    task: Task = "binary"
    imbalance: Imbalance | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    costs: CostMatrix | None = None
    top_k: int = 100
    chosen: tuple[tuple[str, CostOptimal | AlertBudget], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Rows with features and labels, point-in-time correct.

    Parameters
    ----------
    vectors
        float64, shape [n, features]; NaN is null.
    labels
        float64, shape [n]; NaN where there is none.
    times_us, known_at_us
        Event time, and when the label became known; int64 microseconds UTC, shape [n].
    features
        Name and type of each column of `vectors`.
    service_fingerprint
        Fingerprint of the feature service that computed them.
    eligible
        Rows that may be tested on, bool, shape [n]; None: all.
    days, entities
        For Card Precision, shape [n]; None: not computed.
    columns
        Further numeric columns, such as the amounts that costs name; shape [n] each.
    weights
        What each label counts for in fitting and in choosing thresholds, shape [n]: above one for events that stand for others,
        which were acted against and so have no label; rows of weight 0 take no part. None: all count one.
    positions
        Where the events are in the project's log, int64, shape [n], ascending; None: they are from elsewhere.
    events
        The events themselves, n rows, for segments; None: not kept.
    """

    vectors: NDArray[np.float64]
    labels: NDArray[np.float64]
    times_us: NDArray[np.int64]
    features: tuple[Feature, ...]
    service_fingerprint: str
    known_at_us: NDArray[np.int64] | None = None
    eligible: NDArray[np.bool_] | None = None
    days: NDArray[Any] | None = None
    entities: NDArray[Any] | None = None
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    weights: NDArray[np.float64] | None = None
    positions: NDArray[np.int64] | None = None
    events: Columns | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A fitted estimator with its evaluation, ready to be exported.

    `test_rows` are the indices of the rows it was tested on, with `test_labels`, `test_scores` and `test_times_us` of the same length.
    """

    spec: TrainingSpec
    estimator: Any
    split: Split
    report: EvaluationReport
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.float64]
    test_scores: NDArray[np.float64]
    test_times_us: NDArray[np.int64]
    train_vectors: NDArray[np.float64]
    train_times_us: NDArray[np.int64]
    features: tuple[Feature, ...]
    service_fingerprint: str
    data: DataRange
    kept_negatives: float = 1.0
    chosen: Mapping[str, ChosenThreshold] = field(default_factory=dict)
    test_entities: NDArray[Any] | None = None

    def export(
        self,
        *,
        created_us: int,
        parent: str | None = None,
        dataset: str | None = None,
        origin: Origin | None = None,
    ) -> ModelFiles:
        """The version's files, verified, for `ModelRegistry.register`.

        Parameters
        ----------
        created_us
            The time now, from the caller's clock.
        parent
            The version that this one was retrained from.
        dataset
            The recorded data set that `data` is of.
        origin
            What features and data were made from.
        """
        provenance = Provenance(
            name=self.spec.name,
            task=self.spec.task,
            features=self.features,
            service_fingerprint=self.service_fingerprint,
            data=self.data,
            created_us=created_us,
            metrics=self.report.to_dict(),
            thresholds=self.spec.thresholds,
            parent=parent,
            dataset=dataset,
            origin=origin,
            kept_negatives=self.kept_negatives,
            chosen={action: found.to_dict() for action, found in self.chosen.items()},
        )
        return export_model(
            self.estimator,
            self.train_vectors,
            provenance=provenance,
            times_us=self.train_times_us,
            profile=self.profile(),
        )

    def profile(self) -> Profile:
        """What drift is measured against: features as fitted on, scores and labels of the test, where it has not learnt."""
        features = (
            profile_column(feature.name, self.train_vectors[:, i], times_us=self.train_times_us)
            for i, feature in enumerate(self.features)
        )
        times = self.test_times_us
        score = profile_column("score", self.test_scores, role="score", times_us=times)
        known = ~np.isnan(self.test_labels)  # of anomalies many have none, or all
        if not known.any():
            return Profile((*features, score))
        labels = self.test_labels[known]
        label = profile_column("label", labels, role="label", times_us=times[known])
        spread = label.spread if self.spec.task == "regression" else None
        lost = losses(self.test_scores[known], labels, spread=spread)
        by_hour = mean_by_hour(lost, times[known]) if self.spec.task != "anomaly" else ()
        return Profile((*features, score, label), loss_by_hour=by_hour)

    def series(self) -> Series:
        """The events that it was tested on, as `penstock.models.evaluation_anomaly` takes them."""
        return Series(self.test_times_us, self.test_scores, self.test_labels, self.test_entities)


def train(spec: TrainingSpec, data: TrainingData, *, progress: Progress | None = None) -> TrainedModel:
    """Split by time, fit on what was known at the end of the gap, evaluate on the test period.

    Parameters
    ----------
    progress
        Called with one line when each stage starts.

    Raises
    ------
    ModelError
        When shapes differ, a period is empty, training has one class only, or the estimator cannot take nulls.
    """
    tell = progress or _silent
    _check_shapes(data)
    tell(f"{spec.name}: splitting {len(data.labels):,} rows by time")
    split = split_by_time(data.times_us, spec.split, known_at_us=data.known_at_us)
    labelled = ~np.isnan(data.labels)
    counted = True if data.weights is None else data.weights > 0
    training = np.flatnonzero(split.train & labelled & counted)
    testing = np.flatnonzero(split.test & labelled & (True if data.eligible is None else data.eligible))
    chosen = choose_by_cost(spec, data, split, lambda rows, asked: _fit_and_score(spec, data, rows, asked))
    if chosen:
        spec = replace(
            spec, thresholds={**spec.thresholds, **{a: found.threshold for a, found in chosen.items()}}
        )
    tell(f"{spec.name}: fitting {type(spec.estimator).__name__} on {len(training):,} rows")
    fitted, kept = fit_rows(spec, data, training)
    tell(f"{spec.name}: evaluating on {len(testing):,} rows")
    if not len(testing):
        raise ModelError(
            f"Model {spec.name!r}: no labelled row is left to test on ({split}). Wait for labels, or test on an earlier period."
        )
    scores = corrected(predict_scores(fitted, data.vectors[testing], task=spec.task), kept)
    return TrainedModel(
        spec=spec,
        estimator=fitted,
        split=split,
        report=evaluate(spec, data, testing, scores),
        test_rows=testing,
        test_labels=data.labels[testing],
        test_scores=scores,
        train_vectors=data.vectors[training],
        train_times_us=data.times_us[training],
        features=data.features,
        service_fingerprint=data.service_fingerprint,
        data=data_range(spec, data, split, training),
        kept_negatives=kept,
        chosen=chosen,
        test_times_us=data.times_us[testing],
    )


def fit_rows(spec: TrainingSpec, data: TrainingData, rows: NDArray[np.int64]) -> tuple[Any, float]:
    """A clone of the estimator fitted on the data at `rows`, and the share of negatives that it was given."""
    kept = 1.0
    if spec.imbalance == "undersample":
        chosen, kept = undersampled(data.labels[rows])
        rows = rows[chosen]
    fitted = fit(
        spec.estimator,
        data.vectors[rows],
        data.labels[rows],
        feature_names=tuple(feature.name for feature in data.features),
        task=spec.task,
        imbalance=spec.imbalance,
        weights=None if data.weights is None else data.weights[rows],
    )
    return fitted, kept


def _fit_and_score(
    spec: TrainingSpec, data: TrainingData, rows: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.float64]:
    fitted, kept = fit_rows(spec, data, rows)
    return corrected(predict_scores(fitted, data.vectors[asked], task=spec.task), kept)


def fit(
    estimator: Any,
    vectors: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    feature_names: tuple[str, ...],
    task: Task = "binary",
    imbalance: Imbalance | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Any:
    """A fitted clone of `estimator`; `weights` are those of the rows (None: all count one).

    Raises
    ------
    ModelError
        When there are no rows, a label is missing or, for a binary task, not 0 or 1, one class only, or nulls that the
        estimator cannot take.
    """
    from sklearn.base import clone

    what = type(estimator).__name__
    _check_labels(labels, what=what, task=task)
    _check_nulls(estimator, vectors, feature_names)
    fresh = clone(estimator)
    targets: NDArray[Any] = labels.astype(np.int64) if task == "binary" else labels
    if weights is not None:
        check_takes_weights(
            fresh,
            "some labels stand for others (Policy(explore=...)), and it takes no sample_weight. Leave out explore",
        )
    if imbalance == "weight" and task == "binary":
        balance = weigh_classes(fresh, targets)
        weights = balance if weights is None else weights if balance is None else weights * balance
    try:
        return fresh.fit(vectors, targets, **weight_argument(fresh, weights))
    except (ValueError, TypeError) as error:
        raise ModelError(f"Estimator {what}: fitting failed: {error}") from error


def _check_labels(labels: NDArray[np.float64], *, what: str, task: Task) -> None:
    if not len(labels) or np.isnan(labels).any():
        raise ModelError(
            f"Estimator {what}: {len(labels)} rows to train on, {int(np.isnan(labels).sum())} of them without label; allowed "
            "is at least one row, each with its label. Wait for labels or lengthen the training period."
        )
    if task == "regression":
        return
    if not np.isin(labels, (0.0, 1.0)).all():
        found = np.setdiff1d(labels, (0.0, 1.0))[:3].tolist()
        raise ModelError(
            f'Estimator {what}: labels hold {found}; a binary task allows 0 and 1. Use task="regression".'
        )
    positives = int(labels.sum())
    if positives in {0, len(labels)}:
        raise ModelError(
            f"Estimator {what}: {positives:,} of {len(labels):,} training rows are positive; both classes are needed. "
            "Lengthen the training period, or check that labels arrive and join their events."
        )


def _check_nulls(estimator: Any, vectors: NDArray[np.float64], feature_names: tuple[str, ...]) -> None:
    from sklearn.utils import get_tags

    infinite = np.logical_or.reduce(np.isinf(vectors), axis=0)
    if infinite.any():
        raise ModelError(
            f"Estimator {type(estimator).__name__}: features {_named(infinite, feature_names)} hold infinite values; allowed "
            "are finite numbers and null. Guard divisions in the feature view."
        )
    nulls = np.logical_or.reduce(np.isnan(vectors), axis=0)
    if not nulls.any() or all(
        get_tags(step).input_tags.allow_nan for step in _steps_until_imputed(estimator)
    ):
        return
    raise ModelError(
        f"Estimator {type(estimator).__name__}: it cannot take nulls, and features {_named(nulls, feature_names)} hold some. "
        "Put an imputer in front, like make_pipeline(SimpleImputer(), ...), or use XGBoost, which takes nulls."
    )


def _steps_until_imputed(estimator: Any) -> list[Any]:
    """The steps that see nulls: up to and including an imputer."""
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    seen = []
    for step in steps:
        if step is None or isinstance(step, str):
            continue
        seen.append(step)
        if "Imputer" in type(step).__name__:
            break
    return seen


def _named(mask: NDArray[np.bool_], feature_names: tuple[str, ...]) -> str:
    names = [name for name, held in zip(feature_names, mask, strict=True) if held]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def evaluate(
    spec: TrainingSpec, data: TrainingData, rows: NDArray[np.int64], scores: NDArray[np.float64]
) -> EvaluationReport:
    """Judge the scores of the data at `rows`."""
    labels = data.labels[rows]
    if spec.task == "regression":
        return evaluate_regression(labels, scores)
    if spec.task == "anomaly":
        entities = None if data.entities is None else data.entities[rows]
        series = Series(data.times_us[rows], scores, labels, entities)
        return evaluate_anomalies(series, thresholds=spec.thresholds)
    ranked = None
    if data.days is not None and data.entities is not None:
        ranked = RankedEntities(data.days[rows], data.entities[rows], spec.top_k)
    return evaluate_binary(
        labels,
        scores,
        thresholds=spec.thresholds,
        costs=spec.costs,
        columns={name: column[rows] for name, column in data.columns.items()},
        ranked=ranked,
    )


def data_range(spec: TrainingSpec, data: TrainingData, split: Split, rows: NDArray[np.int64]) -> DataRange:
    """What was learned: the training period, and the data at `rows`."""
    return DataRange(
        start_us=split.train_start_us,
        end_us=split.train_end_us,
        rows=len(rows),
        positives=int(data.labels[rows].sum()) if spec.task == "binary" else None,
        digest=data_digest(data, rows),
    )


def data_digest(data: TrainingData, rows: NDArray[np.int64]) -> str:
    """SHA-256 of features' names, times, labels and vectors of `rows`: equal data, equal digest."""
    digest = hashlib.sha256("\n".join(f"{f.name}:{f.dtype}" for f in data.features).encode())
    for array, dtype in ((data.times_us, "<i8"), (data.labels, "<f8"), (data.vectors, "<f8")):
        digest.update(np.ascontiguousarray(array[rows], dtype=dtype).tobytes())
    return digest.hexdigest()


def _check_shapes(data: TrainingData) -> None:
    rows, columns = len(data.labels), len(data.features)
    if data.vectors.shape != (rows, columns) or data.times_us.shape != (rows,):
        raise ModelError(
            f"Training data: vectors have shape {data.vectors.shape}, times {data.times_us.shape}; expected are "
            f"({rows}, {columns}) and ({rows},) for {rows} labels and {columns} features."
        )


def _silent(_: str) -> None:
    """Where nobody listens."""
