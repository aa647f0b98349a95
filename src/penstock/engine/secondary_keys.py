"""Views with a secondary key: the kernel's keys are those of the view and it; a read by the view's keys puts all of them side by side.

1. A row is applied to the pair of its keys, or to nothing where its secondary key is null.
2. At the row's time, the other secondary keys of its key are looked up.
3. Of each window, those secondary keys are listed that have rows in it, ascending, with what each aggregate says of them.

So an aggregate is what a view says whose entities have one key more, lateness and forgetting included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np

from penstock.core.errors import SnapshotError
from penstock.engine.arrays import Lists, concat_lists
from penstock.engine.view_states import Batch, Exported, KeyedState, Work
from penstock.kernel.columns import BoolArray, Column, IntArray, Numeric, Text, offsets_of
from penstock.kernel.jit import ByteArray
from penstock.kernel.program import LaneKind, Program
from penstock.kernel.state import NO_EVENT, Op, Output, StateStats, Taken
from penstock.plan.nodes import ViewNode

_MOST_AT_ONCE = 1 << 16
"""About how many rows and look-ups are worked on at once."""
_SIZE_BYTES, _NUMBER_BYTES = 4, 8
_LOWEST = 1 << 63
_LEAST_FORGOTTEN = 1_024


class SecondaryState:
    """The state of a view with a secondary key; see `ViewState`.

    Parameters
    ----------
    view
        The view.
    pairs
        Its kernel's state, whose keys are pairs. Which secondary keys a key has follows from them.
    """

    def __init__(self, view: ViewNode, pairs: KeyedState) -> None:
        assert view.secondary is not None, "a view with a secondary key"
        self._view = view
        self._pairs = pairs
        self._lane = view.secondary.lane
        self._dtype = view.secondary.column.dtype
        windows = view.program.windows
        self._reach = max(window.span_us for window in windows)
        self._ever = any(window.lifetime for window in windows)
        self._known: dict[bytes, dict[bytes, int]] = {}
        self._evicted = 0
        self._learn()

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        return self._pairs.program

    @property
    def evicted_keys(self) -> int:
        """How many pairs have left because `max_keys` were held."""
        return self._pairs.evicted_keys

    @property
    def stats(self) -> StateStats:
        """How much is held now, in pairs."""
        return self._pairs.stats

    def intern(self, lane: int, values: Text) -> IntArray:
        """The codes of texts for a lane of text."""
        return self._pairs.intern(lane, values)

    def texts(self, lane: int, codes: IntArray, valid: BoolArray | None = None) -> Text:
        """The texts of codes."""
        return self._pairs.texts(lane, codes, valid)

    def keys(self) -> Text:
        """The keys that are held, without their secondary ones."""
        return _texts_of(list(self._known))

    def newest(self, keys: Text) -> IntArray:
        """The time of each key's newest row; `NO_EVENT` where there is none."""
        found = np.full(len(keys), NO_EVENT)
        there = [True] * len(keys) if keys.valid is None else keys.valid.tolist()
        for row, (key, ok) in enumerate(zip(_bytes_of(keys), there, strict=True)):
            pairs = [_pair(key, one) for one in self._known.get(key, ()) if ok]
            if pairs:
                found[row] = self._pairs.newest(_texts_of(pairs)).max()
        return found

    def snapshot(self) -> bytes:
        """The kernel's state as bytes."""
        return self._pairs.snapshot()

    def export(self, keys: Text) -> _ExportedPairs:
        """What the pairs of these keys hold."""
        pairs = [[_pair(key, one) for one in self._known.get(key, ())] for key in _bytes_of(keys)]
        exported = self._pairs.export(_texts_of([pair for of_key in pairs for pair in of_key]))
        return _ExportedPairs(exported, [len(of_key) for of_key in pairs])

    def load(self, blobs: Sequence[bytes]) -> None:
        """Hold what the pairs of these keys held, and nothing else."""
        try:
            pairs = [pair for blob in blobs for pair in msgspec.msgpack.decode(blob, type=list[bytes])]
        except msgspec.DecodeError as error:
            raise SnapshotError(f"snapshot: the pairs of a key cannot be read ({error}).") from error
        self._pairs.load(pairs)
        self._learn()

    def process(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """Work on rows in log order and return their lists; see `ViewState.process`."""
        return self._process(self._pairs.process, (keys, times, lanes, valid, ops))

    def process_more(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """`process` of more rows of the same batch."""
        return self._process(self._pairs.process_more, (keys, times, lanes, valid, ops))

    def _process(self, work: Work, batch: Batch) -> Output:
        keys, times, lanes, valid, ops = batch
        if self._pairs.evicted_keys - self._evicted > max(_LEAST_FORGOTTEN, len(self._known)):
            self._learn()
        names = _bytes_of(keys)
        if keys.valid is not None:
            ops = np.where(keys.valid, ops, np.uint8(Op.NONE))
        applied = (ops == Op.APPLY) & valid[:, self._lane]
        secondaries = self._secondaries(lanes[:, self._lane], applied)
        parts, rows = [], _Rows()
        for row, (op, time) in enumerate(zip(ops.tolist(), times.tolist(), strict=True)):
            key, own = names[row], secondaries[row]
            if op != Op.NONE:
                rows.add(row, key, own, self._others(key, own, time))
            if own is not None:
                self._note(key, own, time)
            if len(rows.of) >= _MOST_AT_ONCE:
                parts.append(self._answered(work, rows, batch, end=row + 1))
                rows, work = _Rows(), self._pairs.process_more
        parts.append(self._answered(work, rows, batch, end=len(ops)))
        return self._output(parts, len(ops))

    def _secondaries(self, lane: IntArray, applied: BoolArray) -> list[bytes | None]:
        """The secondary key of each row that enters, as bytes that sort like it; None of others."""
        found: list[bytes | None] = [None] * len(lane)
        rows = np.flatnonzero(applied)
        if self._view.program.lanes[self._lane] is LaneKind.CODE:
            encoded = _bytes_of(self._pairs.texts(self._lane, lane[rows]))
        else:
            encoded = [(value + _LOWEST).to_bytes(_NUMBER_BYTES, "big") for value in lane[rows].tolist()]
        for row, one in zip(rows.tolist(), encoded, strict=True):
            found[row] = one
        return found

    def _others(self, key: bytes, own: bytes | None, time: int) -> list[bytes]:
        """The other secondary keys of a key that may have rows in a window at a time."""
        known = self._known.get(key)
        if known is None:
            return []
        since = time - self._reach
        return [other for other, newest in known.items() if other != own and (self._ever or newest > since)]

    def _note(self, key: bytes, secondary: bytes, time: int) -> None:
        known = self._known.setdefault(key, {})
        known[secondary] = max(known.get(secondary, NO_EVENT), time)

    def _learn(self) -> None:
        """Which secondary keys each key has, from the pairs that are held."""
        pairs = self._pairs.keys()
        self._known = {}
        self._evicted = self._pairs.evicted_keys
        for pair, newest in zip(_bytes_of(pairs), self._pairs.newest(pairs).tolist(), strict=True):
            key, secondary = _split(pair)
            self._known.setdefault(key, {})[secondary] = newest

    def _answered(self, work: Work, rows: _Rows, batch: Batch, *, end: int) -> _Answered:
        """Steps 1 and 2: what the kernel says of each pair, in the order of rows and secondary keys."""
        of = np.array(rows.of, np.int64)
        _, times, lanes, valid, _ = batch
        output = work(_texts_of(rows.pairs), times[of], lanes[of], valid[of], np.array(rows.ops, np.uint8))
        order = np.array(sorted(range(len(of)), key=lambda i: (rows.of[i], rows.secondaries[i])), np.int64)
        columns = {
            node.output: self._column(output, node.output, node.lane)
            for node in self._view.aggregates
            if node.output >= len(self._view.program.windows)
        }
        return _Answered(of, order, output, columns, self._decoded(rows.secondaries), end)

    def _column(self, output: Output, at: int, lane: int) -> Column:
        if output.apart is not None and at in output.apart:
            return output.apart[at]  # type: ignore[return-value]
        bits, valid = output.bits[:, at], output.valid[:, at]
        kind = self._view.output_kinds[at]
        if kind is LaneKind.CODE:
            return self._pairs.texts(lane, bits, valid)
        return Numeric(bits.copy().view(np.float64) if kind is LaneKind.FLOAT else bits, valid)

    def _decoded(self, secondaries: Sequence[bytes]) -> Column:
        if self._dtype.kind == "text":
            return _texts_of(secondaries)
        numbers = np.frombuffer(b"".join(secondaries), ">u8")
        return Numeric((numbers ^ np.uint64(_LOWEST)).astype(np.uint64).view(np.int64))

    def _output(self, parts: Sequence[_Answered], n: int) -> Output:
        """Step 3."""
        outputs = len(self._view.program.output_kinds)
        lateness = np.zeros(n, np.uint8)
        failed = np.zeros(n, np.bool_)
        for part in parts:
            np.maximum.at(lateness, part.of, part.output.lateness)
            if part.output.failed is not None:
                failed[part.of[part.output.failed]] = True
        ends = list(pairwise([0, *(part.end for part in parts)]))
        apart: dict[int, Taken] = {
            node.output: concat_lists(
                [
                    part.lists(node.output, node.windows[0], *bounds)
                    for part, bounds in zip(parts, ends, strict=True)
                ]
            )
            for node in self._view.aggregates
        }
        none = np.zeros((n, outputs), np.int64)
        return Output(none, none.astype(np.bool_), lateness, apart, failed if failed.any() else None)


@dataclass(frozen=True, slots=True, eq=False)
class _ExportedPairs:
    """What keys held at one moment: their pairs, and how many each has."""

    pairs: Exported
    counts: Sequence[int]

    def blobs(self) -> list[bytes | None]:
        """Bytes for each key: those of its pairs, as a list; None where it has none."""
        held = iter(self.pairs.blobs())
        lists = [
            [one for _, one in zip(range(n), held, strict=False) if one is not None] for n in self.counts
        ]
        return [msgspec.msgpack.encode(one) if one else None for one in lists]


@dataclass(slots=True)
class _Rows:
    """Pairs to work on: of which row of the batch, the secondary key, and what to do."""

    of: list[int] = field(default_factory=list)
    pairs: list[bytes] = field(default_factory=list)
    secondaries: list[bytes] = field(default_factory=list)
    ops: list[int] = field(default_factory=list)

    def add(self, row: int, key: bytes, own: bytes | None, others: Sequence[bytes]) -> None:
        """One row: its own pair is applied before the others are looked up."""
        secondaries = [*([own] if own is not None else []), *others]
        self.of += [row] * len(secondaries)
        self.secondaries += secondaries
        self.pairs += [_pair(key, one) for one in secondaries]
        self.ops += [Op.APPLY if one is own else Op.LOOKUP for one in secondaries]


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """What the kernel said of pairs: of which row each is, in which order they are listed, and up to which row they go."""

    of: IntArray
    order: IntArray
    output: Output
    columns: dict[int, Column]
    secondaries: Column
    end: int

    def lists(self, at: int, window: int, start: int, end: int) -> Lists:
        """Step 3 for the rows from `start` to `end`: the lists of an output, over the pairs with rows in its window."""
        listed = self.order[self.output.bits[self.order, window] > 0]
        lengths = np.bincount(self.of[listed] - start, minlength=end - start)
        return Lists(offsets_of(lengths), self.columns.get(at, self.secondaries).take(listed))


def _pair(key: bytes, secondary: bytes) -> bytes:
    """The two as one key, which tells where the second begins."""
    return key + secondary + len(secondary).to_bytes(_SIZE_BYTES, "little")


def _split(pair: bytes) -> tuple[bytes, bytes]:
    """The key and the secondary key of a pair."""
    end = len(pair) - _SIZE_BYTES
    start = end - int.from_bytes(pair[end:], "little")
    return pair[:start], pair[start:end]


def _bytes_of(texts: Text) -> list[bytes]:
    data = texts.data.tobytes()
    return [data[a:b] for a, b in pairwise(texts.offsets.tolist())]


def _texts_of(texts: Sequence[bytes]) -> Text:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return Text(offsets_of(lengths), np.frombuffer(b"".join(texts), np.uint8))
