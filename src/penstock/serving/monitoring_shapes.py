"""How figures of endpoints look over HTTP: metrics, curves, drift, distributions, experiments."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class PointShape(BaseModel):
    """What `score >= threshold` was worth; null where a ratio is 0 / 0, or no costs are known."""

    action: str
    threshold: float
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    f1: float | None = None
    cost: float | None = None
    true_positives: int | None = None
    false_positives: int | None = None
    highest: float | None = Field(
        None,
        description="Where versions were judged by different thresholds, of which `threshold` is the lowest.",
    )


class AlarmsShape(BaseModel):
    """What an action of a detector of anomalies came to, each decision by what was decided."""

    action: str
    threshold: float
    highest: float | None = Field(None, description="As of points.")
    alerts: int
    share: float
    per_day: float
    nab: float | None = Field(description="The NAB score; null where no anomaly was labelled.")
    nab_profile: str
    windows: int = Field(description="Anomalies: runs of anomalous events of an entity.")
    found: int = Field(description="Those with an alarm in them.")
    precision: float | None
    recall: float | None
    false_positive_rate: float | None


class CalibrationShape(BaseModel):
    """Decisions with scores from `lower` to `upper`: what was predicted on average, and what happened."""

    lower: float
    upper: float
    rows: int
    mean_score: float
    positive_rate: float


class QualityShape(BaseModel):
    """Quality as far as labels tell. A decision without a label is pending, never negative."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "labelled": 4100,
                "positives": 52,
                "pending": 380,
                "unscored": 0,
                "positive_rate": 0.0127,
                "average_precision": 0.61,
                "roc_auc": 0.97,
                "log_loss": 0.031,
                "brier": 0.008,
                "calibration_error": 0.003,
                "idle_cost": 3120.5,
                "points": [],
                "calibration": [],
            }
        }
    )

    labelled: int
    pending: int
    unscored: int = Field(0, description="Decisions made without a score.")
    positives: int | None = None
    positive_rate: float | None = None
    average_precision: float | None = None
    roc_auc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    idle_cost: float | None = Field(None, description="What doing nothing would have cost.")
    alerts: list[int] = Field(
        [], description="Of a detector of anomalies: scores that reached each of `points`."
    )
    unevenness: float | None = Field(
        None, description="Of a detector of anomalies: how far scores are from evenly spread."
    )
    points: list[PointShape] = []
    calibration: list[CalibrationShape] = []
    mae: float | None = None
    rmse: float | None = None
    bias: float | None = None
    pinball: float | None = None
    quantile: float | None = None


class EstimateShape(BaseModel):
    """What scores alone let one expect, before labels come."""

    decided: int
    positives: float
    calibrated_on: int
    average_precision: float | None
    roc_auc: float | None
    points: list[PointShape]


class CardPrecisionShape(BaseModel):
    """Card Precision at `k`, and what a perfect ranking reaches on the same data."""

    k: int
    value: float | None
    ceiling: float | None
    by_day: list[float | None]


class WindowShape(BaseModel):
    """Quality over events from `start` and before `end`."""

    start: datetime
    end: datetime
    mature: bool = Field(description="Whether all labels have had their time.")
    quality: QualityShape
    estimate: EstimateShape | None = Field(
        description="What scores let one expect before labels come; null of a regression and of a detector."
    )
    card_precision: CardPrecisionShape | None
    alarms: list[AlarmsShape] = Field([], description="Of a detector of anomalies, by action.")


class MomentPointShape(BaseModel):
    """A point of a rolling window."""

    action: str
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_positive_rate: float | None = None
    cost: float | None = None


class MomentShape(BaseModel):
    """Quality over the window of the shortest length that ends at `end`."""

    end: datetime
    mature: bool
    labelled: int
    pending: int
    positives: int | None = None
    positive_rate: float | None = None
    average_precision: float | None = None
    roc_auc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    unevenness: float | None = None
    mae: float | None = None
    rmse: float | None = None
    bias: float | None = None
    pinball: float | None = None
    points: list[MomentPointShape] = []


