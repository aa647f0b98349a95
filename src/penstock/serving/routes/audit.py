"""The audit log: who changed what, when and why, and whether anybody changed that."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from penstock.core.errors import ArtifactError, CorruptionError
from penstock.core.time import from_us
from penstock.serving.access import GuardedRoute
from penstock.serving.catalog_shapes import AuditShape, VerifiedShape
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of

router = APIRouter(tags=["audit"], route_class=GuardedRoute)

Text = Annotated[str | None, Query(max_length=500)]


@router.get("/v1/audit", summary="Search the audit log")
def list_audit(
    request: Request,
    action: Text = None,
    subject: Text = None,
    actor: Text = None,
    *,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AuditShape]:
    """Changes of weights, silences, jobs, retraining, the guard, keys, newest first. What happened to models is in their history."""
    audit = platform_of(request).runtime.routes.audit
    rows = [row for row in reversed(audit.rows(action=action, subject=subject)) if actor in {None, row.actor}]
    some, after = part(rows, lambda row: row.sequence, cursor=cursor, limit=limit, descending=True)
    items = [
        AuditShape(
            sequence=row.sequence,
            time=from_us(row.time_us),
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=row.values(),
            reason=row.reason,
        )
        for row in some
    ]
    return Page(items=items, next=after)


@router.get("/v1/audit/verify", summary="Verify the histories")
def verify(request: Request) -> VerifiedShape:
    """Walk the hash chains of the audit log and of the models' history, and check every file of every version.

    Cutting off the newest rows leaves a valid chain: whoever must detect that compares the heads with copies kept elsewhere.
    """
    runtime = platform_of(request).runtime
    found: dict[str, int | None] = {"audit": None, "registry": None}
    problems = []
    for name, check in (("audit", runtime.routes.audit.verify), ("registry", runtime.registry.verify)):
        try:
            found[name] = check()
        except (ArtifactError, CorruptionError) as error:
            problems.append(str(error))
    return VerifiedShape(
        clean=not problems,
        audit_rows=found["audit"],
        registry_rows=found["registry"],
        audit_head=str(runtime.routes.audit.head()[1]),
        registry_head=runtime.registry.head(),
        problems=problems,
    )
