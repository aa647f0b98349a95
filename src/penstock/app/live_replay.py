"""A recorded stream as if it happened now: files of events and labels, merged, paced, with times moved and ids that nobody has seen.

1. Events of all streams are merged by their recorded time; each source keeps its own order (its running maximum counts).
2. A pace says when the k-th event is due. Labels and rows of tables are due where they stand between the events: a label that became known
   after the next 1,000 events is due after them, so delays shrink as the stream is sped up.
3. At its turn a row gets the time at which it is due; what was late stays behind by as much, sped up; other times keep their distance to it.
4. Each pass over the files has ids of its own, the same for an event and its labels.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np

from penstock.core.errors import InputError
from penstock.engine.contract import Contract
from penstock.kernel.columns import Columns, Text

if TYPE_CHECKING:
    from penstock.app.inputs import Input
    from penstock.plan.nodes import SourceNode

BLOCK_ROWS = 4_096
_EPOCH_S = 1_700_000_000
_IDS_A_SECOND = 10_000
_encode = msgspec.json.Encoder().encode


class Pace(Protocol):
    """When events are due, in seconds since the start."""

    def due_s(self, number: int, recorded_s: float) -> float:
        """Of event `number` (from 0), recorded so long after the first one; asked in their order."""


class Even:
    """So many events a second, at equal distances.

    >>> Even(4.0).due_s(2, 99.0)
    0.5
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def due_s(self, number: int, recorded_s: float) -> float:  # noqa: ARG002 - see `Pace`
        """See `Pace`."""
        return number / self._rate


class Poisson:
    """So many events a second on average, at random: the waits between them are exponential, and the same for the same seed."""

    def __init__(self, rate: float, seed: int) -> None:
        self._rate, self._random, self._due_s = rate, random.Random(seed), 0.0  # noqa: S311 - a load, no secret

    def due_s(self, number: int, recorded_s: float) -> float:  # noqa: ARG002 - see `Pace`
        """See `Pace`."""
        self._due_s += self._random.expovariate(self._rate)
        return self._due_s


class Recorded:
    """As recorded, so many times faster.

    >>> Recorded(60.0).due_s(5, 120.0)
    2.0
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def due_s(self, number: int, recorded_s: float) -> float:  # noqa: ARG002 - see `Pace`
        """See `Pace`."""
        return recorded_s / self._speed


class Due(NamedTuple):
    """A row to send: when, in seconds since the start, of which source, as JSON."""

    due_s: float
    source: str
    data: bytes
    is_event: bool


class _Row(NamedTuple):
    turn_us: int
    order: int
    recording: _Recording
    values: dict[str, Any]
    own_us: int


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """One source's files; `ids` is the field whose values are made new, `int_ids` whether it holds numbers."""

    node: SourceNode
    input: Input
    order: int
    ids: str | None
    int_ids: bool

    @property
    def is_event(self) -> bool:
        return not self.node.comes_first

    def rows(self, offset_us: int) -> Iterator[_Row]:
        """The rows of one pass, in the order of the file."""
        contract, latest_us = Contract(self.node), None
        for decoded, _ in self.input.read(contract, None, rows=BLOCK_ROWS, final=True, stop=Event()):
            for values in _values(decoded.columns):
                own_us = values[self.node.time_field] + offset_us
                latest_us = own_us if latest_us is None else max(latest_us, own_us)
                yield _Row(latest_us, self.order, self, values, own_us)


