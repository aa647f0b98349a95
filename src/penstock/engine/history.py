"""Features of the events in a project's own log: as they were served, or corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError
from penstock.core.records import LabelRecords
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.engine.labels import concat_labels, entering_rows, first_known, take_labels
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import CHUNK_ROWS, read_chunks, replay
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, IntArray, concat
from penstock.plan.nodes import Plan, ServiceNode

AS_OF = ("served", "corrected")


@dataclass(frozen=True, slots=True, eq=False)
class LoggedFeatures:
    """Events of one source from the log, with their features; rows are in log order."""

    events: Columns
    positions: IntArray
    features: FeatureRows


def check_as_of(as_of: str) -> None:
    """Raise `InputError` unless `as_of` names an order."""
    if as_of not in AS_OF:
        raise InputError(
            f'as_of is {as_of!r}; allowed are "served" (in arrival order) and "corrected" (late events in their places). '
            "Choose one."
        )


def features_from_log(
    store: LogReader,
    plan: Plan,
    service: ServiceNode,
    *,
    as_of: str = "served",
    start: int = 0,
    stop: int | None = None,
    progress: Progress = no_progress,
) -> LoggedFeatures:
    """The features of `service` for the events at positions ``[start, stop)``.

    Parameters
    ----------
    as_of
        ``"served"``: in arrival order, as when each event was scored. ``"corrected"``: in event-time order, with late
        events in their places.
    """
    check_as_of(as_of)
    end = store.next_position if stop is None else min(stop, store.next_position)
    if as_of == "corrected":
        return _corrected(store, plan, service, start=start, stop=end)
    parts: list[LoggedFeatures] = []
    for replayed in replay(store, FeatureState(plan), stop=end, services=[service], exact=True):
        progress(replayed.chunk.stop, end)
        rows = replayed.chunk.rows.get(service.source)
        if rows is not None and replayed.chunk.stop > start:
            parts.append(
                _from(LoggedFeatures(rows.columns, rows.positions, replayed.features[service.name]), start)
            )
    return _all(parts, service)


def _from(part: LoggedFeatures, start: int) -> LoggedFeatures:
    if not len(part.positions) or int(part.positions[0]) >= start:
        return part
    keep = np.flatnonzero(part.positions >= start)
    return LoggedFeatures(part.events.take(keep), part.positions[keep], part.features.take(keep))


def _all(parts: list[LoggedFeatures], service: ServiceNode) -> LoggedFeatures:
    if not parts:
        raise InputError(
            f"log: it holds no events of {service.source!r} in that range. Feed some first: penstock run."
        )
    return LoggedFeatures(
        concat([p.events for p in parts]),
        np.concatenate([p.positions for p in parts]),
        concat_features([p.features for p in parts]),
    )


def _corrected(
    store: LogReader, plan: Plan, service: ServiceNode, *, start: int, stop: int
) -> LoggedFeatures:
    """All rows at once, in event-time order; at equal times labels and batch rows first, then log order."""
    merged = _events(store, plan, stop)
    if service.source not in merged:
        return _all([], service)
    merged |= _labels(store, plan, merged, stop)
    names = list(merged)
    times = [row_times(merged[name].columns, plan.sources[name]) for name in names]
    ranks = [np.full(len(t), not plan.sources[n].comes_first) for n, t in zip(names, times, strict=True)]
    logged = [merged[name].positions for name in names]
    order = np.lexsort((np.concatenate(logged), np.concatenate(ranks), np.concatenate(times)))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    bounds = np.cumsum([0, *map(len, times)])
    batch, sorts = {}, {}
    for name, a, b in zip(names, bounds[:-1], bounds[1:], strict=True):
        sorts[name] = np.argsort(places[a:b])
        batch[name] = Rows(merged[name].columns.take(sorts[name]), places[a:b][sorts[name]])
    made = FeatureState(plan).advance(batch, services=[service], exact=True)[service.name]
    back = np.argsort(sorts[service.source])
    events = merged[service.source]
    return _from(LoggedFeatures(events.columns, events.positions, made.take(back)), start)


def _events(store: LogReader, plan: Plan, stop: int) -> dict[str, Rows]:
    """All events of each stream before position `stop`."""
    streams = replace(plan, sources={n: s for n, s in plan.sources.items() if s.label_of is None})
    gathered: dict[str, list[Rows]] = {}
    for chunk in read_chunks(store, streams, start=0, stop=stop):
        for name, rows in chunk.rows.items():
            gathered.setdefault(name, []).append(rows)
    return {name: _merged(parts) for name, parts in gathered.items()}


def _labels(store: LogReader, plan: Plan, events: Mapping[str, Rows], stop: int) -> dict[str, Rows]:
    """The rows of label views: of each event the label that was known first."""
    found: dict[str, Rows] = {}
    read = {view.source for view in plan.views}
    for name, label in plan.sources.items():
        of = events.get(str(label.label_of)) if name in read else None
        if of is None:
            continue
        records = first_known(_labels_of(store, of.positions, stop))
        if len(records):
            labelled = of.columns.take(np.searchsorted(of.positions, records.event_positions))
            # In the order of the labels alone: where an event lies in the log plays no part in event-time order.
            placed = replace(records, event_positions=np.zeros(len(records), np.int64))
            found[name] = entering_rows(placed, labelled, label)
    return found


def _labels_of(store: LogReader, positions: IntArray, stop: int) -> LabelRecords:
    parts = [store.labels_of(positions[i : i + CHUNK_ROWS]) for i in range(0, len(positions), CHUNK_ROWS)]
    records = concat_labels(parts)
    return take_labels(records, records.label_positions < stop)


def _merged(parts: list[Rows]) -> Rows:
    return Rows(concat([p.columns for p in parts]), np.concatenate([p.positions for p in parts]))
