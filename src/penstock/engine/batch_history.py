"""Batch rows for a training set: of a table, those that somebody asks for.

A profile may have millions of rows while a few thousand keys are asked for. Keys do not see each other, so the rows of
the others need not be read, put in order or held: their keys and times are looked at, and no other column. Where only the
latest row of a key counts, nor do rows that are superseded before anybody asks. What is left goes to the kernel, which
alone says what the values are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.core.types import Field, Timestamp
from penstock.definitions.sources import PushConfig, RequestSource, StreamSource
from penstock.definitions.views import FeatureReference, StreamFeatureView
from penstock.engine.frames import believed_columns
from penstock.engine.kernel_rows import encoded_keys
from penstock.engine.times import row_times
from penstock.kernel.asof import TimedKeys, seen_rows
from penstock.kernel.columns import Columns, IntArray
from penstock.kernel.keys import KeyTable
from penstock.kernel.program import Function
from penstock.plan.nodes import Plan, SourceNode, ViewNode

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE = 1 << 16
"""How many rows a thread looks at a time: their keys and times stay in the CPU's cache."""


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
    read = _Read(table, source, fields, owner)
    asked = [_Asked.of(plan, i, blocks, services) for i in views]
    if any(one.forgets(read) for one in asked):
        return believed_columns(table, fields, owner=owner)
    kept = _union([one.seen(parts) for one, parts in zip(asked, _looked_up(read, asked), strict=True)])
    if len(kept) == table.num_rows:
        return believed_columns(table, fields, owner=owner)
    return believed_columns(table.take(kept), fields, owner=owner, numbers=kept)


@dataclass(frozen=True, slots=True)
class _Read:
    """A table of which some columns are read piece by piece."""

    table: pa.Table
    source: SourceNode
    fields: Sequence[Field]
    owner: str

    def pieces(self) -> range:
        """Where the pieces begin."""
        return range(0, self.table.num_rows, _PIECE)

    def piece(self, begin: int, names: Collection[str]) -> Columns:
        """The columns `names` of a piece."""
        rows = self.table.slice(begin, _PIECE)
        fields = [field for field in self.fields if field.name in names]
        return believed_columns(rows, fields, owner=self.owner, numbers=range(begin, begin + rows.num_rows))


class _Found(NamedTuple):
    """Rows of a table whose key is asked for: their numbers, int64[n], and the keys' slots and times."""

    rows: IntArray
    keyed: TimedKeys


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which keys are asked for in a view, and as of when."""

    view: ViewNode
    keys: KeyTable
    asked: TimedKeys
    only_latest: bool

    @classmethod
    def of(cls, plan: Plan, index: int, blocks: Mapping[str, Columns], services: Sequence[str]) -> _Asked:
        """What `services` ask of view `index` for the events in `blocks`."""
        keys = KeyTable()
        slots, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for name in services:
            service = plan.services[name]
            for lookup in service.lookups:
                if lookup.view == index:
                    events = blocks[service.source]
                    asked, present = encoded_keys(events, lookup.key_columns)
                    found = keys.assign(asked)
                    slots.append(found if present is None else np.where(present, found, -1))
                    times.append(row_times(events, plan.sources[service.source]))
        view = plan.views[index]
        latest = view.time_field == plan.sources[view.source].time_field and all(
            spec.function is Function.LATEST for spec in view.program.aggregates
        )
        return cls(view, keys, TimedKeys(np.concatenate(slots), np.concatenate(times)), latest)

    @property
    def key_names(self) -> list[str]:
        """The columns of the view's keys."""
        return [key.name for key in self.view.keys]

    def forgets(self, read: _Read) -> bool:
        """Whether the view holds fewer keys than the table has, so that who sees what depends on every row."""
        most = self.view.program.max_keys
        if read.table.num_rows <= most:
            return False
        table = KeyTable()
        for begin in read.pieces():
            table.assign(encoded_keys(read.piece(begin, self.key_names), self.key_names)[0])
            if len(table) > most:
                return True
        return False

    def rows_of(self, piece: Columns, times: IntArray, begin: int) -> _Found:
        """The rows of a piece whose key is asked for."""
        keys, present = encoded_keys(piece, self.key_names)
        slots = self.keys.find(keys)
        rows = np.flatnonzero(slots >= 0 if present is None else (slots >= 0) & present)
        return _Found(rows + begin, TimedKeys(slots[rows], times[rows]))

    def seen(self, parts: Sequence[_Found]) -> IntArray:
        """The numbers of the rows that somebody sees, ascending."""
        if self.only_latest:
            seen = seen_rows([part.keyed for part in parts], self.asked, slots=len(self.keys))
        else:
            last = self.asked.times.max(initial=np.iinfo(np.int64).min)
            seen = [part.keyed.times <= last for part in parts]
        return np.concatenate([part.rows[one] for part, one in zip(parts, seen, strict=True)])


def _looked_up(read: _Read, asked: Sequence[_Asked]) -> list[list[_Found]]:
    """For each view the rows whose keys are asked for, piece by piece, found on all processors."""
    names = {read.source.time_field}.union(*(one.key_names for one in asked))

    def look(begin: int) -> list[_Found]:
        piece = read.piece(begin, names)
        times = row_times(piece, read.source)
        return [one.rows_of(piece, times, begin) for one in asked]

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        pieces = list(threads.map(look, read.pieces() or [0]))
    return [list(parts) for parts in zip(*pieces, strict=True)]


def _union(rows: Sequence[IntArray]) -> IntArray:
    return rows[0] if len(rows) == 1 else np.unique(np.concatenate(rows))


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
