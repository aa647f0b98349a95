"""What the enriched example knows beside the published payments: where terminals stand and what they sell, and who the customers are.

The published columns stay as they are. Everything here is drawn from generators of its own, which see neither payments nor
labels: it cannot tell a fraud by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .merchants import CATEGORIES, draw_merchants, on_the_globe
from .population import MAP_SIDE, Population, SimulatorConfig, draw_population
from .simulator import SECONDS_A_DAY

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

SEED = 0  # as the live stream's: its merchants are these
DAY_US = SECONDS_A_DAY * 1_000_000
ACCOUNT_DAYS = (30, 20 * 365)
AGE_DAYS = (18 * 365, 70 * 365)  # when the account is opened
MOVERS = 0.1  # share of the customers who report a new address while the simulation runs

TIME = pa.timestamp("us", tz="UTC")
PROFILE_SCHEMA = pa.schema(
    [
        ("customer_id", pa.int64()),
        ("valid_from", TIME),
        ("valid_to", TIME),
        ("born", TIME),
        ("opened", TIME),
        ("home_latitude", pa.float64()),
        ("home_longitude", pa.float64()),
    ]
)


class Enrichment:
    """The richer columns of a simulated world.

    Parameters
    ----------
    config
        The world's.

    Examples
    --------
    >>> extra = Enrichment(SimulatorConfig(customers=50, terminals=100, days=10))
    >>> table = extra.located(pa.table({"terminal_id": [3, 7, 3]}))
    >>> table.column_names
    ['terminal_id', 'merchant_category', 'latitude', 'longitude']
    >>> table["latitude"][0].as_py() == table["latitude"][2].as_py()
    True
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.people = draw_population(config)
        self._merchants = draw_merchants(self.people, SEED)

    def located(self, payments: pa.Table) -> pa.Table:
        """The payments with the trade and the place of their terminals."""
        terminal = payments["terminal_id"].to_numpy()
        places = self._merchants
        categories = pa.array(CATEGORIES).take(pa.array(places.category[terminal]))
        for name, column in (
            ("merchant_category", categories),
            ("latitude", pa.array(places.latitude[terminal])),
            ("longitude", pa.array(places.longitude[terminal])),
        ):
            payments = payments.append_column(name, column)
        return payments

    def profiles(self) -> pa.Table:
        """Who the customers are, a row for each time in which that stayed the same, by `PROFILE_SCHEMA`.

        A row holds from `valid_from` (inclusive) to `valid_to` (exclusive; null: until further notice). The first begins with the
        account. One customer in ten has a second: the address changes to where the customer really pays, on a day of the
        simulation. Such people had moved earlier and told their bank late, as people do.
        """
        return profiles_of(self.people, self.config)


def profiles_of(people: Population, config: SimulatorConfig) -> pa.Table:
    """The table of `Enrichment.profiles`."""
    random = np.random.default_rng([SEED, *b"profiles"])
    count = len(people.customer_x)
    start_us = round(config.start.timestamp()) * 1_000_000
    opened = start_us - _days(random, ACCOUNT_DAYS, count)
    born = opened - _days(random, AGE_DAYS, count)
    moves = random.random(count) < MOVERS
    moved = start_us + _days(random, (1, config.days + 1), count)
    earlier = np.where(moves, MAP_SIDE * random.random((2, count)), (people.customer_x, people.customer_y))
    rows = {
        "customer_id": np.arange(count),
        "valid_from": opened,
        "valid_to": pa.array(moved, mask=~moves),
        "born": born,
        "opened": opened,
    }
    later = rows | {"valid_from": moved, "valid_to": pa.nulls(count, TIME)}
    first, second = _with_home(rows, *earlier), _with_home(later, people.customer_x, people.customer_y)
    return pa.concat_tables([first, second.filter(pa.array(moves))]).sort_by("valid_from").combine_chunks()


def write_profiles(profiles: pa.Table, folder: Path) -> Path:
    """Write the profiles where `enriched_definitions.customers` says they lie, seen from `folder`."""
    path = folder / "data" / "customers.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(profiles, path)
    return path


def _days(random: Generator, within: tuple[int, int], count: int) -> NDArray[np.int64]:
    """Whole days, in microseconds: from the first up to and excluding the second."""
    return random.integers(*within, count) * DAY_US


def _with_home(rows: dict[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> pa.Table:
    latitude, longitude = on_the_globe(x, y)
    table = pa.table(rows | {"home_latitude": latitude, "home_longitude": longitude})
    return table.cast(PROFILE_SCHEMA)
