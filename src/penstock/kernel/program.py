"""What a view's kernel computes: lanes, windows, aggregates; and its encoding for the jitted code.

The jitted code is compiled once for all programs: it reads a program as a flat array of integers, laid out by
`Program.encode` and named by the constants of this file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import or_

import numpy as np

from penstock.core.errors import DefinitionError
from penstock.kernel.columns import IntArray

# Header of an encoded program.
LANES, WINDOWS, CELLS, AGGREGATES, LATENESS, MAX_KEYS, SPAN, STRIDE, RECORD = range(9)
WINDOW_TABLE, CELL_TABLE, AGGREGATE_TABLE, KIND_TABLE, POOL_WORDS, HAS_SINCE, ENDLESS_LATEST = range(9, 16)
HEADER_WORDS = 16
# A window's entry.
W_SIZE, W_OFFSET, W_BEGIN, W_END, W_FLAGS, WINDOW_WORDS = range(6)  # flags: those of its cells, together
# A cell's entry: what is kept for one (window, lane), and at which word of the key's record.
C_WINDOW, C_LANE, C_FLAGS, C_KIND, C_COUNT, C_SUM, C_SQUARES, C_EXTREMES, C_LAST = range(9)
C_DISTINCT, C_MIN_COLUMN, C_MAX_COLUMN = range(9, 12)
CELL_WORDS = 12
# An aggregate's entry.
A_FUNCTION, A_CELL, AGGREGATE_WORDS = range(3)
# What a cell keeps besides the count.
KEEPS_SUM, KEEPS_SQUARES, KEEPS_MIN, KEEPS_MAX, KEEPS_LAST, KEEPS_DISTINCT = 1, 2, 4, 8, 16, 32
# A key's record: header, then (lo, hi) of each window, then the cells.
R_NEWEST, R_BLOCK, R_MASK, R_FIRST, R_NEXT, R_SOUGHT, R_REMEMBERED, RECORD_HEADER = range(8)
# A row: time, bit mask of the valid lanes, the lanes, then suffix columns of minima and maxima.
ROW_TIME, ROW_VALID, ROW_LANES = range(3)
# Exact sums: words of the narrow and the wide (whole float64 range) integers. See limbs.py.
SUM_WORDS, SQUARES_WORDS, WIDE_SUM_WORDS, WIDE_SQUARES_WORDS = 3, 6, 34, 68
MAX_LANES = 62
MAX_SPAN_US = 2**61
ENDLESS_US = 365_000 * 86_400_000_000
"""A window of this size or more reaches back to the beginning of all events."""


class LaneKind(IntEnum):
    """What the 64 bits of a lane mean: a float64, an int64, or the code of an interned text."""

    FLOAT = 0
    INT = 1
    CODE = 2


class Function(IntEnum):
    """The aggregate functions."""

    COUNT = 0
    SUM = 1
    MEAN = 2
    MIN = 3
    MAX = 4
    STDDEV_SAMP = 5
    STDDEV_POP = 6
    VAR_SAMP = 7
    VAR_POP = 8
    LAST = 9
    COUNT_DISTINCT = 10
    TIME_SINCE_LAST = 11
    LATEST = 12


_TEXT_FUNCTIONS = frozenset(
    {Function.COUNT, Function.LAST, Function.COUNT_DISTINCT, Function.TIME_SINCE_LAST, Function.LATEST}
)
_COUNTS = frozenset({Function.COUNT, Function.COUNT_DISTINCT})
_KEEPS_KIND = frozenset({Function.SUM, Function.MIN, Function.MAX, Function.LAST, Function.LATEST})
_SPREAD = KEEPS_SUM | KEEPS_SQUARES
_KEEPS = {
    Function.COUNT: 0,
    Function.SUM: KEEPS_SUM,
    Function.MEAN: KEEPS_SUM,
    Function.MIN: KEEPS_MIN,
    Function.MAX: KEEPS_MAX,
    Function.STDDEV_SAMP: _SPREAD,
    Function.STDDEV_POP: _SPREAD,
    Function.VAR_SAMP: _SPREAD,
    Function.VAR_POP: _SPREAD,
    Function.LAST: KEEPS_LAST,
    Function.COUNT_DISTINCT: KEEPS_DISTINCT,
    Function.TIME_SINCE_LAST: KEEPS_LAST,
    Function.LATEST: 0,
}


@dataclass(frozen=True, slots=True)
class Window:
    """The rows with ``t + offset - size < time <= t + offset``, in microseconds; the offset is never positive."""

    size_us: int
    offset_us: int = 0

    def __post_init__(self) -> None:
        if self.size_us <= 0 or self.offset_us > 0 or self.size_us - self.offset_us > MAX_SPAN_US:
            raise DefinitionError(
                f"window: size {self.size_us} µs, offset {self.offset_us} µs found; a size above 0 and an offset "
                f"of 0 or below are allowed, {MAX_SPAN_US} µs together. Give a positive size."
            )


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """One function of one lane over one window; lane and window are indices into the program's."""

    function: Function
    lane: int
    window: int


