"""Joining labels to their events: late, early, repeated or corrected, in any order.

Every label record is logged. Beside its own columns the log keeps what was found when it came: the position of its
event (-1: not there yet) and whether it was the event's first label, so that replay needs no look-up.

A label enters feature views once, at the later of its own and its event's arrival, with the event's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.records import LabelRecords, PendingLabel
from penstock.engine.admission import Admission, id_seed, same_values
from penstock.engine.kernel_rows import Rows
from penstock.engine.ports import EngineStore, EventIdIndex, HashArray
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.plan.nodes import SourceNode

EVENT = "_event"
FIRST = "_first"


class NewEvents(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The events of the labelled stream that the same micro-batch brings."""

    columns: Columns
    positions: IntArray
    hashes: HashArray


@dataclass(slots=True, eq=False)
class JoinedLabels:
    """What the labels of a micro-batch come to.

    `entering` are the rows for label views: label positions, event positions, values, times known.
    """

    payload: Columns | None = None
    records: LabelRecords | None = None
    pending_added: tuple[PendingLabel, ...] = ()
    pending_resolved: tuple[int, ...] = ()
    entering: LabelRecords | None = None
    counters: dict[str, int] = field(default_factory=dict)


class LabelJoin:
    """Finds the events of labels, and the waiting labels of new events."""

    def __init__(
        self,
        store: EngineStore,
        ids: EventIdIndex,
        admission: Admission,
        *,
        label: SourceNode,
        of: SourceNode,
    ) -> None:
        self._store = store
        self._ids = ids
        self._admission = admission
        self._label = label
        self._of = of

    @property
    def of(self) -> str:
        """The source whose events are labelled."""
        return self._of.name

    def awaits(self, events: NewEvents) -> bool:
        """Whether a label may be waiting for one of `events`; costs next to nothing where none waits."""
        return bool(self._store.pending_labels_for(events.hashes))

    def join(
        self, labels: Columns | None, label_positions: IntArray, events: NewEvents | None
    ) -> JoinedLabels:
        """Join label records, and labels that waited for `events`.

        Ids of `events` must be in the index already.
        """
        joined = JoinedLabels()
        parts = [] if events is None else self._waiting(events, joined)
        if labels is not None and labels.length:
            parts.append(self._arrived(labels, label_positions, events, joined))
        if not parts:
            return joined
        records = concat_labels(parts)
        if len(records):
            fresh, first = self._classify(records, joined)
            joined.records = take_labels(records, fresh) if fresh.any() else None
            joined.entering = take_labels(records, first) if first.any() else None
            if joined.payload is not None:
                firsts = records.label_positions[first]
                is_first = np.isin(label_positions, firsts)
                joined.payload = joined.payload.with_columns({FIRST: Numeric(is_first)})
        return joined

    def _waiting(self, events: NewEvents, joined: JoinedLabels) -> list[LabelRecords]:
        waiting = self._store.pending_labels_for(events.hashes)
        if not waiting:
            return []
        position_of = dict(
            zip(_as_texts(events.columns[str(self._of.id_field)]), events.positions.tolist(), strict=True)
        )
        mine = [w for w in waiting if w.source == self._of.name and w.event_id in position_of]
        joined.pending_resolved = tuple(w.label_position for w in mine)
        joined.counters["labels_pending"] = joined.counters.get("labels_pending", 0) - len(mine)
        return [
            LabelRecords(
                event_positions=np.array([position_of[w.event_id] for w in mine], np.int64),
                label_positions=np.array([w.label_position for w in mine], np.int64),
                values=np.array([w.value for w in mine], np.float64),
                known_at_us=np.array([w.known_at_us for w in mine], np.int64),
            )
        ]

    def _arrived(
        self,
        labels: Columns,
        label_positions: IntArray,
        events: NewEvents | None,
        joined: JoinedLabels,
    ) -> LabelRecords:
        ids = labels[str(self._label.id_field)]
        values = label_values(labels, self._label)
        known = labels[self._label.time_field].values  # type: ignore[union-attr]
        hashes = hash_text(encode_keys([ids]), id_seed(self._store.hash_seed, self._of.name))
        found = self._event_positions(ids, hashes, events)
        there = found >= 0
        texts = _as_texts(ids.take(np.flatnonzero(~there)))
        joined.pending_added = tuple(
            PendingLabel(
                source=self._of.name,
                event_id=text,
                event_hash=int(hashes[i]),
                label_position=int(label_positions[i]),
                value=float(values[i]),
                known_at_us=int(known[i]),
            )
            for text, i in zip(texts, np.flatnonzero(~there).tolist(), strict=True)
        )
        counters = joined.counters
        counters["labels_received"] = labels.length
        counters["labels_pending"] = counters.get("labels_pending", 0) + len(joined.pending_added)
        joined.payload = labels.with_columns(
            {EVENT: Numeric(found), FIRST: Numeric(np.zeros(labels.length, np.bool_))}
        )
        return LabelRecords(
            event_positions=found[there],
            label_positions=label_positions[there],
            values=values[there],
            known_at_us=known[there].astype(np.int64),
        )

    def _event_positions(self, ids: Column, hashes: HashArray, events: NewEvents | None) -> IntArray:
        """The positions of the labelled events, -1 where there is none (yet)."""
        found = self._ids.lookup(hashes)
        newest = np.zeros(len(found), np.bool_)
        if events is not None and len(events.positions):
            newest = found >= events.positions[0]
            rows = np.searchsorted(events.positions, found[newest])
            same = same_values(
                events.columns[str(self._of.id_field)].take(rows), ids.take(np.flatnonzero(newest))
            )
            found[newest] = np.where(same, found[newest], -1)
        older = np.flatnonzero((found >= 0) & ~newest)
        found[older] = self._admission.confirm(self._of, ids.take(older), hashes[older], found[older])
        return found

    def _classify(self, records: LabelRecords, joined: JoinedLabels) -> tuple[BoolArray, BoolArray]:
        """Which records are new, and which are the first of their event; the rest are duplicates or corrections."""
        before = self._store.labels_of(records.event_positions)
        ascending = (records.event_positions[1:] > records.event_positions[:-1]).all()
        if not len(before) and ascending:  # each event's first and only label: the usual case
            joined.counters["labels_joined"] = len(records)
            joined.counters["labels_early"] = _early_count(records)
            every = np.ones(len(records), np.bool_)
            return every, every
        newest: dict[int, float] = {}
        seen: set[tuple[int, float, int]] = set()
        for event, value, known in zip(*_lists(before), strict=True):
            newest[event] = value
            seen.add((event, value, known))
        fresh = np.ones(len(records), np.bool_)
        first = np.zeros(len(records), np.bool_)
        corrected = 0
        for i, (event, value, known) in enumerate(zip(*_lists(records), strict=True)):
            if (event, value, known) in seen:
                fresh[i] = False
                continue
            first[i] = event not in newest
            corrected += event in newest and newest[event] != value
            newest[event] = value
            seen.add((event, value, known))
        counters = joined.counters
        counters["labels_joined"] = int(first.sum())
        counters["labels_early"] = _early_count(records)
        counters["labels_corrected"] = corrected
        counters["labels_repeated"] = len(records) - int(first.sum()) - corrected
        return fresh, first


