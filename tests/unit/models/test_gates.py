"""Gates: a better challenger passes, a worse one fails, too little data is inconclusive, and leaks are refused."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeClassifier

from penstock.core.errors import DefinitionError, InputError
from penstock.core.time import DAY_US
from penstock.definitions.gates import Gate
from penstock.models.bootstrap import RankedScores, share_difference
from penstock.models.gates import Candidate, GateReport, Holdout, judge
from penstock.models.manifest import DataRange, Feature, Manifest
from penstock.models.training_rows import read_sketch, row_hashes, write_sketch

FEATURES = (Feature("signal", "Float64"), Feature("noise", "Float64"), Feature("payment.night", "Bool"))
TRAIN_END, GAP = 100 * DAY_US, 7 * DAY_US
START = TRAIN_END + GAP
ROWS = 4000


@dataclass
class Scored:
    """A model that scores by a formula of ours."""

    formula: object
    version: str = "x"
    digest: str = "x"
    feature_names: tuple = tuple(f.name for f in FEATURES)

    def score(self, vectors):
        return self.formula(vectors)


def blend(share):
    """A score that is the signal by `share`, and noise for the rest."""
    return Scored(lambda v: np.clip(share * v[:, 0] + (1 - share) * v[:, 1], 0, 1))


def manifest(**changes):
    values = {
        "name": "fraud", "task": "binary", "engine": "onnx", "link": "identity", "features": FEATURES,
        "service_fingerprint": "service", "data": DataRange(0, TRAIN_END, 10, 1, "training"), "parameters": {},
        "metrics": {}, "thresholds": {"review": 0.5}, "libraries": {}, "files": (), "created_us": 0,
    }  # fmt: skip
    return Manifest(**values | changes)


def candidate(label, model, *, threshold=0.5, trained_rows=None, **changes):
    return Candidate(label, f"digest of {label}", manifest(**changes), model, threshold, trained_rows)


@pytest.fixture(scope="module")
def holdout():
    rng = np.random.default_rng(1)
    labels = (rng.random(ROWS) < 0.05).astype(np.float64)
    signal = np.clip(rng.normal(0.12 + 0.6 * labels, 0.12), 0, 1)
    vectors = np.column_stack([signal, rng.random(ROWS) * 0.5, rng.random(ROWS) < 0.3])
    return make(vectors, labels)


def make(vectors, labels, start=START):
    times = start + np.arange(len(labels), dtype=np.int64) * 60_000_000
    return Holdout(vectors, labels, times, FEATURES, "service", GAP, "holdout")


def judged(holdout, challenger, champion=None, gate=None):
    return judge(gate or Gate(), challenger, champion, holdout, created_us=7)


def verdicts(report):
    return {rule.name: rule.verdict for rule in report.rules}


def test_a_better_challenger_passes(holdout):
    report = judged(holdout, candidate("fraud:2", blend(1.0)), candidate("fraud:1", blend(0.5)))
    assert report.verdict == "pass", report.rules
    recall = next(rule for rule in report.rules if rule.name == "recall").numbers
    assert recall["challenger"] > recall["champion"]
    assert recall["difference"]["lower"] > 0
    assert set(verdicts(report)) == {
        "holdout", "schema", "recall", "false alarms", "average precision", "segments", "latency",
    }  # fmt: skip


def test_a_planted_worse_challenger_fails(holdout):
    report = judged(holdout, candidate("fraud:2", blend(0.5)), candidate("fraud:1", blend(1.0)))
    assert report.verdict == "fail"
    assert verdicts(report)["recall"] == verdicts(report)["average precision"] == "fail"


def test_the_same_model_again_does_not_pass(holdout):
    report = judged(holdout, candidate("fraud:2", blend(0.8)), candidate("fraud:1", blend(0.8)))
    assert verdicts(report)["recall"] == "fail"


def test_a_gain_within_the_noise_is_not_shown(holdout):
    """Two models that are equally good, each with a noise of its own."""
    one, other = blend(0.7), Scored(lambda v: 0.7 * v[:, 0] + 0.3 * (0.5 - v[:, 1]))
    for pair in ((one, other), (other, one)):  # one of them gains
        known = [candidate(str(i), model, threshold=0.6) for i, model in enumerate(pair)]
        report = judged(holdout, *known)
        assert verdicts(report)["recall"] == "inconclusive"
        assert report.verdict == "inconclusive"


def test_more_segments_have_wider_intervals(holdout):
    def width(names):
        known = candidate("a", blend(1.0)), candidate("b", blend(0.5))
        report = judged(holdout, *known, Gate(segments=names, min_positives=20))
        found = next(rule for rule in report.rules if rule.name == "segments").numbers["segments"]
        return found["payment.night = 1"]["upper"] - found["payment.night = 1"]["lower"]

    assert width(["night", "noise"]) > width(["night"]) * 1.1


def test_more_alarms_are_not_better(holdout):
    """Everything flagged: all positives are found, and so are the good ones."""
    shouting = Scored(lambda v: np.full(len(v), 0.9))
    report = judged(holdout, candidate("fraud:2", shouting), candidate("fraud:1", blend(0.7)))
    assert verdicts(report)["recall"] == "pass"
    assert verdicts(report)["false alarms"] == "fail"
    assert report.verdict == "fail"


def test_each_is_judged_at_its_own_threshold(holdout):
    lower = candidate("fraud:2", blend(1.0), threshold=0.45)
    report = judged(holdout, lower, candidate("fraud:1", blend(1.0), threshold=0.7))
    assert report.thresholds == {"fraud:2": 0.45, "fraud:1": 0.7}
    assert verdicts(report)["recall"] == "pass"


def precision_rule(better, *, rows, noise, margin=0.01, seed=1):
    """The rule on scores of two models, of which the challenger's follow the labels by `better` more than the champion's."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.1).astype(np.float64)
    base = rng.normal(labels * 1.5, 1.0)
    ours = base + better * labels + noise * rng.normal(size=rows)
    one, other = (Scored(lambda _, s=s: 1 / (1 + np.exp(-s))) for s in (ours, base))
    found = judged(
        make(np.zeros((rows, 3)), labels),
        candidate("a:2", one),
        candidate("a:1", other),
        Gate(average_precision_margin=margin, resamples=300),
    )
    return next(rule for rule in found.rules if rule.name == "average precision")


