"""The extension of an encoded program: what windows and functions beyond the core need.

It stands behind the core's tables, at ``program[EXTENSION]``; a program that the core suffices for has none. The jitted
code of the core never looks at it: programs with an extension are run by `extended.py`.

Queues (`queues.py`): for functions that look at all values of a window, or weigh them by age.

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
X_QUEUES, X_QUEUE_COUNT, X_TERM_CELL = range(6, 9)
EXTENSION_WORDS = 10
# A window's entry.
XW_INTERVAL, XW_HOLDS_ASKING, XW_LIFETIME, XW_WORDS = range(4)
# An output's entry: whether it looks at the other rows only, its parameter, its base and its queue (-1: none), and which
# of a function's outputs it is.
XO_OF_OTHERS, XO_PARAMETER, XO_BASE, XO_QUEUE, XO_INDEX, XO_WORDS = range(6)
# A base's entry: its cell, its words in the record, how many first and last values it keeps, whether distinct ones.
XB_CELL, XB_RECORD, XB_FIRSTS, XB_LASTS, XB_DISTINCT, XB_WORDS = range(6)
# A base's words in the record; the first values stand behind them, then the last ones.
B_COUNT, B_FIRST_TIME, B_LAST_TIME, B_MIN, B_MAX, B_DISTINCT, BASE_HEADER = range(7)
# A queue's entry: its kind, cell, words in the record and how many, columns of the rows, and the function's parameter.
XQ_KIND, XQ_CELL, XQ_RECORD, XQ_WORDS_OF_STATE, XQ_COLUMN, XQ_PARAMETER, XQ_WORDS = range(7)
# Kinds of queues.
MEDIANS, MODES, ENTROPIES, FIRSTS_DISTINCT, LASTS_DISTINCT, SLOPES, DECAYED_SUMS, DECAYED_COUNTS = range(8)
# A queue's words in the record: its rows' edges, the sizes of its heaps, or sums from Q_STATE on.
Q_LO, Q_HI, Q_LOWER, Q_UPPER = range(4)
Q_STATE = 2
SLOPE_WORDS = Q_STATE + 2 + 3 + 34 + 35  # sums of t, t², x and t·x
# A queue's columns, from XQ_COLUMN on: EXTRA at 0, places of the heap, and where a row is in it; or a decayed sum and a link.
HEAP, PLACE = 1, 2
DECAY_COLUMNS = 6
_QUEUES = {
    Function.MEDIAN: (MEDIANS,),
    Function.MODE: (MODES,),
    Function.ENTROPY: (ENTROPIES,),
    Function.FIRST_DISTINCT: (FIRSTS_DISTINCT,),
    Function.LAST_DISTINCT: (LASTS_DISTINCT,),
    Function.SLOPE: (SLOPES,),
    Function.EWMA: (DECAYED_SUMS, DECAYED_COUNTS),
    Function.DECAYED_SUM: (DECAYED_SUMS,),
    Function.DECAYED_COUNT: (DECAYED_COUNTS,),
}
_STATES = {ENTROPIES: Q_STATE + 4, SLOPES: SLOPE_WORDS, DECAYED_SUMS: Q_STATE, DECAYED_COUNTS: Q_STATE}
_COLUMNS = {ENTROPIES: 1, SLOPES: 0, DECAYED_SUMS: DECAY_COLUMNS, DECAYED_COUNTS: DECAY_COLUMNS}

_BY_RANK = frozenset({Function.TIME_SINCE_FIRST, Function.LAG, Function.FIRST_N, Function.LAST_N})
_BY_RANK_OF_LIFETIME = _BY_RANK | {Function.LAST, Function.TIME_SINCE_LAST}


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


@dataclass(frozen=True, slots=True)
class Queue:
    """What functions keep of the rows of a cell's window, in row order; the parameter is a half-life."""

    kind: int
    cell: int
    parameter: int


Places = Sequence[tuple[int, int]]


