"""Segments of a gate: the one that gets worse is found, chance refuses no more than it may, and small ones hold nothing up."""

import numpy as np
import pytest

from penstock.core.errors import DefinitionError, InputError
from penstock.definitions.gates import Gate, check_gate
from penstock.kernel.columns import Numeric, Text
from penstock.models.gate_segments import POOL, holm, recall_compared, segments_rule
from penstock.models.gates import Holdout, judge
from penstock.models.manifest import Feature
from penstock.models.segments import OTHER
from tests.unit.models.test_gates import GAP, START, Scored, candidate, verdicts

FEATURES = (Feature("signal", "Float64"), Feature("shop", "Int64"), Feature("payment.night", "Bool"))
ROWS = 6_000
STRONG, WEAK = Scored(lambda v: v[:, 0]), Scored(lambda v: 0.75 * v[:, 0])


def holdout(rng, *, countries=("DE", "FR", "IT"), shops=3, rows=ROWS):
    labels = (rng.random(rows) < 0.1).astype(np.float64)
    signal = np.clip(rng.normal(0.12 + 0.6 * labels, 0.12), 0, 1)
    vectors = np.column_stack([signal, rng.integers(0, shops, rows), rng.random(rows) < 0.3])
    country = Text.from_strings([countries[i] for i in rng.integers(0, len(countries), rows)])
    return Holdout(
        vectors, labels, START + np.arange(rows) * 60_000_000, FEATURES, "service", GAP, "holdout",
        {"country": (country, "String")},
    )  # fmt: skip


def segments(found, gate, challenger, champion=None, **changes):
    one = candidate("a:2", challenger, features=FEATURES, **changes)
    other = candidate("a:1", champion or WEAK, features=FEATURES, **changes)
    report = judge(gate, one, other, found, created_us=7)
    return next(rule for rule in report.rules if rule.name == "segments"), verdicts(report)


def test_texts_of_the_event_and_whole_numbers_are_segments_by_value():
    found = holdout(np.random.default_rng(1), countries=("DE", "FR", "IT", "ES", "PT"))
    countries = np.array(found.columns["country"][0].to_strings())
    blind = Scored(lambda v: np.where(countries[: len(v)] == "FR", 0.0, v[:, 0]))
    rule, every = segments(found, Gate(segments=["country", "shop", "night"]), blind)
    assert (rule.verdict, every["recall"]) == ("fail", "pass"), "better over all, and blind in one country"
    assert set(rule.numbers["segments"]) == {
        *(f"country = {name}" for name in ("DE", "ES", "FR", "IT", "PT")), "shop = 0", "shop = 1", "shop = 2",
        "payment.night = 0", "payment.night = 1",
    }  # fmt: skip
    worse = [name for name, one in rule.numbers["segments"].items() if one["verdict"] == "fail"]
    assert worse == ["country = FR"]
    assert "recall is worse in country = FR" in rule.text
    with pytest.raises(InputError, match="'region' names 0 features"):
        segments(found, Gate(segments=["region"]), blind)


def test_many_small_segments_are_tested_together_and_named():
    rng, gate = np.random.default_rng(2), Gate(segments=["shop"], min_positives=60)
    rule, _ = segments(holdout(rng, shops=400), gate, STRONG)
    assert rule.verdict == "pass"
    assert len(rule.numbers["small"]) == 20
    assert set(rule.numbers["segments"]) == {f"shop = {OTHER}"}, (
        "the twenty largest have too few, also together"
    )
    assert "too few rows to say, also together" in rule.text
    rule, _ = segments(holdout(rng, shops=15), gate, STRONG)
    assert (rule.verdict, set(rule.numbers["segments"])) == ("pass", {POOL})
    assert "tested together" in rule.text
    rule, _ = segments(holdout(rng, shops=15), gate, WEAK, champion=STRONG)
    assert rule.verdict == "fail"
    assert f"recall is worse in {POOL}" in rule.text, "a fall that only the pool has the rows to show"


@pytest.mark.parametrize(("strict", "verdict"), [(False, "pass"), (True, "inconclusive")])
def test_where_even_the_pool_is_small_only_a_strict_gate_waits(strict, verdict):
    found = holdout(np.random.default_rng(3))
    rare = np.array(["DE"] * (ROWS - 60) + ["FR"] * 30 + ["IT"] * 30)
    found.columns["country"] = (Text.from_strings(rare.tolist()), "String")
    rule, _ = segments(found, Gate(segments=["country"], strict_segments=strict), STRONG)
    assert rule.verdict == verdict
    assert "too few rows to say, also together: country = FR, country = IT" in rule.text


def test_chance_refuses_no_more_than_it_may_however_many_segments_there_are():
    """Two models that are equally good, twenty overlapping segments: by single intervals a third would be refused."""
    rng, refused, alone = np.random.default_rng(4), 0, 0
    gate = Gate(resamples=100)
    for _ in range(400):
        ours, theirs = rng.random((2, 2_000)) < 0.7
        masks = {str(i): rng.random(2_000) < 0.5 for i in range(20)}
        (rule,) = segments_rule(
            masks,
            np.ones(2_000, bool),
            recall_compared(gate, [ours, theirs]),
            gate=gate,
            least=30,
            what="recall",
        )
        refused += rule.verdict == "fail"
        alone += any(one["p"] <= 0.025 for one in rule.numbers["segments"].values())
    assert refused / 400 <= 0.025 + 2 * (0.025 * 0.975 / 400) ** 0.5
    assert alone / 400 > 0.1


def test_holm_rejects_what_bonferroni_does_and_more():
    values = [0.001, 0.012, 0.02, 0.9]
    assert holm(values) == pytest.approx([0.004, 0.036, 0.04, 0.9])
    assert holm([]) == []


def test_a_regression_must_not_err_more_in_a_segment():
    rng = np.random.default_rng(5)
    vectors = np.column_stack([rng.random(3_000), rng.integers(0, 3, 3_000), rng.random(3_000) < 0.5])
    found = Holdout(
        vectors, vectors[:, 0] * 10, START + np.arange(3_000), FEATURES, "service", GAP, "holdout",
        {"kind": (Numeric(np.arange(3_000) % 4), "Int32")},
    )  # fmt: skip
    noise = rng.normal(size=3_000)
    champion = Scored(lambda v: v[:, 0] * 10 + noise[: len(v)])
    good = Scored(lambda v: v[:, 0] * 10 + 0.5 * noise[: len(v)])
    bad_in_one = Scored(lambda v: v[:, 0] * 10 + np.where(v[:, 1] == 2, 1.3, 0.3) * noise[: len(v)])
    for model, verdict in ((good, "pass"), (bad_in_one, "fail")):
        gate = Gate(segments=["shop", "kind"])
        rule, every = segments(found, gate, model, champion, task="regression", threshold=None)
        assert (every["error"], rule.verdict) == ("pass", verdict)
    assert "the error is worse in shop = 2" in rule.text


def test_a_regression_takes_a_gate_without_alarms():
    check_gate(Gate(segments=["kind"], min_rows=50), task="regression", owner="Model 'm'")
    with pytest.raises(DefinitionError, match="its gate sets min_recall"):
        check_gate(Gate(min_recall=0.5), task="regression", owner="Model 'm'")
    with pytest.raises(DefinitionError, match="allowed are a Gate and None"):
        check_gate("strict", task="binary", owner="Model 'm'")
