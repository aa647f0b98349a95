"""The log in the order of event time, in bounded memory: at equal times labels first, then log order.

An external sort that suits logs, which are nearly in order already:

1. Chunks of the log are sorted by time and cut into small blocks, which are put on a shelf (memory, or a file).
2. The blocks are taken down in the order of their earliest times. All rows that are older than the next block's
   earliest time have no predecessor left on the shelf: they are put in order and handed on.

What is in memory at a time are the blocks that overlap: a few where events arrive nearly in order, one a chunk where they
were shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from penstock.core.records import LabelRecords
from penstock.engine.kernel_rows import Rows
from penstock.engine.labels import concat_labels, entering_rows, first_known, take_labels
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import CHUNK_ROWS, read_chunks
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, IntArray, Numeric, concat
from penstock.plan.nodes import Plan, SourceNode

_SORTED_ROWS = 4 * CHUNK_ROWS
_BLOCK_ROWS = 16_384
_POSITION = "_position"


class Shelf(Protocol):
    """Where blocks are kept aside."""

    def put(self, data: bytes) -> int:
        """Keep `data`; returns the ticket for `get`."""

    def get(self, ticket: int) -> bytes:
        """What was put, once."""


class MemoryShelf:
    """A shelf in memory."""

    def __init__(self) -> None:
        self._kept: dict[int, bytes] = {}

    def put(self, data: bytes) -> int:
        """Keep `data`."""
        ticket = len(self._kept)
        self._kept[ticket] = data
        return ticket

    def get(self, ticket: int) -> bytes:
        """What was put, once."""
        data, self._kept[ticket] = self._kept[ticket], b""
        return data


@dataclass(frozen=True, slots=True, eq=False)
class OrderedRows:
    """Rows of several sources that follow each other in event time.

    Attributes
    ----------
    rows
        By source, in event-time order; their positions are their places in that order.
    logged
        By source the positions in the log of the same rows.
    """

    rows: Mapping[str, Rows]
    logged: Mapping[str, IntArray]


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Rows that are not in the log but ask for features: of source `name`, last at equal times.

    `rows` makes them from what enters, a chunk of the log at a time; `rest` when all of it was seen.
    """

    name: str
    rows: Callable[[Mapping[str, Rows]], Iterator[Rows]]
    rest: Callable[[], Iterator[Rows]] = lambda: iter(())


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one source, ascending by time, on the shelf."""

    source: str
    first_us: int
    ticket: int


@dataclass(slots=True, eq=False)
class _Taken:
    """A block that was taken down, and how many of its rows were handed on."""

    source: str
    columns: Columns
    times: IntArray
    start: int = 0


def rows_by_event_time(
    store: LogReader,
    plan: Plan,
    *,
    stop: int,
    shelf: Shelf | None = None,
    asking: Asking | None = None,
    chunk_rows: int = CHUNK_ROWS,
    progress: Progress = no_progress,
) -> Iterator[OrderedRows]:
    """All rows that enter the plan's views before position `stop`, in event-time order, `chunk_rows` or so at a time.

    A label enters at the time from which it was known; of an event's labels, the one that was known first.
    """
    kept = shelf or MemoryShelf()
    blocks = _shelved(store, plan, asking, stop=stop, shelf=kept, progress=progress)
    ranks = {name: int(not source.comes_first) for name, source in plan.sources.items()}
    if asking is not None:
        ranks[asking.name] = 2
    place = 0
    for pieces in _sweep(blocks, kept, plan, chunk_rows):
        ordered = _in_order(pieces, ranks, place)
        place += sum(len(rows.positions) for rows in ordered.rows.values())
        yield ordered


def _shelved(
    store: LogReader, plan: Plan, asking: Asking | None, *, stop: int, shelf: Shelf, progress: Progress
) -> list[_Block]:
    """Step 1."""
    asked = None if asking is None else asking.name
    logged = {n: s for n, s in plan.sources.items() if s.label_of is None and n != asked}
    streams = replace(plan, sources=logged)
    blocks: list[_Block] = []
    for chunk in read_chunks(store, streams, start=0, stop=stop, chunk_rows=_SORTED_ROWS):
        entering = {**chunk.rows, **_labels(store, plan, chunk.rows, stop)}
        for name, rows in entering.items():
            blocks += _cut(plan.sources[name], rows, shelf)
        if asking is not None:
            for rows in asking.rows(entering):
                blocks += _cut(plan.sources[asking.name], rows, shelf)
        progress(chunk.stop, stop)
    if asking is not None:
        for rows in asking.rest():
            blocks += _cut(plan.sources[asking.name], rows, shelf)
    return sorted(blocks, key=lambda block: block.first_us)


def _labels(store: LogReader, plan: Plan, events: Mapping[str, Rows], stop: int) -> dict[str, Rows]:
    """The rows of label views, of the labels of `events`: of each event the label that was known first."""
    found: dict[str, Rows] = {}
    read = {view.source for view in plan.views}
    for name, label in plan.sources.items():
        of = events.get(str(label.label_of)) if name in read else None
        if of is None:
            continue
        records = first_known(labels_before(store, of.positions, stop))
        if len(records):
            labelled = of.columns.take(np.searchsorted(of.positions, records.event_positions))
            # In the order of the labels alone: where an event lies in the log plays no part in event-time order.
            placed = replace(records, event_positions=np.zeros(len(records), np.int64))
            found[name] = entering_rows(placed, labelled, label)
    return found


def labels_before(store: LogReader, positions: IntArray, stop: int) -> LabelRecords:
    """Every label of the events at `positions` that the log held before position `stop`."""
    parts = [store.labels_of(positions[i : i + CHUNK_ROWS]) for i in range(0, len(positions), CHUNK_ROWS)]
    records = concat_labels(parts)
    return take_labels(records, records.label_positions < stop)


def _cut(source: SourceNode, rows: Rows, shelf: Shelf) -> Iterator[_Block]:
    times = row_times(rows.columns, source)
    order = np.argsort(times, kind="stable")
    whole = rows.columns.with_columns({_POSITION: Numeric(rows.positions)})
    for first in range(0, len(order), _BLOCK_ROWS):
        at = order[first : first + _BLOCK_ROWS]
        yield _Block(source.name, int(times[at[0]]), shelf.put(whole.take(at).to_bytes()))


def _sweep(
    blocks: Sequence[_Block], shelf: Shelf, plan: Plan, chunk_rows: int
) -> Iterator[list[tuple[str, Columns, IntArray]]]:
    """Step 2: source, rows and times of what may be handed on."""
    down: list[_Taken] = []
    for i, block in enumerate(blocks):
        columns = Columns.from_bytes(shelf.get(block.ticket))
        down.append(_Taken(block.source, columns, row_times(columns, plan.sources[block.source])))
        last = i + 1 == len(blocks)
        ready = [len(b.times) if last else int(b.times.searchsorted(blocks[i + 1].first_us)) for b in down]
        if last or sum(ready) - sum(b.start for b in down) >= chunk_rows:
            pieces = [
                (b.source, b.columns.take(np.arange(b.start, cut)), b.times[b.start : cut])
                for b, cut in zip(down, ready, strict=True)
                if cut > b.start
            ]
            for b, cut in zip(down, ready, strict=True):
                b.start = cut
            down = [b for b in down if b.start < len(b.times)]
            if pieces:
                yield pieces


def _in_order(
    pieces: Sequence[tuple[str, Columns, IntArray]], ranks: Mapping[str, int], place: int
) -> OrderedRows:
    names = list(dict.fromkeys(name for name, _, _ in pieces))
    merged = {name: concat([columns for source, columns, _ in pieces if source == name]) for name in names}
    times = {name: np.concatenate([t for source, _, t in pieces if source == name]) for name in names}
    logged = {name: _positions(merged[name]) for name in names}
    rank = [np.full(len(times[name]), ranks[name]) for name in names]
    order = np.lexsort(
        (
            np.concatenate([logged[n] for n in names]),
            np.concatenate(rank),
            np.concatenate([times[n] for n in names]),
        )
    )
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(place, place + len(order))
    rows, positions, start = {}, {}, 0
    for name in names:
        own = places[start : start + len(times[name])]
        start += len(own)
        sort = np.argsort(own)
        columns = {key: column for key, column in merged[name].columns.items() if key != _POSITION}
        rows[name] = Rows(Columns(len(own), columns).take(sort), own[sort])
        positions[name] = logged[name][sort]
    return OrderedRows(rows, positions)


def _positions(columns: Columns) -> IntArray:
    column = columns[_POSITION]
    assert isinstance(column, Numeric)
    return column.values.astype(np.int64, copy=False)
