"""Beginning a job because a request asks for it: parameters and names checked, and kept in the audit log where it changes anything."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request
from pydantic import ValidationError

from penstock.serving.access import Scope, check
from penstock.serving.acting import actor_of
from penstock.serving.job_kinds import KINDS
from penstock.serving.kept import stamp_of
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    from penstock.serving.job_records import Job

BEGUN, CANCELLED = "job.begin", "job.cancel"
"""What these rows are called in the audit log; the subject is the kind."""


def begin(request: Request, kind: str, params: dict[str, Any], *, reason: str | None) -> Job:
    """Let a job wait for its turn.

    Raises
    ------
    ProblemError
        The parameters are not those of the kind, a reason is missing, or the caller may not do what it does.
    NotFoundError
        What they name is not there.
    OverloadError
        Too many wait.
    """
    platform, found = platform_of(request), KINDS[kind]
    if found.admin:  # the route alone does not tell: which kind it is stands in the body
        check(request.scope.get("identity"), Scope.ADMIN)
    try:
        checked = found.params.model_validate(params)
    except ValidationError as error:
        told = "; ".join(
            f"params.{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_url=False)[:10]
        )
        raise _invalid(told) from error
    if found.changes and reason is None:
        raise _invalid(
            f"reason: a job of kind {kind!r} changes something. Say why; it is kept in the audit log."
        )
    found.check(platform.runtime, checked)
    actor, values = actor_of(request), checked.model_dump(mode="json")

    def note(job: Job) -> None:
        if found.changes and reason is not None:
            detail = {"job": job.id, "params": values}
            platform.runtime.routes.audit.append(BEGUN, kind, detail, actor=actor, reason=reason)

    return platform.jobs.submit(
        kind, values, actor=actor, reason=reason or "", stamp=stamp_of(platform), before=note
    )


def _invalid(told: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", told)
