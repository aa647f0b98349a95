import numpy as np
import pytest
from sklearn import metrics

from penstock.core.time import DAY_US
from penstock.definitions.policies import CostMatrix
from penstock.models.evaluation import evaluate_binary
from penstock.models.ranking import card_precision_at_k
from penstock.monitoring.board import ALL, OTHER, Board, Coded, Group, Periods, Scored
from penstock.monitoring.card_days import CardDays
from penstock.monitoring.exact_sum import ExactSum
from penstock.monitoring.prequential import Prequential
from penstock.monitoring.regression import PrequentialRegression

WEEK = Periods(slot_us=DAY_US, windows_us=(7 * DAY_US, 14 * DAY_US), delay_us=5 * DAY_US)
THRESHOLDS = {"block": 0.8, "review": 0.3}


def board(**options):
    def cell():
        return Prequential(THRESHOLDS, costs=CostMatrix(2.0, "amount"), bins=2048)

    return Board(cell, cell, periods=WEEK, **options)


def stream(seed, rows=20_000, days=40, rate=0.05):
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < rate
    chance = 1 / (1 + np.exp(-(draw.normal(-4, 1.2, rows) + 4 * truth)))
    countries = np.array(["DE", "FR", "IT", "ES"])
    scored = Scored(
        times_us=np.sort(draw.integers(0, days * DAY_US, rows)),
        scores=chance,
        groups={"country": Coded(draw.integers(0, 4, rows), tuple(countries))},
        amounts=np.round(draw.gamma(2, 40, rows), 2),
        cards=draw.integers(0, 900, rows).astype(np.uint64),
    )
    return scored, truth.astype(np.float64)


def counted(rows, truth, parts=31, **options):
    found = board(**options)
    for part in np.array_split(np.arange(len(truth)), parts):
        found.decide(rows.take(part))
        found.learn(rows.take(part), truth[part])
    return found


def test_a_window_is_what_a_direct_evaluation_says():
    rows, truth = stream(1)
    now = counted(rows, truth)
    window = now.windows()[0]
    inside = (rows.times_us >= window.start_us) & (rows.times_us < window.end_us)
    assert (window.start_us, window.end_us) == (
        27 * DAY_US,
        34 * DAY_US,
    )  # the 34th day is not yet 5 days over
    expected = evaluate_binary(
        truth[inside],
        rows.scores[inside],
        thresholds=THRESHOLDS,
        costs=CostMatrix(2.0, "amount"),
        columns={"amount": rows.amounts[inside]},
    )
    quality = window.quality
    assert quality.labelled == expected.rows
    assert quality.average_precision == pytest.approx(expected.average_precision, abs=3e-3)
    assert quality.roc_auc == pytest.approx(expected.roc_auc, abs=3e-3)
    assert quality.log_loss == pytest.approx(expected.log_loss, rel=1e-3)
    assert quality.brier == pytest.approx(expected.brier, rel=1e-3)
    assert quality.idle_cost == pytest.approx(expected.idle_cost, rel=1e-12)
    for point, other in zip(quality.points, expected.thresholds, strict=True):
        assert (point.true_positives, point.false_positives) == (other.true_positives, other.false_positives)
        assert (point.precision, point.recall, point.f1) == (other.precision, other.recall, other.f1)
        assert point.false_positive_rate == other.false_positive_rate
        assert point.cost == pytest.approx(other.cost, rel=1e-12)
    ranked = card_precision_at_k(
        rows.times_us[inside] // DAY_US, rows.cards[inside], rows.scores[inside], truth[inside], k=100
    )
    assert window.card_precision.by_day == ranked.by_day
    assert window.card_precision.ceiling == ranked.ceiling


def test_groups_add_up_and_are_bounded():
    rows, truth = stream(2)
    now = counted(rows, truth, max_values=2)
    values = {group.value for group in now.groups if group.dimension == "country"}
    assert OTHER in values
    assert len(values) == 3
    parts = [now.total(Group("country", value)).summary() for value in values]
    assert sum(part.labelled for part in parts) == now.total().summary().labelled == len(truth)
    assert sum(part.idle_cost for part in parts) == pytest.approx(now.total().summary().idle_cost, rel=1e-12)


def test_the_figures_do_not_depend_on_batches_or_on_when_labels_come():
    rows, truth = stream(3, rows=3_000)
    straight = counted(rows, truth, parts=1)
    wild = board()
    order = np.random.default_rng(0).permutation(len(truth))
    for part in np.array_split(np.arange(len(truth)), 53):
        wild.decide(rows.take(part))
    for part in np.array_split(order, 71):
        wrong = np.where(np.arange(len(part)) % 5 == 0, 1 - truth[part], truth[part])
        wild.learn(rows.take(part), wrong)
        wild.relearn(rows.take(part), wrong, truth[part])
    for group in (ALL, Group("country", "DE")):
        assert wild.total(group).summary() == straight.total(group).summary()
        assert wild.windows(group) == straight.windows(group)


