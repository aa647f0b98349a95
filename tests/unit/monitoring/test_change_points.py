import sys

import msgspec
import numpy as np
import pytest

from penstock.core.errors import MissingDependencyError
from penstock.monitoring.change_points import (
    BLOCK,
    CALIBRATION,
    KEPT,
    STEPS,
    Heard,
    Listener,
    LossScale,
    RankScale,
)
from penstock.monitoring.profile import profile_column

KINDS = {
    "normal": lambda draw, n: draw.normal(size=n),
    "skewed": lambda draw, n: draw.lognormal(size=n),
    "heavy tails": lambda draw, n: draw.standard_t(3, n),
    "one in a hundred": lambda draw, n: (draw.random(n) < 0.01).astype(float),
    "one value": lambda _, n: np.ones(n),
}


def listener_of(kind, draw, **options):
    return Listener("x", RankScale(profile_column("x", KINDS[kind](draw, 20_000))), **options)


@pytest.fixture(autouse=True)
def river():
    pytest.importorskip("river", reason="penstock[river] is not installed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_drift_is_left_alone(kind):
    for number in range(5):
        draw = np.random.default_rng(number)
        assert listener_of(kind, draw).add(np.arange(50_000), KINDS[kind](draw, 50_000)) == []


def losses(draw, n, *, missed=0.2):
    """Log losses where one in fifty is a fraud, of which a share is missed."""
    fraud, found = draw.random(n) < 0.02, draw.random(n) >= missed
    return np.where(fraud, np.where(found, draw.exponential(0.3, n), 4.0), draw.exponential(0.02, n))


def test_losses_of_rare_frauds_raise_no_alarm_until_more_are_missed():
    for number in range(5):
        draw = np.random.default_rng(number)
        assert Listener("error", LossScale()).add(np.arange(60_000), losses(draw, 60_000)) == []
    draw = np.random.default_rng(9)
    values = np.append(losses(draw, 20_000), losses(draw, 20_000, missed=0.8))
    (row, point), *_ = Listener("error", LossScale()).add(np.arange(40_000), values)
    assert 20_000 < row < 28_000
    assert point.after > 1.5 * point.before


def test_rows_of_the_same_hour_resemble_each_other_and_are_no_change():
    """Every thousand rows have a mean of their own: by independent rows each would be a change of a standard deviation."""
    draw = np.random.default_rng(3)
    values = np.repeat(draw.normal(size=100), 1_000) + draw.normal(size=100_000)
    listener = Listener("x", RankScale(profile_column("x", values)), span_us=999)
    assert listener.add(np.arange(100_000), values) == []
    assert listener.heard.steps == 99, "the clock of a stream is ten rows behind"


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy tails"])
def test_a_shift_is_noticed_soon_however_values_are_cut_and_kept(kind):
    draw = np.random.default_rng(1)
    before, values = KINDS[kind](draw, 20_000), KINDS[kind](draw, 24_000)
    values[12_000:] += 0.25 * before.std()
    values[::7] = np.nan
    scale = RankScale(profile_column("x", before))
    straight = Listener("x", scale)
    found = straight.add(np.arange(24_000), values)
    pieces, kept = [], None
    for part in np.array_split(np.arange(24_000), 333):  # begun again from what was kept, each time
        listener = Listener("x", scale, heard=None if kept is None else msgspec.json.decode(kept, type=Heard))
        pieces += [(int(part[row]), point) for row, point in listener.add(part, values[part])]
        kept = msgspec.json.encode(listener.heard)
    assert pieces == found
    assert kept == msgspec.json.encode(straight.heard)
    assert 12_000 < found[0][1].time_us < 15_500
    assert found[0][1].after > found[0][1].before


def test_what_is_kept_is_bounded_and_makes_the_same_detectors_again():
    draw = np.random.default_rng(2)
    one, other = listener_of("normal", draw), None
    values = draw.normal(size=2 * KEPT * BLOCK + 30_000)
    for part in np.array_split(values, 40):
        one.add(np.arange(len(part)), part)
        assert len(one.heard.blocks) <= 2 * KEPT
    assert one.heard.steps == len(values) // BLOCK
    other = Listener("x", one._scale, heard=msgspec.convert(msgspec.to_builtins(one.heard), Heard))
    later = np.append(draw.normal(size=5_000), draw.normal(size=5_000) + 0.5)
    found = one.add(np.arange(10_000), later)
    assert found
    assert other.add(np.arange(10_000), later) == found


class Plain:
    """Values as they are."""

    unit = 0.0

    def codes(self, values, _times):
        found = np.rint(values * 65_536).astype(np.int64)
        return found, found

    def shown(self, mean):
        return mean / 65_536


@pytest.mark.nightly
def test_false_alarms_over_ten_thousand_drift_windows(monkeypatch):
    """Five million steps of two hundred streams, calibrated as they are: at most two alarms, where 5 % of the windows would be 500."""
    monkeypatch.setattr("penstock.monitoring.change_points.BLOCK", 1)
    alarms = 0
    for number in range(200):
        values = np.random.default_rng(number).normal(size=50 * STEPS)
        alarms += len(Listener("x", Plain()).add(np.arange(len(values)), values))
    assert alarms <= 2


def test_after_an_alarm_a_stream_is_listened_to_anew():
    draw = np.random.default_rng(4)
    listener = listener_of("normal", draw)
    values = draw.normal(size=60_000)
    values[20_000:] += 1.0
    values[40_000:] += 1.0
    found = [row for row, _ in listener.add(np.arange(60_000), values)]
    assert len(found) == 2, "each change once"
    assert 20_000 < found[0] < 22_000
    assert 40_000 < found[1] < 42_000
    assert listener.heard.steps == 600
    assert CALIBRATION < len(listener.heard.blocks) < 200


def test_without_river_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(MissingDependencyError, match=r"penstock\[river\]"):
        Listener("error", LossScale())
