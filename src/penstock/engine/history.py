"""Features of the events in a project's own log: as they were served, or corrected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import InputError
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.features import FeatureState
from penstock.engine.ordered_log import Shelf, rows_by_event_time
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import replay
from penstock.kernel.columns import Columns, IntArray, concat
from penstock.plan.nodes import Plan, ServiceNode

AS_OF = ("served", "corrected")


@dataclass(frozen=True, slots=True, eq=False)
class LoggedFeatures:
    """Events of one source from the log, with their positions in it and their features."""

    events: Columns
    positions: IntArray
    features: FeatureRows

    def take(self, rows: IntArray) -> LoggedFeatures:
        """The rows at these indices, in that order."""
        return LoggedFeatures(self.events.take(rows), self.positions[rows], self.features.take(rows))


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
    """The features of `service` for the events at positions ``[start, stop)``, all at once, in log order.

    Parameters
    ----------
    as_of
        ``"served"``: in arrival order, as when each event was scored. ``"corrected"``: in event-time order, with late
        events in their places.
    """
    parts = feature_parts(store, plan, service, as_of=as_of, start=start, stop=stop, progress=progress)
    whole = _all(list(parts), service)
    if (whole.positions[1:] > whole.positions[:-1]).all():
        return whole
    return whole.take(np.argsort(whole.positions))


def feature_parts(
    store: LogReader,
    plan: Plan,
    service: ServiceNode,
    *,
    as_of: str = "served",
    start: int = 0,
    stop: int | None = None,
    shelf: Shelf | None = None,
    progress: Progress = no_progress,
) -> Iterator[LoggedFeatures]:
    """The same, a part at a time: in log order ("served") or event-time order ("corrected").

    Parameters
    ----------
    shelf
        Where the log is kept aside while it is put in event-time order; default: memory, which must then hold it.
    """
    check_as_of(as_of)
    end = store.next_position if stop is None else min(stop, store.next_position)
    if as_of == "corrected":
        return _corrected(store, plan, service, start=start, stop=end, shelf=shelf, progress=progress)
    return _served(store, plan, service, start=start, stop=end, progress=progress)


def _served(
    store: LogReader, plan: Plan, service: ServiceNode, *, start: int, stop: int, progress: Progress
) -> Iterator[LoggedFeatures]:
    for replayed in replay(store, FeatureState(plan), stop=stop, services=[service], exact=True):
        progress(replayed.chunk.stop, stop)
        rows = replayed.chunk.rows.get(service.source)
        if rows is not None and replayed.chunk.stop > start:
            yield _from(LoggedFeatures(rows.columns, rows.positions, replayed.features[service.name]), start)


def _corrected(
    store: LogReader,
    plan: Plan,
    service: ServiceNode,
    *,
    start: int,
    stop: int,
    shelf: Shelf | None,
    progress: Progress,
) -> Iterator[LoggedFeatures]:
    state = FeatureState(plan)
    for ordered in rows_by_event_time(store, plan, stop=stop, shelf=shelf, progress=progress):
        made = state.advance(ordered.rows, services=[service], exact=True)
        if service.name in made:
            events = ordered.rows[service.source].columns
            yield _from(LoggedFeatures(events, ordered.logged[service.source], made[service.name]), start)


def _from(part: LoggedFeatures, start: int) -> LoggedFeatures:
    keep = np.flatnonzero(part.positions >= start)
    return part if len(keep) == len(part.positions) else part.take(keep)


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
