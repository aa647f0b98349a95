"""What the example runs on: which transactions, when the live part begins, and where everything is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from .population import SimulatorConfig
from .protocol import Protocol, day_number, utc_days
from .simulator import PUBLISHED, transactions

HERE = Path(__file__).parent
CREDITCARD_PROJECT = HERE / "creditcard_project"
SMALL = SimulatorConfig(customers=1_000, terminals=5_000, radius=6.0)
LABEL_DELAY = timedelta(days=7)
LONGEST_WINDOW = timedelta(days=30)
# A window over labels reaches back by the window and by the labels' delay.
REACH_DAYS = (LONGEST_WINDOW + LABEL_DELAY).days

EVENT_COLUMNS = ["transaction_id", "timestamp", "customer_id", "terminal_id", "amount"]


@dataclass(frozen=True)
class World:
    """A simulated world and the folder in which the example keeps data, state and reports.

    Parameters
    ----------
    config
        The simulator's.
    folder
        Data go to ``data``, state to ``.penstock``, reports to ``reports`` in it.
    """

    config: SimulatorConfig = PUBLISHED
    folder: Path = HERE
    protocol: Protocol = field(default_factory=Protocol)

    @cached_property
    def table(self) -> pa.Table:
        """All transactions with their truth, in time order; simulated at the first call, then read."""
        return transactions(self.config, self.folder / "data")

    @property
    def live_start(self) -> date:
        """The first day of the live stream: the day after the test week."""
        return self.protocol.test_start + timedelta(days=self.protocol.test_days)

    @property
    def reports(self) -> Path:
        """Where reports and pictures go."""
        return self.folder / "reports"

    def between(self, start: date, stop: date | None = None) -> pa.Table:
        """The transactions of the days from `start` up to and excluding `stop`."""
        days = utc_days(self.table)
        first, last = days.searchsorted([day_number(start), day_number(stop or date.max)])
        return self.table.slice(first, last - first)

    def with_history(self, start: date, stop: date | None = None) -> pa.Table:
        """As `between`, with what the longest windows of the first day reach back to."""
        return self.between(start - timedelta(days=REACH_DAYS), stop)


def events_of(table: pa.Table) -> pa.Table:
    """The transactions as the stream brings them: without the truth."""
    return table.select(EVENT_COLUMNS)


def labels_of(table: pa.Table) -> pa.Table:
    """The truth of each transaction, known `LABEL_DELAY` later: genuine ones are confirmed, frauds charged back."""
    delay = pa.scalar(LABEL_DELAY, pa.duration("us"))
    return pa.table(
        {
            "transaction_id": table["transaction_id"],
            "is_fraud": table["is_fraud"],
            "reported_at": pc.add(table["timestamp"], delay),
        }
    )
