"""A batch of decisions taken apart into rows, for stores that keep rows beside the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.core.records import DecisionBatch, DecisionRows, LogBatch
from penstock.engine.decisions import Decisions
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, Text

if TYPE_CHECKING:
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import Plan

RowsOf = Callable[[DecisionBatch, Sequence[LogBatch]], DecisionRows | None]
"""Takes a batch apart, given the log batches of its commit; None for an endpoint that it does not know."""


def rows_of(plan: Plan) -> RowsOf:
    """Takes batches of the plan's endpoints apart."""

    def taken_apart(batch: DecisionBatch, log: Sequence[LogBatch]) -> DecisionRows | None:
        endpoint = plan.endpoints.get(batch.endpoint)
        events = None if endpoint is None else next((b for b in log if b.source == endpoint.source), None)
        if endpoint is None or events is None:
            return None
        source = plan.sources[endpoint.source]
        at = np.searchsorted(events.positions, batch.positions)
        columns = Columns.from_bytes(events.payload).take(at)
        ids = columns.columns.get(source.id_field) if source.id_field is not None else None
        decisions = Decisions.from_bytes(batch.payload)
        kinds, kind_of = _kinds(decisions)
        return DecisionRows(
            endpoint=batch.endpoint,
            decided_us=events.ingest_time_us,
            positions=batch.positions,
            scores=decisions.scores,
            flags=decisions.flags,
            event_ids=ids.to_strings() if isinstance(ids, Text) else None,
            event_times_us=row_times(columns, source),
            kinds=kinds,
            kind_of=kind_of,
        )

    return taken_apart


def _kinds(d: Decisions) -> tuple[list[tuple[str, str, str, str, str, str]], IntArray]:
    """The different (action, model, arm, rule, policy, versions of lists), and which one each row has."""
    n = len(d)
    none = np.zeros(n, np.int64)
    arms = none if d.by is None else d.by.astype(np.int64)
    fired = none if d.fired is None else d.fired.astype(np.int64)
    rows, listed = _versions(d)
    codes = ((listed * 256 + d.taken.astype(np.int64)) * 256 + arms) * 256 + fired
    found, kind_of = np.unique(codes, return_inverse=True)
    lists = [_versions_text(d, row) for row in rows]
    kinds = []
    for code in found.tolist():
        by = d.arms[code >> 8 & 255]
        rule = d.rules[(code & 255) - 1] if code & 255 else ""
        action = d.actions[code >> 16 & 255]
        kinds.append((action, by.version, by.arm, rule, d.policy, lists[code >> 24]))
    return kinds, kind_of


def _versions(d: Decisions) -> tuple[list[int], IntArray]:
    """A row for each of the different versions of lists, and which of these each row has."""
    if d.list_versions is None or len(d.list_versions) == 1:
        return [0], np.zeros(len(d), np.int64)
    _, rows, which = np.unique(d.list_versions, axis=0, return_index=True, return_inverse=True)
    return rows.tolist(), which.reshape(-1).astype(np.int64)


def _versions_text(d: Decisions, row: int) -> str:
    versions = d.versions_of_lists(row)
    return msgspec.json.encode(versions).decode() if versions else ""
