import json
import math
from itertools import pairwise

import numpy as np
import pytest

from penstock.core.errors import ModelError
from penstock.definitions.policies import CostMatrix
from penstock.models.evaluation import (
    RankedEntities,
    calibration_bins,
    evaluate_binary,
    evaluate_regression,
)
from penstock.models.ranking import card_precision_at_k

LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 0])
SCORES = np.array([0.1, 0.4, 0.35, 0.5, 0.8, 0.5, 0.05, 0.5])


def naive_card_precision(days, cards, scores, labels, k):
    """As the benchmark describes it, row by row."""
    found, shares = set(), []
    for day in sorted(set(days)):
        best, bad = {}, set()
        for d, card, score, label in zip(days, cards, scores, labels, strict=True):
            if d == day and card not in found:
                best[card] = max(best.get(card, -math.inf), score)
                if label:
                    bad.add(card)
        top = sorted(best, key=lambda card: (-best[card], card))[:k]
        hits = [card for card in top if card in bad]
        found.update(hits)
        shares.append(len(hits) / k)
    return sum(shares) / len(shares)


def test_a_threshold_counts_scores_that_reach_it():
    report = evaluate_binary(LABELS, SCORES, thresholds={"block": 0.8, "review": 0.5})
    review, block = report.thresholds
    assert (review.action, block.action) == ("review", "block")
    assert (review.true_positives, review.false_positives, review.true_negatives, review.false_negatives) == (
        2,
        2,
        3,
        1,
    )
    assert review.precision == 0.5
    assert review.recall == pytest.approx(2 / 3)
    assert review.f1 == pytest.approx(4 / 7)
    assert review.false_positive_rate == 0.4
    assert (block.precision, block.recall) == (1.0, pytest.approx(1 / 3))


def test_a_threshold_that_nothing_reaches_has_no_precision():
    (never,) = evaluate_binary(LABELS, SCORES, thresholds={"block": 0.99}).thresholds
    assert (never.precision, never.recall, never.f1, never.false_positive_rate) == (None, 0.0, 0.0, 0.0)


def test_ranking_metrics_by_hand():
    report = evaluate_binary(LABELS, SCORES)
    pairs = [(p, n) for p in SCORES[LABELS == 1] for n in SCORES[LABELS == 0]]
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs)
    assert report.roc_auc == pytest.approx(wins / len(pairs))
    # 0.8 finds 1 of 1, 0.5 then 2 of 4, 0.35 then 3 of 6; each step adds a third of recall.
    assert report.average_precision == pytest.approx((1 + 2 / 4 + 3 / 6) / 3)
    assert report.brier == pytest.approx(np.mean((SCORES - LABELS) ** 2))
    assert report.log_loss == pytest.approx(-np.mean(np.log(np.where(LABELS == 1, SCORES, 1 - SCORES))))


def test_costs_of_a_fixed_and_of_an_amount():
    amounts = np.array([10.0, 20, 30, 40, 50, 60, 70, 80])
    fixed = evaluate_binary(LABELS, SCORES, thresholds={"a": 0.5}, costs=CostMatrix(5, 100))
    by_amount = evaluate_binary(
        LABELS, SCORES, thresholds={"a": 0.5}, costs=CostMatrix(5, "amount"), columns={"amount": amounts}
    )
    assert fixed.thresholds[0].cost == 2 * 5 + 100
    assert fixed.idle_cost == 300
    assert by_amount.thresholds[0].cost == 2 * 5 + 30
    assert by_amount.idle_cost == 30 + 50 + 60


def test_a_cost_column_that_is_missing_is_named():
    with pytest.raises(ModelError, match="column 'amount'; the events have fee"):
        evaluate_binary(LABELS, SCORES, costs=CostMatrix(5, "amount"), columns={"fee": SCORES})


def test_one_class_leaves_ranking_metrics_out():
    report = evaluate_binary(np.zeros(4), np.array([0.1, 0.2, 0.3, 0.4]), thresholds={"a": 0.3})
    assert (report.roc_auc, report.average_precision, report.log_loss) == (None, None, None)
    assert report.thresholds[0].recall is None


