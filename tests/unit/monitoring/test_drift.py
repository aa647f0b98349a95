from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from benchmarks.drift import COLUMNS, rows_of
from penstock.core.errors import ArtifactError
from penstock.monitoring.drift import judge, measure_drift
from penstock.monitoring.profile import Profile, Sample, parse_profile, profile_column


def sampled(before, now, name="x"):
    sample = Sample(profile_column(name, before))
    for part in np.array_split(now, 7):
        sample.add(part)
    return sample


def samples_of(before, now):
    return [sampled(before[:, j], now[:, j], str(j)) for j in range(before.shape[1])]


def only(before, now, **options):
    return measure_drift([sampled(before, now)], **options).columns[0]


@pytest.mark.parametrize(
    ("size", "reports", "reference"), [(50, 120, 20_000), (500, 120, 700), (5_000, 60, 20_000)]
)
def test_without_drift_few_reports_alarm(size, reports, reference):
    alarms = 0
    for number in range(reports):
        draw = np.random.default_rng([number, size])
        samples = samples_of(rows_of(draw, reference), rows_of(draw, size))
        alarms += any(v.drifted for v in judge(samples, false_alarms=0.05))
    assert stats.binom.sf(alarms - 1, reports, 0.05) > 0.01, f"{alarms} of {reports}"


def test_a_shift_is_found_and_named():
    for number in range(20):
        draw = np.random.default_rng(number)
        before, now = rows_of(draw, 20_000), rows_of(draw, 5_000)
        now[:, 0] += 0.25 * before[:, 0].std()
        report = measure_drift(samples_of(before, now))
        assert "0" in report.drifted
        assert len(report.columns) == COLUMNS


def test_measures_are_those_of_scipy():
    draw = np.random.default_rng(1)
    before, now = draw.gamma(2, 1, 3_000), draw.gamma(2.3, 1, 1_200)
    found = only(before, now)
    assert found.ks.value == pytest.approx(stats.ks_2samp(before, now).statistic, abs=0.006)
    assert found.wasserstein.value == pytest.approx(
        stats.wasserstein_distance(before, now) / before.std(), rel=0.03
    )
    values = np.arange(5.0)
    p, q = np.array([0.3, 0.3, 0.2, 0.1, 0.1]), np.array([0.2, 0.3, 0.2, 0.2, 0.1])
    before, now = draw.choice(values, 4_000, p=p), draw.choice(values, 2_000, p=q)
    found = only(before, now)
    tables = [np.bincount(column.astype(int)) for column in (before, now)]
    assert found.jensen_shannon.value == pytest.approx(jensenshannon(*tables, base=2))
    assert found.p_values["chi-square"] == pytest.approx(stats.chi2_contingency(tables).pvalue)
    assert found.effect == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("size", [50, 200, 2_000, 20_000])
def test_thresholds_follow_from_the_number_of_rows(size):
    """Each measure alone passes its threshold in hardly any report, though at 50 rows PSI is above 0.1 in many."""
    beyond = {"psi": 0, "ks": 0, "wasserstein": 0, "jensen_shannon": 0}
    psi = 0
    for number in range(60):
        draw = np.random.default_rng([number, size])
        found = only(draw.lognormal(size=20_000), draw.lognormal(size=size))
        psi += found.psi.value > 0.1
        for name in beyond:
            measure = getattr(found, name)
            beyond[name] += measure.value > measure.threshold
    assert max(beyond.values()) <= 4, beyond
    assert (psi > 15) == (size == 50)


def test_a_certain_difference_that_is_small_is_no_alarm():
    draw = np.random.default_rng(2)
    before, now = draw.normal(size=200_000), draw.normal(size=200_000) + 0.03
    assert only(before, now, min_effect=0.0).drifted
    assert not only(before, now).drifted


def test_missing_and_unseen_values_are_drift():
    draw = np.random.default_rng(3)
    before, now = draw.normal(size=5_000), draw.normal(size=1_000)
    now[::12] = np.nan
    found = only(before, now)
    assert found.drifted
    assert min(found.p_values, key=found.p_values.get) == "missing"
    before, now = draw.choice([1.0, 2.0, 3.0], 5_000), draw.choice([1.0, 2.0, 3.0], 1_000)
    now[:40] = 7.0
    found = only(before, now)
    assert (found.drifted, found.unseen) == (True, 0.04)
    assert found.bins[-1].label == "unseen"


def test_a_change_of_shape_is_found_that_leaves_the_middle_where_it_was():
    draw = np.random.default_rng(4)
    assert only(draw.normal(size=20_000), 1.3 * draw.normal(size=2_000)).drifted


def test_rows_that_resemble_their_neighbours_count_for_fewer():
    """Thirty rows in a row are of one card: so many cards, not rows, are compared."""

    def visits(draw, cards):
        return np.repeat(draw.normal(size=cards), 30) + 0.3 * draw.normal(size=30 * cards)

    alarms = naive = 0
    for number in range(40):
        draw = np.random.default_rng([number, 5])
        sample = sampled(visits(draw, 700), visits(draw, 100))
        assert sample.reference.clustering > 4
        alarms += judge([sample], false_alarms=0.05)[0].drifted
        sample.reference = replace(sample.reference, clustering=1.0)
        naive += judge([sample], false_alarms=0.05)[0].drifted
    assert alarms <= 5
    assert naive > 15


def test_few_rows_are_not_judged_and_empty_columns_do_not_fail():
    draw = np.random.default_rng(6)
    assert only(draw.normal(size=500), draw.normal(size=20) + 9).p_value is None
    nothing = np.full(100, np.nan)
    for before, now in (
        (nothing, draw.normal(size=100)),
        (draw.normal(size=100), nothing),
        (nothing, nothing),
    ):
        assert only(before, now).drifted in {True, False}
    assert only(np.zeros(100), np.zeros(100)).drifted is False
    assert measure_drift([]).drifted == ()


def test_a_profile_is_small_and_comes_back_as_it_was():
    draw = np.random.default_rng(7)
    profile = Profile(tuple(profile_column(str(i), draw.normal(size=50_000)) for i in range(15)))
    data = profile.to_bytes()
    assert len(data) < 100_000
    assert parse_profile(data, where="m:1") == profile
    with pytest.raises(ArtifactError, match=r"m:1.*Train and register"):
        parse_profile(b"{", where="m:1")
    with pytest.raises(ArtifactError, match="format version is 2"):
        parse_profile(data.replace(b'"format_version":1', b'"format_version":2'), where="m:1")