@dataclass(frozen=True, slots=True)
class Program:
    """All that a view's kernel computes.

    Parameters
    ----------
    lanes
        The kinds of the input columns, at most 62.
    windows
        The windows that aggregates refer to.
    aggregates
        The outputs, in order.
    allowed_lateness_us
        How far behind its key's newest row a row may be and still be applied.
    max_keys
        How many keys are held; beyond, the key applied longest ago leaves.

    Raises
    ------
    DefinitionError
        Where an index points nowhere or a function does not fit its lane.

    Examples
    --------
    >>> mean = AggregateSpec(Function.MEAN, 0, 0)
    >>> program = Program((LaneKind.INT,), (Window(60_000_000),), (mean,))
    >>> program.output_kinds
    (<LaneKind.FLOAT: 0>,)
    """

    lanes: tuple[LaneKind, ...]
    windows: tuple[Window, ...]
    aggregates: tuple[AggregateSpec, ...]
    allowed_lateness_us: int = 0
    max_keys: int = 5_000_000

    def __post_init__(self) -> None:
        if len(self.lanes) > MAX_LANES:
            raise DefinitionError(
                f"program: {len(self.lanes)} lanes found, {MAX_LANES} allowed. Split the view."
            )
        if self.max_keys < 1 or not 0 <= self.allowed_lateness_us <= MAX_SPAN_US:
            raise DefinitionError(
                f"program: max_keys {self.max_keys}, allowed_lateness {self.allowed_lateness_us} µs found; at least "
                f"1 key and a lateness of 0 to {MAX_SPAN_US} µs are allowed."
            )
        for spec in self.aggregates:
            self._check(spec)

    def _check(self, spec: AggregateSpec) -> None:
        if not (0 <= spec.lane < len(self.lanes) and 0 <= spec.window < len(self.windows)):
            raise DefinitionError(
                f"aggregate {spec.function.name}: lane {spec.lane} and window {spec.window} found; there are "
                f"{len(self.lanes)} lanes and {len(self.windows)} windows."
            )
        if self.lanes[spec.lane] is LaneKind.CODE and spec.function not in _TEXT_FUNCTIONS:
            allowed = ", ".join(sorted(f.name for f in _TEXT_FUNCTIONS))
            raise DefinitionError(
                f"aggregate {spec.function.name}: lane {spec.lane} holds text, which allows {allowed}."
            )

    @property
    def output_kinds(self) -> tuple[LaneKind, ...]:
        """What the bits of each output mean."""
        return tuple(self._output_kind(spec) for spec in self.aggregates)

    def _output_kind(self, spec: AggregateSpec) -> LaneKind:
        if spec.function in _COUNTS:
            return LaneKind.INT
        return self.lanes[spec.lane] if spec.function in _KEEPS_KIND else LaneKind.FLOAT

    @property
    def keeps_newest_only(self) -> bool:
        """Whether of the rows behind the horizon only those of the newest time can be seen: profiles without end."""
        return bool(self.aggregates) and all(
            spec.function is Function.LATEST and self.windows[spec.window] == Window(ENDLESS_US)
            for spec in self.aggregates
        )

    def digest(self) -> bytes:
        """Return 16 bytes that differ between programs that compute or remember differently."""
        return hashlib.blake2b(self.encode().tobytes(), digest_size=16).digest()

    def encode(self) -> IntArray:
        """Return the program as the jitted code reads it."""
        cells = self._cells()
        places = list(cells)
        header = np.zeros(HEADER_WORDS, np.int64)
        header[[LANES, WINDOWS, CELLS, AGGREGATES]] = (
            len(self.lanes),
            len(self.windows),
            len(cells),
            len(self.aggregates),
        )
        header[[LATENESS, MAX_KEYS]] = self.allowed_lateness_us, self.max_keys
        header[SPAN] = max((w.size_us - w.offset_us for w in self.windows), default=0)
        header[HAS_SINCE] = any(a.function is Function.TIME_SINCE_LAST for a in self.aggregates)
        header[ENDLESS_LATEST] = self.keeps_newest_only
        squares = any(flags & KEEPS_SQUARES for flags in cells.values())
        header[POOL_WORDS] = WIDE_SUM_WORDS + (WIDE_SQUARES_WORDS if squares else 0)
        windows = self._window_table(cells)
        cell_table, header[RECORD], header[STRIDE] = self._cell_table(cells)
        aggregates = [(int(a.function), places.index((a.window, a.lane))) for a in self.aggregates]
        tables = [np.array(t, np.int64).ravel() for t in (windows, cell_table, aggregates, self.lanes)]
        header[[WINDOW_TABLE, CELL_TABLE, AGGREGATE_TABLE, KIND_TABLE]] = HEADER_WORDS + np.cumsum(
            [0, *map(len, tables[:-1])]
        )
        return np.concatenate([header, *tables])

    def _cells(self) -> dict[tuple[int, int], int]:
        """Return what each (window, lane) keeps, by window."""
        flags: dict[tuple[int, int], int] = {}
        for spec in self.aggregates:
            place = spec.window, spec.lane
            flags[place] = flags.get(place, 0) | _KEEPS[spec.function]
        return dict(sorted(flags.items()))

    def _window_table(self, cells: dict[tuple[int, int], int]) -> list[tuple[int, int, int, int, int]]:
        table = []
        begin = 0
        for index, window in enumerate(self.windows):
            flags = [kept for (w, _), kept in cells.items() if w == index]
            together = reduce(or_, flags, 0)
            table.append((window.size_us, window.offset_us, begin, begin + len(flags), together))
            begin += len(flags)
        return table

    def _cell_table(self, cells: dict[tuple[int, int], int]) -> tuple[list[list[int]], int, int]:
        """Return the cells' entries, the words of a key's record and the words of a row."""
        record = RECORD_HEADER + 2 * len(self.windows)
        stride = ROW_LANES + len(self.lanes)
        table = []
        for (window, lane), flags in cells.items():
            entry = [0] * CELL_WORDS
            entry[C_WINDOW], entry[C_LANE], entry[C_FLAGS], entry[C_KIND] = (
                window,
                lane,
                flags,
                self.lanes[lane],
            )
            entry[C_COUNT] = record
            record += 1
            for place, keeps, words in (
                (C_SUM, KEEPS_SUM, SUM_WORDS + 2),
                (C_SQUARES, KEEPS_SQUARES, SQUARES_WORDS),
                (C_EXTREMES, KEEPS_MIN | KEEPS_MAX, 3),
                (C_LAST, KEEPS_LAST, 1),
                (C_DISTINCT, KEEPS_DISTINCT, 1),
            ):
                entry[place] = record
                record += words if flags & keeps else 0
            for place, keeps in ((C_MIN_COLUMN, KEEPS_MIN), (C_MAX_COLUMN, KEEPS_MAX)):
                entry[place] = stride
                stride += 1 if flags & keeps else 0
            table.append(entry)
        return table, record, stride
