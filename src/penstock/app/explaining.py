"""Explaining one decision of a project: which event, which decision, and where each of its numbers comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.app.policies_then import endpoint_then
from penstock.app.routing import thresholds_of
from penstock.app.runtime import open_reader, plan_of, registry_of
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.definitions.project import load_project
from penstock.engine.lookup import RowReader
from penstock.engine.provenance import Behind, Provenance, Traced, find_event, provenance
from penstock.engine.recovery import Progress, no_progress
from penstock.plan.nodes import EndpointNode, Plan
from penstock.stores.reader import ProjectReader


def explain_event(
    root: Path, event_id: str, *, source: str | None = None, progress: Progress = no_progress
) -> Provenance:
    """Where the decision on an event comes from.

    Parameters
    ----------
    event_id
        The event's id, or ``position:N`` for the event at a log position.
    source
        The stream that it is of; needed where several streams know the id.

    Raises
    ------
    NotFoundError
        There is no such event, or no endpoint decides on its stream.
    """
    plan = plan_of(load_project(root))
    with open_reader(root) as store:
        endpoint, position = _find(store, plan, event_id, source)
        return _as_served(root, provenance(store, plan, endpoint, position, progress=progress))


def _as_served(root: Path, found: Provenance) -> Provenance:
    """With the policy that decided, and the thresholds that the version brought along which did."""
    found = _by_policy_then(root, found)
    label = "" if found.decision is None else found.decision.decided_by(0).version.partition("+")[0]
    if not label or not found.endpoint.chosen:
        return found
    name = label.partition(":")[0]
    version = next((v for v in registry_of(root).versions(name) if v.label == label), None)
    brought = None if version is None else thresholds_of(found.endpoint, version.manifest().chosen_thresholds)
    return found if brought is None else replace(found, endpoint=replace(found.endpoint, thresholds=brought))


def _by_policy_then(root: Path, found: Provenance) -> Provenance:
    """With the policy of the decision, where the definitions have another now."""
    digest = "" if found.decision is None else found.decision.policy
    then = endpoint_then(root, found.endpoint, digest)
    if then is found.endpoint:
        return found
    if then is None:
        note = f"nothing is known of its policy, digest {digest}: thresholds and default are those of the one in force"
        return replace(found, notes=(*found.notes, note))
    note = f"its policy is not in force any more: penstock policies {digest}"
    return replace(found, endpoint=then, notes=(*found.notes, note))


def _find(store: ProjectReader, plan: Plan, event_id: str, source: str | None) -> tuple[EndpointNode, int]:
    decided = {e.source: e for e in plan.endpoints.values() if source in {None, e.source}}
    if not decided:
        listed = ", ".join(e.source for e in plan.endpoints.values()) or "none"
        raise NotFoundError(
            f"explain-event: no endpoint decides on {source or 'any stream'}; endpoints decide on {listed}. "
            "Name one of these: --source NAME."
        )
    if event_id.startswith("position:"):
        return _at(store, plan, event_id.removeprefix("position:"), decided)
    found = {name: find_event(store, plan.sources[name], event_id) for name in decided}
    there = {name: position for name, position in found.items() if position is not None}
    if not there:
        raise NotFoundError(
            f"explain-event: no event with the id {event_id!r} is in the log of {', '.join(decided)}. Correct the id, or "
            "give its place in the log: position:N."
        )
    if len(there) > 1:
        raise InputError(
            f"explain-event: {', '.join(there)} have an event {event_id!r}. Choose one: --source NAME."
        )
    ((name, position),) = there.items()
    return decided[name], position


def _at(
    store: ProjectReader, plan: Plan, text: str, decided: Mapping[str, EndpointNode]
) -> tuple[EndpointNode, int]:
    position = int(text) if text.isdigit() else -1
    found = RowReader(store, plan.sources).sources_at(np.array([position])).get(position)
    if found is None or found not in decided:
        raise NotFoundError(
            f"explain-event: position {text} holds {'an event of ' + found if found else 'nothing'}; the log has "
            f"{store.next_position} rows, and endpoints decide on {', '.join(decided)}. Give another position."
        )
    return decided[found], position


def as_json(found: Provenance) -> dict[str, Any]:
    """The whole explanation as JSON values: every row behind every feature."""
    decision, endpoint = found.decision, found.endpoint
    decided = None
    if decision is not None:
        decided = {
            "endpoint": endpoint.name,
            "policy": endpoint.policy,
            "score": float(decision.scores[0]),
            "action": decision.actions[decision.taken[0]],
            "model": decision.decided_by(0).version or None,
            "arm": decision.decided_by(0).arm or None,
            "digest": decision.decided_by(0).digest or None,
            "service": decision.service,
            "flags": list(found.flags),
            "rule": decision.rule(0),
            "lists": decision.versions_of_lists(0),
            "policy_version": decision.policy or None,
            "propensity": decision.propensity(0),
            "thresholds": dict(endpoint.steps),
            "default": endpoint.actions[0],
        }
    return {
        "source": found.source,
        "position": found.position,
        "event_id": found.event_id,
        "event_time": _moment(found.time_us),
        "ingest_time": _moment(found.ingest_time_us),
        "event": dict(found.event),
        "decision": decided,
        "differing": found.differing,
        "notes": list(found.notes),
        "features": [_feature(one) for one in found.features],
    }


def _feature(one: Traced) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": one.name,
        "served": one.served,
        "recomputed": one.recomputed,
        "same": one.same,
        "output": one.is_output,
    }
    if one.behind is None:
        return {**described, "inputs": dict(one.inputs)}
    return {**described, **_behind(one.behind)}


def _behind(behind: Behind) -> dict[str, Any]:
    rows = zip(behind.positions.tolist(), behind.ids, behind.times_us.tolist(), behind.values, strict=True)
    return {
        "view": behind.view,
        "source": behind.source,
        "function": behind.function,
        "column": behind.column,
        "where": behind.where,
        "from": _moment(behind.from_us),
        "to": _moment(behind.to_us),
        "count": len(behind.positions),
        "events": [
            {"position": position, "event_id": one, "time": _moment(time), "value": value}
            for position, one, time, value in rows
        ],
    }


def _moment(us: int) -> str:
    return from_us(us).isoformat()
