"""A view's features over a history that is all there: as `ViewState` gives them, and nothing is kept.

Rows of a key that come in time order are walked (`history.py`, `walk.py`). What that cannot do goes through `ViewState`: functions and
windows that it does not know, sums of values that are too large or too small for the narrow sums, keys beyond `max_keys`,
rows out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from penstock.kernel.columns import BoolArray, IntArray, Text, roomy
from penstock.kernel.history import (
    OUT_OF_ORDER,
    PADDING,
    Places,
    find_places,
    link_equal,
    order_rows,
    spread_out,
    squares_fit,
)
from penstock.kernel.jit import ByteArray
from penstock.kernel.keys import KeyTable
from penstock.kernel.program import KEEPS_OF, KEEPS_SQUARES, KEEPS_SUM, Function, LaneKind, Program
from penstock.kernel.spec import AggregateSpec, Window
from penstock.kernel.state import Op, Output, ViewState
from penstock.kernel.walk import (
    H_CURRENT,
    H_INTERVAL,
    H_KIND,
    H_LIFETIME,
    H_LOWEST,
    H_OFFSET,
    H_SIZE,
    H_SQUARES,
    H_SUMS,
    WALK_WORDS,
    room_words,
    walk,
)

WALKED = frozenset(f for f in Function if f <= Function.TIME_SINCE_LAST) | {Function.LATEST}
"""The functions that are walked."""
_MOST = 1 << 29  # with numbers of keys up to four times as many
_OUTPUTS = 4  # of one cell at once: so many words a row are needed on the way
_KEY_BYTES = 8
_BLOCK = 1 << 16
_NO_LINKS = np.empty((2, 0), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """All rows, key by key; those without a key at the end.

    `places` says where each row of the history stands, `starts` where each key's rows start; `wide` counts by lane the
    values that narrow sums do not hold.
    """

    places: Places
    starts: IntArray
    longest: int
    times: IntArray
    lanes: IntArray
    present: ByteArray
    wide: IntArray
    extents: IntArray


@dataclass(frozen=True, slots=True)
class _Cell:
    """Functions of one lane over one window, and which outputs they are."""

    window: Window
    lane: int
    functions: tuple[Function, ...]
    outputs: tuple[int, ...]


class WholeHistory(ViewState):
    """The features of all rows there are, in one call of `process`; it keeps no row of them.

    Examples
    --------
    >>> program = Program((LaneKind.FLOAT,), (Window(60_000_000),), (AggregateSpec(Function.SUM, 0, 0),))
    >>> values, _ = WholeHistory(program).process_floats(
    ...     Text.from_strings(["ann", "bob", "ann"]),
    ...     np.array([0, 1, 59_999_999]),
    ...     np.array([[1.5], [4.0], [2.0]]).view(np.int64),
    ...     np.ones((3, 1), bool),
    ...     np.zeros(3, np.uint8),
    ... )
    >>> values.ravel().tolist()
    [1.5, 4.0, 3.5]
    """

    __slots__ = ("_threads",)

    def __init__(self, program: Program, *, seed: int = 0, threads: int = 1) -> None:
        super().__init__(program, seed=seed)
        self._threads = threads

    def process_more(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """The features of all rows; see `ViewState.process`."""
        if keys.valid is not None:
            ops = np.where(keys.valid, ops, np.uint8(Op.NONE))
            keys = Text(keys.offsets, keys.data)
        rows = None
        if 0 < len(times) < _MOST:
            rows = _key_by_key(self.program, keys, times, lanes, valid, ops)
        if rows is None:
            return self._by_kernel(keys, times, lanes, valid, ops)
        bits = roomy((len(self._kinds), len(times)), np.int64)
        ok = roomy((len(bits), len(times)), np.bool_)
        cells, others = _parted(self.program, rows)
        everywhere = self._walk(rows, cells, bits, ok)
        del rows
        if others:
            made = ViewState(_of(self.program, list(others)), seed=self.seed)
            output = made.process(keys, times, lanes, valid, ops)
            at = [place for places in others.values() for place in places]
            bits[at], ok[at] = output.bits.T, output.valid.T
        if len(everywhere) == len(ok):
            ok = np.broadcast_to(np.True_, ok.shape)
        else:
            ok[everywhere] = True
        return Output(bits.T, ok.T, np.zeros(len(times), np.uint8))

    def _by_kernel(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        return super().process_more(keys, times, lanes, valid, ops)

    def _walk(self, rows: _Rows, cells: Sequence[_Cell], bits: IntArray, ok: BoolArray) -> list[int]:
        """Write the outputs of all cells, in as many threads as there may be; those that are there in every row.

        Of these nothing is written into `ok`.
        """
        links = {cell.lane for cell in cells if Function.COUNT_DISTINCT in cell.functions}
        linked = {lane: _links(rows, lane) for lane in links}
        if self._threads == 1:
            return _walk_cells(self.program, rows, linked, cells, bits, ok)
        parts = [cells[at :: self._threads] for at in range(self._threads)]
        with ThreadPoolExecutor(self._threads) as threads:
            jobs = [threads.submit(_walk_cells, self.program, rows, linked, p, bits, ok) for p in parts]
            return [output for job in jobs for output in job.result()]


def _walk_cells(
    program: Program,
    rows: _Rows,
    linked: dict[int, Places],
    cells: Sequence[_Cell],
    bits: IntArray,
    ok: BoolArray,
) -> list[int]:
    cells = sorted(cells, key=lambda cell: -len(cell.functions))  # the last one needs new memory
    widest = max((len(cell.functions) for cell in cells), default=0)
    space = roomy(room_words(rows.longest), np.int64)
    flags, ordered_ok = ok.view(np.uint8), roomy((widest, len(rows.places)), np.uint8)
    everywhere = []
    for at, cell in enumerate(cells):
        ordered_bits = _spare_rows(bits, cells[at + 1 :], len(cell.functions))
        every = walk(
            rows.starts,
            rows.times,
            rows.lanes[cell.lane],
            rows.present[[cell.lane, -1]],
            linked.get(cell.lane, _NO_LINKS),
            _encoded(cell, program.lanes[cell.lane], rows),
            np.array(cell.functions, np.int64),
            space,
            ordered_bits,
            ordered_ok,
        )
        outputs = np.array(cell.outputs, np.int64)
        spread_out(rows.places, ordered_bits, ordered_ok, outputs, every, bits, flags)
        everywhere += [output for q, output in enumerate(cell.outputs) if every >> q & 1]
    return everywhere


def _spare_rows(bits: IntArray, later: Sequence[_Cell], width: int) -> IntArray:
    """Rows for outputs in the order of the keys: some of `bits` that are written later, or new ones.

    Memory that was never used is what costs most on the whole way.
    """
    outputs = sorted(output for cell in later for output in cell.outputs)
    for first, last in zip(outputs, outputs[width - 1 :], strict=False):
        if last - first == width - 1:
            return bits[first : last + 1]
    return roomy((width, bits.shape[1]), np.int64)


def _encoded(cell: _Cell, kind: LaneKind, rows: _Rows) -> IntArray:
    words = np.zeros(WALK_WORDS, np.int64)
    window = cell.window
    keeps = 0
    for function in cell.functions:
        keeps |= KEEPS_OF[function]
    words[[H_KIND, H_SIZE, H_OFFSET, H_INTERVAL]] = kind, window.size_us, window.offset_us, window.interval_us
    words[[H_CURRENT, H_LIFETIME]] = window.current, window.lifetime
    words[[H_SUMS, H_SQUARES, H_LOWEST]] = (
        keeps & KEEPS_SUM,
        keeps & KEEPS_SQUARES,
        rows.extents[cell.lane, 0],
    )
    return words


def _key_by_key(
    program: Program, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
) -> _Rows | None:
    """The rows as they are walked; None where they cannot be."""
    places, many = _numbers_of(keys)
    starts = np.zeros(many + 2, np.int64)
    longest = find_places(places, ops, starts)
    if len(times) > program.max_keys and np.count_nonzero(np.diff(starts)) > program.max_keys:
        return None
    count, kinds = len(times), np.array(program.lanes, np.int64)
    clock, present = roomy(count + PADDING, np.int64), roomy((len(kinds) + 1, count), np.uint8)
    values, wide = roomy((len(kinds), count), np.int64), np.zeros(len(kinds), np.int64)
    extents = np.empty((len(kinds), 2), np.int64)
    status = order_rows(
        places, ops, times, lanes, valid, kinds, starts, clock, values, present, wide, extents
    )
    if status == OUT_OF_ORDER:
        return None
    return _Rows(places, starts, longest, clock, values, present, wide, extents)


def _numbers_of(keys: Text) -> tuple[Places, int]:
    """A number for each row's key, and how many numbers there are: some may be of no key."""
    if _are_words(keys):
        values = keys.data.view(np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low < 4 * len(keys):
            numbers = roomy(len(keys), np.int32)
            np.subtract(values, low, out=numbers, casting="unsafe")
            return numbers, high - low + 1
    table = KeyTable()
    return table.assign(keys).astype(np.int32), table.slots


def _are_words(keys: Text) -> bool:
    """Whether each key has the length of a word."""
    offsets = keys.offsets
    if len(keys.data) != _KEY_BYTES * len(keys) or offsets[0] != 0:
        return False
    blocks = (offsets[at : at + _BLOCK + 1] for at in range(0, len(keys), _BLOCK))
    return all((np.diff(block) == _KEY_BYTES).all() for block in blocks)


def _links(rows: _Rows, lane: int) -> Places:
    links = roomy((2, len(rows.places)), np.int32)
    room = np.empty(2 << (2 * rows.longest - 1).bit_length(), np.int64)
    link_equal(rows.starts, rows.lanes[lane], rows.present[lane], links, room)
    return links


def _parted(program: Program, rows: _Rows) -> tuple[list[_Cell], dict[int, range]]:
    """The cells that are walked, and the aggregates that are not, with their outputs."""
    cells: dict[tuple[int, int], list[tuple[Function, int]]] = {}
    others: dict[int, range] = {}
    output = 0
    for at, spec in enumerate(program.aggregates):
        if spec.function not in WALKED or not _fits(spec, rows):
            others[at] = range(output, output + spec.width)
        else:
            cells.setdefault((spec.window, spec.lane), []).append((spec.function, output))
        output += spec.width
    walked = []
    for (window, lane), wanted in cells.items():
        for at in range(0, len(wanted), _OUTPUTS):
            functions, outputs = zip(*wanted[at : at + _OUTPUTS], strict=True)
            walked.append(_Cell(program.windows[window], lane, functions, outputs))
    return walked, others


def _fits(spec: AggregateSpec, rows: _Rows) -> bool:
    """Whether the sums that a function needs fit the words that the walk has for them."""
    keeps = KEEPS_OF[spec.function]
    if keeps & KEEPS_SUM and rows.wide[spec.lane]:
        return False
    lowest, highest = rows.extents[spec.lane].tolist()
    return not keeps & KEEPS_SQUARES or squares_fit(lowest, highest, rows.longest)


def _of(program: Program, chosen: Sequence[int]) -> Program:
    """The program of some of its aggregates, with no more windows than they need."""
    specs = [program.aggregates[at] for at in chosen]
    windows = sorted({spec.window for spec in specs})
    renamed = tuple(replace(spec, window=windows.index(spec.window)) for spec in specs)
    return replace(program, windows=tuple(program.windows[w] for w in windows), aggregates=renamed)