def test_a_fall_of_average_precision_that_is_shown_rejects_whatever_the_margin():
    rule = precision_rule(-0.05, rows=40_000, noise=0.0, margin=1.0)
    assert rule.verdict == "fail"
    assert -0.03 < rule.numbers["difference"]["value"] < rule.numbers["difference"]["upper"] < 0


def test_where_nothing_is_shown_the_margin_says_what_must_be_ruled_out():
    """Non-inferiority: the same two models, alike but for noise, with margins below and above what the interval leaves open."""
    unsure = precision_rule(0.02, rows=3_000, noise=0.2)
    assert unsure.numbers["difference"]["lower"] < -0.01
    assert unsure.numbers["difference"]["upper"] > 0
    assert unsure.verdict == "inconclusive"
    assert "it may be worse by more than 0.01" in unsure.text
    assert precision_rule(0.02, rows=3_000, noise=0.2, margin=0.2).verdict == "pass"
    assert precision_rule(0.5, rows=3_000, noise=0.2).verdict == "pass", "a gain needs no margin"


@pytest.mark.parametrize("positives", [0, 1, 29])
def test_too_few_positives_are_inconclusive(holdout, positives):
    chosen = np.sort(np.r_[np.flatnonzero(holdout.labels == 0), np.flatnonzero(holdout.labels)[:positives]])
    small = make(holdout.vectors[chosen], holdout.labels[chosen])
    for champion in (None, candidate("fraud:1", blend(0.5))):
        report = judged(small, candidate("fraud:2", blend(1.0)), champion)
        assert report.verdict == "inconclusive"
        assert f"{positives} positives; at least 30" in str(report.rules)


def test_the_first_version_has_absolute_rules_only(holdout):
    assert judged(holdout, candidate("fraud:1", blend(1.0))).verdict == "pass"
    assert judged(holdout, candidate("fraud:1", blend(0.0))).verdict == "fail"
    asked = Gate(min_recall=1.0)
    assert verdicts(judged(holdout, candidate("fraud:1", blend(1.0)), gate=asked))["recall"] == "fail"


def test_a_segment_that_gets_worse_is_found(holdout):
    """Better over all, and blind at night."""
    night = Scored(lambda v: np.where(v[:, 2] > 0, 0.0, v[:, 0]))
    report = judged(holdout, candidate("fraud:2", night), candidate("fraud:1", blend(0.45)))
    assert verdicts(report)["recall"] == "pass"
    assert verdicts(report)["segments"] == "fail"
    assert "payment.night = 1" in next(rule.text for rule in report.rules if rule.name == "segments")


