"""Test, then learn of the truth: quality so far, over scores whose labels have arrived.

A decision without a label counts as pending, never as negative. Memory does not grow with the stream: scores are kept
as histograms over a transform that spreads both ends of (0, 1), so figures over all thresholds are those of scores
rounded to 16,384 steps, within 0.001 of the exact ones. Counts at the policy's thresholds are exact, and so are costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.models.evaluation import CALIBRATION_QUANTILES, CalibrationBin
from penstock.monitoring.estimates import Estimate, calibrated_chances, expected_quality
from penstock.monitoring.exact_sum import ExactSum

if TYPE_CHECKING:
    from penstock.definitions.policies import CostMatrix

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BINS = 1 << 14
LARGEST_LOGIT = 18.0  # scores nearer than 1.5e-8 to 0 or 1 share the last bin


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What ``score >= threshold`` was worth so far; None where a ratio is 0 / 0, or no costs are known."""

    action: str
    threshold: float
    true_positives: int
    false_positives: int
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    f1: float | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality so far.

    Attributes
    ----------
    labelled, positives, pending
        Decisions with a label, those of them that are positive, and decisions that wait for theirs. A decision that
        was made without a score is none of them.
    unscored
        Decisions that were made without a score.
    positive_rate
        Share of positives among the labelled; None without any.
    average_precision, roc_auc
        None until both classes were seen.
    points
        One a threshold, ascending.
    log_loss, brier
        Mean of the log loss, and of the squared distance from the truth; None without labels.
    calibration_error
        How far scores are from the share of positives, on average (ECE over `calibration`).
    calibration
        Bins of scores, finer towards the top, with the mean score and the share of positives.
    idle_cost
        What doing nothing would have cost; None without costs.
    """

    labelled: int
    positives: int
    pending: int
    positive_rate: float | None
    average_precision: float | None
    roc_auc: float | None
    points: tuple[OperatingPoint, ...]
    log_loss: float | None = None
    brier: float | None = None
    calibration_error: float | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    unscored: int = 0
    idle_cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


class Prequential:
    """Accumulates decisions, and their labels as they arrive.

    Parameters
    ----------
    thresholds
        ``{action: threshold}`` of the policy.
    costs
        What wrong decisions cost.
    bins
        How finely scores are told apart.

    Examples
    --------
    >>> quality = Prequential({"block": 0.9})
    >>> quality.decided(5)
    >>> quality.add(np.array([0.1, 0.2, 0.95, 0.3]), np.array([0, 0, 1, 1]))
    >>> now = quality.summary()
    >>> now.labelled, now.pending, now.roc_auc, now.points[0].recall
    (4, 1, 1.0, 0.5)
    """

    def __init__(
        self,
        thresholds: Mapping[str, float] | None = None,
        *,
        costs: CostMatrix | None = None,
        bins: int = BINS,
    ) -> None:
        ordered = sorted((thresholds or {}).items(), key=lambda item: item[1])
        self._actions = tuple(action for action, _ in ordered)
        self._thresholds = np.array([threshold for _, threshold in ordered])
        self._bins = bins
        self._counts = np.zeros((2, bins), np.int64)
        self._scored = np.zeros(bins, np.int64)
        self._reached = np.zeros((2, len(ordered)), np.int64)
        self._decided = self._unscored = 0
        self._costs = costs
        self._amounts = costs is not None and isinstance(costs.false_negative, str)
        self._alarm_amounts = costs is not None and isinstance(costs.false_positive, str)
        # Of positives: amounts of those that reach each threshold, and of all.
        self._caught = [ExactSum() for _ in ordered]
        self._at_stake = ExactSum()
        self._disturbed = [ExactSum() for _ in ordered]  # of negatives that reach each threshold

    def decided(self, count: int, scores: FloatArray | None = None) -> None:
        """Count decisions, each of which waits for its label; their scores, if given, for an estimate before."""
        if scores is not None:
            known = scores[~np.isnan(scores)]
            self._unscored += count - len(known)
            count = len(known)
            self._scored += np.bincount(bin_of(known, self._bins), minlength=self._bins)
        self._decided += count

    def add(
        self,
        scores: FloatArray,
        labels: npt.NDArray[Any],
        amounts: FloatArray | None = None,
        alarm_amounts: FloatArray | None = None,
    ) -> None:
        """Count the first labels of decisions.

        Parameters
        ----------
        scores
            float64[n]; NaN: had none, left out.
        labels
            0 or 1, shape [n].
        amounts
            float64[n]: what missing each would cost, where costs name a column.
        alarm_amounts
            Likewise what acting on each would cost if it is good.
        """
        self._count(scores, np.asarray(labels) > 0, amounts, alarm_amounts, sign=1)

    def replace(
        self,
        scores: FloatArray,
        before: npt.NDArray[Any],
        after: npt.NDArray[Any],
        amounts: FloatArray | None = None,
        alarm_amounts: FloatArray | None = None,
    ) -> None:
        """Correct the labels of decisions: what was counted as `before` counts as `after`."""
        self._count(scores, np.asarray(before) > 0, amounts, alarm_amounts, sign=-1)
        self._count(scores, np.asarray(after) > 0, amounts, alarm_amounts, sign=1)

    def merge(self, other: Prequential) -> None:
        """Count what the other has counted, which must have the same thresholds, costs and bins."""
        self._counts += other._counts
        self._scored += other._scored
        self._reached += other._reached
        self._decided += other._decided
        self._unscored += other._unscored
        self._at_stake.merge(other._at_stake)
        for mine, theirs in zip(
            (*self._caught, *self._disturbed), (*other._caught, *other._disturbed), strict=True
        ):
            mine.merge(theirs)

    def curves(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """False-positive rate, recall and precision at every bin that holds scores, from the highest down.

        Empty until both classes were seen.
        """
        return curves_of(self._counts)

    def score_counts(self, steps: int) -> tuple[IntArray, IntArray, IntArray]:
        """How many decisions, labelled negatives and labelled positives have scores in each of `steps` equal parts of [0, 1].

        >>> quality = Prequential()
        >>> quality.decided(3, np.array([0.1, 0.2, 0.9]))
        >>> quality.score_counts(2)[0]
        array([2, 1])
        """
        places = np.minimum((_centres(self._bins) * steps).astype(np.int64), steps - 1)
        rows = (self._scored, *self._counts)
        found = [np.bincount(places, weights=row, minlength=steps).astype(np.int64) for row in rows]
        return found[0], found[1], found[2]

    @property
    def positives(self) -> int:
        """How many positives were labelled."""
        return int(self._counts[1].sum())

    def chances(self) -> FloatArray | None:
        """The chance of a positive by bin, as the labels so far say; None where they are too few."""
        return calibrated_chances(self._counts[0], self._counts[1], _centres(self._bins))

    def estimate(self, before: Prequential | None = None) -> Estimate:
        """What the decisions are expected to be worth, with scores calibrated on the labels of `before`."""
        chances = None if before is None else before.chances()
        known = 0 if before is None or chances is None else before.positives
        firsts = bin_of(self._thresholds, self._bins).tolist()
        return expected_quality(
            self._scored,
            _centres(self._bins) if chances is None else chances,
            thresholds=list(zip(self._actions, self._thresholds.tolist(), firsts, strict=True)),
            calibrated_on=known,
        )

    def summary(self) -> Quality:
        """The figures so far."""
        negatives, positives = self._counts.sum(axis=1).tolist()
        labelled = negatives + positives
        alarms, recall, precision = self.curves()
        steps = np.diff(recall, prepend=0.0)
        area = np.trapezoid([0.0, *recall], [0.0, *alarms]) if len(recall) else None
        bins = self._calibration()
        return Quality(
            labelled=labelled,
            positives=positives,
            pending=self._decided - labelled,
            unscored=self._unscored,
            positive_rate=_ratio(positives, labelled),
            average_precision=float(steps @ precision) if len(recall) else None,
            roc_auc=None if area is None else float(area),
            points=tuple(
                self._point(index, positives, negatives=negatives) for index in range(len(self._actions))
            ),
            log_loss=self._mean_loss(labelled, lambda score: -np.log(score)),
            brier=self._mean_loss(labelled, lambda score: (1 - score) ** 2),
            calibration_error=_ratio(
                sum(b.rows * abs(b.mean_score - b.positive_rate) for b in bins), labelled
            ),
            calibration=bins,
            idle_cost=self._missed_cost(positives, self._at_stake.value),
        )

    def _point(self, index: int, positives: int, *, negatives: int) -> OperatingPoint:
        alarms, hits = self._reached[:, index].tolist()
        missed = self._missed_cost(positives - hits, self._at_stake.value - self._caught[index].value)
        return OperatingPoint(
            self._actions[index],
            float(self._thresholds[index]),
            hits,
            alarms,
            precision=_ratio(hits, hits + alarms),
            recall=_ratio(hits, positives),
            false_positive_rate=_ratio(alarms, negatives),
            f1=_ratio(2 * hits, hits + alarms + positives),
            cost=None if missed is None else self._alarm_cost(index, alarms, hits) + missed,
        )

    def _alarm_cost(self, index: int, alarms: int, hits: int) -> float:
        if self._costs is None:
            return 0.0
        each = self._costs.false_positive
        wrong = self._disturbed[index].value if isinstance(each, str) else alarms * float(each)
        return wrong + self._costs.alert * (alarms + hits)

    def _missed_cost(self, misses: int, amount: float) -> float | None:
        if self._costs is None:
            return None
        each = self._costs.false_negative
        return amount if isinstance(each, str) else misses * float(each)

    def _mean_loss(self, labelled: int, loss: Any) -> float | None:
        """The mean of ``loss(score given to what happened)``."""
        centres = _centres(self._bins)
        total = self._counts[1] @ loss(centres) + self._counts[0] @ loss(centres[::-1])
        return float(total) / labelled if labelled else None

    def _calibration(self) -> tuple[CalibrationBin, ...]:
        """Bins between quantiles of the labelled scores."""
        counts = self._counts.sum(axis=0)
        below = np.cumsum(counts)
        if not below[-1]:
            return ()
        ranks = np.array(CALIBRATION_QUANTILES[1:]) * below[-1]
        last = np.unique(np.searchsorted(below, ranks))
        first = np.concatenate([[0], last[:-1] + 1])
        rows = np.add.reduceat(counts, first)
        centres = _centres(self._bins)
        means = np.add.reduceat(counts * centres, first) / rows
        rates = np.add.reduceat(self._counts[1], first) / rows
        held = np.flatnonzero(counts)
        lowest = held[np.searchsorted(held, first)]
        return tuple(
            CalibrationBin(*bounds, n, mean, rate)
            for bounds, n, mean, rate in zip(
                zip(centres[lowest].tolist(), centres[last].tolist(), strict=True),
                rows.tolist(),
                means.tolist(),
                rates.tolist(),
                strict=True,
            )
        )

    def _count(
        self,
        scores: FloatArray,
        positive: npt.NDArray[np.bool_],
        amounts: FloatArray | None,
        alarm_amounts: FloatArray | None,
        *,
        sign: int,
    ) -> None:
        known = ~np.isnan(scores)
        if self._amounts and amounts is not None:
            self._at_stake.add(amounts[known & positive], sign=sign)
            self._count_amounts(self._caught, scores, amounts, known & positive, sign=sign)
        if self._alarm_amounts and alarm_amounts is not None:
            self._count_amounts(self._disturbed, scores, alarm_amounts, known & ~positive, sign=sign)
        scores, positive = scores[known], positive[known]
        bins = bin_of(scores, self._bins)
        for label in (0, 1):
            mine = positive == bool(label)
            self._counts[label] += sign * np.bincount(bins[mine], minlength=self._bins)
            self._reached[label] += sign * (scores[mine, None] >= self._thresholds).sum(axis=0)

    def _count_amounts(
        self,
        sums: list[ExactSum],
        scores: FloatArray,
        amounts: FloatArray,
        rows: npt.NDArray[np.bool_],
        *,
        sign: int,
    ) -> None:
        """Add the amounts of `rows` that reach each threshold."""
        for one, threshold in zip(sums, self._thresholds, strict=True):
            one.add(amounts[rows & (scores >= threshold)], sign=sign)


def curves_of(counts: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """False-positive rate, recall and precision at every bin that holds scores, from the highest down; see `bin_of`.

    `counts` are of negatives and positives by bin, shape [2, bins]. Empty while one class is missing.
    """
    hits, alarms = (np.cumsum(row[::-1]) for row in counts[::-1])
    if not hits[-1] or not alarms[-1]:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    held = np.flatnonzero(counts.sum(axis=0)[::-1])
    hits, alarms = hits[held], alarms[held]
    return alarms / alarms[-1], hits / hits[-1], hits / (hits + alarms)


def bin_of(scores: FloatArray, bins: int = BINS) -> IntArray:
    """The bin of each score: by its logit, so that 0.0001 and 0.0002 stand as far apart as 0.5 and 0.67."""
    inside = np.clip(scores, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        logits = np.log(inside) - np.log1p(-inside)
    place = (np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT) / LARGEST_LOGIT + 1) / 2
    found: IntArray = np.minimum((place * bins).astype(np.int64), bins - 1)
    return found


def _centres(bins: int) -> FloatArray:
    """The score in the middle of each bin."""
    logits = ((np.arange(bins) + 0.5) / bins * 2 - 1) * LARGEST_LOGIT
    centres: FloatArray = 1 / (1 + np.exp(-logits))
    return centres


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
