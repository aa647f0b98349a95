"""Windows of groups: what a direct evaluation of the group's own rows says, with the maturity of all."""

import numpy as np
import pytest

from penstock.core.time import DAY_US
from penstock.models.ranking import card_precision_at_k
from penstock.monitoring.board import ALL, OTHER, Board, Group
from penstock.monitoring.regression import PrequentialRegression
from tests.unit.monitoring.test_board import WEEK, counted, stream


def chosen(rows, group):
    coded = rows.groups[group.dimension]
    return np.flatnonzero(coded.codes == coded.names.index(group.value))


@pytest.mark.parametrize("country", ["DE", "ES"])
def test_a_groups_windows_are_those_of_its_rows_alone(country):
    rows, truth = stream(11)
    group = Group("country", country)
    now, own = counted(rows, truth), chosen(rows, group)
    alone = counted(rows.take(own), truth[own])
    alone.newest_us = now.newest_us  # the windows of all, whoever came last
    assert len(now.windows(group)) == 3
    for window, other in zip(now.windows(group), alone.windows(), strict=True):
        assert (window.start_us, window.end_us, window.mature) == (other.start_us, other.end_us, other.mature)
        assert window.quality == other.quality
        assert window.quality.labelled > 0
        assert window.card_precision == other.card_precision


def test_groups_of_a_window_add_up_pending_ones_too():
    rows, truth = stream(12)
    now = counted(rows.take(np.arange(0)), truth[:0])
    now.decide(rows)
    known = np.flatnonzero(np.random.default_rng(0).random(len(truth)) < 0.7)
    now.learn(rows.take(known), truth[known])
    groups = [group for group in now.groups if group.dimension == "country"]
    for at, whole in enumerate(now.windows()):
        parts = [now.windows(group)[at].quality for group in groups]
        for name in ("labelled", "positives", "pending"):
            assert sum(getattr(part, name) for part in parts) == getattr(whole.quality, name) > 0
        assert sum(now.windows(group)[at].estimate.decided for group in groups) == whole.estimate.decided


def test_card_precision_of_a_segment_ranks_its_own_cards_each_day():
    rows, truth = stream(13)
    group = Group("country", "FR")
    window = counted(rows, truth, top_k=7).windows(group)[0]
    own = chosen(rows, group)
    own = own[(rows.times_us[own] >= window.start_us) & (rows.times_us[own] < window.end_us)]
    ranked = card_precision_at_k(
        rows.times_us[own] // DAY_US, rows.cards[own], rows.scores[own], truth[own], k=7
    )
    assert window.card_precision.by_day == ranked.by_day
    assert len(ranked.by_day) == 7


def test_a_segment_with_few_labels_is_expected_by_the_calibration_of_all_a_version_is_not():
    rows, truth = stream(14, rate=0.02)
    rare = np.where(np.arange(len(truth)) % 200 == 0, 0, 1)
    for dimension, calibrated in (("country", True), ("version", False)):
        coded = rows.groups["country"]._replace(codes=rare, names=("rare", "usual"))
        now = counted(
            rows.__class__(rows.times_us, rows.scores, {dimension: coded}, rows.amounts, rows.cards), truth
        )
        few, whole = now.windows(Group(dimension, "rare"))[0], now.windows()[0]
        assert (few.estimate.calibrated_on > 0) == calibrated
        assert whole.estimate.calibrated_on > 20
        if calibrated:
            assert few.estimate.calibrated_on == whole.estimate.calibrated_on


def test_rolling_windows_end_with_each_day_and_say_which_are_mature():
    rows, truth = stream(15)
    now = counted(rows, truth)
    week, _, _ = now.windows()
    moments = now.rolling()
    ends = [moment.end_us for moment in moments]
    assert ends == sorted(set(ends))
    assert all(end % DAY_US == 0 for end in ends[:-1])
    mature = [moment for moment in moments if moment.mature]
    assert (mature[-1].end_us, mature[-1].quality) == (week.end_us, week.quality)
    assert len(mature) == 14
    assert not moments[-1].mature
    assert moments[-1].end_us > now.newest_us
    own = Group("country", "IT")
    assert (
        now.rolling(own)[-6].quality
        == counted(rows.take(chosen(rows, own)), truth[chosen(rows, own)]).rolling()[-6].quality
    )


def test_rolling_windows_need_no_more_than_what_is_kept():
    rows, truth = stream(16, rows=4_000, days=200)
    kept = counted(rows, truth, keep_all=True)
    for group in kept.groups:
        assert counted(rows, truth).rolling(group) == kept.rolling(group)
        assert counted(rows, truth).windows(group) == kept.windows(group)


def test_values_that_are_not_told_apart_are_the_others():
    rows, truth = stream(17)
    now = counted(rows, truth, max_values=2)
    told = {now.told_apart("country", name) for name in ("DE", "FR", "IT", "ES")}
    assert OTHER in told
    assert {group.value for group in now.groups if group.dimension == "country"} == told


def test_errors_of_a_regression_by_group_are_exact():
    rows, truth = stream(18, rows=3_000)
    now = Board(PrequentialRegression, PrequentialRegression, periods=WEEK)
    now.decide(rows)
    now.learn(rows, truth)
    group = Group("country", "DE")
    window, own = now.windows(group)[0], chosen(rows, group)
    own = own[(rows.times_us[own] >= window.start_us) & (rows.times_us[own] < window.end_us)]
    errors = rows.scores[own] - truth[own]
    assert window.quality.labelled == len(own) > 50
    assert window.quality.mae == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert window.quality.rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-12)
    assert window.quality.pinball == pytest.approx(np.abs(errors).mean() / 2, rel=1e-12)
    assert window.estimate is None
    assert now.windows(ALL)[0].quality.labelled > len(own)