def encode_extension(
    lanes: Sequence[LaneKind],
    windows: Sequence[Window],
    aggregates: Sequence[AggregateSpec],
    places: Places,
    *,
    record: int,
    stride: int,
    term_cell: Sequence[int],
) -> Extension:
    """Return the extension of a program.

    `places` are the (window, lane) of its cells, in order; `term_cell` is the entry of a cell that sums floats.
    """
    ranked = _ranked_lanes(windows, aggregates)
    ranks = [stride + ranked.index(lane) if lane in ranked else 0 for lane in range(len(lanes))]
    bases = bases_of(windows, aggregates, places)
    base_table = []
    for base in bases:
        base_table.append((base.cell, record, base.firsts, base.lasts, int(base.distinct)))
        record += base.words
    window_table = [(w.interval_us, int(w.holds_asking), int(w.lifetime)) for w in windows]
    stride += len(ranked)
    queues = _queues_of(aggregates, places)
    queue_table = []
    for queue in queues:
        words, columns = _STATES.get(queue.kind, Q_STATE + 2), _COLUMNS.get(queue.kind, 3)
        queue_table.append((queue.kind, queue.cell, record, words, stride, queue.parameter))
        record, stride = record + words, stride + columns
    outputs = _outputs(aggregates, places, [base.cell for base in bases], queues)
    tables = [
        np.array(t, np.int64).ravel()
        for t in (window_table, ranks, outputs, base_table, queue_table, term_cell)
    ]
    head = np.zeros(EXTENSION_WORDS, np.int64)
    starts = EXTENSION_WORDS + np.cumsum([0, *map(len, tables[:-1])])
    head[[X_WINDOWS, X_RANKS, X_OUTPUTS, X_BASES, X_QUEUES, X_TERM_CELL]] = starts
    head[[X_BASE_COUNT, X_DISTINCT_BASES]] = len(bases), sum(base.distinct for base in bases)
    head[X_QUEUE_COUNT] = len(queues)
    return Extension(np.concatenate([head, *tables]), record, stride)


def _outputs(
    aggregates: Sequence[AggregateSpec], places: Places, based: Sequence[int], queues: Sequence[Queue]
) -> list[tuple[int, ...]]:
    """Return the outputs' entries; `based` are the cells that have a base."""
    outputs: list[tuple[int, ...]] = []
    for a in aggregates:
        cell = places.index((a.window, a.lane))
        base = based.index(cell) if cell in based else -1
        kinds = _QUEUES.get(a.function, ())
        queue = queues.index(_queue(a, kinds[0], cell)) if kinds else -1
        of_others = int(a.function in OF_OTHERS)
        outputs += [(of_others, a.parameter, base, queue, index) for index in range(a.width)]
    return outputs


def _queues_of(aggregates: Sequence[AggregateSpec], places: Places) -> list[Queue]:
    """Return the queues that functions need, each once; those of one function side by side, so pairs come first."""
    queues: list[Queue] = []
    for a in sorted(aggregates, key=lambda a: -len(_QUEUES.get(a.function, ()))):
        cell = places.index((a.window, a.lane))
        wanted = [_queue(a, kind, cell) for kind in _QUEUES.get(a.function, ())]
        queues += [queue for queue in wanted if queue not in queues]
    return queues


def _queue(aggregate: AggregateSpec, kind: int, cell: int) -> Queue:
    has_half_life = kind in {DECAYED_SUMS, DECAYED_COUNTS}
    return Queue(kind, cell, aggregate.parameter if has_half_life else 0)


def bases_of(windows: Sequence[Window], aggregates: Sequence[AggregateSpec], places: Places) -> list[Base]:
    """Return the bases of a program's lifetime windows."""
    bases = []
    for cell, (window, lane) in enumerate(places):
        if not windows[window].lifetime:
            continue
        specs = [a for a in aggregates if (a.window, a.lane) == (window, lane)]
        firsts = max(a.parameter if a.function is Function.FIRST_N else 0 for a in specs)
        lasts = max(map(_lasts_of, specs))
        distinct = any(a.function is Function.COUNT_DISTINCT for a in specs)
        bases.append(Base(cell, lane, firsts, lasts, distinct))
    return bases


def _lasts_of(aggregate: AggregateSpec) -> int:
    """How many of the latest values a function looks at."""
    if aggregate.function in {Function.LAG, Function.LAST_N}:
        return aggregate.parameter
    return int(aggregate.function is Function.LAST)


def _ranked_lanes(windows: Sequence[Window], aggregates: Sequence[AggregateSpec]) -> list[int]:
    found = set()
    for a in aggregates:
        by_rank = _BY_RANK_OF_LIFETIME if windows[a.window].lifetime else _BY_RANK
        if a.function in by_rank:
            found.add(a.lane)
    return sorted(found)
