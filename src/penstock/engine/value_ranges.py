"""The history of a batch view's values: for each key the stretches of time in which they stay the same.

Values change where a row enters a window or leaves it. At each such moment the view is asked as a training set asks it,
so the values are the kernel's own; neighbouring moments with equal values make one stretch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.time import to_us
from penstock.core.types import Field, Timestamp
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import BatchFeatureView
from penstock.engine.change_points import VALID_FROM, VALID_TO, Edge, check_range, edges_of
from penstock.engine.feature_frame import FeatureFrame
from penstock.engine.frames import believed_columns, to_arrow, to_table
from penstock.engine.kernel_rows import encoded_keys
from penstock.engine.training_set import features_for_frame
from penstock.engine.transform import by_name, call_view
from penstock.kernel.columns import BoolArray, Columns, IntArray, Numeric
from penstock.kernel.keys import KeyTable
from penstock.plan.aggregates import windows_of

if TYPE_CHECKING:
    import pyarrow as pa

_AT = "valid_from"


def ranges_of(
    view: BatchFeatureView, history: Any, *, start_us: int, end_us: int, entities: Any = None
) -> FeatureFrame:
    """See `BatchFeatureView.get_features_in_range`; `history` is the frame of the view's source."""
    check_range(start_us, end_us, owner=f"feature view {view.name!r}")
    _check_constant(view)
    table = to_table(history, owner=f"history of {view.source.name!r}")
    keys, slots, times = _rows(view, table, entities)
    at_slots, at_times = _moments(view, slots, times, start_us, end_us)
    here = _present(view, slots, times, at_slots, at_times)
    events = keys.take(at_slots).append_column(_AT, to_arrow(Numeric(at_times), Timestamp))
    given = {view.source.name: table}
    asked = features_for_frame([view.reference()], events, history=given, timestamp_key=_AT).to_arrow()
    names = list(view.feature_types)
    values = asked.select([f"{view.name}__{name}" for name in names]).rename_columns(names)
    begins = np.flatnonzero(_is_new(at_slots, here, values))
    last = np.append(begins[1:], len(at_slots))[: len(begins)] - 1
    until = np.append(at_times[1:], end_us)[: len(at_times)]
    until[np.append(at_slots[1:] != at_slots[:-1], True)[: len(until)]] = end_us
    out = keys.take(at_slots[begins])
    out = out.append_column(VALID_FROM, to_arrow(Numeric(at_times[begins]), Timestamp))
    out = out.append_column(VALID_TO, to_arrow(Numeric(until[last]), Timestamp))
    for name in names:
        out = out.append_column(name, values.column(name).take(begins))
    return FeatureFrame(out.take(np.flatnonzero(here[begins])), names)


def _rows(view: BatchFeatureView, table: pa.Table, entities: Any) -> tuple[pa.Table, IntArray, IntArray]:
    """The keys as a table, and for each row that enters the view which key it has and its time."""
    owner = f"feature view {view.name!r}"
    schema = view.source.schema
    columns = believed_columns(table, schema, owner=owner)
    wanted = [Field(f.name, f.dtype, optional=True) for f in view.join_keys]
    time = Field(view.timestamp_field, Timestamp, optional=True)
    made = call_view(view.function, view.mode, columns, by_name(schema), [*wanted, time], owner=owner).columns
    names = [f.name for f in wanted]
    times, valid = _times(view, made)
    encoded, present = encoded_keys(made, names)
    enters = valid if present is None else valid & present
    asked = KeyTable()
    source = made
    if entities is not None:
        source = believed_columns(to_table(entities, owner="entities"), wanted, owner="entities")
        first = _first_of(asked.assign(encoded_keys(source, names)[0]))
        slots = asked.find(encoded)
        enters &= slots >= 0
    else:
        rows = np.flatnonzero(enters)
        slots = np.full(made.length, -1)
        slots[rows] = asked.assign(encoded.take(rows))
        first = rows[_first_of(slots[rows])]
    keys = source.take(first)
    return _as_table(keys, wanted), slots[enters], times[enters]


