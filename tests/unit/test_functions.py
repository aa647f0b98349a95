"""Distances on the globe: near the truth, the same bits everywhere and in any batch, null where there is no place."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from penstock.functions import haversine_km
from penstock.kernel import sphere

LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 180)
HALF_ROUND = math.pi * sphere.EARTH_RADIUS_KM


def places(count, seed=1):
    random = np.random.default_rng(seed)
    return [random.uniform(-side, side, count) for side in (90, 180, 90, 180)]


def by_vectors(latitude, longitude, other_latitude, other_longitude):
    """The angle between two unit vectors, well conditioned at any distance."""
    a, b = (
        np.array(
            [
                math.cos(math.radians(y)) * math.cos(math.radians(x)),
                math.cos(math.radians(y)) * math.sin(math.radians(x)),
                math.sin(math.radians(y)),
            ]
        )
        for y, x in ((latitude, longitude), (other_latitude, other_longitude))
    )
    return sphere.EARTH_RADIUS_KM * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_it_is_the_angle_between_two_vectors(latitude, longitude, other_latitude, other_longitude):
    asked = latitude, longitude, other_latitude, other_longitude
    # Near the antipode the formula knows the distance to a few centimetres only.
    assert haversine_km(*asked) == pytest.approx(by_vectors(*asked), rel=1e-12, abs=2e-4)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_there_and_back_is_the_same_and_nowhere_is_further_than_half_round(a, b, c, d):
    assert haversine_km(a, b, c, d).hex() == haversine_km(c, d, a, b).hex()
    assert 0 <= haversine_km(a, b, c, d) <= HALF_ROUND * (1 + 1e-15)
    assert haversine_km(a, b, a, b) == 0


@pytest.mark.parametrize(
    ("places", "km"),
    [
        ((0, 0, 0, 180), HALF_ROUND),
        ((90, 0, -90, 77), HALF_ROUND),
        ((0, 0, 90, 33), HALF_ROUND / 2),
        ((0, 0, 0, 1e-7), HALF_ROUND / 180 * 1e-7),
        ((10, 179.5, 10, -179.5), haversine_km(10, 0, 10, 1)),
        ((10, 359.5, 10, 0.5), haversine_km(10, 0, 10, 1)),
    ],
)
def test_poles_antipodes_and_the_date_line(places, km):
    assert haversine_km(*places) == pytest.approx(km, rel=1e-14)


def test_the_bits_are_pinned():
    """Another processor, compiler or NumPy must give these very numbers."""
    assert haversine_km(50.85, 4.35, 40.71, -74.01).hex() == "0x1.700fbab5664efp+12"
    digest = hashlib.sha256(haversine_km(*places(10_000)).tobytes()).hexdigest()
    assert digest.startswith("f9f6e862f61754f9")


def test_a_row_alone_and_among_others_strided_and_packed_is_the_same():
    columns = places(1_001)
    together = haversine_km(*columns)
    alone = [haversine_km(*(column[i : i + 1] for column in columns))[0] for i in range(1_001)]
    strided = haversine_km(*(np.repeat(column, 3)[::3] for column in columns))
    assert together.tolist() == alone == strided.tolist()


@pytest.mark.parametrize("name", ["sine", "arcsine"])
def test_compiled_and_interpreted_give_the_same_bits(name):
    function = getattr(sphere, name)
    compiled = njit(nogil=True, error_model="numpy")(function)
    random = np.random.default_rng(1)
    inputs = random.uniform(-720, 720, 20_000) if name == "sine" else random.uniform(0, 1, 20_000)
    for x in inputs.tolist():
        assert function(x).hex() == compiled(x).hex()


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf, 90.1, -91])
def test_what_is_no_place_has_no_distance(bad):
    assert math.isnan(haversine_km(bad, 1, 2, 3))
    assert math.isnan(haversine_km(1, 2, bad, 3))
    assert np.isnan(haversine_km([bad, 1], 1, [1, bad], 3)).all()


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_longitude_that_is_none_has_no_distance(bad):
    assert math.isnan(haversine_km(1, bad, 2, 3))
    assert math.isnan(haversine_km(1, 2, 3, bad))


def test_shapes():
    assert haversine_km([], [], [], []).shape == (0,)
    assert isinstance(haversine_km(1, 2, 3, 4), float)
    assert haversine_km([1, 2], [3, 4], 5, 6).shape == (2,)
    with pytest.raises(ValueError, match="shape mismatch"):
        haversine_km([1, 2], [3, 4, 5], 5, 6)


def test_importing_it_loads_no_heavy_library():
    code = "import penstock.functions, sys; print({'numpy', 'numba'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