def test_memory_does_not_grow_with_the_stream():
    rows, truth = stream(4, rows=4_000, days=400)
    now = counted(rows, truth)
    slots = now._groups[ALL].slots
    assert min(slots) >= 399 - 2 * (5 + 14 + 1)
    assert len(now._groups[ALL].ranking._highest) <= 41
    assert now.windows() == counted(rows, truth, keep_all=True).windows()


def test_pending_is_not_negative_and_the_open_window_has_an_estimate():
    rows, truth = stream(5)
    now = board()
    now.decide(rows)
    old = np.flatnonzero(rows.times_us < 34 * DAY_US)
    now.learn(rows.take(old), truth[old])
    open_ = now.windows()[-1]
    assert (open_.quality.labelled, open_.mature) == (0, False)
    assert open_.quality.pending == (rows.times_us >= 34 * DAY_US).sum()
    young = rows.times_us >= 34 * DAY_US
    actual = metrics.average_precision_score(truth[young], rows.scores[young])
    assert open_.estimate.calibrated_on > 0
    assert open_.estimate.average_precision == pytest.approx(actual, abs=0.06)
    assert open_.estimate.positives == pytest.approx(truth[young].sum(), rel=0.15)
    review = open_.estimate.points[0]
    flagged = young & (rows.scores >= 0.3)
    assert review.precision == pytest.approx(truth[flagged].mean(), abs=0.06)
    assert review.recall == pytest.approx(truth[flagged].sum() / truth[young].sum(), abs=0.06)


def test_the_estimate_before_equals_the_truth_after_with_scores_that_are_not_calibrated():
    """Scores are pushed up eightfold in odds, as class weights do; the calibration takes that back."""
    rows, truth = stream(6, rows=60_000)
    odds = 8 * rows.scores / (1 - rows.scores)
    pushed = Scored(rows.times_us, odds / (1 + odds), rows.groups, rows.amounts, rows.cards)
    window = counted(pushed, truth).windows()[0]
    estimate, quality = window.estimate, window.quality
    assert estimate.positives == pytest.approx(quality.positives, rel=0.1)
    for expected, point in zip(estimate.points, quality.points, strict=True):
        assert expected.precision == pytest.approx(point.precision, abs=0.05)
        assert expected.recall == pytest.approx(point.recall, abs=0.05)
    assert pushed.scores[truth == 0].sum() > 3 * rows.scores[truth == 0].sum()  # it was needed


def test_cards_that_were_dropped_would_not_have_been_looked_at():
    draw = np.random.default_rng(8)
    rows = 30_000
    days, cards = np.sort(draw.integers(0, 10, rows)), draw.integers(0, 2_000, rows).astype(np.uint64)
    scores, labels = np.round(draw.random(rows), 3), draw.random(rows) < 0.01
    ranking = CardDays(k=20, days=10)
    for part in np.array_split(draw.permutation(rows), 100):
        ranking.add(days[part], cards[part], scores=scores[part], positive=labels[part])
    expected = card_precision_at_k(days, cards, scores, labels, k=20)
    assert ranking.precision(0, 10) == expected
    assert max(map(len, ranking._highest.values())) <= 400 + 300  # of 2,000 cards a day


def test_regression_figures():
    draw = np.random.default_rng(9)
    predicted, truth = draw.normal(size=1_000) * 1e6, draw.normal(size=1_000)
    quality = PrequentialRegression(quantile=0.8)
    quality.decided(1_200)
    quality.add(predicted, truth + 1)
    quality.replace(predicted, truth + 1, truth)
    now = quality.summary()
    assert now.pending == 200
    assert now.mae == pytest.approx(metrics.mean_absolute_error(truth, predicted), rel=1e-14)
    assert now.rmse == pytest.approx(metrics.root_mean_squared_error(truth, predicted), rel=1e-14)
    assert now.pinball == pytest.approx(metrics.mean_pinball_loss(truth, predicted, alpha=0.8), rel=1e-12)


def test_exact_sums_forget_without_a_trace():
    draw = np.random.default_rng(10)
    values = draw.normal(size=500) * 10.0 ** draw.integers(-300, 300, 500)
    total = ExactSum()
    total.add(np.concatenate([values, [5e-324, -0.0]]))
    total.add(values[::-1].copy(), sign=-1)
    assert total.value == 5e-324