def _times(view: BatchFeatureView, made: Columns) -> tuple[IntArray, BoolArray]:
    """The rows' times, delay included, and which of them enter the view."""
    column = made[view.timestamp_field]
    assert isinstance(column, Numeric)
    times = column.values.astype(np.int64)
    enters = np.ones(len(times), np.bool_) if column.valid is None else column.valid.copy()
    if view.feature_start_time is not None:
        enters &= times >= to_us(view.feature_start_time)
    source = view.source
    assert isinstance(source, BatchSource)
    return times + to_us(source.data_delay), enters


def _first_of(slots: IntArray) -> IntArray:
    """For each slot the first row that has it."""
    return np.unique(slots, return_index=True)[1]


def _as_table(columns: Columns, fields: list[Field]) -> pa.Table:
    import pyarrow as pa

    return pa.table({f.name: to_arrow(columns[f.name], f.dtype) for f in fields})


def _edges(view: BatchFeatureView) -> list[tuple[Edge, Edge]]:
    """Where rows enter and leave each window of the view."""
    return list(
        dict.fromkeys(edges_of(window) for feature in view.features for window in windows_of(feature))
    )


def _check_constant(view: BatchFeatureView) -> None:
    """Raise where a value changes with every microsecond, not only with the rows."""
    for feature in view.features:
        if feature.function.traits.ages:
            raise InputError(
                f"feature view {view.name!r}: {feature.name!r} changes at every moment, so there are no stretches in which it "
                "stays the same; allowed are functions without half-life and time_since. Ask for its values at the times you "
                "want with get_features_for_events."
            )


def _moments(
    view: BatchFeatureView, slots: IntArray, times: IntArray, start_us: int, end_us: int
) -> tuple[IntArray, IntArray]:
    """By key and time: when values may change, and for each key the start."""
    shifted = [edge.passed(times) for edges in _edges(view) for edge in edges]
    at, of = np.concatenate(shifted), np.tile(slots, len(shifted))
    inside = (at > start_us) & (at < end_us)
    known = np.unique(slots)
    of = np.concatenate([known, of[inside]])
    at = np.concatenate([np.full(len(known), start_us), at[inside]])
    order = np.lexsort((at, of))
    of, at = of[order], at[order]
    new = np.append(True, (of[1:] != of[:-1]) | (at[1:] != at[:-1]))[: len(of)]
    return of[new], at[new]


def _present(
    view: BatchFeatureView, slots: IntArray, times: IntArray, at_slots: IntArray, at_times: IntArray
) -> BoolArray:
    """At which moments some window holds a row of the key."""
    order = np.lexsort((times, slots))
    here = np.zeros(len(at_slots), np.bool_)
    for entering, leaving in _edges(view):
        enters, leaves = entering.passed(times[order]), leaving.passed(times[order])
        newest = np.searchsorted(_pairs(slots[order], enters), _pairs(at_slots, at_times), "right") - 1
        found = np.maximum(newest, 0)
        same = (newest >= 0) & (slots[order][found] == at_slots)
        here |= same & (at_times < leaves[found])
    return here


def _pairs(slots: IntArray, times: IntArray) -> np.ndarray[Any, Any]:
    """(slot, time) as values that sort like pairs."""
    pairs = np.empty(len(slots), [("slot", np.int64), ("time", np.int64)])
    pairs["slot"], pairs["time"] = slots, times
    return pairs


def _is_new(slots: IntArray, here: BoolArray, values: pa.Table) -> BoolArray:
    """Where a stretch begins: another key, a row or none where it was the other, or another value."""
    new = np.ones(len(slots), np.bool_)
    new[1:] = (slots[1:] != slots[:-1]) | (here[1:] != here[:-1])
    for column in values.columns:
        if str(column.type).startswith("list"):
            new[1:] |= np.array([a != b for a, b in pairwise(column.to_pylist())], np.bool_)
            continue
        codes = column.combine_chunks().dictionary_encode("encode").indices.to_numpy(zero_copy_only=False)
        new[1:] |= codes[1:] != codes[:-1]
    return new
