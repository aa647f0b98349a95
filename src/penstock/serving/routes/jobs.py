"""Jobs: begin long work, watch it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from inspect import getdoc
from operator import attrgetter
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from penstock.core.errors import OverloadError
from penstock.serving.access import GuardedRoute, Scope, check
from penstock.serving.acting import Reason, actor_of
from penstock.serving.beginning import CANCELLED, begin
from penstock.serving.decision_stream import EventStream
from penstock.serving.job_kinds import KINDS
from penstock.serving.job_records import Job
from penstock.serving.job_shapes import (
    JobAsked,
    JobDetail,
    JobKindName,
    JobKindShape,
    JobShape,
    accepted,
    detail_of,
    shape_of,
)
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import Platform, platform_of
from penstock.serving.shapes import ProblemShape

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

LOOK_EVERY_S = 0.2
BEAT_EVERY_S = 15.0
WATCHERS = 64
"""Most who may watch jobs at once."""


@router.post(
    "/v1/jobs",
    summary="Begin a job",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobShape,
    responses={422: {"model": ProblemShape}, 429: {"model": ProblemShape}},
)
def begin_job(request: Request, asked: JobAsked) -> Response:
    """Begin long work in a process of its own, beside the engine; `Location` says where to look.

    Parameters are checked before: what is accepted can begin. At most a few run at once, and a bounded number waits.
    """
    return accepted(begin(request, asked.kind, asked.params, reason=asked.reason))


@router.get("/v1/jobs/kinds", summary="List the kinds of jobs")
def list_kinds() -> list[JobKindShape]:
    """What jobs there are, and the JSON schema of what each needs."""
    return [
        JobKindShape(
            kind=name,
            text=getdoc(kind.params) or "",
            changes=kind.changes,
            params=kind.params.model_json_schema(),
        )
        for name, kind in KINDS.items()
    ]


@router.get("/v1/jobs", summary="List jobs")
def list_jobs(
    request: Request,
    kind: Annotated[JobKindName | None, Query(description="Only of this kind.")] = None,
    state: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        Query(description="Only in this state."),
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[JobShape]:
    """The jobs that are kept, newest first, without their results."""
    found = [
        job
        for job in platform_of(request).jobs.all()
        if kind in {None, job.kind} and state in {None, job.state}
    ]
    some, after = part(found, attrgetter("id"), cursor=cursor, limit=limit, descending=True)
    return Page(items=[shape_of(job) for job in some], next=after)


@router.get("/v1/jobs/{job}", summary="Get a job", responses={404: {"model": ProblemShape}})
def get_job(request: Request, job: str) -> JobDetail:
    """How far a job is, and what came of it."""
    jobs = platform_of(request).jobs
    found = jobs.get(job)
    return detail_of(found, jobs.result(found) if found.state == "succeeded" else None)


@router.delete("/v1/jobs/{job}", summary="Cancel a job", responses={404: {"model": ProblemShape}})
def cancel_job(
    request: Request, job: str, reason: Annotated[Reason, Query(description="Kept in the audit log.")]
) -> JobShape:
    """End a job that waits or runs; its process is asked to end, and after five seconds made to.

    One that has ended stays as it is.
    """
    platform = platform_of(request)
    found = platform.jobs.get(job)
    if KINDS[found.kind].admin:
        check(request.scope.get("identity"), Scope.ADMIN)
    if not found.ended:
        audit = platform.runtime.routes.audit
        audit.append(CANCELLED, found.kind, {"job": found.id}, actor=actor_of(request), reason=reason)
        platform.jobs.cancel(found)
    return shape_of(found)


@router.get(
    "/v1/jobs/{job}/events",
    summary="Watch a job",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."},
        404: {"model": ProblemShape},
        429: {"model": ProblemShape},
    },
)
async def watch_job(request: Request, job: str) -> Response:
    """The job as server-sent events named `job`: at once, whenever something changes, and at its end, with which the stream ends.

    The data is what `GET /v1/jobs/{job}` says, without the result.
    """
    platform = platform_of(request)
    found = platform.jobs.get(job)
    if platform.job_watchers >= WATCHERS:
        raise OverloadError(f"{WATCHERS} watch jobs already, and no more may. Ask for the job now and then.")
    return EventStream(_events(platform, found))


async def _events(platform: Platform, job: Job) -> AsyncIterator[bytes]:
    platform.job_watchers += 1
    try:
        seen, beat_s = (-1, False), 0.0
        while True:
            version, ended = job.version, job.ended
            if (version, ended) != seen:
                seen, beat_s = (version, ended), 0.0
                data = msgspec.json.encode(shape_of(job).model_dump(mode="json"))
                yield b"event: job\nid: %d\ndata: %s\n\n" % (version, data)
            elif beat_s >= BEAT_EVERY_S:
                beat_s = 0.0
                yield b": \n\n"
            if ended:
                return
            await asyncio.sleep(LOOK_EVERY_S)
            beat_s += LOOK_EVERY_S
    finally:
        platform.job_watchers -= 1
