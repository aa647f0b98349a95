"""History for training sets from a project's own log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.definitions.views import FeatureReference
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.feature_frame import FeatureFrame, append_features
from penstock.engine.features import FeatureState
from penstock.engine.frames import believed_columns, to_arrow, to_table
from penstock.engine.lookup import ERASED, conformed
from penstock.engine.ports import LogReader
from penstock.engine.replay import replay
from penstock.engine.training_set import driving_source
from penstock.kernel.columns import Column, Columns, IntArray, concat
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.plan.compile import Demand, compile_demands
from penstock.plan.nodes import Plan


def history_of(store: LogReader, plan: Plan, *, sources: Collection[str]) -> dict[str, Any]:
    """Everything that the log holds of those of `sources` that the plan has, as Arrow tables in log order."""
    import pyarrow as pa

    parts: dict[str, list[Columns]] = {}
    for batch in store.read_log(sources=set(sources) & set(plan.sources)):
        columns = conformed(Columns.from_bytes(batch.payload), plan.sources[batch.source])
        if ERASED in columns:
            columns = columns.take(np.flatnonzero(~columns[ERASED].values.astype(np.bool_)))  # type: ignore[union-attr]
        names = [f.name for f in plan.sources[batch.source].fields]
        parts.setdefault(batch.source, []).append(columns.select(names))
    tables = {}
    for name, batches in parts.items():
        whole = concat(batches)
        tables[name] = pa.table({f.name: to_arrow(whole[f.name], f.dtype) for f in plan.sources[name].fields})
    return tables


def features_for_logged(
    store: LogReader, references: Sequence[FeatureReference], events: Any
) -> FeatureFrame:
    """Features as they were served for `events`, all of which must be in the log (found by event id).

    The log is read in chunks, of which only the rows of `events` are kept.
    """
    source = driving_source(references)
    table = to_table(events, owner="events")
    plan = compile_demands([Demand("served", tuple(references), source)])
    service = plan.services["served"]
    if source.event_id_field is None:
        raise InputError(
            f'as_of="served": source {source.name!r} has no event_id_field, so events cannot be found in the log. Use '
            'as_of="corrected".'
        )
    id_field = [f for f in source.schema if f.name == source.event_id_field]
    wanted = believed_columns(table, id_field, owner="events")[source.event_id_field]
    found, features = _served(store, plan, source.event_id_field, wanted)
    if features is None:
        raise InputError(
            f'as_of="served": the log holds no events of {source.name!r}. Feed some: penstock run.'
        )
    if (found < 0).any():
        first = int(np.flatnonzero(found < 0)[0])
        raise InputError(
            f'as_of="served": row {first} of the events is not in the log of {source.name!r}; only events that were '
            'accepted were served. Leave it out, or use as_of="corrected".'
        )
    return append_features(table, service, [features.take(found)])


def _served(
    store: LogReader, plan: Plan, id_field: str, wanted: Column
) -> tuple[IntArray, FeatureRows | None]:
    """For each id of `wanted` its row of the features that are returned, or -1; None where the log has no events."""
    service = plan.services["served"]
    asked = KeyTable()
    slots = asked.assign(encode_keys([wanted]))
    row_of = np.full(asked.slots, -1)
    made: list[FeatureRows] = []
    count = 0
    for replayed in replay(store, FeatureState(plan), services=[service], exact=True):
        rows = replayed.chunk.rows.get(service.source)
        if rows is None:
            continue
        found = asked.find(encode_keys([rows.columns[id_field]]))
        at = np.flatnonzero(found >= 0)
        if len(at) or not made:
            row_of[found[at]] = count + np.arange(len(at))
            made.append(replayed.features["served"].take(at))
            count += len(at)
    return row_of[slots], concat_features(made) if made else None