def test_a_report_is_json():
    ranked = RankedEntities(np.zeros(8), np.arange(8), k=2)
    report = evaluate_binary(LABELS, SCORES, thresholds={"a": 0.5}, costs=CostMatrix(1, 2), ranked=ranked)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["task"] == "binary"
    assert document["card_precision"]["k"] == 2
    assert document["thresholds"][0]["action"] == "a"


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1], "equal shapes"),
        ([], [], "at least one row"),
        ([0, 2], [0.1, 0.2], r"labels hold \[2"),
        ([0, math.nan], [0.1, 0.2], "labels hold"),
        ([0, 1], [0.1, 1.2], "allowed are probabilities"),
        ([0, 1], [0.1, math.nan], "allowed are probabilities"),
    ],
)
def test_input_that_cannot_be_evaluated_says_why(labels, scores, message):
    with pytest.raises(ModelError, match=message):
        evaluate_binary(np.array(labels), np.array(scores, np.float64))


def test_calibration_bins_hold_every_row_once_and_are_finer_at_the_top():
    rng = np.random.default_rng(0)
    scores = rng.random(5000) ** 6
    truth = rng.random(5000) < scores
    bins = calibration_bins(truth, scores)
    assert sum(b.rows for b in bins) == 5000
    assert all(a.upper < b.lower for a, b in pairwise(bins))
    assert bins[0].rows > 900
    assert bins[-1].rows < 10
    assert sum(b.positive_rate * b.rows for b in bins) == pytest.approx(truth.sum())


def test_equal_scores_share_a_bin():
    (only,) = calibration_bins(np.array([True, False, False]), np.full(3, 0.25))
    assert (only.rows, only.lower, only.upper, only.positive_rate) == (3, 0.25, 0.25, pytest.approx(1 / 3))


def test_card_precision_by_hand():
    # Day 1: card 1 has its highest score 0.9 on a good event but is bad by another: a hit. Card 2 is good.
    # Day 2: card 1 has left, so 3 (bad) and 2 (good) are looked at. Ceiling: day 1 {1, 4}, day 2 {3}.
    days = np.array([1, 1, 1, 1, 2, 2, 2])
    cards = np.array(["1", "1", "2", "4", "1", "2", "3"])
    scores = np.array([0.9, 0.1, 0.8, 0.3, 0.99, 0.4, 0.7])
    labels = np.array([0, 1, 0, 1, 1, 0, 1])
    found = card_precision_at_k(days, cards, scores, labels, k=2)
    assert found.by_day == (0.5, 0.5)
    assert found.value == 0.5
    assert found.ceiling == (2 / 2 + 1 / 2) / 2


def test_card_precision_equals_the_naive_count():
    rng = np.random.default_rng(3)
    days, cards = rng.integers(0, 6, 2000), rng.integers(0, 150, 2000)
    scores, labels = np.round(rng.random(2000), 2), rng.random(2000) < 0.05
    for k in (1, 10, 500):
        found = card_precision_at_k(days, cards, scores, labels, k=k)
        assert found.value == pytest.approx(naive_card_precision(days, cards, scores, labels, k))
        assert found.ceiling == pytest.approx(
            naive_card_precision(days, cards, labels.astype(float), labels, k)
        )


def test_card_precision_of_nothing_is_refused():
    with pytest.raises(ModelError, match="at least 1"):
        card_precision_at_k(np.array([1]), np.array([1]), np.array([0.5]), np.array([1]), k=0)


def test_regression():
    truth, predicted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 6.0])
    report = evaluate_regression(truth, predicted)
    assert (report.mae, report.rmse, report.r2) == (0.5, 1.0, pytest.approx(1 - 4 / 5))
    assert evaluate_regression(np.ones(3), np.ones(3)).r2 is None
    with pytest.raises(ModelError, match="equal shapes"):
        evaluate_regression(truth, predicted[:2])
