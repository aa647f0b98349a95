"""Feeding a project: events and labels of two tables, merged by time, in micro-batches that continue where they were.

How far the tables are read is committed in the same transaction as the decisions: a run that is killed at any moment
goes on with the first row that is not in the log, and no row is there twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.engine.contract import Contract

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.app import Runtime
    from penstock.app.metering import Meter
    from penstock.engine.local import Processed

BATCH_ROWS = 4096
BATCHES_A_SECOND = 10  # when the rate is limited


@dataclass(eq=False)
class Feed:
    """Events of one source and their labels, both in time order.

    Parameters
    ----------
    runtime
        The open project.
    source, events
        The stream's name and rows.
    labels_source, labels
        The label source's name and rows.
    """

    runtime: Runtime
    source: str
    events: pa.Table
    labels_source: str
    labels: pa.Table
    _event_times: NDArray[np.int64] = field(init=False)
    _label_times: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Look up the time columns and the contracts."""
        plan = self.runtime.plan
        self._contracts = {name: Contract(plan.sources[name]) for name in (self.source, self.labels_source)}
        self._event_times = _times(self.events, plan.sources[self.source].time_field)
        self._label_times = _times(self.labels, plan.sources[self.labels_source].time_field)

    @property
    def done(self) -> int:
        """How many events are in the log."""
        return int(self.runtime.store.offsets().get(self.source, 0))

    def time_of(self, row: int) -> int:
        """The event time of a row, in microseconds."""
        return int(self._event_times[row])

    def run(
        self,
        stop: int,
        *,
        decide: bool = True,
        rate: float | None = None,
        meter: Meter | None = None,
        after: Callable[[int], None] | None = None,
        cancelled: Event | None = None,
    ) -> int:
        """Feed the events up to row `stop`, and all labels known by then; returns how many events were fed in all.

        Parameters
        ----------
        decide
            False for history.
        rate
            Events a second; None: as fast as it goes.
        after
            Called after each micro-batch with the number of events that are fed.
        cancelled
            Ends the run after the micro-batch under way.
        """
        done = self.done
        read = int(self.runtime.store.offsets().get(self.labels_source, 0))
        rows = BATCH_ROWS if rate is None else max(1, min(BATCH_ROWS, int(rate / BATCHES_A_SECOND)))
        started, first = perf_counter(), done
        waiting = cancelled or Event()
        while done < stop and not waiting.is_set():
            upto = min(done + rows, stop)
            known = int(np.searchsorted(self._label_times, self._event_times[upto - 1], side="right"))
            handed_in = perf_counter()
            processed = self._process(slice(done, upto), slice(read, known), decide=decide)
            if meter is not None:
                meter.watch(processed, handed_in_s=handed_in)
            done, read = upto, known
            if after is not None:
                after(done)
            if rate is not None:
                waiting.wait(max(started + (done - first) / rate - perf_counter(), 0))
        self.runtime.engine.flush()
        return done

    def _process(self, events: slice, labels: slice, *, decide: bool) -> Processed:
        pieces = [(self.labels_source, self.labels, labels), (self.source, self.events, events)]
        inputs = [
            (name, self._contracts[name].decode_table(table.slice(rows.start, rows.stop - rows.start)))
            for name, table, rows in pieces
            if rows.stop > rows.start
        ]
        offsets = {name: str(rows.stop) for name, _, rows in pieces}
        return self.runtime.process(inputs, by_time=True, decide=decide, offsets=offsets)


def _times(table: pa.Table, column: str) -> NDArray[np.int64]:
    times: NDArray[np.int64] = table[column].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    return times
