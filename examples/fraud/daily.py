"""One day of card payments of the live world, drawn in a few array operations.

A day is a pure function of (configuration, day number): a stream may start at any day, stop and continue, and two
machines draw the same events. The genuine payments follow the law of the batch simulator, with a generator
that draws whole arrays. Five fraud scenarios come on top; each fraud is labelled with its number:

1. high amount: above 220, as in the simulator;
2. compromised terminal: all payments at two terminals a day, for 28 days;
3. stolen card number: for 14 days a third of the card's payments, five times the amount, mostly on the web;
4. velocity burst: a card is tried out with many small web payments within minutes;
5. impossible travel: a cloned card pays abroad minutes after it paid at home.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .merchants import Merchants, draw_merchants
from .population import (
    DAILY_COMPROMISED_CUSTOMERS,
    DAILY_COMPROMISED_TERMINALS,
    Population,
    SimulatorConfig,
    draw_population,
)
from .simulator import (
    CUSTOMER_COMPROMISE_DAYS,
    HIGH_AMOUNT,
    NOON,
    SECONDS_A_DAY,
    STOLEN_CARD_FACTOR,
    TERMINAL_COMPROMISE_DAYS,
    TIME_SPREAD,
    daily_picks,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

SECOND_US = 1_000_000
DAY_US = SECONDS_A_DAY * SECOND_US
MINUTE_US = 60 * SECOND_US

SCENARIOS = (
    "genuine",
    "high_amount",
    "compromised_terminal",
    "stolen_card",
    "velocity_burst",
    "impossible_travel",
)
HIGH, TERMINAL, STOLEN, BURST, TRAVEL = range(1, len(SCENARIOS))
DEVICES = ("chip", "contactless", "mobile", "web")
CHIP, WEB = 0, 3
DEVICE_SHARES = (0.3, 0.35, 0.2, 0.15)
STOLEN_ON_WEB = 0.8
GENUINE_ABROAD = 0.3  # of web payments: a foreign country alone must not give a fraud away
BURST_PAYMENTS = (6, 16)
BURST_US = 10 * MINUTE_US
TRAVEL_US = (5 * MINUTE_US, 30 * MINUTE_US)


class Payments(NamedTuple):
    """Payments of one day as parallel arrays; `device` and `scenario` are positions in `DEVICES`, `SCENARIOS`."""

    time_us: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    amount: NDArray[np.float64]
    device: NDArray[np.int8]
    scenario: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomalies:
    """How often behaviour goes wrong: expected events a customer and day.

    Examples
    --------
    >>> Anomalies(bursts=-1)
    Traceback (most recent call last):
    ...
    ValueError: Anomalies: bursts=-1, travels=0.001; allowed are rates from 0 to 1
    """

    bursts: float = 0.0006
    travels: float = 0.001

    def __post_init__(self) -> None:
        """Refuse what is not a rate."""
        if not (0 <= self.bursts <= 1 and 0 <= self.travels <= 1):
            raise ValueError(
                f"Anomalies: bursts={self.bursts}, travels={self.travels}; allowed are rates from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class LiveWorld:
    """The population of a configuration, its merchants, and the payments of any day.

    Parameters
    ----------
    config
        The simulator's configuration: the stream continues the same customers at the same terminals.
    seed
        Which of the possible futures.
    anomalies
        Rates of the behavioural scenarios.

    Raises
    ------
    ValueError
        If no customer can reach a terminal.

    Examples
    --------
    >>> world = LiveWorld(SimulatorConfig(customers=200, terminals=500))
    >>> today, again = world.day(183), world.day(183)
    >>> np.array_equal(today.amount, again.amount)
    True
    """

    config: SimulatorConfig = field(default_factory=SimulatorConfig)
    seed: int = 0
    anomalies: Anomalies = field(default_factory=Anomalies)
    people: Population = field(init=False)
    merchants: Merchants = field(init=False)
    reach_start: NDArray[np.int64] = field(init=False)
    reach_count: NDArray[np.int64] = field(init=False)
    reach: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Draw the population and lay the terminals in reach end to end, so that one draw serves all customers."""
        people = draw_population(self.config)
        count = np.array([len(terminals) for terminals in people.reachable], np.int64)
        if not count.any():
            raise ValueError(
                f"LiveWorld: none of {len(count)} customers has a terminal within {self.config.radius}, so nothing "
                "would ever happen; give more terminals or a larger radius"
            )
        values = {
            "people": people,
            "merchants": draw_merchants(people, self.seed),
            "reach_start": np.cumsum(count) - count,
            "reach_count": count,
            "reach": np.concatenate(people.reachable),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def day(self, number: int) -> Payments:
        """Return the payments of a day (0 is the configuration's first), in time order."""
        rng = np.random.default_rng([self.seed, number])
        genuine = self._mark(self._genuine(rng), number, rng)
        return _in_time_order(genuine, self._bursts(rng), self._travels(genuine, rng))

    def _genuine(self, rng: Generator) -> Payments:
        rate = np.where(self.reach_count > 0, self.people.daily_rate, 0.0)
        customer = np.repeat(np.arange(len(rate)), rng.poisson(rate))
        second = rng.normal(NOON, TIME_SPREAD, len(customer)).astype(np.int64)
        valid = (second > 0) & (second < SECONDS_A_DAY)
        customer, second = customer[valid], second[valid]
        device = _shares(rng, len(customer), DEVICE_SHARES)
        abroad = (device == WEB) & (rng.random(len(customer)) < GENUINE_ABROAD)
        return Payments(
            time_us=second * SECOND_US + rng.integers(0, SECOND_US, len(customer)),
            customer=customer,
            terminal=np.where(abroad, self._abroad(rng, len(customer)), self._nearby(rng, customer)),
            amount=self._amounts(rng, customer),
            device=device,
            scenario=np.zeros(len(customer), np.int8),
        )

    def _amounts(self, rng: Generator, customer: NDArray[np.int64]) -> NDArray[np.float64]:
        mean = self.people.mean_amount[customer]
        amount = rng.normal(mean, mean / 2)
        redrawn = rng.uniform(0, 2 * mean)
        return np.where(amount < 0, redrawn, amount).round(2)

    def _nearby(self, rng: Generator, customer: NDArray[np.int64]) -> NDArray[np.int64]:
        place = rng.integers(0, self.reach_count[customer])
        near: NDArray[np.int64] = self.reach[self.reach_start[customer] + place]
        return near

    def _abroad(self, rng: Generator, count: int) -> NDArray[np.int64]:
        """Terminals abroad: their ids follow those of the population."""
        return rng.integers(self.config.terminals, len(self.merchants.country), count)

    def _mark(self, payments: Payments, number: int, rng: Generator) -> Payments:
        """Put the simulator's three scenarios over genuine payments; as there, a later one takes the number."""
        amount, device = payments.amount.copy(), payments.device.copy()
        scenario = np.where(amount > HIGH_AMOUNT, HIGH, 0).astype(np.int8)
        scenario[np.isin(payments.terminal, self.compromised_terminals(number))] = TERMINAL
        stolen = np.isin(payments.customer, self.compromised_customers(number)) & (
            rng.random(len(amount)) < 1 / 3
        )
        amount[stolen] = (amount[stolen] * STOLEN_CARD_FACTOR).round(2)
        device[stolen & (rng.random(len(amount)) < STOLEN_ON_WEB)] = WEB
        scenario[stolen] = STOLEN
        return payments._replace(amount=amount, device=device, scenario=scenario)

    def compromised_terminals(self, number: int) -> NDArray[np.int64]:
        """Terminals that are compromised on a day: those of the simulated history stay so into the stream."""
        size, count = self.config.terminals, DAILY_COMPROMISED_TERMINALS
        return _picked_since(number - TERMINAL_COMPROMISE_DAYS + 1, number, size=size, count=count)

    def compromised_customers(self, number: int) -> NDArray[np.int64]:
        """Customers whose card number is in foreign hands on a day."""
        size, count = self.config.customers, DAILY_COMPROMISED_CUSTOMERS
        return _picked_since(number - CUSTOMER_COMPROMISE_DAYS + 1, number, size=size, count=count)

    def _bursts(self, rng: Generator) -> Payments:
        able = np.flatnonzero(self.reach_count)
        victims = rng.choice(able, rng.poisson(self.anomalies.bursts * len(able)))
        sizes = rng.integers(*BURST_PAYMENTS, len(victims))
        customer, total = np.repeat(victims, sizes), int(sizes.sum())
        start = np.repeat(rng.integers(0, DAY_US - BURST_US, len(victims)), sizes)
        return Payments(
            time_us=start + rng.integers(0, BURST_US, total),
            customer=customer,
            terminal=self._nearby(rng, customer),
            amount=rng.uniform(0.5, 30, total).round(2),
            device=np.full(total, WEB, np.int8),
            scenario=np.full(total, BURST, np.int8),
        )

    def _travels(self, genuine: Payments, rng: Generator) -> Payments:
        """Payments abroad, each soon after the card itself was used at home; none past midnight."""
        at_home = np.flatnonzero((genuine.device != WEB) & (genuine.time_us < DAY_US - TRAVEL_US[1]))
        expected = self.anomalies.travels * self.config.customers
        followed = at_home[
            rng.integers(0, max(len(at_home), 1), rng.poisson(expected) if len(at_home) else 0)
        ]
        customer, total = genuine.customer[followed], len(followed)
        return Payments(
            time_us=genuine.time_us[followed] + rng.integers(*TRAVEL_US, total),
            customer=customer,
            terminal=self._abroad(rng, total),
            amount=(self.people.mean_amount[customer] * rng.uniform(1, 3, total)).round(2),
            device=np.full(total, CHIP, np.int8),
            scenario=np.full(total, TRAVEL, np.int8),
        )


def _in_time_order(*parts: Payments) -> Payments:
    time_us = np.concatenate([part.time_us for part in parts])
    order = np.argsort(time_us, kind="stable")
    return Payments(
        time_us=time_us[order],
        customer=np.concatenate([part.customer for part in parts])[order],
        terminal=np.concatenate([part.terminal for part in parts])[order],
        amount=np.concatenate([part.amount for part in parts])[order],
        device=np.concatenate([part.device for part in parts])[order],
        scenario=np.concatenate([part.scenario for part in parts])[order],
    )


def _picked_since(first: int, last: int, *, size: int, count: int) -> NDArray[np.int64]:
    return np.concatenate([daily_picks(size, count, day) for day in range(max(first, 0), last + 1)])


def _shares(rng: Generator, count: int, shares: tuple[float, ...]) -> NDArray[np.int8]:
    """Draw positions with the given probabilities."""
    return np.searchsorted(np.cumsum(shares)[:-1], rng.random(count), side="right").astype(np.int8)
