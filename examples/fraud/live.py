"""The live generator: an endless, seeded stream of card payments, and the labels that follow days later.

Run it from the repository::

    python -m examples.fraud.live --rate 1000 --output payments.ndjson --labels labels.ndjson

or use it as a library: `LiveStream` yields Arrow tables, `ndjson` turns them into lines, `Table.to_pylist` into dicts.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from .daily import DAY_US, DEVICES, LiveWorld, Payments
from .merchants import CATEGORIES, COUNTRIES
from .population import SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

# The id is day * IDS_A_DAY + position: above every id of the simulated history, and exact in JSON (below 2**53).
IDS_A_DAY = 1_000_000_000
ROWS_A_BATCH = 8_192
PIECES_A_SECOND = 20
DEFAULT_DELAY = timedelta(days=7)

EVENT_SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.int64()),
        ("terminal_id", pa.int64()),
        ("amount", pa.float64()),
        ("merchant_category", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("device", pa.string()),
        ("country", pa.string()),
    ]
)
LABEL_SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("is_fraud", pa.bool_()),
        ("fraud_scenario", pa.int8()),
        ("reported_at", pa.timestamp("us", tz="UTC")),
    ]
)


class Batch(NamedTuple):
    """Consecutive payments, and the labels that became known up to the last of them."""

    events: pa.Table
    labels: pa.Table


@dataclass(frozen=True, slots=True)
class LiveStream:
    """The endless stream of a world, from the day after its simulated history on.

    Iterating again starts anew and yields the same rows. Every payment gets one label, `label_delay` after it, in the
    order of the payments.

    Parameters
    ----------
    world
        Who pays where, and the seed.
    label_delay
        From a payment to the report that says whether it was a fraud; at least 0.
    first_day
        Days after the configuration's start; by default its `days`, so that the stream continues the history.

    Examples
    --------
    >>> stream = LiveStream(
    ...     LiveWorld(SimulatorConfig(customers=200, terminals=2_000)), label_delay=timedelta(hours=1)
    ... )
    >>> first, second = take(stream, rows=5), take(stream, rows=5)
    >>> first.equals(second), str(first["timestamp"][0].as_py().date())
    (True, '2018-10-01')
    """

    world: LiveWorld = field(default_factory=LiveWorld)
    label_delay: timedelta = DEFAULT_DELAY
    first_day: int | None = None

    def __post_init__(self) -> None:
        """Refuse labels from the future."""
        if self.label_delay < timedelta(0):
            raise ValueError(f"LiveStream: label_delay={self.label_delay}, must not be negative")

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of at most `ROWS_A_BATCH` payments."""
        return self.batches(ROWS_A_BATCH)

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield batches of at most `rows` payments; a batch never spans two days."""
        waiting: deque[pa.Table] = deque()
        for events, labels in self._days():
            for start in range(0, events.num_rows, rows):
                piece = events.slice(start, rows)
                waiting.append(labels.slice(start, rows))
                yield Batch(piece, _due(waiting, _int64(piece["timestamp"])[-1]))

    def _days(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        for day in count(self.world.config.days if self.first_day is None else self.first_day):
            payments = self.world.day(day)
            yield self._events(day, payments), self._labels(day, payments)

    def _times(self, day: int, payments: Payments) -> NDArray[np.int64]:
        return round(self.world.config.start.timestamp()) * 1_000_000 + day * DAY_US + payments.time_us

    def _events(self, day: int, payments: Payments) -> pa.Table:
        places, terminal = self.world.merchants, payments.terminal
        columns = (
            day * IDS_A_DAY + np.arange(len(terminal)),
            self._times(day, payments),
            payments.customer,
            terminal,
            payments.amount,
            _names(CATEGORIES, places.category[terminal]),
            places.latitude[terminal],
            places.longitude[terminal],
            _names(DEVICES, payments.device),
            _names(COUNTRIES, places.country[terminal]),
        )
        return _table(columns, EVENT_SCHEMA)

    def _labels(self, day: int, payments: Payments) -> pa.Table:
        columns = (
            day * IDS_A_DAY + np.arange(len(payments.scenario)),
            payments.scenario > 0,
            payments.scenario,
            self._times(day, payments) + self.label_delay // timedelta(microseconds=1),
        )
        return _table(columns, LABEL_SCHEMA)


def take(stream: LiveStream, *, rows: int) -> pa.Table:
    """Return the first `rows` payments of a stream as one table."""
    return pa.concat_tables([batch.events for batch in limited(stream, rows)])


def ndjson(table: pa.Table) -> bytes:
    r"""Encode a table as lines of JSON; times as RFC 3339 with microseconds and ``Z``.

    Examples
    --------
    >>> ndjson(pa.table({"amount": [1.5], "timestamp": pa.array([1], pa.timestamp("us", "UTC"))}))
    b'{"amount":1.5,"timestamp":"1970-01-01T00:00:00.000001Z"}\n'
    """
    line = msgspec.defstruct("Line", table.column_names, frozen=True, gc=False)
    columns = [_json_values(table[name]) for name in table.column_names]
    return msgspec.json.Encoder().encode_lines(list(map(line, *columns)))


def limited(batches: Iterable[Batch], payments: int) -> Iterator[Batch]:
    """Pass on batches with the first `payments` payments, and no label of a payment that is cut off."""
    if payments < 1:
        raise ValueError(f"limited: payments={payments}, must be at least 1")
    left = payments
    for batch in batches:
        if batch.events.num_rows < left:
            left -= batch.events.num_rows
            yield batch
            continue
        events = batch.events.slice(0, left)
        now = _int64(events["timestamp"])[-1]
        known = np.searchsorted(_int64(batch.labels["reported_at"]), now, side="right")
        yield Batch(events, batch.labels.slice(0, known))
        return


def paced(batches: Iterable[Batch], rate: float) -> Iterator[Batch]:
    """Pass batches on no sooner than their payments are due at `rate` payments a second."""
    started, passed = time.perf_counter(), 0
    for batch in batches:
        passed += batch.events.num_rows
        early = started + passed / rate - time.perf_counter()
        if early > 0:
            time.sleep(early)
        yield batch


def _due(waiting: deque[pa.Table], now_us: int) -> pa.Table:
    """Take from the queue, which is in time order, all labels reported up to now."""
    due = []
    while waiting:
        reported = np.searchsorted(_int64(waiting[0]["reported_at"]), now_us, side="right")
        due.append(waiting[0].slice(0, reported))
        if reported < waiting[0].num_rows:
            waiting[0] = waiting[0].slice(reported)
            break
        waiting.popleft()
    return pa.concat_tables(due) if due else LABEL_SCHEMA.empty_table()


def _int64(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return values


def _names(names: tuple[str, ...], positions: NDArray[np.int8]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(positions), pa.array(names)).cast(pa.string())


def _table(columns: tuple[NDArray[np.generic] | pa.Array, ...], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _json_values(column: pa.ChunkedArray) -> list[object]:
    if pa.types.is_timestamp(column.type):
        moments = column.cast(pa.timestamp("us")).to_numpy()
        return list(np.char.add(np.datetime_as_string(moments, unit="us"), "Z").tolist())
    return list(column.to_numpy().tolist())


def main(
    *,
    rate: Annotated[float, typer.Option(min=0, help="Payments a second; 0: as fast as it goes.")] = 100,
    events: Annotated[int, typer.Option(min=0, help="Stop after so many payments; 0: never.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Where payments go, as NDJSON; default: stdout.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Where labels go, as NDJSON; default: nowhere.")] = None,
    label_delay_hours: Annotated[float, typer.Option(min=0, help="From a payment to its label.")] = 168,
    customers: Annotated[int, typer.Option(min=3, help="How many customers pay.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Which of the possible futures.")] = 0,
) -> None:
    """Write an endless stream of card payments, and their labels when they become known."""
    world = LiveWorld(SimulatorConfig(customers=customers), seed)
    stream = LiveStream(world, timedelta(hours=label_delay_hours))
    rows = max(1, min(ROWS_A_BATCH, round(rate / PIECES_A_SECOND))) if rate else ROWS_A_BATCH
    batches = stream.batches(rows)
    chosen = limited(batches, events) if events else batches
    try:
        _write(paced(chosen, rate) if rate else chosen, events, output, labels)
    except BrokenPipeError:  # the reader has had enough, as in `| head`; nobody is left to flush to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(batches: Iterable[Batch], expected: int, output: Path | None, labels: Path | None) -> None:
    layout = TextColumn("{task.description}"), TaskProgressColumn(show_speed=True), TimeElapsedColumn()
    with ExitStack() as stack:
        payments = stack.enter_context(output.open("wb")) if output else sys.stdout.buffer
        truth = stack.enter_context(labels.open("wb")) if labels else None
        progress = stack.enter_context(Progress(*layout, console=Console(stderr=True)))
        task = progress.add_task("payments", total=expected or None)
        for batch in batches:
            _emit(batch, payments, truth)
            progress.advance(task, batch.events.num_rows)


def _emit(batch: Batch, payments: BinaryIO, labels: BinaryIO | None) -> None:
    payments.write(ndjson(batch.events))
    payments.flush()
    if labels and batch.labels.num_rows:
        labels.write(ndjson(batch.labels))
        labels.flush()


if __name__ == "__main__":
    typer.run(main)
