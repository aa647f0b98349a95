"""What a view's kernel computes: lanes, windows, aggregates; and its encoding for the jitted code.

The jitted code is compiled once for all programs: it reads a program as a flat array of integers, laid out by
`Program.encode` and named by the constants of this file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np

from penstock.core.errors import DefinitionError
from penstock.kernel.columns import IntArray
from penstock.kernel.extension import Base, bases_of, encode_extension
from penstock.kernel.spec import (
    COUNTS,
    EXTENDED,
    KEEPS_KIND,
    MAX_SPAN_US,
    TEXT_FUNCTIONS,
    AggregateSpec,
    Function,
    LaneKind,
    Window,
)

__all__ = ["AggregateSpec", "Function", "LaneKind", "Program", "Window"]

# Header of an encoded program.
LANES, WINDOWS, CELLS, AGGREGATES, LATENESS, MAX_KEYS, SPAN, STRIDE, RECORD = range(9)
WINDOW_TABLE, CELL_TABLE, AGGREGATE_TABLE, KIND_TABLE, POOL_WORDS, HAS_SINCE, EXTENSION = range(9, 16)
ENDLESS_LATEST, OUTPUT_TABLE = 16, 17
HEADER_WORDS = 18
# A window's entry.
W_SIZE, W_OFFSET, W_BEGIN, W_END, W_FLAGS, WINDOW_WORDS = range(6)  # flags: those of its cells, together
# A cell's entry: what is kept for one (window, lane), and at which word of the key's record.
C_WINDOW, C_LANE, C_FLAGS, C_KIND, C_COUNT, C_SUM, C_SQUARES, C_EXTREMES, C_LAST = range(9)
C_DISTINCT, C_MIN_COLUMN, C_MAX_COLUMN, C_BEGIN, C_END = range(
    9, 14
)  # its outputs: C_BEGIN .. C_END of their table
CELL_WORDS = 14
# An aggregate's entry.
A_FUNCTION, A_CELL, AGGREGATE_WORDS = range(3)
# An output's entry: the same by cell.
O_FUNCTION, O_OUTPUT, OUTPUT_WORDS = range(3)
# What a cell keeps besides the count.
KEEPS_SUM, KEEPS_SQUARES, KEEPS_MIN, KEEPS_MAX, KEEPS_LAST, KEEPS_DISTINCT = 1, 2, 4, 8, 16, 32
# A key's record: header, then (lo, hi) of each window, then the cells.
R_NEWEST, R_BLOCK, R_MASK, R_FIRST, R_NEXT, R_SOUGHT, R_REMEMBERED, RECORD_HEADER = range(8)
# A row: time, bit mask of the valid lanes, the lanes, then suffix columns of minima and maxima.
ROW_TIME, ROW_VALID, ROW_LANES = range(3)
# Exact sums: words of the narrow and the wide (whole float64 range) integers. See limbs.py.
SUM_WORDS, SQUARES_WORDS, WIDE_SUM_WORDS, WIDE_SQUARES_WORDS = 3, 6, 34, 68
MAX_LANES = 62
ENDLESS_US = 365_000 * 86_400_000_000
"""A window of this size or more reaches back to the beginning of all events."""
_SPREAD = KEEPS_SUM | KEEPS_SQUARES
KEEPS_OF = {
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


_FLOAT_SUM = [0] * CELL_WORDS
_FLOAT_SUM[C_FLAGS], _FLOAT_SUM[C_KIND] = KEEPS_SUM, LaneKind.FLOAT


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
        if self.lanes[spec.lane] is LaneKind.CODE and spec.function not in TEXT_FUNCTIONS:
            allowed = ", ".join(sorted(f.name for f in TEXT_FUNCTIONS))
            raise DefinitionError(
                f"aggregate {spec.function.name}: lane {spec.lane} holds text, which allows {allowed}."
            )

    @property
    def output_kinds(self) -> tuple[LaneKind, ...]:
        """What the bits of each output mean."""
        return tuple(self._output_kind(spec) for spec in self.aggregates for _ in range(spec.width))

    @property
    def is_extended(self) -> bool:
        """Whether it needs more than the core functions over sliding windows."""
        return not all(w.of_core for w in self.windows) or any(
            a.function in EXTENDED for a in self.aggregates
        )

    @property
    def bases(self) -> tuple[Base, ...]:
        """What its lifetime windows keep of forgotten rows."""
        return tuple(bases_of(self.windows, self.aggregates, list(self._cells())))

    def _output_kind(self, spec: AggregateSpec) -> LaneKind:
        if spec.function in COUNTS:
            return LaneKind.INT
        return self.lanes[spec.lane] if spec.function in KEEPS_KIND else LaneKind.FLOAT

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
            len(self.output_kinds),
        )
        header[[LATENESS, MAX_KEYS]] = self.allowed_lateness_us, self.max_keys
        header[SPAN] = max((w.span_us for w in self.windows), default=0)
        header[HAS_SINCE] = any(a.function is Function.TIME_SINCE_LAST for a in self.aggregates)
        header[ENDLESS_LATEST] = self.keeps_newest_only
        squares = any(flags & KEEPS_SQUARES for flags in cells.values())
        header[POOL_WORDS] = WIDE_SUM_WORDS + (WIDE_SQUARES_WORDS if squares else 0)
        windows = self._window_table(cells)
        cell_table, header[RECORD], header[STRIDE] = self._cell_table(cells)
        aggregates = [
            (int(a.function), places.index((a.window, a.lane)))
            for a in self.aggregates
            for _ in range(a.width)
        ]
        outputs = _by_cell(aggregates, cell_table)
        parts = windows, cell_table, aggregates, self.lanes, outputs
        tables = [np.array(t, np.int64).ravel() for t in parts]
        header[[WINDOW_TABLE, CELL_TABLE, AGGREGATE_TABLE, KIND_TABLE, OUTPUT_TABLE]] = (
            HEADER_WORDS + np.cumsum([0, *map(len, tables[:-1])])
        )
        if self.is_extended:
            header[EXTENSION] = HEADER_WORDS + sum(map(len, tables))
            more = encode_extension(
                self.lanes,
                self.windows,
                self.aggregates,
                places,
                record=header[RECORD],
                stride=header[STRIDE],
                term_cell=_FLOAT_SUM,
            )
            header[[RECORD, STRIDE]] = more.record, more.stride
            tables.append(more.table)
        return np.concatenate([header, *tables])

    def _cells(self) -> dict[tuple[int, int], int]:
        """Return what each (window, lane) keeps, by window."""
        flags: dict[tuple[int, int], int] = {}
        for spec in self.aggregates:
            place = spec.window, spec.lane
            flags[place] = flags.get(place, 0) | KEEPS_OF.get(spec.function, 0)
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


def _by_cell(aggregates: list[tuple[int, int]], cells: list[list[int]]) -> list[tuple[int, int]]:
    """Return (function, output) of all aggregates by cell, and note in the cells' entries where theirs are."""
    order = sorted(range(len(aggregates)), key=lambda a: aggregates[a][1])
    for place, a in enumerate(order):
        entry = cells[aggregates[a][1]]
        if entry[C_END] == 0:
            entry[C_BEGIN] = place
        entry[C_END] = place + 1
    return [(aggregates[a][0], a) for a in order]