class GroupShape(BaseModel):
    """Quality of a version, an arm, or a value of a segment."""

    dimension: str
    value: str
    quality: QualityShape = Field(description="Since the beginning.")
    windows: list[WindowShape] = Field([], description="The same as of all decisions.")
    course: list[MomentShape] = Field([], description="The shortest window, rolling by days.")
    alarms: list[AlarmsShape] = Field([], description="Of a detector of anomalies, since the beginning.")


class AnomaliesShape(BaseModel):
    """What all decisions of a detector of anomalies came to."""

    rows: int
    labelled: int
    positives: int
    roc_auc: float | None
    average_precision: float | None
    unevenness: float
    alarms: list[AlarmsShape]


class MetricsShape(BaseModel):
    """How good an endpoint's decisions were."""

    endpoint: str
    task: Literal["binary", "regression", "anomaly"]
    newest: datetime | None = Field(description="The newest event time decided.")
    label_delay_s: float = Field(description="How long labels take.")
    total: QualityShape
    windows: list[WindowShape] = Field(
        description="The newest whose labels had their time, then what is younger."
    )
    course: list[MomentShape] = Field([], description="The shortest window, rolling by days.")
    anomalies: AnomaliesShape | None = Field(None, description="Of a detector of anomalies.")
    dimensions: list[str] = Field(description="What `by` may be, besides `day`.")
    groups: list[GroupShape] = Field(description="By what was asked for; empty without `by`.")
    days: list[WindowShape] = Field(description="With `by=day`: each day that has decisions.")


class CurvesShape(BaseModel):
    """ROC and precision-recall at the same thresholds, from the highest score down, at most 200 points."""

    false_positive_rate: list[float]
    recall: list[float]
    precision: list[float]


class ScoresShape(BaseModel):
    """How scores are distributed, in equal steps of the score."""

    edges: list[float]
    decided: list[int]
    negatives: list[int] = Field(description="Of those with a label.")
    positives: list[int]


class CurveShape(BaseModel):
    """The curves of all decisions, of a version or of an arm."""

    dimension: str = Field(description="`all`, `version` or `arm`.")
    value: str
    quality: QualityShape
    curves: CurvesShape | None = Field(description="Null of a regression.")
    scores: ScoresShape | None


class MeasureShape(BaseModel):
    """A distance between two distributions, and what it does not exceed without drift."""

    value: float | None
    threshold: float | None


class DriftBinShape(BaseModel):
    """A value or a range: its share in the training data and now."""

    label: str
    reference: float
    now: float


class ColumnDriftShape(BaseModel):
    """One column now, against the training data."""

    name: str
    role: Literal["feature", "score", "label"]
    drifted: bool
    is_discrete: bool
    rows: int
    reference_rows: int
    missing: float = Field(description="The share of nulls.")
    reference_missing: float
    unseen: float = Field(description="The share of values that the training data do not have.")
    mean: float | None
    reference_mean: float | None
    psi: MeasureShape
    ks: MeasureShape
    wasserstein: MeasureShape
    jensen_shannon: MeasureShape
    p_value: float | None
    adjusted_p_value: float | None
    p_values: dict[str, float | None]
    effect: float
    bins: list[DriftBinShape]


class DriftFound(BaseModel):
    """The drift of all columns."""

    drifted: list[str]
    columns: list[ColumnDriftShape]
    false_alarms: float
    method: str
    min_effect: float


class ChangePointShape(BaseModel):
    """Where a detector noticed that a column had changed."""

    model_config = ConfigDict(extra="allow")

    stream: str
    method: str
    time: datetime
    before: float | None
    after: float | None


class ColumnDayShape(BaseModel):
    """A column on one day."""

    name: str
    rows: int
    psi: float | None
    threshold: float | None
    drifted: bool


class DriftDayShape(BaseModel):
    """One day, of event time."""

    day: str
    is_whole: bool = Field(
        True,
        description="Whether its decisions reach from the first hour to the last; of others nothing is said to drift.",
    )
    columns: list[ColumnDayShape]


