"""Forgetting: events rewritten as empty rows, their decisions emptied, and what their absence does to other decisions.

An erased row keeps its position, so that the log's order and the index of ids stand; its columns are null and `ERASED`
is true. Replay leaves it out. A decision of another event that had seen it cannot be recomputed any more and says so
(`Flag.UNVERIFIABLE`); one that differed from its recomputation before is left to the audit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from penstock.core.records import DecisionBatch, LabelRecords, LogBatch
from penstock.engine.audit import differing_bits
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.features import FeatureState
from penstock.engine.labels import EVENT, FIRST
from penstock.engine.lookup import ERASED
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import Replayed, replay
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, offsets_of
from penstock.plan.nodes import EndpointNode, Plan

if TYPE_CHECKING:
    from penstock.engine.ports import LogReader


@dataclass(frozen=True, slots=True)
class ErasedLog:
    """The log as it will be once the rows at `positions` are erased; the store is not touched.

    Parameters
    ----------
    store
        The log as it is.
    positions
        By source the ascending positions to erase.
    """

    store: LogReader
    positions: Mapping[str, IntArray]

    @property
    def erased(self) -> IntArray:
        """All positions that are erased."""
        return np.concatenate([np.zeros(0, np.int64), *self.positions.values()])

    @property
    def next_position(self) -> int:
        """The length of the log."""
        return self.store.next_position

    @property
    def hash_seed(self) -> int:
        """The seed for hashing event ids."""
        return self.store.hash_seed

    def counters(self) -> dict[str, int]:
        """Totals since the store was created."""
        return self.store.counters()

    def read_log(
        self, start: int = 0, stop: int | None = None, *, sources: Collection[str] | None = None
    ) -> Iterator[LogBatch]:
        """Log batches, rows erased."""
        return (self.rewritten(batch) for batch in self.store.read_log(start, stop, sources=sources))

    def log_batches_at(self, positions: IntArray) -> Iterator[LogBatch]:
        """Log batches that hold one of `positions`, rows erased."""
        return (self.rewritten(batch) for batch in self.store.log_batches_at(positions))

    def read_decisions(
        self, start: int = 0, stop: int | None = None, *, endpoints: Collection[str] | None = None
    ) -> Iterator[DecisionBatch]:
        """Decision batches as they are."""
        return self.store.read_decisions(start, stop, endpoints=endpoints)

    def decision_batches_at(self, positions: IntArray) -> Iterator[DecisionBatch]:
        """Decision batches as they are."""
        return self.store.decision_batches_at(positions)

    def latest_labels(
        self, start: int = 0, stop: int | None = None, *, as_of_us: int | None = None
    ) -> LabelRecords:
        """Labels as they are."""
        return self.store.latest_labels(start, stop, as_of_us=as_of_us)

    def labels_of(self, positions: IntArray) -> LabelRecords:
        """Labels as they are: replay asks for those of events that it still sees."""
        return self.store.labels_of(positions)

    def changed(self) -> Iterator[LogBatch]:
        """The batches that erasing changes, rewritten."""
        for source, positions in self.positions.items():
            for batch in self.store.log_batches_at(positions):
                if batch.source == source:
                    yield self.rewritten(batch)

    def rewritten(self, batch: LogBatch) -> LogBatch:
        """`batch` with its rows erased, or as it is."""
        positions = self.positions.get(batch.source)
        if positions is None:
            return batch
        mask = np.isin(batch.positions, positions)
        if not mask.any():
            return batch
        return replace(batch, payload=erase_rows(Columns.from_bytes(batch.payload), mask).to_bytes())


def erase_rows(columns: Columns, mask: BoolArray) -> Columns:
    """`columns` with the rows of `mask` emptied and marked; rows erased before stay so."""
    kept = ~mask
    emptied = {name: _emptied(column, kept) for name, column in columns.columns.items() if name != ERASED}
    if EVENT in emptied:  # of a label: of no event, and nobody's first
        emptied |= {
            EVENT: Numeric(np.where(kept, _values(columns, EVENT), -1)),
            FIRST: Numeric(_values(columns, FIRST).astype(np.bool_) & kept),
        }
    before = _values(columns, ERASED).astype(np.bool_) if ERASED in columns else np.zeros(len(mask), np.bool_)
    return Columns(columns.length, {**emptied, ERASED: Numeric(before | mask)})


def _values(columns: Columns, name: str) -> Any:
    column = columns[name]
    assert isinstance(column, Numeric)
    return column.values


def _emptied(column: Column, kept: BoolArray) -> Column:
    valid = kept if column.valid is None else column.valid & kept
    if isinstance(column, Numeric):
        return Numeric(np.where(kept, column.values, np.zeros(1, column.values.dtype)), valid)
    rest = column.take(np.flatnonzero(kept))
    lengths = np.zeros(len(column), np.int64)
    lengths[kept] = np.diff(rest.offsets)
    return Text(offsets_of(lengths), rest.data, valid)


def erase_decisions(decisions: Decisions, erased: BoolArray, unverifiable: BoolArray) -> Decisions:
    """`decisions` with those of `erased` events emptied, and those marked that cannot be recomputed any more."""
    flags = np.where(erased, np.uint8(Flag.ERASED), decisions.flags)
    flags = np.where(unverifiable & ~erased, flags | np.uint8(Flag.UNVERIFIABLE), flags).astype(np.uint8)
    return structs.replace(
        decisions,
        scores=np.where(erased, np.nan, decisions.scores),
        taken=np.where(erased, 0, decisions.taken).astype(np.uint8),
        fired=None if decisions.fired is None else np.where(erased, 0, decisions.fired).astype(np.uint8),
        meant=None if decisions.meant is None else np.where(erased, 0, decisions.meant).astype(np.uint8),
        flags=flags,
        vectors=np.where(erased[:, None], np.nan, decisions.vectors),
    )


def changed_decisions(
    after: ErasedLog, plan: Plan, *, progress: Progress = no_progress
) -> Iterator[DecisionBatch]:
    """The decision batches that erasing changes, rewritten.

    The log is folded twice, as it was and as it will be; a decision that the first fold confirms and the second does not
    is unverifiable from now on.
    """
    services = [plan.services[endpoint.service] for endpoint in plan.endpoints.values()]
    folds = zip(
        replay(after.store, FeatureState(plan), services=services),
        replay(after, FeatureState(plan), services=services),
        strict=True,
    )
    for was, now in folds:
        for endpoint in plan.endpoints.values():
            yield from _changed_in(after, plan, endpoint, was, now)
        progress(now.chunk.stop, after.next_position)
    yield from _of_others(after, plan)


def _of_others(after: ErasedLog, plan: Plan) -> Iterator[DecisionBatch]:
    """The erased events' decisions by endpoints that the definitions no longer have."""
    for batch in after.store.read_decisions():
        erased = np.isin(batch.positions, after.erased)
        if batch.endpoint not in plan.endpoints and erased.any():
            decisions = Decisions.from_bytes(batch.payload)
            yield replace(batch, payload=erase_decisions(decisions, erased, np.zeros_like(erased)).to_bytes())


