"""Batch rows for a training set: of a table, those that somebody asks for.

A profile may have millions of rows while a few thousand keys are asked for. Keys do not see each other, so the rows of
the others need not be read, put in order or held: their keys and times are looked at, and no other column. Where only the
latest row of a key counts, nor do rows that are superseded before anybody asks. What is left goes to the kernel, which
alone says what the values are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import InputError
from penstock.core.types import Field, Timestamp
from penstock.definitions.sources import PushConfig, RequestSource, StreamSource
from penstock.definitions.views import FeatureReference, StreamFeatureView
from penstock.engine.frames import believed_columns
from penstock.engine.kernel_rows import encoded_keys
from penstock.engine.times import row_times
from penstock.kernel.asof import seen_rows
from penstock.kernel.columns import BoolArray, Columns, IntArray, Text
from penstock.kernel.keys import KeyTable
from penstock.kernel.program import Function
from penstock.plan.nodes import Plan, SourceNode, ViewNode

if TYPE_CHECKING:
    import pyarrow as pa

_THREADED_ROWS = 1 << 15
"""How many rows a thread takes at a time."""


def asked_rows(
    plan: Plan, source: SourceNode, table: pa.Table, blocks: Mapping[str, Columns], services: Sequence[str]
) -> Columns:
    """The rows of `table` that the events in `blocks` can see through `services`, in their order.

    All rows where it cannot be told beforehand: a view makes its keys in a function, or holds fewer keys than there are.
    """
    owner = f"history of {source.name!r}"
    fields = [field for field in source.fields if field.name != source.id_field]
    views = [i for i, view in enumerate(plan.views) if view.source == source.name]
    if any(plan.views[i].function is not None for i in views):
        return believed_columns(table, fields, owner=owner)
    names = {source.time_field, *(key.name for i in views for key in plan.views[i].keys)}
    read = believed_columns(table, [f for f in fields if f.name in names], owner=owner)
    wanted = np.zeros(table.num_rows, np.bool_)
    for i in views:
        of_view = _seen(plan, i, read, blocks, services)
        if of_view is None:
            return believed_columns(table, fields, owner=owner)
        wanted |= of_view
    if wanted.all():
        rest = believed_columns(table, [f for f in fields if f.name not in names], owner=owner)
        return rest.with_columns(read.columns)
    kept = np.flatnonzero(wanted)
    rest = believed_columns(
        table.take(kept), [f for f in fields if f.name not in names], owner=owner, numbers=kept
    )
    return rest.with_columns(read.take(kept).columns)


def _seen(
    plan: Plan, index: int, rows: Columns, blocks: Mapping[str, Columns], services: Sequence[str]
) -> BoolArray | None:
    """Which rows have a key that is asked for in view `index`; None where that says nothing about what it holds."""
    view = plan.views[index]
    keys, present_rows = encoded_keys(rows, [key.name for key in view.keys])
    if rows.length > view.program.max_keys and _count_distinct(keys) > view.program.max_keys:
        return None
    table = KeyTable()
    slots, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name in services:
        service = plan.services[name]
        for lookup in service.lookups:
            if lookup.view == index:
                events = blocks[service.source]
                asked, present = encoded_keys(events, lookup.key_columns)
                found = table.assign(asked)
                slots.append(found if present is None else np.where(present, found, -1))
                times.append(row_times(events, plan.sources[service.source]))
    source = plan.sources[view.source]
    row_slots = _find(table, keys)
    if present_rows is not None:
        row_slots[~present_rows] = -1
    at = row_times(rows, source)
    ask_slots, ask_times = np.concatenate(slots), np.concatenate(times)
    if view.time_field == source.time_field and _only_latest(view):
        return seen_rows(row_slots, at, ask_slots, ask_times, slots=len(table))
    seen: BoolArray = (row_slots >= 0) & (at <= ask_times.max(initial=np.iinfo(np.int64).min))
    return seen


def _only_latest(view: ViewNode) -> bool:
    return all(spec.function is Function.LATEST for spec in view.program.aggregates)


def _find(table: KeyTable, keys: Text) -> IntArray:
    """`KeyTable.find` of many keys, on all processors."""
    rows, workers = len(keys), os.cpu_count() or 1
    if rows < _THREADED_ROWS or workers == 1:
        return table.find(keys)
    found = np.empty(rows, np.int64)

    def find(begin: int) -> None:
        stop = min(begin + _THREADED_ROWS, rows)
        found[begin:stop] = table.find(Text(keys.offsets[begin : stop + 1], keys.data))

    with ThreadPoolExecutor(workers) as threads:
        for job in [threads.submit(find, begin) for begin in range(0, rows, _THREADED_ROWS)]:
            job.result()
    return found


def _count_distinct(keys: Text) -> int:
    table = KeyTable()
    table.assign(keys)
    return len(table)


def asking_stream(
    references: Sequence[FeatureReference], table: pa.Table, name: str, timestamp_key: str | None
) -> StreamSource:
    """A stream whose events are the rows of `table`: what features of batch views alone are looked up for."""
    fields: dict[str, Field] = {}
    for field in _asked_columns(references):
        if field.name not in table.column_names:
            raise InputError(
                f"events: column {field.name!r} ({field.dtype}), by which features are looked up, is missing; there are "
                f"{', '.join(table.column_names)}. Add it, or name another one with .with_join_key_map."
            )
        fields.setdefault(field.name, Field(field.name, field.dtype, optional=True))
    time = timestamp_key or _time_column(table)
    fields[time] = Field(time, Timestamp)
    return StreamSource(name, PushConfig(), schema=list(fields.values()), timestamp_field=time)


def _asked_columns(references: Iterable[FeatureReference]) -> Iterator[Field]:
    for reference in references:
        if isinstance(reference.view, StreamFeatureView):
            mapped = dict(reference.join_key_map)
            for key in reference.view.join_keys:
                yield Field(mapped.get(key.name, key.name), key.dtype)
            continue
        for source in reference.view.sources:
            if isinstance(source, RequestSource):
                yield from source.schema
            else:
                yield from _asked_columns([source])


def _time_column(table: pa.Table) -> str:
    import pyarrow as pa

    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        raise InputError(
            f"events: the time of each row is needed; columns of times are {', '.join(times) or 'not there'}. Name one with "
            "timestamp_key=."
        )
    return str(times[0])
