"""The transaction simulator behind the published fraud benchmark, reproduced bit for bit.

The published data is one path through two random streams, so what matters is the order of the draws:

1. Each customer has both generators seeded with the customer's id, and lives the days one after the other: a
   Poisson number of attempts, for each a time, and if that falls inside the day an amount. NumPy's polar method
   makes Gaussians in pairs and keeps the second as part of the state, so draws cannot be regrouped into arrays.
2. The terminals come from Python's own generator. It is a separate stream: they are drawn after the amounts.
3. All transactions are sorted by time and numbered; three fraud scenarios then mark and inflate some of them.

At the defaults that takes about five seconds on one core.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .population import (
    DAILY_COMPROMISED_CUSTOMERS,
    DAILY_COMPROMISED_TERMINALS,
    Population,
    SimulatorConfig,
    draw_population,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

DATA_FOLDER = Path(__file__).parent / "data"
PUBLISHED = SimulatorConfig()
# Raise when the same configuration gives other rows, so that cached files are not taken for new ones.
DATA_VERSION = 1

SECONDS_A_DAY = 86_400
NOON, TIME_SPREAD = 43_200, 20_000
HIGH_AMOUNT = 220.0
TERMINAL_COMPROMISE_DAYS = 28
CUSTOMER_COMPROMISE_DAYS = 14
STOLEN_CARD_FACTOR = 5

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.int64()),
        ("terminal_id", pa.int64()),
        ("amount", pa.float64()),
        ("time_seconds", pa.int64()),
        ("time_days", pa.int64()),
        ("is_fraud", pa.bool_()),
        ("fraud_scenario", pa.int8()),
    ]
)


class Payments(NamedTuple):
    """Transactions as parallel arrays: second since the start, customer, terminal, amount."""

    second: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    amount: NDArray[np.float64]


def simulate(config: SimulatorConfig = PUBLISHED, advance: Callable[[], None] | None = None) -> pa.Table:
    """Simulate all transactions of a configuration, in time order, with their fraud labels.

    Parameters
    ----------
    config
        The world; the default is the published one (1,754,155 rows).
    advance
        Called once for each customer done.

    Returns
    -------
    pyarrow.Table
        One row a transaction, by `SCHEMA`. `fraud_scenario` is 0 for a genuine one, 1 for a high amount, 2 for a
        compromised terminal, 3 for a stolen card. Times are UTC.

    Examples
    --------
    >>> table = simulate(SimulatorConfig(customers=50, terminals=500, days=10))
    >>> table.num_rows, table.schema == SCHEMA
    (841, True)
    """
    payments = _numbered_by_time(_genuine(config, draw_population(config), advance))
    amount, scenario = _add_frauds(config, payments)
    start_us = round(config.start.timestamp()) * 1_000_000
    columns = {
        "transaction_id": np.arange(len(amount)),
        "timestamp": start_us + payments.second * 1_000_000,
        "customer_id": payments.customer,
        "terminal_id": payments.terminal,
        "amount": amount,
        "time_seconds": payments.second,
        "time_days": payments.second // SECONDS_A_DAY,
        "is_fraud": scenario > 0,
        "fraud_scenario": scenario,
    }
    return pa.table({f.name: pa.array(columns[f.name]).cast(f.type) for f in SCHEMA}, schema=SCHEMA)


def transactions(config: SimulatorConfig = PUBLISHED, folder: Path = DATA_FOLDER) -> pa.Table:
    """Return the simulated transactions, from the Parquet file in `folder` if an earlier call left it there."""
    path = cache_path(config, folder)
    if not path.exists():
        _write(_simulate_with_progress(config), path)
    return pq.read_table(path)


def cache_path(config: SimulatorConfig = PUBLISHED, folder: Path = DATA_FOLDER) -> Path:
    """Return where `transactions` keeps a configuration: the name holds the digest of all that decides the rows.

    Examples
    --------
    >>> cache_path(folder=Path("data")).name == cache_path(SimulatorConfig(days=30)).name
    False
    """
    values = {name: str(getattr(config, name)) for name in config.__dataclass_fields__}
    text = json.dumps({"version": DATA_VERSION, **values}, sort_keys=True)
    return folder / f"transactions-{hashlib.sha256(text.encode()).hexdigest()[:12]}.parquet"


def _simulate_with_progress(config: SimulatorConfig) -> pa.Table:
    percentage = TextColumn("{task.percentage:>3.0f}%")
    layout = TextColumn("{task.description}"), BarColumn(), percentage, TimeRemainingColumn()
    with Progress(*layout) as progress:
        task = progress.add_task("simulating transactions", total=config.customers)
        return simulate(config, lambda: progress.advance(task))


def _write(table: pa.Table, path: Path) -> None:
    """Write under another name first: an interrupted run must not leave half a file that looks whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


