"""Rows on their way into one view's kernel: prepared by the view's function, put in log order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.types import Bool, Field, Timestamp
from penstock.engine.checks import in_nfc
from penstock.engine.row_wise import check_row_wise, needs_check
from penstock.engine.transform import Transformed, by_name, call_view
from penstock.engine.view_states import KeyedState, lone_values
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, concat, roomy
from penstock.kernel.hashing import encode_keys
from penstock.kernel.program import LaneKind
from penstock.kernel.state import Op
from penstock.plan.nodes import ViewNode

OpArray = npt.NDArray[np.uint8]
FloatMatrix = npt.NDArray[np.float64]

_I8, _F8 = (
    np.dtype(np.int64),
    np.dtype(np.float64),
)  # to be compared by identity: everything else takes the longer way

# Of one row, for all events to share.
_ONE_APPLIED = np.full(1, Op.APPLY, np.uint8)
_ONE_VALID = np.ones((1, 1), np.bool_)
_ONE_APPLIED.setflags(write=False)
_ONE_VALID.setflags(write=False)


class Rows(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Rows of one source with their places in the log order.

    `positions` are ascending; rows of label sources count from the position at which label and event were both there.
    """

    columns: Columns
    positions: IntArray


class KernelRows(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Rows for one view's kernel, in log order."""

    keys: Text
    times: IntArray
    lanes: IntArray
    valid: BoolArray
    ops: OpArray
    positions: IntArray

    def at(self, positions: IntArray) -> KernelRows:
        """The same rows at other positions."""
        return KernelRows(self.keys, self.times, self.lanes, self.valid, self.ops, positions)

    def take(self, rows: IntArray) -> KernelRows:
        """The rows at these indices, in that order."""
        return KernelRows(
            self.keys.take(rows),
            self.times[rows],
            self.lanes[rows],
            self.valid[rows],
            self.ops[rows],
            self.positions[rows],
        )

    @classmethod
    def absent(cls, positions: IntArray, *, lanes: int) -> KernelRows:
        """Rows without key or values, which enter nothing."""
        count = len(positions)
        none = np.zeros((count, lanes), np.int64)
        keys = Text(np.zeros(count + 1, np.int64), np.zeros(0, np.uint8))
        ops = np.full(count, Op.NONE, np.uint8)
        return cls(keys, np.zeros(count, np.int64), none, none.astype(np.bool_), ops, positions)

    @classmethod
    def concat(cls, parts: Sequence[KernelRows]) -> KernelRows:
        """The rows of all `parts`, one after another."""
        return cls(
            _concat_keys([part.keys for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.lanes for part in parts]),
            np.concatenate([part.valid for part in parts]),
            np.concatenate([part.ops for part in parts]),
            np.concatenate([part.positions for part in parts]),
        )


class ViewPreparer:
    """Runs one view's function over its source's rows; what can be resolved once is resolved here."""

    def __init__(self, view: ViewNode, state: KeyedState) -> None:
        self._view = view
        self._state = state
        self._owner = f"feature view {view.name!r}"
        self._unchecked = needs_check(view.function, view.mode)
        self._key_names = tuple(key.name for key in view.keys)
        self._nfc_names = (*self._key_names, *([view.secondary.column.name] if view.secondary else []))
        self._lone_values = lone_values(view, state)
        self._given = by_name(view.columns)
        fields = [*view.keys, Field(view.time_field, Timestamp)]
        fields += [Field(lane.column, lane.dtype) for lane in view.lanes]
        fields += [Field(lane.where, Bool) for lane in view.lanes if lane.where]
        self._wanted = tuple({field.name: field for field in fields}.values())
        self._lanes = [
            (j, lane.column, lane.where, view.program.lanes[j] == LaneKind.FLOAT)
            for j, lane in enumerate(view.lanes)
        ]

    def prepare(self, rows: Rows) -> KernelRows:
        """What the view's kernel gets for `rows`.

        Raises `TransformError` where the function fails, `PlanError` where it is found to look at other rows.
        """
        view = self._view
        columns, kept = rows.columns, None
        if view.function is not None:
            made = self._called(columns)
            if self._unchecked and columns.length > 1:
                self._check(made, columns)
            columns, kept = self._with_keys_in_nfc(made.columns), made.rows
        times = columns[view.time_field]
        assert isinstance(times, Numeric)
        lanes, valid = self._lane_arrays(columns)
        keys, present = encoded_keys(columns, self._key_names)
        if times.valid is not None:
            present = times.valid if present is None else present & times.valid
        if present is not None:
            ops = np.where(present, np.uint8(Op.APPLY), np.uint8(Op.NONE))
        else:
            ops = _ONE_APPLIED if columns.length == 1 else np.zeros(columns.length, np.uint8)
        micros: IntArray = times.values  # type: ignore[assignment]
        if micros.dtype is not _I8:
            micros = micros.astype(np.int64, copy=False)
        if view.start_us is not None:
            ops = np.where(micros < view.start_us, np.uint8(Op.NONE), ops)
        if view.delay_us:
            micros = micros + view.delay_us
        if self._lone_values is not None:
            self._lone_values.check(lanes, valid, ops)
        out = KernelRows(keys, micros, lanes, valid, ops, rows.positions)
        return out if kept is None else self._with_dropped(out, kept, rows)

    def prepare_in_parts(self, rows: Rows, part_rows: int) -> KernelRows:
        """`prepare` of many rows, of which the view's function gets `part_rows` at a time."""
        count = rows.columns.length
        if self._view.function is None or count <= part_rows:
            return self.prepare(rows)
        parts = [slice(at, at + part_rows) for at in range(0, count, part_rows)]
        return KernelRows.concat(
            [self.prepare(Rows(rows.columns.take(part), rows.positions[part])) for part in parts]
        )

    def _called(self, columns: Columns) -> Transformed:
        view = self._view
        return call_view(view.function, view.mode, columns, self._given, self._wanted, owner=self._owner)

    def _check(self, made: Transformed, columns: Columns) -> None:
        """Check on the first batch of several rows that the function looks at each alone."""
        check_row_wise(made, columns.length, lambda at: self._called(columns.take(at)), owner=self._owner)
        self._unchecked = False

    def _with_keys_in_nfc(self, columns: Columns) -> Columns:
        """Keys are in NFC whoever made them: the contract, or the view's function."""
        texts = {name: columns[name] for name in self._nfc_names}
        return columns.with_columns({name: in_nfc(c) for name, c in texts.items() if isinstance(c, Text)})

    def _lane_arrays(self, columns: Columns) -> tuple[IntArray, BoolArray]:
        count = len(self._lanes)
        if count == 1 and (single := self._only_lane(columns)) is not None:
            return single
        shape = columns.length, count
        lanes = np.empty(shape, np.int64) if columns.length == 1 else roomy(shape, np.int64)
        valid = np.ones((columns.length, count), np.bool_)
        for j, name, where, is_float in self._lanes:
            column = columns[name]
            if isinstance(column, Text):
                lanes[:, j] = self._state.intern(j, column)
            elif is_float:
                lanes[:, j] = column.values.astype(np.float64, copy=False).view(np.int64)
            else:
                lanes[:, j] = column.values
            if column.valid is not None:
                valid[:, j] &= column.valid
            if where is not None:
                valid[:, j] &= _is_true(columns[where])
        return lanes, valid

    def _only_lane(self, columns: Columns) -> tuple[IntArray, BoolArray] | None:
        """The lane of a view with one plain float column, which needs no copy."""
        _, name, where, is_float = self._lanes[0]
        column = columns[name]
        if not is_float or where is not None or isinstance(column, Text) or column.values.dtype is not _F8:
            return None
        lanes = column.values.view(_I8).reshape(-1, 1)
        if column.valid is not None:
            return lanes, column.valid.reshape(-1, 1)
        return lanes, _ONE_VALID if columns.length == 1 else np.ones(lanes.shape, np.bool_)

    def _with_dropped(self, kept: KernelRows, at: IntArray, rows: Rows) -> KernelRows:
        """Rows that the function dropped do not enter the view; they look up what the key had before."""
        count = rows.columns.length
        dropped = np.setdiff1d(np.arange(count), at)
        asking = self._asking_dropped(rows.columns, dropped, kept)
        place = np.empty(count, np.int64)
        place[np.concatenate([at, dropped])] = np.arange(count)
        return KernelRows.concat([kept.at(rows.positions[at]), asking.at(rows.positions[dropped])]).take(
            place
        )

    def _asking_dropped(self, columns: Columns, dropped: IntArray, kept: KernelRows) -> KernelRows:
        lanes = np.zeros((len(dropped), kept.lanes.shape[1]), np.int64)
        none = lanes.astype(np.bool_)
        time = self._view.time_field
        if not all(name in columns for name in (*self._key_names, time)):
            keys = Text(np.zeros(len(dropped) + 1, np.int64), np.zeros(0, np.uint8))
            ops = np.full(len(dropped), Op.NONE, np.uint8)
            return KernelRows(keys, np.zeros(len(dropped), np.int64), lanes, none, ops, dropped)
        own = columns.select([*self._key_names, time]).take(dropped)
        keys, present = encoded_keys(own, self._key_names)
        ops = np.full(len(dropped), Op.LOOKUP, np.uint8)
        if present is not None:
            ops[~present] = Op.NONE
        return KernelRows(keys, own[time].values.astype(np.int64), lanes, none, ops, dropped)  # type: ignore[union-attr]


def asking_rows(view: ViewNode, key_columns: Sequence[str], time_field: str, rows: Rows) -> KernelRows:
    """Look-ups of `view` for the keys and times of events of another stream."""
    keys, present = encoded_keys(rows.columns, key_columns)
    times = rows.columns[time_field]
    assert isinstance(times, Numeric)
    count = rows.columns.length
    ops = np.full(count, Op.LOOKUP, np.uint8)
    if present is not None:
        ops[~present] = Op.NONE
    lanes = np.zeros((count, len(view.lanes)), np.int64)
    times_us = times.values.astype(np.int64, copy=False)
    return KernelRows(keys, times_us, lanes, lanes.astype(np.bool_), ops, rows.positions)


def encoded_keys(columns: Columns, names: Sequence[str]) -> tuple[Text, BoolArray | None]:
    """Encoded keys, and which rows have one (None: all)."""
    if len(names) == 1 and isinstance(key := columns[names[0]], Text):
        return key, key.valid
    parts = [columns[name] for name in names]
    present = None
    for part in parts:
        if part.valid is not None:
            present = part.valid if present is None else present & part.valid
    return encode_keys(parts), present


def _is_true(column: Column) -> BoolArray:
    assert isinstance(column, Numeric)
    values: BoolArray = column.values.astype(np.bool_)
    return values if column.valid is None else values & column.valid


def _concat_keys(parts: Sequence[Text]) -> Text:
    bare = [Columns(len(part), {"key": Text(part.offsets, part.data)}) for part in parts]
    joined = concat(bare)["key"]
    assert isinstance(joined, Text)
    return joined