def test_segments_are_chosen_by_name(holdout):
    gate = Gate(segments=["noise"], min_positives=20)
    report = judged(holdout, candidate("a", blend(1.0)), candidate("b", blend(0.5)), gate)
    found = next(rule for rule in report.rules if rule.name == "segments").numbers["segments"]
    assert len(found) == 4
    assert all(name.startswith("noise ") for name in found)
    with pytest.raises(InputError, match="the segment 'nights' names 0 features"):
        judged(holdout, candidate("a", blend(1.0)), candidate("b", blend(0.5)), Gate(segments=["nights"]))


def test_a_slow_model_fails(holdout):
    def slow(vectors):
        for _ in range(200):
            math.sqrt(2.0)
        return vectors[:, 0]

    report = judged(holdout, candidate("fraud:1", Scored(slow)), gate=Gate(max_latency_ms=0.0001))
    assert verdicts(report)["latency"] == "fail"


@pytest.mark.parametrize(
    "changes",
    [
        {"features": (*FEATURES[:2], Feature("payment.night", "Float64"))},
        {"features": FEATURES[:2]},
        {"service_fingerprint": "older"},
    ],
)
def test_other_features_are_refused_before_anything_is_scored(holdout, changes):
    def never(_):
        raise AssertionError

    for pair in (("fraud:2", "fraud:1"), ("fraud:1", "fraud:2")):
        known = {
            "fraud:2": candidate("fraud:2", Scored(never), **changes),
            "fraud:1": candidate("fraud:1", Scored(never)),
        }
        report = judged(holdout, known[pair[0]], known[pair[1]])
        assert report.verdict == "fail"
        assert verdicts(report) == {"holdout": "pass", "schema": "fail"}


def random_split_with_replacement(seed=3):
    """The mistake that the gate must not fall for: training and test drawn from the same rows."""
    rng = np.random.default_rng(seed)
    vectors = np.column_stack([rng.random((2000, 2)), rng.random(2000) < 0.3])
    labels = (rng.random(2000) < 0.1).astype(np.float64)  # nothing can be learnt here
    times = np.sort(rng.integers(0, 20 * DAY_US, 2000))
    train, test = rng.integers(0, 2000, 2000), rng.integers(0, 2000, 2000)
    tree = DecisionTreeClassifier(random_state=0).fit(vectors[train], labels[train])
    model = Scored(lambda v: tree.predict_proba(v)[:, 1])
    return vectors, labels, times, train, test, model


def test_a_random_split_with_replacement_looks_excellent_and_is_refused():
    vectors, labels, times, train, test, model = random_split_with_replacement()
    assert average_precision_score(labels[test], model.score(vectors[test])) > 0.4  # by chance: 0.1
    leaky = Holdout(vectors[test], labels[test], times[test], FEATURES, "service", 0, "holdout")
    range_of_training = DataRange(int(times[train].min()), int(times[train].max()) + 1, 2000, 200, "training")
    report = judged(leaky, candidate("leaky:1", model, data=range_of_training))
    assert report.verdict == "fail"
    assert verdicts(report)["holdout"] == "fail"
    assert "a random split leaks" in report.rules[0].text


def test_rows_that_were_trained_on_are_known_whatever_the_manifest_says():
    vectors, labels, times, train, test, model = random_split_with_replacement()
    leaky = Holdout(vectors[test], labels[test], times[test], FEATURES, "service", 0, "holdout")
    sketch = read_sketch(write_sketch(times[train], vectors[train]))
    forged = DataRange(-DAY_US, 0, 2000, 200, "training")
    report = judged(leaky, candidate("leaky:1", model, data=forged, trained_rows=sketch))
    assert report.verdict == "fail"
    numbers = report.rules[0].numbers["leaky:1"]
    assert numbers["before_end_of_gap"] == 0
    assert numbers["sampled_training_rows"] > 1000
    clean = replace(leaky, times_us=times[test] + 1)
    assert judged(clean, candidate("a:1", model, data=forged, trained_rows=sketch)).rules[0].verdict == "pass"


def test_rows_within_the_label_delay_are_refused(holdout):
    early = make(holdout.vectors, holdout.labels, start=START - 3_600_000_000)
    report = judged(early, candidate("fraud:1", blend(1.0)))
    assert report.rules[0].numbers["fraud:1"]["before_end_of_gap"] == 60
    assert report.verdict == "fail"


