"""Taking a version out of service: the champion by a rollback, another arm by its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.app.guard_log import ACTOR, is_refused, note
from penstock.app.routing import arm_named, set_weights
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.monitoring.watch import Alarm
    from penstock.plan.nodes import EndpointNode
    from penstock.stores.audit_log import AuditLog


def take_out(
    endpoint: EndpointNode,
    arm: str,
    version: ModelVersion,
    alarm: Alarm,
    *,
    registry: ModelRegistry,
    audit: AuditLog,
    what: str,
) -> str:
    """Take a version out of an arm, and keep why; what could not be done, empty where all was.

    A champion is rolled back to the version before, unless there is none or the guard refused that, too. An arm that is the last to
    decide keeps its weight.
    """
    reason = f"{version.label} at endpoint {endpoint.name}: {alarm.text}"
    champion = next((v for v in registry.versions(version.name) if v.stage == "Production"), None)
    if champion is not None and champion.version == version.version:
        problem = _roll_back(version, registry, audit, reason)
    else:
        problem = _weigh_nothing(endpoint, arm, audit, reason)
    numbers = {"alarm": alarm.what, **alarm.numbers}
    note(audit, endpoint.name, "refused", version=version.label, what=what, numbers=numbers, reason=reason)
    return problem


def came_back(registry: ModelRegistry, version: ModelVersion) -> bool:
    """Whether a version is in Production because another was rolled back: it is not watched, so that nothing swings."""
    moves = [
        row
        for row in registry.history(version.name)
        if row.version == version.version and row.stage == "Production"
    ]
    return bool(moves) and moves[-1].action == "rollback"


def _roll_back(version: ModelVersion, registry: ModelRegistry, audit: AuditLog, reason: str) -> str:
    previous = next((v for v in registry.versions(version.name) if "previous" in v.aliases), None)
    if previous is None:
        return f"{reason}. It still serves: there is no version before it to go back to. Promote another one."
    refused = is_refused(previous, registry, audit)
    if refused:
        return f"{reason}. It still serves: of {previous.label}, the one before it, {refused}. Promote another one."
    registry.rollback(version.name, actor=ACTOR, reason=reason)
    return ""


def _weigh_nothing(endpoint: EndpointNode, arm: str, audit: AuditLog, reason: str) -> str:
    if not arm_named(endpoint, arm).shadow:
        try:
            set_weights(endpoint, {arm: 0.0}, audit, actor=ACTOR, reason=reason)
        except InputError as error:
            return f"{reason}. It still serves: {error}"
    return ""
