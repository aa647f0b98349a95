"""One event of the log as people look it up: the event, what was decided on it, and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.policies_then import endpoint_then
from penstock.app.routing import thresholds_of
from penstock.core.errors import NotFoundError, PenstockError
from penstock.engine.answers import event_ids, stored_answers
from penstock.engine.gathering import plain
from penstock.engine.lookup import ERASED, RowReader
from penstock.engine.values import to_list

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.core.records import LabelRecords
    from penstock.engine.answers import Answer
    from penstock.engine.decisions import Decisions
    from penstock.engine.gathering import Value
    from penstock.plan.nodes import EndpointNode
    from penstock.stores.reader import ProjectReader


@dataclass(frozen=True, slots=True, eq=False)
class EventView:
    """An event with what belongs to it.

    Attributes
    ----------
    answer
        As it was given for the event, with the features where they were logged under the present definitions.
    endpoint, decision
        None where nothing was decided.
    """

    source: str
    position: int
    event_id: str
    event_time_us: int
    ingest_time_us: int
    event: Mapping[str, Value]
    answer: Answer
    endpoint: EndpointNode | None
    decision: Decisions | None
    labels: LabelRecords


def view_event(runtime: Runtime, store: ProjectReader, source: str, event_id: str) -> EventView:
    """The event of `source` with this id, as durable now.

    Raises
    ------
    NotFoundError
        There is no such source or event, or the event was forgotten.
    """
    plan = runtime.plan
    position = runtime.position_of(source, event_id)
    if position is None:
        raise NotFoundError(
            f"event {event_id[:100]!r} of source {source!r} is not in the log. Correct the id; a source without ids names its events "
            f"`{source}:POSITION`."
        )
    node, at = plan.sources[source], np.array([position])
    rows = RowReader(store, plan.sources)
    columns = rows.events(source, at)
    if ERASED in columns and columns[ERASED].values[0]:  # type: ignore[union-attr]
        raise NotFoundError(
            f"event {event_id[:100]!r} of source {source!r} was forgotten; nothing of it is left."
        )
    endpoint = plan.endpoint_of.get(source)
    stored = [] if endpoint is None else rows.decisions(endpoint.name, at)
    decision = stored[0][1] if stored else None
    names: tuple[str, ...] = ()
    if endpoint is not None and decision is not None:
        service = plan.services[endpoint.service]
        names = service.feature_names if decision.service == service.fingerprint else ()
    ingested = next(b.ingest_time_us for b in store.log_batches_at(at) if b.source == source)
    return EventView(
        source=source,
        position=position,
        event_id=event_ids(columns, node, [position])[0],
        event_time_us=int(columns[node.time_field].values[0]),  # type: ignore[union-attr]
        ingest_time_us=ingested,
        event={item.name: plain(to_list(columns[item.name], item.dtype)[0]) for item in node.fields},
        answer=stored_answers(plan, rows, node, [position], status="stored", names=names)[position],
        endpoint=endpoint if decision is not None else None,
        decision=decision,
        labels=store.labels_of(at),
    )


def decided_by_then(runtime: Runtime, view: EventView) -> EndpointNode | None:
    """The endpoint with the policy that decided on the event; None where nobody decided, or nothing is known of the policy any more."""
    if view.endpoint is None or view.decision is None:
        return None
    return endpoint_then(runtime.project.root, view.endpoint, view.decision.policy)


def thresholds_then(runtime: Runtime, view: EventView) -> dict[str, float] | None:
    """The thresholds by which the event's score meant its action; None where nothing is known of its policy any more.

    Those of the endpoint, or the ones that the version brought along which decided.
    """
    endpoint, decision = decided_by_then(runtime, view), view.decision
    if endpoint is None or decision is None:
        return None
    brought = None
    label = decision.decided_by(0).version.partition("+")[0]
    if label and endpoint.chosen:
        name, _, version = label.partition(":")
        try:
            chosen = runtime.registry.get(name, version).manifest().chosen_thresholds
        except PenstockError:  # its files are gone: what it brought along is not known
            return None
        brought = thresholds_of(endpoint, chosen)
    actions = endpoint.actions[1:]
    return dict(zip(actions, endpoint.thresholds if brought is None else brought, strict=False))
