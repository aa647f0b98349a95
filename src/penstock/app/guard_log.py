"""What the guard of an endpoint did, kept in the audit log: which versions passed its watch, and which it took out of service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.stores.audit_log import AuditLog, AuditRow

ACTION = "guard"
"""What these rows are called in the audit log; the subject is the endpoint."""
ACTOR = "guard"
Verdict = Literal["passed", "refused"]


def note(
    audit: AuditLog,
    endpoint: str,
    verdict: Verdict,
    *,
    version: str,
    what: str,
    numbers: Mapping[str, Any],
    reason: str,
) -> AuditRow:
    """Keep a verdict on a version at an endpoint; `what` was watched: ``scoring`` or ``labels``."""
    detail = {"verdict": verdict, "version": version, "what": what, "numbers": dict(numbers)}
    return audit.append(ACTION, endpoint, detail, actor=ACTOR, reason=reason)


def verdict_on(audit: AuditLog, endpoint: str, version: str, *, what: str) -> Verdict | None:
    """The newest verdict on a version at an endpoint; None where it is still to come."""
    for row in reversed(audit.rows(action=ACTION, subject=endpoint)):
        values = row.values()
        if values["version"] == version and (values["what"] == what or values["verdict"] == "refused"):
            found: Verdict = values["verdict"]
            return found
    return None


def is_refused(version: ModelVersion, registry: ModelRegistry, audit: AuditLog) -> str:
    """Why retraining must not promote a version: the guard refused it, or one that was trained on the same data; else empty.

    A person may promote it all the same.
    """
    refused = {
        values["version"]: row
        for row in audit.rows(action=ACTION)
        if (values := row.values())["verdict"] == "refused"
    }
    if version.label in refused:
        return f"the guard refused it: {refused[version.label].reason}"
    data = version.manifest().data.digest
    for other in registry.versions(version.name):
        if other.label in refused and other.manifest().data.digest == data:
            return f"it was trained on the same data as {other.label}, which the guard refused"
    return ""