def _genuine(config: SimulatorConfig, people: Population, advance: Callable[[], None] | None) -> Payments:
    """All customers' transactions, customer by customer, each in the order of the draws."""
    drawn: list[tuple[int, float]] = []
    terminals: list[int] = []
    counts = np.zeros(config.customers, np.int64)
    for customer, reach in enumerate(people.reachable):
        if len(reach):
            mean, rate = float(people.mean_amount[customer]), float(people.daily_rate[customer])
            drawn.extend(_one_customer(customer, mean, rate, days=config.days))
            counts[customer] = len(drawn) - len(terminals)
            choose, options = Random(customer).choice, reach.tolist()
            terminals.extend([choose(options) for _ in range(counts[customer])])
        if advance:
            advance()
    seconds, amounts = zip(*drawn, strict=True) if drawn else ((), ())
    return Payments(
        second=np.array(seconds, np.int64),
        customer=np.repeat(np.arange(config.customers), counts),
        terminal=np.array(terminals, np.int64),
        amount=np.array(amounts, np.float64).round(2),
    )


def _one_customer(customer: int, mean: float, rate: float, *, days: int) -> Iterator[tuple[int, float]]:
    """One customer's times and unrounded amounts.

    A normal draw of the legacy generator is `mean + deviation * gaussian`, a uniform one `low + width * u`:
    spelt out in Python floats it is the same bits at a third of the call's price.
    """
    generator = np.random.RandomState(customer)
    gaussian, poisson, uniform = generator.standard_normal, generator.poisson, generator.random_sample
    deviation = mean / 2
    for midnight in range(0, days * SECONDS_A_DAY, SECONDS_A_DAY):
        for _ in range(poisson(rate)):
            second = int(NOON + TIME_SPREAD * gaussian())
            if 0 < second < SECONDS_A_DAY:
                amount = mean + deviation * gaussian()
                yield midnight + second, amount if amount >= 0 else 2 * mean * uniform()


def _numbered_by_time(payments: Payments) -> Payments:
    """Sort by time, the published way: an unstable sort decides between rows of the same second.

    The published table was sorted as pandas datetimes with the default algorithm, an introsort, and 231,973 of
    its rows share their second with another: the algorithm is part of the data. NumPy still runs that introsort
    for datetimes; for plain integers it takes a vectorised sort whose order of ties depends on the CPU.
    """
    order = np.argsort(payments.second.view("datetime64[s]"), kind="quicksort")
    return Payments(
        second=payments.second[order],
        customer=payments.customer[order],
        terminal=payments.terminal[order],
        amount=payments.amount[order],
    )


def _add_frauds(config: SimulatorConfig, payments: Payments) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return amounts and scenario numbers after the three scenarios; a later one overwrites the number."""
    amount = payments.amount.copy()
    scenario = (amount > HIGH_AMOUNT).astype(np.int8)
    day = payments.second // SECONDS_A_DAY
    for first in range(int(day.max(initial=0))):
        picked = daily_picks(config.terminals, DAILY_COMPROMISED_TERMINALS, first)
        scenario[_rows(day, first, TERMINAL_COMPROMISE_DAYS, payments.terminal, picked)] = 2
    for first in range(int(day.max(initial=0))):
        picked = daily_picks(config.customers, DAILY_COMPROMISED_CUSTOMERS, first)
        rows = _rows(day, first, CUSTOMER_COMPROMISE_DAYS, payments.customer, picked).tolist()
        stolen = Random(first).sample(rows, len(rows) // 3)
        amount[stolen] *= STOLEN_CARD_FACTOR
        scenario[stolen] = 3
    return amount, scenario


def daily_picks(size: int, count: int, day: int) -> NDArray[np.int64]:
    """Return which `count` of 0..size-1 are compromised from a day on: pandas' `Series.sample`, seeded by the day."""
    shuffled: NDArray[np.int64] = np.random.RandomState(day).permutation(size)
    return shuffled[:count]


def _rows(
    day: NDArray[np.int64], first: int, days: int, column: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the row numbers, ascending, with `first <= day < first + days` and `column` among the wanted values."""
    low, high = np.searchsorted(day, [first, first + days])
    rows: NDArray[np.int64] = low + np.flatnonzero(np.isin(column[low:high], wanted))
    return rows
