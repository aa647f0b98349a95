"""Thresholds of least cost: against trying every one of them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from penstock.core.errors import ModelError
from penstock.core.time import to_us
from penstock.definitions.models import TimeSplit
from penstock.definitions.policies import CostMatrix, CostOptimal
from penstock.models.attribution import Explainer
from penstock.models.costs import RowCosts
from penstock.models.manifest import Feature, parse_manifest
from penstock.models.plots import draw_costs
from penstock.models.thresholds import Validation, Wanted, choose_threshold, choose_thresholds
from penstock.models.training import TrainingData, TrainingSpec, train
from penstock.models.verification import build_model

DAY_US = 86_400_000_000
LABELS = st.sampled_from([0.0, 0.0, 1.0, np.nan])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.99, 1.0]),
        LABELS,
        st.integers(0, 9),
        st.integers(0, 90),
        st.sampled_from([1.0, 20.0]),
    ),
    min_size=1,
    max_size=30,
)


def validation(rows, days=2):
    scores, labels, _, _, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    return Validation(scores, labels, weights, 0, days * DAY_US)


def priced(rows, alert):
    return RowCosts(*(np.array([row[i] for row in rows], float) for i in (2, 3)), alert)


def cost_at(threshold, rows, alert):
    """The cost of a threshold, row by row."""
    total = 0.0
    for score, label, alarm, missed, weight in rows:
        if np.isnan(label):
            continue
        acted = score >= threshold
        total += weight * (acted * (alert + (label == 0) * alarm) + (not acted) * (label == 1) * missed)
    return total


@given(rows=ROWS, alert=st.sampled_from([0.0, 3.0]), budget=st.sampled_from([None, 1.0, 2.5, 100.0]))
def test_no_threshold_is_cheaper_within_the_budget(rows, alert, budget):
    found = choose_threshold(Wanted("block", priced(rows, alert), 0.5, budget), validation(rows))
    scores = {row[0] for row in rows}
    candidates = [*scores, np.nextafter(max(scores), 2)]
    cheapest = min(
        cost_at(t, rows, alert)
        for t in candidates
        if budget is None or sum(row[0] >= t for row in rows) / 2 <= budget
    )
    assert found.cost == pytest.approx(cheapest)
    assert found.cost == pytest.approx(cost_at(found.threshold, rows, alert))
    assert found.alerts_per_day == sum(row[0] >= found.threshold for row in rows) / 2
    assert budget is None or found.alerts_per_day <= budget
    assert found.until_cost == pytest.approx(cost_at(0.5, rows, alert))
    assert found.idle_cost == pytest.approx(cost_at(2.0, rows, alert))


@given(rows=ROWS, low=st.sampled_from([0.0, 0.2, 0.5]), high=st.sampled_from([0.6, 0.7, 1.0]))
def test_a_threshold_stays_between_its_neighbours(rows, low, high):
    found = choose_threshold(Wanted("review", priced(rows, 1.0), 0.5), validation(rows), low=low, high=high)
    assert low <= found.threshold <= high
    tried = [t for t in (low, high, *(row[0] for row in rows)) if low <= t <= high]
    assert found.cost == pytest.approx(cost_at(found.threshold, rows, 1.0))
    assert found.cost <= min(cost_at(t, rows, 1.0) for t in tried) + 1e-9


def test_a_graver_action_is_chosen_first_and_keeps_the_upper_hand():
    rng = np.random.default_rng(1)
    scores = rng.random(3000)
    rows = Validation(scores, (rng.random(3000) < scores).astype(float), np.ones(3000), 0, DAY_US)
    cheap = RowCosts(np.full(3000, 1.0), np.full(3000, 9.0))
    dear = RowCosts(np.full(3000, 9.0), np.full(3000, 1.0))
    steps = [("note", 0.05), ("review", 0.5), ("block", 0.9)]
    found = choose_thresholds(
        steps, {"review": Wanted("review", cheap, 0.5), "block": Wanted("block", dear, 0.9)}, rows
    )
    assert found["block"].threshold == pytest.approx(0.9, abs=0.05)
    assert found["review"].threshold == pytest.approx(0.1, abs=0.05)
    crossed = choose_thresholds(
        steps, {"review": Wanted("review", dear, 0.5), "block": Wanted("block", cheap, 0.9)}, rows
    )
    assert 0.05 <= crossed["review"].threshold <= crossed["block"].threshold


def world(n=24_000, *, weights=None, rate=0.03, seed=5):
    """Forty days of events; the chance of a positive follows from two features; labels a day later."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 2))
    chance = 1 / (1 + np.exp(-(vectors @ [1.2, 0.8] + np.log(rate / (1 - rate)))))
    times = to_us(datetime(2026, 1, 1, tzinfo=UTC)) + np.sort(rng.integers(0, 40 * DAY_US, n))
    data = TrainingData(
        vectors=vectors,
        labels=(rng.random(n) < chance).astype(float),
        times_us=times,
        known_at_us=times + DAY_US,
        features=(Feature("v.a", "Float64"), Feature("v.b", "Float64")),
        service_fingerprint="f",
        columns={"amount": rng.gamma(2.0, 50.0, n).round(2)},
        weights=weights,
    )
    return data, chance


def spec(estimator=None, **more):
    day = timedelta(days=1)
    return TrainingSpec(
        name="fraud",
        estimator=estimator or LogisticRegression(),
        split=TimeSplit(train=15 * day, delay=2 * day, test=5 * day),
        **more,
    )


CHOSEN = {
    "thresholds": {"review": 0.3, "block": 0.9},
    "chosen": (("block", CostOptimal(0.9, CostMatrix(5.0, "amount"))),),
    "costs": CostMatrix(5.0, "amount"),
}


