"""Aggregations written in Python, beside the kernel: the slow but correct path.

The kernel keeps the rows, puts late ones in their places, moves the windows and forgets; it counts the values of each window. After each row
this reads which rows the window holds, and folds them. So there is one implementation of windows, lateness, eviction and
snapshots, and the value is a function of the window's rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InputError, TransformError
from penstock.core.types import ArrayType, Field
from penstock.definitions.user_aggregations import UserAggregation
from penstock.engine.arrays import Lists
from penstock.engine.sliding import Sliding, sliding
from penstock.engine.values import from_values, to_list
from penstock.engine.view_states import Batch, Work
from penstock.kernel.columns import BoolArray, Column, IntArray, Numeric, Text, offsets_of
from penstock.kernel.held_rows import HeldRows
from penstock.kernel.jit import ByteArray
from penstock.kernel.key_states import KeyStates
from penstock.kernel.keys import KeyTable
from penstock.kernel.program import LaneKind, Program
from penstock.kernel.state import Op, Output, StateStats, Taken, ViewState
from penstock.kernel.step import LATE, TOO_LATE
from penstock.plan.nodes import FoldNode, ViewNode

Texts = Callable[[int, IntArray], Text]
"""The texts of a lane's codes."""
FAILED = object()
"""What a fold that failed gives."""


