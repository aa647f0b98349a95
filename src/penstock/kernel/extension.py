"""The extension of an encoded program: what windows and functions beyond the core need.

It stands behind the core's tables, at ``program[EXTENSION]``; a program that the core suffices for has none. The jitted
code of the core never looks at it: programs with an extension are run by `extended.py`.

Ranks: a lane whose rows are looked up by number has a column that counts the valid rows before each row, so that the
n-th valid row of a window is found by binary search.

Bases: a lifetime window keeps what its rows were when they are forgotten. Counts, sums and squares just stay in the
cell; the rest has words of its own, a base for each (window, lane).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.kernel.columns import IntArray
from penstock.kernel.spec import OF_OTHERS, AggregateSpec, Function, LaneKind, Window

# Header of the extension.
X_WINDOWS, X_RANKS, X_OUTPUTS, X_BASES, X_BASE_COUNT, X_DISTINCT_BASES = range(6)
EXTENSION_WORDS = 8
# A window's entry.
XW_INTERVAL, XW_HOLDS_ASKING, XW_LIFETIME, XW_WORDS = range(4)
# An output's entry: whether it looks at the other rows only, its parameter, its base (-1: none).
XO_OF_OTHERS, XO_PARAMETER, XO_BASE, XO_WORDS = range(4)
# A base's entry: its cell, its words in the record, how many first and last values it keeps, whether distinct ones.
XB_CELL, XB_RECORD, XB_FIRSTS, XB_LASTS, XB_DISTINCT, XB_WORDS = range(6)
# A base's words in the record; the first values stand behind them, then the last ones.
B_COUNT, B_FIRST_TIME, B_LAST_TIME, B_MIN, B_MAX, B_DISTINCT, BASE_HEADER = range(7)

_BY_RANK = frozenset({Function.TIME_SINCE_FIRST, Function.LAG})
_BY_RANK_OF_LIFETIME = _BY_RANK | {Function.LAST, Function.TIME_SINCE_LAST}
_LASTS = {Function.LAST: 1, Function.TIME_SINCE_LAST: 1}


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """The encoded extension, and the words of a record and of a row with it."""

    table: IntArray
    record: int
    stride: int


@dataclass(frozen=True, slots=True)
class Base:
    """What a lifetime window keeps of a lane: the cell, and how many values."""

    cell: int
    lane: int
    firsts: int
    lasts: int
    distinct: bool

    @property
    def words(self) -> int:
        """Its words in a record."""
        return BASE_HEADER + self.firsts + self.lasts


Places = Sequence[tuple[int, int]]


def encode_extension(
    lanes: Sequence[LaneKind],
    windows: Sequence[Window],
    aggregates: Sequence[AggregateSpec],
    places: Places,
    *,
    record: int,
    stride: int,
) -> Extension:
    """Return the extension of a program; `places` are the (window, lane) of its cells, in order."""
    ranked = _ranked_lanes(windows, aggregates)
    ranks = [stride + ranked.index(lane) if lane in ranked else 0 for lane in range(len(lanes))]
    bases = bases_of(windows, aggregates, places)
    base_table = []
    for base in bases:
        base_table.append((base.cell, record, base.firsts, base.lasts, int(base.distinct)))
        record += base.words
    window_table = [(w.interval_us, int(w.holds_asking), int(w.lifetime)) for w in windows]
    cells = [base.cell for base in bases]
    outputs = []
    for a in aggregates:
        cell = places.index((a.window, a.lane))
        found = cells.index(cell) if cell in cells else -1
        outputs += [(int(a.function in OF_OTHERS), a.parameter, found)] * a.width
    tables = [np.array(t, np.int64).ravel() for t in (window_table, ranks, outputs, base_table)]
    head = np.zeros(EXTENSION_WORDS, np.int64)
    starts = EXTENSION_WORDS + np.cumsum([0, *map(len, tables[:-1])])
    head[[X_WINDOWS, X_RANKS, X_OUTPUTS, X_BASES]] = starts
    head[[X_BASE_COUNT, X_DISTINCT_BASES]] = len(bases), sum(base.distinct for base in bases)
    return Extension(np.concatenate([head, *tables]), record, stride + len(ranked))


def bases_of(windows: Sequence[Window], aggregates: Sequence[AggregateSpec], places: Places) -> list[Base]:
    """Return the bases of a program's lifetime windows."""
    bases = []
    for cell, (window, lane) in enumerate(places):
        if not windows[window].lifetime:
            continue
        specs = [a for a in aggregates if (a.window, a.lane) == (window, lane)]
        lasts = max(_LASTS.get(a.function, a.parameter if a.function is Function.LAG else 0) for a in specs)
        distinct = any(a.function is Function.COUNT_DISTINCT for a in specs)
        bases.append(Base(cell, lane, 0, lasts, distinct))
    return bases


def _ranked_lanes(windows: Sequence[Window], aggregates: Sequence[AggregateSpec]) -> list[int]:
    found = set()
    for a in aggregates:
        by_rank = _BY_RANK_OF_LIFETIME if windows[a.window].lifetime else _BY_RANK
        if a.function in by_rank:
            found.add(a.lane)
    return sorted(found)
