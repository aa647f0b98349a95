"""Events made from a schema, for trials before there are any of a project's own. The same seed gives the same events."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from penstock.core.records import LabelRecords
from penstock.core.types import Field
from penstock.engine.kernel_rows import Rows
from penstock.engine.labels import entering_rows
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text
from penstock.plan.nodes import Plan, SourceNode

_START_US = 1_750_000_000_000_000
_MINUTE_US = 60_000_000
_LONGEST_US = 365 * 1440 * _MINUTE_US
"""Windows longer than this are not filled: the times of events have an end."""
_KEYS, _KINDS = 8, 3


def generated_rows(plan: Plan, *, count: int, seed: int = 0) -> dict[str, Rows]:
    """`count` events of each stream of `plan`, and labels for two thirds of those that have a label source."""
    draw = np.random.default_rng(seed)
    spans = (w.size_us - w.offset_us for view in plan.views for w in view.program.windows)
    longest = max((min(span, _LONGEST_US) for span in spans), default=_MINUTE_US)
    keys = {f.name for view in plan.views for f in view.keys}
    keys |= {name for one in plan.services.values() for look in one.lookups for name in look.key_columns}
    rows: dict[str, Rows] = {}
    for name, source in plan.sources.items():
        if source.label_of is None:
            rows[name] = Rows(
                _events(source, draw, count=count, keys=keys, longest_us=longest), np.arange(count)
            )
    for name, source in plan.sources.items():
        if source.label_of is not None:
            rows[name] = _labels(source, plan, rows, draw)
    return rows


def _events(
    source: SourceNode, draw: np.random.Generator, *, count: int, keys: set[str], longest_us: int
) -> Columns:
    """Events with gaps from nothing to a tenth of the longest window."""
    steps = np.array([0, _MINUTE_US, 20 * _MINUTE_US, max(longest_us // 10, 1)])
    gaps = (draw.choice(steps, count, p=[0.1, 0.4, 0.4, 0.1]) * draw.random(count)).astype(np.int64)
    times = _START_US + np.cumsum(gaps)
    found: dict[str, Column] = {}
    for field in source.fields:
        if field.name == source.time_field:
            found[field.name] = Numeric(times)
        elif field.name == source.id_field:
            ids = np.arange(count)
            found[field.name] = (
                Text.from_strings([f"id-{i}" for i in ids]) if field.dtype.kind == "text" else Numeric(ids)
            )
        else:
            found[field.name] = generated_column(field, draw, times, is_key=field.name in keys)
    return Columns(count, found)


def generated_column(
    field: Field, draw: np.random.Generator, times: IntArray, *, is_key: bool = False
) -> Column:
    """Values of a field for events at `times`; a tenth is null where it is optional, and a key has few values."""
    count, kind = len(times), field.dtype.kind
    valid: BoolArray | None = draw.random(count) > 0.1 if field.optional else None
    if kind == "text":
        choice = draw.integers(0, _KEYS if is_key else _KINDS, count).tolist()
        there = [True] * count if valid is None else valid.tolist()
        return Text.from_strings(
            [f"{field.name}-{i}" if ok else None for i, ok in zip(choice, there, strict=True)]
        )
    if kind == "float":
        return Numeric(np.round(draw.lognormal(3, 1, count), 2), valid)
    if kind == "bool":
        return Numeric(draw.random(count) < 0.3, valid)
    if kind == "time":
        return Numeric(times - draw.integers(0, 1440 * _MINUTE_US, count), valid)
    return Numeric(draw.integers(0, _KEYS if is_key else 100, count), valid)


def _labels(label: SourceNode, plan: Plan, rows: Mapping[str, Rows], draw: np.random.Generator) -> Rows:
    source = plan.sources[str(label.label_of)]
    events = rows[source.name].columns
    chosen = np.flatnonzero(draw.random(events.length) < 2 / 3)
    columns = events.take(chosen)
    times = columns[source.time_field].values.astype(np.int64)  # type: ignore[union-attr]
    field = next(f for f in label.fields if f.name == label.label_field)
    values = (
        draw.random(len(chosen))
        if field.dtype.kind == "float"
        else (draw.random(len(chosen)) < 0.3).astype(np.float64)
    )
    records = LabelRecords(
        event_positions=chosen,
        label_positions=events.length + np.arange(len(chosen)),
        values=values,
        known_at_us=times + draw.integers(_MINUTE_US, 4320 * _MINUTE_US, len(chosen)),
    )
    return entering_rows(records, columns, label)