def _changed_in(
    after: ErasedLog, plan: Plan, endpoint: EndpointNode, was: Replayed, now: Replayed
) -> Iterator[DecisionBatch]:
    gone = after.erased
    first = int(gone.min(initial=after.next_position))
    for batch in after.store.read_decisions(now.chunk.start, now.chunk.stop, endpoints={endpoint.name}):
        decisions = Decisions.from_bytes(batch.payload)
        erased = np.isin(batch.positions, gone)
        if decisions.service == plan.services[endpoint.service].fingerprint:
            confirmed = _same(decisions, batch.positions, endpoint, was)
            lost = confirmed & ~_same(decisions, batch.positions, endpoint, now)
        else:  # other definitions served it: nobody here can tell what it had seen
            lost = batch.positions > first
        lost &= (decisions.flags & Flag.UNVERIFIABLE) == 0
        if erased.any() or lost.any():
            yield replace(batch, payload=erase_decisions(decisions, erased, lost).to_bytes())


def _same(decisions: Decisions, positions: IntArray, endpoint: EndpointNode, replayed: Replayed) -> BoolArray:
    """Which decisions' vectors the replay gives to the last bit; False where it no longer sees the event."""
    same = np.zeros(len(positions), np.bool_)
    rows = replayed.chunk.rows.get(endpoint.source)
    if rows is None:
        return same
    inside = np.flatnonzero(np.isin(positions, rows.positions))
    again = replayed.features[endpoint.service].values[np.searchsorted(rows.positions, positions[inside])]
    same[inside] = ~differing_bits(decisions.vectors[inside], again).any(axis=1)
    return same
