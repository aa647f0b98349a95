"""What a detector of anomalies is worth: with labels its NAB score and ranking, without them how often it alarms and how even its scores are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelError
from penstock.core.time import DAY_US
from penstock.models.manifest import json_value
from penstock.monitoring.nab import PROFILES, anomaly_windows, nab_score_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

MOST_ANOMALIES = 500


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """What ``score >= threshold`` came to.

    Attributes
    ----------
    action, threshold
        What is taken from which score on.
    alerts, share, per_day
        How often: of all events, also those without label.
    nab, nab_profile
        The Numenta Anomaly Benchmark's score over the labelled events of each entity; None where none is an anomaly. What errors cost
        in it, by the benchmark's name.
    windows, found
        Anomalies (runs of anomalous events of an entity), and those with an alarm in them.
    precision, recall, false_positive_rate
        Of labelled events; None where a ratio is 0 / 0.
    """

    action: str
    threshold: float
    alerts: int
    share: float
    per_day: float
    nab: float | None
    windows: int
    found: int
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    nab_profile: str = "standard"
    highest: float | None = None
    """Where events were judged by different thresholds, of which `threshold` is the lowest."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One of the labelled anomalies: its first and last event, and the highest score in it."""

    start_us: int
    end_us: int
    highest: float


@dataclass(frozen=True, slots=True)
class AnomalyReport:
    """Evaluation of a detector.

    Attributes
    ----------
    rows, labelled, positives
        Events that were scored, those of them with a label, and those that are anomalies.
    roc_auc, average_precision
        Over labelled events; None while they are of one class.
    unevenness
        How far the scores' distribution is from the even one that they are made to have: see `unevenness`.
    alarms
        One a threshold, ascending.
    anomalies
        Each labelled one, by time; of more than `MOST_ANOMALIES` the first.
    """

    rows: int
    labelled: int
    positives: int
    roc_auc: float | None
    average_precision: float | None
    unevenness: float
    alarms: tuple[AlarmReport, ...]
    anomalies: tuple[Anomaly, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"task": "anomaly", **json_value(asdict(self))}


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Scored events in the order in which they came, shape [n] each; labels NaN where there is none.

    `entities` tells apart whose they are; None: all are one's.
    """

    times_us: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    entities: NDArray[Any] | None = None

    def take(self, rows: NDArray[Any]) -> Series:
        """The events at these rows."""
        entities = None if self.entities is None else self.entities[rows]
        return Series(self.times_us[rows], self.scores[rows], self.labels[rows], entities)

    def alone(self) -> Iterator[Series]:
        """Each entity's labelled events, by time."""
        return (self.take(part) for part in self.alone_rows())

    def alone_rows(self) -> Iterator[NDArray[np.int64]]:
        """Which rows are each entity's labelled events, by time."""
        rows = np.flatnonzero(~np.isnan(self.labels) & ~np.isnan(self.scores))
        codes = np.zeros(len(rows), np.int64) if self.entities is None else self.entities[rows]
        rows = rows[np.lexsort((self.times_us[rows], codes))]
        codes = np.zeros(len(rows), np.int64) if self.entities is None else self.entities[rows]
        yield from np.split(rows, np.flatnonzero(codes[1:] != codes[:-1]) + 1)


