import sys

import numpy as np
import pytest

from penstock.core.errors import MissingDependencyError
from penstock.monitoring.change_points import Detectors
from penstock.monitoring.profile import profile_column

KINDS = {
    "normal": lambda draw, n: draw.normal(size=n),
    "skewed": lambda draw, n: draw.lognormal(size=n),
    "heavy tails": lambda draw, n: draw.standard_t(3, n),
    "one in a hundred": lambda draw, n: (draw.random(n) < 0.01).astype(float),
    "one value": lambda _, n: np.ones(n),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_drift_is_left_alone(kind):
    pytest.importorskip("river", reason="penstock[river] is not installed")
    for number in range(5):
        draw = np.random.default_rng(number)
        detectors = Detectors(profile_column("x", KINDS[kind](draw, 20_000)))
        detectors.add(np.arange(50_000), KINDS[kind](draw, 50_000))
        assert detectors.points == []


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy tails"])
def test_a_shift_is_noticed_soon_whatever_the_batches(kind):
    pytest.importorskip("river", reason="penstock[river] is not installed")
    draw = np.random.default_rng(1)
    before, values = KINDS[kind](draw, 20_000), KINDS[kind](draw, 20_000)
    values[10_000:] += 0.25 * before.std()
    values[::7] = np.nan
    straight, pieces = Detectors(profile_column("x", before)), Detectors(profile_column("x", before))
    straight.add(np.arange(20_000), values)
    for part in np.array_split(np.arange(20_000), 333):
        pieces.add(part, values[part])
    assert pieces.points == straight.points
    first = {point.method: point for point in reversed(straight.points)}
    assert set(first) == {"adwin", "page-hinkley"}
    for point in first.values():
        assert 10_000 < point.time_us < 13_000
        assert point.after > point.before


def test_without_river_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(MissingDependencyError, match=r"penstock\[river\]"):
        Detectors(profile_column("x", np.arange(1_000.0)))
