"""Who pays where: the customers and terminals of the simulated world.

The batch simulator and the live generator share one population, so that a live stream continues the history
of the same cards. Every number comes from NumPy's legacy generator, whose stream NumPy promises never to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAP_SIDE = 100.0
CUSTOMER_SEED = 0
TERMINAL_SEED = 1
# What the fraud scenarios draw each day: the smallest world must hold as many.
DAILY_COMPROMISED_TERMINALS = 2
DAILY_COMPROMISED_CUSTOMERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """The size of the simulated world; the defaults are those of the published data.

    Parameters
    ----------
    customers, terminals
        How many of each; at least 3 and 2, for the fraud scenarios draw that many a day.
    days
        Days of history, from `start` on.
    start
        Midnight UTC of the first day.
    radius
        How far from home a customer pays, on a map of 100 by 100.

    Raises
    ------
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> SimulatorConfig(customers=50, terminals=100, days=30).days
    30
    >>> SimulatorConfig(customers=2)
    Traceback (most recent call last):
    ...
    ValueError: SimulatorConfig: customers=2, must be at least 3; give a larger world
    """

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    start: datetime = datetime(2018, 4, 1, tzinfo=UTC)
    radius: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a world in which the scenarios cannot be drawn."""
        _at_least("customers", self.customers, DAILY_COMPROMISED_CUSTOMERS)
        _at_least("terminals", self.terminals, DAILY_COMPROMISED_TERMINALS)
        _at_least("days", self.days, 1)
        if not self.radius > 0:
            raise ValueError(
                f"SimulatorConfig: radius={self.radius}, must be above 0; the published one is 5"
            )
        if self.start.tzinfo is None or self.start.timestamp() % 86_400:
            raise ValueError(f"SimulatorConfig: start={self.start}, must be a midnight with tzinfo=UTC")


def _at_least(name: str, found: int, minimum: int) -> None:
    if found < minimum:
        raise ValueError(f"SimulatorConfig: {name}={found}, must be at least {minimum}; give a larger world")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Customers and terminals as arrays; the index is the id.

    Customers have a place, a mean amount (the standard deviation is half of it) and a mean number of
    transactions a day. Terminals have a place. `reachable[c]` are the terminals customer `c` can use, ascending.
    """

    customer_x: NDArray[np.float64]
    customer_y: NDArray[np.float64]
    mean_amount: NDArray[np.float64]
    daily_rate: NDArray[np.float64]
    terminal_x: NDArray[np.float64]
    terminal_y: NDArray[np.float64]
    reachable: tuple[NDArray[np.int64], ...]


def draw_population(config: SimulatorConfig) -> Population:
    """Draw the population of a configuration; the same configuration gives the same bits.

    Examples
    --------
    >>> people = draw_population(SimulatorConfig(customers=5, terminals=100))
    >>> round(float(people.mean_amount[0]), 6), [len(r) for r in people.reachable]
    (62.262521, [2, 1, 0, 2, 0])
    """
    # A uniform is low + (high - low) * u, drawn customer by customer: one row of four a customer.
    u = np.random.RandomState(CUSTOMER_SEED).random_sample((config.customers, 4))
    v = np.random.RandomState(TERMINAL_SEED).random_sample((config.terminals, 2))
    customer_x, customer_y = MAP_SIDE * u[:, 0], MAP_SIDE * u[:, 1]
    terminal_x, terminal_y = MAP_SIDE * v[:, 0], MAP_SIDE * v[:, 1]
    reachable = tuple(
        np.flatnonzero(np.sqrt((terminal_x - x) ** 2 + (terminal_y - y) ** 2) < config.radius)
        for x, y in zip(customer_x, customer_y, strict=True)
    )
    return Population(
        customer_x=customer_x,
        customer_y=customer_y,
        mean_amount=5.0 + 95.0 * u[:, 2],
        daily_rate=4.0 * u[:, 3],
        terminal_x=terminal_x,
        terminal_y=terminal_y,
        reachable=reachable,
    )