class DriftShape(BaseModel):
    """What an endpoint is asked lately, against what a version was trained on."""

    endpoint: str
    version: str
    start: datetime
    end: datetime
    label_start: datetime
    label_end: datetime
    rows: int
    drift: DriftFound
    change_points: list[ChangePointShape]
    days: list[DriftDayShape] = Field([], description="Day by day, of the newest four weeks.")
    note: str = Field(description="Why there are no change points, where they could not be looked for.")
    warning: str = Field("", description="Why it says little of days, where it is not of whole days.")


class DistributionShape(BaseModel):
    """The distribution of a feature over the newest decisions."""

    name: str
    rows: int
    missing: float = Field(description="The share of nulls.")
    mean: float | None
    spread: float | None
    quantiles: dict[str, float]
    values: list[float] | None = Field(description="Of a feature of few values: each; `counts` are theirs.")
    edges: list[float] | None = Field(description="Of another: the ends of its bins.")
    counts: list[int]
    below: int = Field(description="Rows beyond the first edge.")
    above: int


class DistributionsShape(BaseModel):
    """The features of an endpoint's newest decisions, as the models saw them."""

    endpoint: str
    rows: int
    first: datetime | None
    last: datetime | None
    features: list[DistributionShape]


class RatioShape(BaseModel):
    """A ratio of sums over keys."""

    value: float | None
    variance: float | None
    keys: int
    active: int
    size: float


class DifferenceShape(BaseModel):
    """An arm against the first, with an interval that holds however often one looks."""

    value: float | None
    low: float | None
    high: float | None
    verdict: Literal["better", "worse", "undecided"]


class ArmResultShape(BaseModel):
    """What one arm did."""

    arm: str
    versions: list[str]
    keys: int
    decisions: int
    labelled: int
    over_budget: int = Field(
        0, description="Alerts that the day's budget did not allow; in the ratios they are alerts."
    )
    ratios: dict[str, RatioShape]
    differences: dict[str, DifferenceShape]


class ExperimentShape(BaseModel):
    """The arms of an endpoint side by side."""

    endpoint: str
    start: int = Field(description="The log position from which on decisions count.")
    arms: list[ArmResultShape]
    moved: int = Field(description="Keys that had several arms; they are left out.")
    unkeyed: int = Field(description="Decisions on events without a key; they are left out.")
    share_error: float | None = Field(
        description="How likely so uneven a division of keys is under the weights."
    )
    suspicious: bool = Field(
        description="Whether something else divided the keys, so that nothing should be trusted."
    )


def metrics_of(found: dict[str, Any], by: str | None) -> MetricsShape:
    """The figures that were asked for, of a metrics job's result."""
    dimension = None if by is None else by.removeprefix("segment:")
    groups = [one for one in found["groups"] if one["dimension"] == dimension]
    return MetricsShape(
        endpoint=found["endpoint"],
        task=found["task"],
        newest=found["newest"],
        label_delay_s=found["delay_us"] / 1e6,
        total=found["total"],
        windows=found["windows"],
        course=found.get("course", []),
        anomalies=found.get("anomalies"),
        dimensions=list(dict.fromkeys(_by_of(one["dimension"]) for one in found["groups"])),
        groups=groups,
        days=found["days"] if by == "day" else [],
    )


def _by_of(dimension: str) -> str:
    return dimension if dimension in {"version", "arm"} else f"segment:{dimension}"


def curves_of(found: dict[str, Any]) -> list[CurveShape]:
    """The curves of a metrics job's result: all decisions first, then versions, then arms."""
    whole = {"dimension": "all", "value": "", "quality": found["total"]} | {
        name: found[name] for name in ("curves", "scores")
    }
    order = {"version": 0, "arm": 1}
    groups = [one for one in found["groups"] if one["dimension"] in order]
    return [CurveShape(**one) for one in (whole, *sorted(groups, key=lambda one: order[one["dimension"]]))]
