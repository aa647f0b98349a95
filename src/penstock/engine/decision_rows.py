"""A batch of decisions taken apart into rows, for stores that keep rows beside the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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


def _kinds(d: Decisions) -> tuple[list[tuple[str, str, str, str]], IntArray]:
    """The different (action, model, arm, rule), and which one each row has."""
    n = len(d)
    none = np.zeros(n, np.int64)
    arms = none if d.by is None else d.by.astype(np.int64)
    fired = none if d.fired is None else d.fired.astype(np.int64)
    codes = (d.taken.astype(np.int64) * 256 + arms) * 256 + fired
    found, kind_of = np.unique(codes, return_inverse=True)
    kinds = []
    for code in found.tolist():
        by = d.arms[code >> 8 & 255]
        rule = d.rules[(code & 255) - 1] if code & 255 else ""
        kinds.append((d.actions[code >> 16], by.version, by.arm, rule))
    return kinds, kind_of
