"""The rows of the keys that one event asks for, gathered from the log as the views' functions made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from penstock.core.errors import TransformError
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import KernelRows, Rows, asking_rows
from penstock.engine.values import to_list
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import hash_text
from penstock.kernel.program import LaneKind
from penstock.kernel.state import Op
from penstock.plan.nodes import Lookup, Plan, SourceNode

Value = float | int | str | bool | None


@dataclass(slots=True, eq=False)
class Watched:
    """One look-up of the event: key and time that are asked, and the rows of that key so far."""

    lookup: Lookup
    key: bytes | None
    time_us: int
    last: int
    """The last position whose rows it can see."""
    positions: list[IntArray] = field(default_factory=list)
    times: list[IntArray] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    lanes: list[list[Value]] = field(default_factory=list)
    entered: Entered | None = None

    @classmethod
    def of(
        cls, plan: Plan, source: SourceNode, lookup: Lookup, scratch: FeatureState, event: Rows
    ) -> Watched:
        """What the event, the only row of `event`, asks by `lookup`."""
        view, position = plan.views[lookup.view], int(event.positions[0])
        if lookup.own:
            asked = scratch.prepare(source.name, event.columns, event.positions)[lookup.view]
        else:
            asked = asking_rows(view, lookup.key_columns, source.time_field, event)
        is_label = plan.sources[view.source].label_of is not None
        key = None if asked.ops[0] == Op.NONE else _bytes(asked.keys, 0)
        return cls(lookup, key, int(asked.times[0]), position - is_label)

    def hits(self, rows: KernelRows) -> IntArray:
        """Which of the rows entered under the key, and can be seen."""
        if self.key is None:
            return np.zeros(0, np.int64)
        wanted = hash_text(Text(np.array([0, len(self.key)]), np.frombuffer(self.key, np.uint8)), 0)[0]
        same = (hash_text(rows.keys, 0) == wanted) & (rows.ops == Op.APPLY) & (rows.positions <= self.last)
        return np.array(
            [i for i in np.flatnonzero(same).tolist() if _bytes(rows.keys, i) == self.key], np.int64
        )

    def take(self, rows: KernelRows, ids: Sequence[Any], lanes: list[list[Value]]) -> None:
        """Keep these rows."""
        self.positions.append(rows.positions)
        self.times.append(rows.times)
        self.ids += ids
        self.lanes += lanes

    def applied(self, lateness_us: int) -> Entered:
        """The rows, which of them entered the key's windows, and the newest time before the event."""
        if self.entered is None:
            positions = np.concatenate([np.zeros(0, np.int64), *self.positions])
            times = np.concatenate([np.zeros(0, np.int64), *self.times])
            kept = np.ones(len(times), np.bool_)
            newest: int | None = None
            for i, time in enumerate(times.tolist()):
                if self.lookup.own and positions[i] == self.last:
                    continue  # the event sees itself, however late it is
                kept[i] = newest is None or time >= newest - lateness_us
                if kept[i]:
                    newest = time if newest is None else max(newest, time)
            self.entered = Entered(positions, times, kept, newest)
        return self.entered


@dataclass(frozen=True, slots=True, eq=False)
class Entered:
    """Rows of a key: which of them entered its windows (those too late did not), and the newest time but the event's."""

    positions: IntArray
    times: IntArray
    kept: BoolArray
    newest: int | None


def gather(plan: Plan, scratch: FeatureState, watched: Sequence[Watched], rows: Mapping[str, Rows]) -> None:
    """Give each of `watched` its rows of a stretch of the log; `scratch` runs the views' functions, its windows stay empty."""
    for source in dict.fromkeys(plan.views[one.lookup.view].source for one in watched):
        if source not in rows:
            continue
        prepared, kept = _prepared(scratch, source, rows[source])
        for one in watched:
            made = prepared.get(one.lookup.view)
            hits = np.zeros(0, np.int64) if made is None else one.hits(made)
            if made is not None and len(hits):
                own = made.take(hits)
                ids = _ids(plan, source, rows[source].columns.take(kept[hits]))
                one.take(own, ids, _lane_values(plan, scratch, one.lookup.view, own))


def _ids(plan: Plan, source: str, columns: Columns) -> list[Any]:
    """The ids of the events that rows are of; None where their stream has no ids."""
    stream = plan.sources[plan.sources[source].label_of or source]
    if stream.id_field is None:
        return [None] * columns.length
    dtype = next(f.dtype for f in stream.fields if f.name == stream.id_field)
    return to_list(columns[stream.id_field], dtype)


def _prepared(scratch: FeatureState, source: str, rows: Rows) -> tuple[dict[int, KernelRows], IntArray]:
    """What the views' functions make of `rows`, and which rows they are: those on which none fails."""
    everything = np.arange(rows.columns.length)
    try:
        return scratch.prepare(source, rows.columns, rows.positions), everything
    except TransformError:
        made, errors = scratch.prepare_each(source, rows.columns, rows.positions)
        return made, everything[~np.isin(everything, list(errors))]


def _lane_values(plan: Plan, scratch: FeatureState, view: int, rows: KernelRows) -> list[list[Value]]:
    """The values of each row's lanes; None where null."""
    node = plan.views[view]
    lanes: list[list[Value]] = []
    for j, lane in enumerate(node.lanes):
        bits, valid = rows.lanes[:, j], rows.valid[:, j]
        column: Column = Numeric(bits, valid)
        if node.program.lanes[j] == LaneKind.CODE:
            column = scratch.views[view].texts(j, bits, valid)
        elif node.program.lanes[j] == LaneKind.FLOAT:
            column = Numeric(bits.view(np.float64), valid)
        elif lane.dtype.kind == "bool":
            column = Numeric(bits.astype(np.bool_), valid)
        lanes.append([plain(value) for value in to_list(column, lane.dtype)])
    return [list(row) for row in zip(*lanes, strict=True)] if lanes else [[] for _ in rows.times]


def plain(value: Any) -> Value:
    """A value as JSON has it: times as ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else value


def _bytes(keys: Text, row: int) -> bytes:
    return keys.data[keys.offsets[row] : keys.offsets[row + 1]].tobytes()