class FoldState:
    """The state of a view of which some aggregates are folded in Python; see `ViewState`.

    Parameters
    ----------
    view
        The view.
    kernel
        Its kernel's state, which holds all that this does, and is all that a snapshot keeps.
    """

    def __init__(self, view: ViewNode, kernel: ViewState) -> None:
        self._kernel = kernel
        self._held = HeldRows(kernel)
        self._folds = [_Fold(node, view, kernel.texts) for node in view.folds]
        self._slides = any(fold.begun() is not None for fold in self._folds)
        self._nowhere: list[_Place | None] = [None] * len(self._folds)
        self._following: dict[int, _Followed] = {}

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        return self._kernel.program

    @property
    def evicted_keys(self) -> int:
        """How many keys have left because `max_keys` were held."""
        return self._kernel.evicted_keys

    @property
    def stats(self) -> StateStats:
        """How much is held now, in the kernel."""
        return self._kernel.stats

    def intern(self, lane: int, values: Text) -> IntArray:
        """The codes of texts for a lane of text."""
        return self._kernel.intern(lane, values)

    def texts(self, lane: int, codes: IntArray, valid: BoolArray | None = None) -> Text:
        """The texts of codes."""
        return self._kernel.texts(lane, codes, valid)

    def keys(self) -> Text:
        """The keys that are held."""
        return self._kernel.keys()

    def newest(self, keys: Text) -> IntArray:
        """The time of each key's newest row."""
        return self._kernel.newest(keys)

    def snapshot(self) -> bytes:
        """The kernel's state as bytes."""
        return self._kernel.snapshot()

    def export(self, keys: Text) -> KeyStates:
        """What these keys hold in the kernel."""
        return self._kernel.export(keys)

    def load(self, blobs: Sequence[bytes]) -> None:
        """Hold what these keys held, and nothing else."""
        self._kernel.load(blobs)
        self._held = HeldRows(self._kernel)
        self._following.clear()

    def process(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """Work on rows in log order and return their features, folds among them; see `ViewState.process`."""
        return self._process(self._kernel.process, (keys, times, lanes, valid, ops))

    def process_more(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """`process` of more rows of the same batch."""
        return self._process(self._kernel.process_more, (keys, times, lanes, valid, ops))

    def _process(self, work: Work, batch: Batch) -> Output:
        made: list[list[Any]] = [[] for _ in self._folds]
        parts: list[Output] = []
        for rows in self._parts(batch[0]):
            part = _rows_of(batch, rows)
            parts.append(work(*part))
            work = self._kernel.process_more
            self._fold(part, parts[-1].lateness, made)
        return self._output(parts or [work(*batch)], made)

    def _parts(self, keys: Text) -> Iterator[slice]:
        """Runs of rows in which no key comes twice, and none leaves before its windows are read."""
        n = len(keys)
        if n <= 1:
            yield from [slice(0, n)] * n
            return
        alone = len(self._kernel.memory.table) + n > self.program.max_keys
        start, seen = 0, set[int]()
        for row, key in enumerate(KeyTable().assign(Text(keys.offsets, keys.data)).tolist()):
            if row > start and (alone or key in seen):
                yield slice(start, row)
                start, seen = row, set()
            seen.add(key)
        yield slice(start, n)

    def _fold(self, batch: Batch, lateness: ByteArray, made: Sequence[list[Any]]) -> None:
        keys, _, lanes, valid, ops = batch
        slots = self._held.slots(keys)
        there = [True] * len(ops) if keys.valid is None else keys.valid.tolist()
        for row, (slot, op, code) in enumerate(zip(slots, ops.tolist(), lateness.tolist(), strict=True)):
            if slot < 0 or op == Op.NONE or not there[row]:
                for values, fold in zip(made, self._folds, strict=True):
                    values.append(fold.empty)
                continue
            if code == TOO_LATE:
                for values, fold in zip(made, self._folds, strict=True):
                    values.append(fold.anew(self._values_of_late(slot, fold, lanes[row], valid[row])))
                continue
            places = self._places(slot, applied=op == Op.APPLY, code=code)
            for values, fold, place in zip(made, self._folds, places, strict=True):
                values.append(self._value(slot, fold, place))

    def _value(self, slot: int, fold: _Fold, place: _Place | None) -> Any:
        """The value of a window: along with its last one where the aggregation allows it, else of all of its rows."""
        begin, end = self._held.window(slot, fold.node.window)
        if place is not None and begin >= place.begin and end >= place.end:
            entering = self._values(slot, fold, max(begin, place.end), end)
            place.begin, place.end = begin, end
            try:
                return fold.node.aggregation.value(place.sliding.move(begin, zip(*entering, strict=True)))
            except Exception:  # noqa: BLE001 - a user's class may raise anything: what it means is the fold
                self._following.pop(slot, None)
        return fold.anew(self._values(slot, fold, begin, end)[1])

    def _values_of_late(self, slot: int, fold: _Fold, lanes: IntArray, valid: BoolArray) -> list[Any]:
        """What the window of a row that came too late holds: the row is not kept, but would have been its last."""
        values = self._values(slot, fold, *self._held.window(slot, fold.node.window))[1]
        return [*values, *fold.entering(lanes, valid)] if fold.holds_asking else values

    def _values(self, slot: int, fold: _Fold, begin: int, end: int) -> tuple[list[int], list[Any]]:
        numbers, bits = self._held.lane(slot, fold.node.lane, begin, end)
        return numbers.tolist(), fold.to_values(bits)

    def _places(self, slot: int, *, applied: bool, code: int) -> Sequence[_Place | None]:
        """What goes along with a key's windows; made anew where its rows got other numbers, or the slot another key."""
        if not self._slides:
            return self._nowhere
        following = self._held.following(slot)
        known = self._following.get(slot)
        if known is None or code == LATE or known.following + applied != following:
            known = self._following[slot] = _Followed(self._folds)
        known.following = following
        return known.places

    def _output(self, parts: Sequence[Output], made: Sequence[list[Any]]) -> Output:
        bits, valid, lateness = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("bits", "valid", "lateness")
        )
        apart: dict[int, Taken] = {}
        failed = np.zeros(len(lateness), np.bool_)
        for fold, values in zip(self._folds, made, strict=True):
            column = fold.column(values, failed)
            at = fold.node.output
            if isinstance(column, Numeric):
                wanted = np.float64 if fold.node.dtype.kind == "float" else np.int64
                there = np.ones(len(failed), np.bool_) if column.valid is None else column.valid
                bits[:, at] = np.where(there, column.values.astype(wanted).view(np.int64), 0)
                valid[:, at] = there
            else:
                bits[:, at], valid[:, at] = 0, False
                apart[at] = column
        return Output(bits, valid, lateness, apart or None, failed if failed.any() else None)


def _rows_of(batch: Batch, rows: slice) -> Batch:
    keys, times, lanes, valid, ops = batch
    there = None if keys.valid is None else keys.valid[rows]
    some = Text(keys.offsets[rows.start : rows.stop + 1], keys.data, there)
    return some, times[rows], lanes[rows], valid[rows], ops[rows]


class _Place:
    """A fold that goes along with its window, and where it stands."""

    __slots__ = ("begin", "end", "sliding")

    def __init__(self, sliding: Sliding) -> None:
        self.sliding = sliding
        self.begin = self.end = 0


class _Followed:
    """What goes along with the windows of one key; `following` is the number of its next row."""

    __slots__ = ("following", "places")

    def __init__(self, folds: Sequence[_Fold]) -> None:
        self.following = 0
        self.places = [None if (one := fold.begun()) is None else _Place(one) for fold in folds]


class _Fold:
    """One output that is folded: its values in, its results out."""

    def __init__(self, node: FoldNode, view: ViewNode, texts: Texts) -> None:
        self.node = node
        self._texts = texts
        self._dtype = view.lanes[node.lane].dtype
        self._is_code = view.program.lanes[node.lane] is LaneKind.CODE
        self._owner = f"feature view {view.name!r}, aggregation {node.aggregation.name}"
        self.holds_asking = view.program.windows[node.window].holds_asking
        if not node.may_fail:
            node.aggregation.init()  # a library that is not installed is said now
        self.empty = self.anew([])

    def begun(self) -> Sliding | None:
        """A fold of no rows that goes along; None where there is none."""
        return sliding(self.node.aggregation)

    def anew(self, values: Sequence[Any]) -> Any:
        """The value of the fold of `values`."""
        return attempt(self.node.aggregation, values)

    def to_values(self, bits: IntArray) -> list[Any]:
        """Values of the lane as Python has them."""
        if self._is_code:
            return list(self._texts(self.node.lane, bits).to_strings())
        if self._dtype.kind == "float":
            return bits.view(np.float64).tolist()  # type: ignore[no-any-return]
        kind = np.bool_ if self._dtype.kind == "bool" else np.int64
        return to_list(Numeric(bits.astype(kind)), self._dtype)

    def entering(self, lanes: IntArray, valid: BoolArray) -> list[Any]:
        """The value of a row that was not kept, as it would have been: none where it is null or not finite."""
        lane = self.node.lane
        return self.to_values(self.finite(lanes[lane : lane + 1])) if valid[lane] else []

    def finite(self, bits: IntArray) -> IntArray:
        """Of values that enter those that the kernel keeps, as it keeps them."""
        if self._dtype.kind != "float":
            return bits
        values = bits.view(np.float64)
        return (values[np.isfinite(values)] + 0.0).view(np.int64)

    def try_alone(self, value: Any) -> None:
        """Raise `TransformError` where the class fails on a value, or makes of it what it does not promise."""
        aggregation = self.node.aggregation
        try:
            self._convert([aggregation.value(aggregation.fold([value]))])
        except InputError as error:
            raise TransformError(str(error)) from error
        except Exception as error:  # a user's class may raise anything
            raise TransformError(
                f"{self._owner}: it failed on the value {value!r} with {type(error).__name__}: {error}."
            ) from error

    def column(self, values: Sequence[Any], failed: BoolArray) -> Column | Lists:
        """The results as a column; where one failed or is not of the type, `failed` is set and it is null."""
        bad = [value is FAILED for value in values]
        given = [None if is_bad else value for value, is_bad in zip(values, bad, strict=True)]
        try:
            column = self._convert(given)
        except InputError:
            bad = [is_bad or not self._is_of_type(value) for value, is_bad in zip(given, bad, strict=True)]
            column = self._convert(
                [None if is_bad else value for value, is_bad in zip(given, bad, strict=True)]
            )
        failed |= np.array(bad, np.bool_)
        return column

    def _is_of_type(self, value: Any) -> bool:
        try:
            self._convert([value])
        except InputError:
            return False
        return True

    def _convert(self, values: list[Any]) -> Column | Lists:
        dtype = self.node.dtype
        if not isinstance(dtype, ArrayType):
            return from_values(values, Field("value", dtype, optional=True), owner=self._owner)
        lists = [[] if value is None else self._listed(value) for value in values]
        offsets = offsets_of(np.array([len(one) for one in lists], np.int64))
        flat = [value for one in lists for value in one]
        return Lists(offsets, from_values(flat, Field("value", dtype.elem, optional=True), owner=self._owner))

    def _listed(self, value: Any) -> list[Any]:
        if isinstance(value, list | tuple):
            return list(value)
        raise InputError(
            f"{self._owner}: it gave {value!r}; allowed is a list or tuple, for {self.node.dtype}. Correct its value()."
        )


def attempt(aggregation: UserAggregation, values: Sequence[Any]) -> Any:
    """The value of the fold of `values`; `FAILED` where the class fails on them."""
    try:
        return aggregation.value(aggregation.fold(values))
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return FAILED


class LoneValues:
    """Refuses rows with a value on which a class of a user's fails when it is alone, before anything has changed."""

    def __init__(self, view: ViewNode, texts: Texts) -> None:
        different = {(node.lane, node.code): node for node in view.folds if node.may_fail}
        self._folds = [_Fold(node, view, texts) for node in different.values()]

    def check(self, lanes: IntArray, valid: BoolArray, ops: ByteArray) -> None:
        """Raise `TransformError` where a value of a row that would be applied fails."""
        for fold in self._folds:
            lane = fold.node.lane
            rows = np.flatnonzero(valid[:, lane] & (ops == Op.APPLY))
            for value in fold.to_values(fold.finite(lanes[rows, lane])):
                fold.try_alone(value)
