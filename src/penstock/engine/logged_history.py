"""History for training sets from a project's own log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.definitions.views import FeatureReference
from penstock.engine.assembly import concat_features
from penstock.engine.features import FeatureState
from penstock.engine.frames import believed_columns, to_arrow, to_table
from penstock.engine.lookup import ERASED, conformed
from penstock.engine.ports import LogReader
from penstock.engine.replay import replay
from penstock.engine.training_set import FeatureFrame, append_features, driving_source, positions_of_ids
from penstock.kernel.columns import Columns, concat
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
    """Features as they were served for `events`, all of which must be in the log (found by event id)."""
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
    made, ids = [], []
    for replayed in replay(store, FeatureState(plan), services=[service], exact=True):
        rows = replayed.chunk.rows.get(source.name)
        if rows is not None:
            made.append(replayed.features["served"])
            ids.append(rows.columns.select([source.event_id_field]))
    if not made:
        raise InputError(
            f'as_of="served": the log holds no events of {source.name!r}. Feed some: penstock run.'
        )
    found = positions_of_ids(concat(ids)[source.event_id_field], wanted)
    if (found < 0).any():
        first = int(np.flatnonzero(found < 0)[0])
        raise InputError(
            f'as_of="served": row {first} of the events is not in the log of {source.name!r}; only events that were '
            'accepted were served. Leave it out, or use as_of="corrected".'
        )
    return append_features(table, service, [concat_features(made).take(found)])
