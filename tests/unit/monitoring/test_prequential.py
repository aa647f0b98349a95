import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from penstock.monitoring.prequential import BINS, Prequential, bin_of


def scored(seed, rows=20_000, rate=0.01):
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < rate
    logits = rng.normal(-6, 1.5, rows) + labels * rng.gamma(2, 2, rows)
    return 1 / (1 + np.exp(-logits)), labels


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_sklearn(seed):
    scores, labels = scored(seed)
    quality = Prequential({"block": 0.9, "review": 0.1})
    quality.decided(len(scores))
    for part in np.array_split(np.arange(len(scores)), 37):
        quality.add(scores[part], labels[part])
    now = quality.summary()
    assert now.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-3)
    assert now.roc_auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    assert (now.labelled, now.positives, now.pending) == (len(scores), labels.sum(), 0)
    for point, threshold in zip(now.points, (0.1, 0.9), strict=True):
        passed, alarms, misses, hits = confusion_matrix(labels, scores >= threshold).ravel()
        assert (point.true_positives, point.false_positives) == (hits, alarms)
        assert point.precision == hits / (hits + alarms)
        assert point.recall == hits / (hits + misses)
        assert point.false_positive_rate == alarms / (alarms + passed)


def test_few_distinct_scores_are_ties_as_in_sklearn():
    rng = np.random.default_rng(1)
    scores, labels = rng.choice([0.002, 0.03, 0.4, 0.8], 5_000), rng.random(5_000) < 0.1
    quality = Prequential()
    quality.add(scores, labels)
    now = quality.summary()
    assert now.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert now.roc_auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_pending_is_not_negative():
    quality = Prequential({"block": 0.5})
    quality.decided(100)
    assert quality.summary().pending == 100
    assert quality.summary().positive_rate is None
    quality.add(np.array([0.9, 0.8]), np.array([1, 1]))
    now = quality.summary()
    assert (now.pending, now.positives, now.positive_rate) == (98, 2, 1.0)
    assert now.average_precision is None  # no negative has been seen
    assert now.points[0].false_positive_rate is None


def test_a_correction_replaces():
    scores, labels = scored(3)
    wrong = labels.copy()
    wrong[:500] = ~wrong[:500]
    corrected, straight = Prequential({"block": 0.5}), Prequential({"block": 0.5})
    corrected.add(scores, wrong)
    assert corrected.summary().positives != labels.sum()
    corrected.replace(scores[:500], wrong[:500], labels[:500])
    straight.add(scores, labels)
    assert corrected.summary() == straight.summary()


def test_events_without_a_score_stay_out():
    quality = Prequential()
    quality.add(np.array([np.nan, 0.2, 0.7]), np.array([1, 0, 1]))
    assert quality.summary().labelled == 2


def test_bins_keep_the_order_and_hold_the_ends():
    scores = np.sort(np.concatenate([np.random.default_rng(0).random(1_000), [0.0, 1e-12, 1.0]]))
    bins = bin_of(scores)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert bins[-1] == BINS - 1