def _early_count(records: LabelRecords) -> int:
    return int((records.label_positions < records.event_positions).sum())


def entering_rows(entering: LabelRecords, events: Columns, label: SourceNode) -> Rows:
    """The rows of label views: the labelled events' columns, the label, the time known, in log order."""
    effective = np.maximum(entering.event_positions, entering.label_positions)
    order = np.lexsort((entering.label_positions, effective))
    dtype = next(f.dtype for f in label.fields if f.name == label.label_field)
    value: npt.NDArray[np.generic] = entering.values
    if dtype.kind == "bool":
        value = value.astype(np.bool_)
    elif dtype.kind == "int":
        value = value.astype(np.int64)
    columns = events.with_columns(
        {str(label.label_field): Numeric(value), label.time_field: Numeric(entering.known_at_us)}
    )
    return Rows(columns.take(order), effective[order])


def label_values(labels: Columns, label: SourceNode) -> npt.NDArray[np.float64]:
    """The labels as float64."""
    column = labels[str(label.label_field)]
    assert isinstance(column, Numeric)
    return column.values.astype(np.float64)


def _as_texts(ids: Column) -> list[str]:
    if isinstance(ids, Text):
        return [str(text) for text in ids.to_strings()]
    return [str(value) for value in ids.values.tolist()]


def _lists(records: LabelRecords) -> tuple[list[int], list[float], list[int]]:
    return records.event_positions.tolist(), records.values.tolist(), records.known_at_us.tolist()


def first_known(records: LabelRecords) -> LabelRecords:
    """Of each event the label that was known first, of equally early ones the first in the log; in that order."""
    order = np.lexsort((records.label_positions, records.known_at_us))
    _, first = np.unique(records.event_positions[order], return_index=True)
    return take_labels(records, order[np.sort(first)])


def take_labels(records: LabelRecords, rows: BoolArray | IntArray) -> LabelRecords:
    """The records at `rows`."""
    return LabelRecords(
        event_positions=records.event_positions[rows],
        label_positions=records.label_positions[rows],
        values=records.values[rows],
        known_at_us=records.known_at_us[rows],
    )


def concat_labels(parts: Sequence[LabelRecords]) -> LabelRecords:
    """The records of all `parts`, one after another."""
    empty = np.zeros(0, np.int64)
    return LabelRecords(
        event_positions=np.concatenate([empty, *(p.event_positions for p in parts)]),
        label_positions=np.concatenate([empty, *(p.label_positions for p in parts)]),
        values=np.concatenate([empty.astype(np.float64), *(p.values for p in parts)]),
        known_at_us=np.concatenate([empty, *(p.known_at_us for p in parts)]),
    )