def evaluate_anomalies(series: Series, *, thresholds: Mapping[str, float] | None = None) -> AnomalyReport:
    """Evaluate a detector's scores.

    Parameters
    ----------
    series
        At least one event; none without a score.
    thresholds
        ``{action: threshold}`` of the policy.

    Examples
    --------
    >>> labels = np.repeat([0.0, 1.0, 0.0], [60, 10, 30])
    >>> scores = np.where(labels > 0, 0.99, np.linspace(0, 0.9, 100))
    >>> report = evaluate_anomalies(Series(np.arange(100), scores, labels), thresholds={"alarm": 0.95})
    >>> report.alarms[0].nab, report.alarms[0].found, report.average_precision
    (100.0, 1, 1.0)
    """
    from sklearn import metrics

    if not len(series.scores):
        raise ModelError("Evaluation: there is no scored event to judge the detector by. Wait for events.")
    known = ~np.isnan(series.labels)
    truth, scores = series.labels[known] > 0, series.scores[known]
    positives = int(truth.sum())
    both = 0 < positives < len(truth)
    ordered = sorted((thresholds or {}).items(), key=lambda item: item[1])
    return AnomalyReport(
        rows=len(series.scores),
        labelled=len(truth),
        positives=positives,
        roc_auc=float(metrics.roc_auc_score(truth, scores)) if both else None,
        average_precision=float(metrics.average_precision_score(truth, scores)) if both else None,
        unevenness=unevenness(series.scores),
        alarms=tuple(alarms_at(series, action, float(threshold)) for action, threshold in ordered),
        anomalies=tuple(sorted(_anomalies(series), key=attrgetter("start_us"))[:MOST_ANOMALIES]),
    )


def alarms_at(series: Series, action: str, threshold: float) -> AlarmReport:
    """What a threshold came to."""
    return alarms_of(series, series.scores >= threshold, action=action, threshold=threshold)


def alarms_of(
    series: Series,
    alerts: NDArray[np.bool_],
    *,
    action: str,
    threshold: float,
    highest: float | None = None,
    nab_profile: str = "standard",
) -> AlarmReport:
    """What alarms came to, bool of shape [n], however each was decided.

    Parameters
    ----------
    action, threshold, highest
        How they are called, and from which scores on they were raised.
    nab_profile
        One of `penstock.monitoring.nab.PROFILES`.

    Examples
    --------
    >>> labels = np.repeat([0.0, 1.0, 0.0], [60, 10, 30])
    >>> series = Series(np.arange(100), np.zeros(100), labels)
    >>> alarms_of(series, labels > 0, action="alarm", threshold=0.9).nab
    100.0
    """
    known = ~np.isnan(series.labels)
    truth, flagged = series.labels[known] > 0, alerts[known]
    hits, wrong = int((flagged & truth).sum()), int((flagged & ~truth).sum())
    judged = [(alerts[rows], anomaly_windows(series.labels[rows])) for rows in series.alone_rows()]
    windows = sum(len(found) for _, found in judged)
    caught = sum(bool(flags[first : last + 1].any()) for flags, found in judged for first, last in found)
    days = (int(series.times_us.max()) - int(series.times_us.min())) / DAY_US
    return AlarmReport(
        action=action,
        threshold=threshold,
        alerts=int(alerts.sum()),
        share=float(alerts.mean()),
        per_day=float(alerts.sum()) / max(days, 1 / 24),
        nab=nab_score_of(judged, profile=PROFILES[nab_profile]) if windows else None,
        windows=windows,
        found=caught,
        precision=_ratio(hits, hits + wrong),
        recall=_ratio(hits, int(truth.sum())),
        false_positive_rate=_ratio(wrong, int((~truth).sum())),
        nab_profile=nab_profile,
        highest=highest,
    )


def unevenness(scores: NDArray[np.float64]) -> float:
    """The largest distance between the scores' distribution and the even one over [0, 1] (Kolmogorov-Smirnov's).

    Scores of a detector are probabilities among its own past ones, so they are spread evenly while nothing changes. Where much of
    the usual has become strange, or all of it familiar, the distance grows towards 1.

    >>> unevenness(np.linspace(0, 1, 1001)) < 0.01, unevenness(np.full(10, 0.9)) > 0.89
    (True, True)
    """
    ordered = np.sort(scores)
    ranks = np.arange(len(ordered) + 1) / max(len(ordered), 1)
    return float(max(np.max(ordered - ranks[:-1]), np.max(ranks[1:] - ordered)))


def _anomalies(series: Series) -> Iterator[Anomaly]:
    for one in series.alone():
        for first, last in anomaly_windows(one.labels):
            highest = float(one.scores[first : last + 1].max())
            yield Anomaly(int(one.times_us[first]), int(one.times_us[last]), highest)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