def test_thresholds_are_chosen_before_the_end_of_training_and_cost_less_in_the_test():
    data, _ = world()
    trained = train(spec(**CHOSEN), data)
    found = trained.chosen["block"]
    assert found.end_us == trained.split.train_end_us
    assert found.start_us == found.end_us - 5 * DAY_US
    assert found.cost < found.until_cost
    assert trained.spec.thresholds == {"review": 0.3, "block": found.threshold}
    at = {one.action: one.cost for one in trained.report.thresholds}
    fixed = (
        train(spec(thresholds={"block": 0.9}, costs=CostMatrix(5.0, "amount")), data)
        .report.thresholds[0]
        .cost
    )
    assert at["block"] < fixed
    assert draw_costs(found, title="fraud:1").startswith(b"\x89PNG")


def test_neither_the_test_nor_labels_of_later_have_a_say():
    data, _ = world()
    before = train(spec(**CHOSEN), data).chosen
    end, start = train(spec(**CHOSEN), data).split.train_end_us, before["block"].start_us
    labels = data.labels.copy()
    late = data.known_at_us.copy()
    labels[data.times_us >= end] = 1 - labels[data.times_us >= end]  # the test, turned round
    gap = (data.times_us < start) & (data.times_us >= start - 2 * DAY_US)
    labels[gap] = 1 - labels[gap]  # known too late for the model that is validated
    turned = TrainingData(
        **{name: getattr(data, name) for name in data.__slots__} | {"labels": labels, "known_at_us": late}
    )
    assert train(spec(**CHOSEN), turned).chosen == before


def test_without_earlier_rows_nothing_can_be_chosen():
    data, _ = world()
    short = data.times_us >= data.times_us.max() - 22 * DAY_US
    cut = {name: getattr(data, name)[short] for name in ("vectors", "labels", "times_us", "known_at_us")}
    less = TrainingData(
        **cut,
        features=data.features,
        service_fingerprint="f",
        columns={"amount": data.columns["amount"][short]},
    )
    long = TimeSplit(train=timedelta(days=5), delay=timedelta(days=9), test=timedelta(days=5))
    asked = spec(**CHOSEN)
    with pytest.raises(ModelError, match="thresholds are to be chosen by cost"):
        train(TrainingSpec(**{n: getattr(asked, n) for n in asked.__slots__} | {"split": long}), less)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), XGBClassifier(n_estimators=30, max_depth=3, n_jobs=1)]
)
def test_undersampling_leaves_probabilities_what_they_are(estimator):
    data, chance = world(60_000, rate=0.005)
    trained = train(spec(estimator, imbalance="undersample"), data)
    assert trained.kept_negatives < 0.3
    scores, truth = trained.test_scores, trained.test_labels
    assert scores.mean() == pytest.approx(chance[trained.test_rows].mean(), rel=0.15)
    top = np.argsort(-scores)[: len(scores) // 20]
    assert scores[top].mean() == pytest.approx(chance[trained.test_rows][top].mean(), rel=0.25)
    assert truth.sum() > 20
    naive = scores / (scores + trained.kept_negatives * (1 - scores))
    assert naive.mean() > 3 * chance[trained.test_rows].mean()  # what it would say without the correction


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), XGBClassifier(n_estimators=30, max_depth=3, n_jobs=1)]
)
def test_what_is_served_is_corrected_as_what_was_trained(estimator):
    data, _ = world(60_000, rate=0.005)
    trained = train(spec(estimator, imbalance="undersample", **CHOSEN), data)
    files = trained.export(created_us=1)
    manifest = parse_manifest(files.manifest.to_bytes(), where="here")
    assert manifest.kept_negatives == trained.kept_negatives
    assert manifest.chosen_thresholds == {"block": trained.chosen["block"].threshold}
    vectors = np.ascontiguousarray(data.vectors[trained.test_rows])
    model = build_model(files, version="fraud:1")
    served = model.score(vectors)
    np.testing.assert_allclose(served, trained.test_scores, atol=1e-6)
    assert (
        served[:50].tobytes()
        == np.concatenate([model.score(vectors[i : i + 1]) for i in range(50)]).tobytes()
    )
    np.testing.assert_allclose(Explainer(files).explain(vectors).scores(), served, atol=1e-4)


@pytest.mark.parametrize("imbalance", [None, "weight"])
def test_explored_labels_stand_for_those_that_were_blocked(imbalance):
    """The riskiest tenth was blocked, but for one in ten that was let through: with weights the model learns what it would have from all."""
    data, chance = world(60_000, rate=0.02)
    blocked = chance > np.quantile(chance, 0.9)
    explored = np.random.default_rng(2).random(len(chance)) < 0.1
    labels = np.where(blocked & ~explored, np.nan, data.labels)
    weights = np.where(blocked, np.where(explored, 10.0, 0.0), 1.0)
    parts = {name: getattr(data, name) for name in data.__slots__}

    def learned(**more):
        return train(spec(imbalance=imbalance), TrainingData(**parts | more)).estimator

    truth, weighted, naive = (
        learned(),
        learned(labels=labels, weights=weights),
        learned(labels=np.where(blocked, np.nan, labels)),
    )
    slope = [float(model.coef_[0] @ [1.2, 0.8]) for model in (truth, weighted, naive)]
    assert slope[1] == pytest.approx(slope[0], rel=0.12)
    assert weighted.intercept_[0] == pytest.approx(truth.intercept_[0], abs=0.25)
    if imbalance is None:
        assert (
            abs(naive.intercept_[0] - truth.intercept_[0]) < 1
        )  # the naive one is not grossly wrong where features tell all