def test_the_champions_training_counts_too(holdout):
    newer = candidate("fraud:1", blend(0.5), data=DataRange(0, START + 5, 10, 1, "training"))
    assert judged(holdout, candidate("fraud:2", blend(1.0)), newer).rules[0].verdict == "fail"


def test_the_training_data_itself_is_known_by_its_digest(holdout):
    same = replace(holdout, digest="training")
    assert "they are the training data" in judged(same, candidate("a:1", blend(1.0))).rules[0].text


def test_a_regression_must_err_less():
    rng = np.random.default_rng(5)
    vectors = np.column_stack([rng.random((500, 2)), np.zeros(500)])
    holdout = make(vectors, vectors[:, 0] * 10)
    good, bad = Scored(lambda v: v[:, 0] * 10 + 0.1), Scored(lambda v: v[:, 0] * 9)
    one = candidate("r:2", good, task="regression", threshold=None)
    other = candidate("r:1", bad, task="regression", threshold=None)
    assert judged(holdout, one, other).verdict == "pass"
    assert judged(holdout, other, one).verdict == "fail"
    assert judged(holdout, one).verdict == "pass"


def test_a_few_rows_say_nothing_about_a_regression():
    vectors = np.column_stack([np.linspace(0, 1, 99), np.zeros((99, 2))])
    good, bad = Scored(lambda v: v[:, 0] * 10 + 0.1), Scored(lambda v: v[:, 0] * 9)
    one = candidate("r:2", good, task="regression", threshold=None)
    other = candidate("r:1", bad, task="regression", threshold=None)
    for rows in (1, 99):
        holdout = make(vectors[:rows], vectors[:rows, 0] * 10)
        assert judged(holdout, one, other).verdict == "inconclusive"
        assert judged(holdout, one).verdict == "inconclusive"
    assert judged(holdout, one, other, Gate(min_rows=99)).verdict == "pass"


def test_a_report_can_be_read_again_and_is_named_by_its_content(holdout):
    report = judged(holdout, candidate("fraud:2", blend(1.0)), candidate("fraud:1", blend(0.5)))
    again = GateReport.from_bytes(report.to_bytes())
    assert again.digest == report.digest
    assert again.rules[2].text == report.rules[2].text
    assert replace(report, verdict="fail").digest != report.digest


def test_nothing_to_judge_on(holdout):
    empty = make(holdout.vectors[:0], holdout.labels[:0])
    with pytest.raises(InputError, match="no labelled row"):
        judged(empty, candidate("fraud:1", blend(1.0)))


def test_weighted_average_precision_is_that_of_repeated_rows():
    rng = np.random.default_rng(2)
    truth, scores = rng.random(300) < 0.2, np.round(rng.random(300), 1)
    weights = rng.integers(0, 4, 300)
    found = RankedScores(truth, scores).average_precision(weights.astype(np.float64))
    assert found == pytest.approx(
        average_precision_score(np.repeat(truth, weights), np.repeat(scores, weights)), abs=1e-12
    )
    assert RankedScores(truth, scores).average_precision(np.ones(300)) == pytest.approx(
        average_precision_score(truth, scores), abs=1e-12
    )


def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered, rng = 0, np.random.default_rng(11)
    for _ in range(400):
        draw = rng.random(200)
        one, other = draw < 0.6, (draw < 0.5) | (draw > 0.95)  # 0.60 against 0.55
        found = share_difference(one, other, confidence=0.9, resamples=400, rng=rng)
        covered += found.lower <= 0.05 <= found.upper
    assert 0.86 < covered / 400 < 0.94


def test_hashes_differ_by_time_place_and_value():
    rng = np.random.default_rng(4)
    vectors = rng.integers(0, 3, (3000, 4)).astype(np.float64)
    times = np.arange(3000)
    assert len(np.unique(row_hashes(times, vectors))) == 3000
    assert len(np.unique(row_hashes(np.zeros(3000, np.int64), vectors))) == len(np.unique(vectors, axis=0))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"max_false_positive_rate": 2}, "max_false_positive_rate is 2"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"min_positives": 1}, "min_positives is 1"),
        ({"resamples": True}, "resamples is True"),
        ({"segments": "is_night"}, "segments is 'is_night'"),
    ],
)
def test_a_wrong_gate_fails_where_it_is_written(wrong, what):
    with pytest.raises(DefinitionError, match=what):
        Gate(**wrong)