class LiveReplay:
    """The rows of recorded sources, in the order in which they are due; iterate it once.

    Parameters
    ----------
    inputs, sources
        The files, and the contracts of their sources. Rows that a contract refuses are left out.
    pace
        When events are due.
    start_us
        What time it is when the first row is due.
    seed
        Names the new ids: equal seeds make equal ids, and an engine that has seen them answers ``duplicate``.
    loop
        Whether to begin again at the end.
    shift
        Whether times are moved to now; without, they stay as recorded.

    Raises
    ------
    InputError
        There are no events, or ids that cannot be made new.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        sources: Mapping[str, SourceNode],
        *,
        pace: Pace,
        start_us: int,
        seed: int,
        loop: bool = False,
        shift: bool = True,
    ) -> None:
        self._recordings = [_recording(sources, one, order) for order, one in enumerate(inputs)]
        if not any(one.is_event for one in self._recordings):
            raise InputError(
                "live data: no stream of events is among the sources; there must be one that sets the pace. Name its file: SOURCE=FILE."
            )
        self._pace, self._start_us, self._loop, self._shift = pace, start_us, loop, shift
        self._ids = _NewIds(seed, self._recordings)
        self._waiting: list[tuple[int, int, int, _Row, Iterator[_Row]]] = []
        """The next row of each file of labels: its turn, the file's order, the pass that it belongs to, and the rows after it."""
        self._first_us: int | None = None
        self._turn_us, self._due_s = 0, 0.0

    def __iter__(self) -> Iterator[Due]:
        offset_us = number = 0
        for turn in count():
            begun = number
            self._wait_for_labels(turn, offset_us)
            first_us = None
            for row in heapq.merge(*(one.rows(offset_us) for one in self._recordings if one.is_event)):
                first_us = row.turn_us if first_us is None else first_us
                self._first_us = row.turn_us if self._first_us is None else self._first_us
                due_s = self._pace.due_s(number, (row.turn_us - self._first_us) / 1e6)
                yield from self._labels_until(row.turn_us, due_s)
                self._turn_us, self._due_s = row.turn_us, max(due_s, self._due_s)
                yield self._due(row, self._due_s, turn)
                number += 1
            if number == begun:
                raise InputError(
                    "live data: the files hold no event that its source accepts. Check them: penstock score --dry-run."
                )
            if not self._loop:
                break
            span_us = self._turn_us - (first_us or 0)
            offset_us += span_us + max(span_us // (number - begun), 1)
        yield from self._labels_until(None, 0.0)

    def _wait_for_labels(self, turn: int, offset_us: int) -> None:
        for recording in self._recordings:
            if not recording.is_event:
                self._wait(recording.rows(offset_us), turn)

    def _wait(self, rows: Iterator[_Row], turn: int) -> None:
        row = next(rows, None)
        if row is not None:
            heapq.heappush(self._waiting, (row.turn_us, row.order, turn, row, rows))

    def _labels_until(self, turn_us: int | None, due_s: float) -> Iterator[Due]:
        """Labels before the event that is next, due in proportion; after the last event those that are left, at the average speed."""
        while self._waiting and (turn_us is None or self._waiting[0][0] <= turn_us):
            _, _, turn, row, rows = heapq.heappop(self._waiting)
            self._wait(rows, turn)
            after_us = max(row.turn_us - self._turn_us, 0)
            if turn_us is None:
                at_s = self._due_s + after_us / 1e6 / self._speed()
            elif self._first_us is None or self._turn_us == turn_us or not self._turn_us:
                at_s = due_s
            else:
                at_s = self._due_s + (due_s - self._due_s) * after_us / (turn_us - self._turn_us)
            yield self._due(row, at_s, turn)

    def _speed(self) -> float:
        """How much faster than recorded it went so far."""
        recorded_s = (self._turn_us - (self._first_us or 0)) / 1e6
        return recorded_s / self._due_s if self._due_s and recorded_s else 1.0

    def _due(self, row: _Row, due_s: float, turn: int) -> Due:
        node, values = row.recording.node, row.values
        if self._shift:
            behind_us = (row.turn_us - row.own_us) / max(self._speed(), 1e-9)
            moved_us = self._start_us + round(due_s * 1e6 - behind_us) - values[node.time_field]
        else:
            moved_us = row.own_us - values[node.time_field]
        for field in node.fields:
            if field.dtype.kind == "time" and values[field.name] is not None:
                values[field.name] += moved_us
        if row.recording.ids is not None:
            values[row.recording.ids] = self._ids.of(row.recording, values[row.recording.ids], turn)
        return Due(due_s, node.name, _encode(values), row.recording.is_event)


class _NewIds:
    """Ids that nobody has seen: texts get an ending, numbers are moved behind all that earlier runs can have used."""

    def __init__(self, seed: int, recordings: Sequence[_Recording]) -> None:
        self._tag = f"{seed:x}"
        self._base = max(seed - _EPOCH_S, 0) * _IDS_A_SECOND
        self._ranges: dict[str, tuple[int, int]] = {}
        for one in recordings:
            if one.is_event and one.int_ids:
                self._ranges[one.node.name] = _range_of(one)

    def of(self, recording: _Recording, value: Any, turn: int) -> Any:
        if not recording.int_ids:
            return f"{value}-{self._tag}.{turn}" if turn else f"{value}-{self._tag}"
        low, high = self._ranges.get(recording.node.label_of or recording.node.name, (0, 0))
        return self._base + turn * (high - low + 1) + (value - low)


def new_seed(now_us: int) -> int:
    """A seed that no earlier run had, unless it began in the same second."""
    return now_us // 1_000_000


def _recording(sources: Mapping[str, SourceNode], one: Input, order: int) -> _Recording:
    node = sources[one.source]
    ids = None if node.is_batch else node.id_field
    kind = next((field.dtype for field in node.fields if field.name == ids), None)
    if kind is not None and kind.name == "Int32":
        raise InputError(
            f"live data: the ids of {one.source!r} are Int32, too few to make new ones. Let the field be Int64 or String."
        )
    return _Recording(node, one, order, ids, kind is not None and kind.kind == "int")


def _range_of(recording: _Recording) -> tuple[int, int]:
    """The least and the greatest id of a recording."""
    low, high = 2**63, -(2**63)
    contract = Contract(recording.node)
    for decoded, _ in recording.input.read(contract, None, rows=BLOCK_ROWS * 8, final=True, stop=Event()):
        ids = decoded.columns[str(recording.ids)].values  # type: ignore[union-attr]
        if len(ids):
            low, high = min(low, int(ids.min())), max(high, int(ids.max()))
    return (low, high) if low <= high else (0, 0)


def _values(columns: Columns) -> Iterator[dict[str, Any]]:
    """The rows as JSON values, times as integer microseconds."""
    names = list(columns.columns)
    lists = [_list(columns, name) for name in names]
    for row in zip(*lists, strict=True):
        yield dict(zip(names, row, strict=True))


def _list(columns: Columns, name: str) -> list[Any]:
    column = columns[name]
    if isinstance(column, Text):
        return column.to_strings()
    found: list[Any] = column.values.tolist()
    if column.valid is not None:
        for row in np.flatnonzero(~column.valid).tolist():
            found[row] = None
    return found
