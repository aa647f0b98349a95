"""Endpoints: what is in their arms, on what share of the keys, and what the guard found."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from penstock.app import guard_log
from penstock.app.routing import (
    ACTION,
    arm_shares,
    endpoint_named,
    reset_weights,
    set_weights,
)
from penstock.core.time import DAY_US, from_us
from penstock.engine.alert_caps import AlertDays
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import actor_of
from penstock.serving.endpoint_shapes import (
    ArmShape,
    CapShape,
    EndpointShape,
    GuardShape,
    RuleShape,
    ShadowCounts,
    VerdictShape,
    WeightsAsked,
    WeightsRow,
)
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.app.runtime import Runtime
    from penstock.engine.routing import RouteArm
    from penstock.plan.nodes import EndpointNode

router = APIRouter(tags=["endpoints"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})

VERDICTS = 20


@router.get("/v1/endpoints", summary="List endpoints")
def list_endpoints(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[EndpointShape]:
    """Endpoints by name, each with its arms, thresholds and what serves."""
    runtime = platform_of(request).runtime
    some, after = part(sorted(runtime.plan.endpoints), str, cursor=cursor, limit=limit)
    return Page(items=[_endpoint(runtime, runtime.plan.endpoints[name]) for name in some], next=after)


@router.get("/v1/endpoints/{endpoint}", summary="Get an endpoint")
def get_endpoint(request: Request, endpoint: str) -> EndpointShape:
    """One endpoint: its arms, the versions that the registry puts into them and those with which the engine decides."""
    runtime = platform_of(request).runtime
    return _endpoint(runtime, endpoint_named(runtime.plan, endpoint))


@router.put(
    "/v1/endpoints/{endpoint}/weights",
    summary="Set the weights of arms",
    responses={422: {"model": ProblemShape}},
)
def put_weights(request: Request, endpoint: str, asked: WeightsAsked) -> EndpointShape:
    """Share the keys otherwise among the arms; in force when this answers.

    A key stays with its arm while the weights stay; a weight that grows moves keys to its arm only.
    """
    runtime = platform_of(request).runtime
    node, audit = endpoint_named(runtime.plan, endpoint), runtime.routes.audit
    who, length = actor_of(request), runtime.store.next_position
    if not asked.weights:
        reset_weights(node, audit, actor=who, reason=asked.reason, position=length)
    else:
        defined = {arm.name: arm.weight for arm in node.arms if not arm.shadow} if asked.reset else {}
        changes = defined | asked.weights
        set_weights(node, changes, audit, actor=who, reason=asked.reason, position=length)
    runtime.load_routes()
    return _endpoint(runtime, node)


@router.get("/v1/endpoints/{endpoint}/weights", summary="List changes of weights")
def list_weights(
    request: Request, endpoint: str, limit: Limit = 100, cursor: Cursor = None
) -> Page[WeightsRow]:
    """Who set which weights, when and why, newest first."""
    runtime = platform_of(request).runtime
    node = endpoint_named(runtime.plan, endpoint)
    rows = reversed(runtime.routes.audit.rows(action=ACTION, subject=node.name))
    some, after = part(rows, lambda row: row.sequence, cursor=cursor, limit=limit, descending=True)
    return Page(
        items=[
            WeightsRow(
                sequence=row.sequence,
                time=from_us(row.time_us),
                actor=row.actor,
                reason=row.reason,
                weights=row.values()["weights"],
                position=row.values().get("position", 0),
            )
            for row in some
        ],
        next=after,
    )


def _endpoint(runtime: Runtime, node: EndpointNode) -> EndpointShape:
    route = runtime.routes[node.name]
    in_force = {arm.name: arm for arm in (*route.serving, *route.shadows)}
    arms = [
        ArmShape(
            **one,
            serving=None if (found := in_force.get(one["arm"])) is None else found.named.version,
            thresholds=_thresholds(node, in_force.get(one["arm"])),
        )
        for one in arm_shares(node, runtime.registry, runtime.routes.audit)
    ]
    return EndpointShape(
        name=node.name,
        source=node.source,
        service=node.service,
        model=node.model,
        policy=node.policy,
        actions=list(node.actions),
        thresholds=arms[0].thresholds if arms else dict(node.steps),
        rules=[
            RuleShape(name=rule.name, feature=rule.feature, action=node.actions[rule.action])
            for rule in node.rules
        ],
        explore={a: share for a, share in zip(node.actions, node.explore, strict=False) if share},
        lists=list(node.lists),
        cap=_cap(runtime, node),
        arms=arms,
        shadows=_shadows(runtime, node.name),
        guard=_guard(runtime, node.name),
        problem=runtime.problems.get(node.name),
    )


def _cap(runtime: Runtime, node: EndpointNode) -> CapShape | None:
    cap = node.cap
    if cap is None:
        return None
    day, alerts = AlertDays(node.name, runtime.store.counters()).newest
    return CapShape(
        per_day=cap.per_day,
        actions=[node.actions[code] for code in cap.actions],
        instead=node.actions[cap.instead],
        newest_day=None if day is None else from_us(day * DAY_US).date(),
        alerts=alerts,
    )


def _thresholds(node: EndpointNode, arm: RouteArm | None) -> dict[str, float]:
    if arm is None or arm.thresholds is None:
        return dict(node.steps)
    return dict(zip([action for action, _ in node.steps], arm.thresholds, strict=True))


def _shadows(runtime: Runtime, endpoint: str) -> ShadowCounts:
    shadows = runtime.shadows
    return ShadowCounts(
        scored=_own(shadows.scored, endpoint),
        left_out=shadows.dropped.get(endpoint, 0),
        failed=_own(shadows.failed, endpoint),
        lost=_own(shadows.lost, endpoint),
    )


def _own(counts: Mapping[str, int], endpoint: str) -> dict[str, int]:
    """The counts of one endpoint's arms, of ``endpoint/arm``."""
    start = f"{endpoint}/"
    return {name.removeprefix(start): count for name, count in dict(counts).items() if name.startswith(start)}


def _guard(runtime: Runtime, endpoint: str) -> GuardShape | None:
    definition = runtime.project.endpoints.get(endpoint)
    rows = runtime.routes.audit.rows(action=guard_log.ACTION, subject=endpoint)
    guard = None if definition is None else definition.guard
    if guard is None and not rows:
        return None
    limits: dict[str, Any] = {} if guard is None else asdict(guard)
    verdicts = [
        VerdictShape(
            time=from_us(row.time_us),
            reason=row.reason,
            **{name: row.values()[name] for name in ("version", "what", "verdict", "numbers")},
        )
        for row in reversed(rows[-VERDICTS:])
    ]
    return GuardShape(limits=limits, verdicts=verdicts)
