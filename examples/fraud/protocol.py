"""The published protocol: which rows train, which rows test.

A week to train, a week in which the labels are still unknown, a week to test. Cards known to be stolen are blocked, so
their later transactions would never arrive: a card leaves the test from the day after the delay on. Counting a
known stolen card as a hit would flatter every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPOCH = date(1970, 1, 1)
MICROSECONDS_A_DAY = 86_400_000_000
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A time-ordered split with a gap for the labels' delay, in whole UTC days.

    Examples
    --------
    >>> Protocol().test_start
    datetime.date(2018, 8, 8)
    """

    train_start: date = date(2018, 7, 25)
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7

    def __post_init__(self) -> None:
        """Refuse empty weeks: a model without training or test rows says nothing."""
        if min(self.train_days, self.test_days) < 1 or self.delay_days < 0:
            raise ValueError(
                f"Protocol: train_days={self.train_days}, delay_days={self.delay_days}, test_days={self.test_days}; "
                "allowed are at least 1, 0 and 1"
            )

    @property
    def test_start(self) -> date:
        """The first day of the test."""
        return date.fromordinal(self.train_start.toordinal() + self.train_days + self.delay_days)


class Split(NamedTuple):
    """Row masks over the table that was split: bool, one entry a row."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


def split(transactions: pa.Table, protocol: Protocol | None = None) -> Split:
    """Split a table of transactions by the protocol.

    A test row of day `d` is dropped if its customer had a fraud on a day from the start of the training week up to and
    including `d - delay - 1`: by then its label is known.

    Parameters
    ----------
    transactions
        With columns timestamp, customer_id (int64, from 0) and is_fraud; in any order.
    protocol
        The default is the published one.

    Examples
    --------
    >>> table = pa.table(
    ...     {
    ...         "timestamp": np.array(["2018-07-25", "2018-08-08", "2018-08-08"], "datetime64[us]"),
    ...         "customer_id": [1, 1, 2],
    ...         "is_fraud": [True, False, False],
    ...     }
    ... )
    >>> [mask.tolist() for mask in split(table)]
    [[True, False, False], [False, False, True]]
    """
    protocol = protocol or Protocol()
    day = utc_days(transactions)
    customer = transactions["customer_id"].to_numpy()
    fraud = transactions["is_fraud"].to_numpy()
    start, test = (day_number(first) for first in (protocol.train_start, protocol.test_start))
    blocked_after = _first_fraud_day(day, customer, fraud & (day >= start))[customer]
    return Split(
        train=(day >= start) & (day < start + protocol.train_days),
        test=(day >= test) & (day < test + protocol.test_days) & (day - protocol.delay_days <= blocked_after),
    )


def utc_days(transactions: pa.Table) -> NDArray[np.int64]:
    """Return each row's day: whole UTC days since 1970-01-01."""
    time_us = transactions["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    days: NDArray[np.int64] = time_us // MICROSECONDS_A_DAY
    return days


def day_number(day: date) -> int:
    """Return a date as days since 1970-01-01.

    Examples
    --------
    >>> day_number(date(2018, 4, 1))
    17622
    """
    return (day - EPOCH).days


def _first_fraud_day(
    day: NDArray[np.int64], customer: NDArray[np.int64], fraud: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each customer the day of its first fraud, `NEVER` if it has none."""
    first = np.full(customer.max(initial=-1) + 1, NEVER)
    np.minimum.at(first, customer[fraud], day[fraud])
    return first
