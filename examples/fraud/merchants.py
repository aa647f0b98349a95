"""What the live stream knows about a terminal besides its number: trade, place on the globe, country."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .population import MAP_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .population import Population

CATEGORIES = (
    "grocery",
    "restaurant",
    "fuel",
    "transport",
    "clothing",
    "electronics",
    "pharmacy",
    "travel",
    "entertainment",
    "digital_goods",
)
CATEGORY_SHARES = (0.26, 0.18, 0.1, 0.1, 0.09, 0.06, 0.07, 0.04, 0.06, 0.04)

# The simulated map, 100 by 100, is laid over this rectangle.
HOME_COUNTRY = "BE"
HOME_SOUTH_WEST = (49.6, 3.0)
HOME_NORTH_EAST = (51.3, 6.0)
# country, latitude and longitude of a large city there
ABROAD = (
    ("US", 40.71, -74.01),
    ("GB", 51.51, -0.13),
    ("ES", 40.42, -3.70),
    ("IT", 41.90, 12.50),
    ("TR", 41.01, 28.98),
    ("BR", -23.55, -46.63),
    ("TH", 13.76, 100.50),
    ("ZA", -26.20, 28.05),
)
TERMINALS_PER_COUNTRY = 25
CITY_SPREAD_DEGREES = 0.05
METRES = 5  # decimals of a degree, which is as well as a terminal knows its place
COUNTRIES = (HOME_COUNTRY, *(country for country, _, _ in ABROAD))


class Merchants(NamedTuple):
    """All terminals, those of the population first, then those abroad; the index is the terminal's id.

    `category` and `country` are positions in `CATEGORIES` and `COUNTRIES`; latitude and longitude are in degrees.
    """

    category: NDArray[np.int8]
    country: NDArray[np.int8]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]


def draw_merchants(people: Population, seed: int) -> Merchants:
    """Give every terminal of a population its trade and place, and add terminals abroad."""
    rng = np.random.default_rng([seed, *b"merchants"])
    home, abroad = len(people.terminal_x), len(ABROAD) * TERMINALS_PER_COUNTRY
    own_latitude, own_longitude = on_the_globe(people.terminal_x, people.terminal_y)
    cities = np.repeat(np.array([place for _, *place in ABROAD]), TERMINALS_PER_COUNTRY, axis=0)
    latitude, longitude = (cities + rng.normal(0, CITY_SPREAD_DEGREES, cities.shape)).T
    own = np.zeros(home, np.int8)
    foreign = np.repeat(np.arange(1, len(COUNTRIES)), TERMINALS_PER_COUNTRY).astype(np.int8)
    return Merchants(
        category=rng.choice(len(CATEGORIES), home + abroad, p=CATEGORY_SHARES).astype(np.int8),
        country=np.concatenate([own, foreign]),
        latitude=np.concatenate([own_latitude, latitude.round(METRES)]),
        longitude=np.concatenate([own_longitude, longitude.round(METRES)]),
    )


def on_the_globe(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude, in degrees, of places on the simulated map.

    The one place where the map lies on the globe: x from west to east, y from south to north, 0 to 100 each, over a
    rectangle around Belgium. A step of 1 is 1.9 km from south to north and 2.1 km from west to east.

    Examples
    --------
    >>> latitude, longitude = on_the_globe(np.array([0.0, 50.0]), np.array([0.0, 100.0]))
    >>> latitude.tolist(), longitude.tolist()
    ([49.6, 51.3], [3.0, 4.5])
    """
    south, west = HOME_SOUTH_WEST
    north, east = HOME_NORTH_EAST
    latitude, longitude = south + (north - south) / MAP_SIDE * y, west + (east - west) / MAP_SIDE * x
    return latitude.round(METRES), longitude.round(METRES)
