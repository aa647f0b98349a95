"""Figures that take long: made by a job, kept, and served with their age while newer ones are made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Query, Response
from pydantic import BaseModel, Field

from penstock.core.errors import OverloadError
from penstock.core.time import from_us
from penstock.serving.job_kinds import KINDS
from penstock.serving.job_shapes import JobShape, accepted, shape_of
from penstock.serving.problems import ProblemError
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.serving.job_kinds import Params
    from penstock.serving.job_records import Job
    from penstock.serving.platform import Platform

T = TypeVar("T")
MAX_AGE_S = 300.0
MaxAge = Annotated[
    float,
    Query(
        ge=0,
        le=31_536_000,
        description="When what is kept is older and something has happened since, newer figures are begun.",
    ),
]
ACTOR = "penstock"

KEPT_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobShape,
        "description": "Nothing was made yet; a job began. Ask again when it has ended.",
    },
    404: {"model": ProblemShape},
    409: {"model": ProblemShape, "description": "There is nothing that it could be made of."},
}


class Kept(BaseModel, Generic[T]):
    """What was made last, and how old it is."""

    made: datetime = Field(description="When what it is made of was read.")
    age_s: float
    current: bool = Field(description="Whether nothing has happened since.")
    job: str = Field(description="The job that made it.")
    refreshing: str | None = Field(None, description="The job that makes it anew at the moment.")
    result: T


def kept(
    platform: Platform, kind: str, params: Params, max_age_s: float, *, of: Callable[[Any], T]
) -> Kept[T] | Response:
    """The newest result of a job, or 202 where there is none yet; begins a newer one when it is due.

    `of` makes the answer of the result's JSON values. Raises what the newest attempt failed for, where there is no result.
    """
    jobs, now_us = platform.jobs, platform.runtime.clock.now_us()
    KINDS[kind].check(platform.runtime, params)
    values, stamp = params.model_dump(mode="json"), stamp_of(platform)
    done = jobs.newest(kind, values, "succeeded")
    under_way = jobs.newest(kind, values, "queued", "running")
    if under_way is None and (done is None or _is_due(done, stamp, now_us, max_age_s)):
        failed = jobs.newest(kind, values, "failed")
        if failed is None or _is_due(failed, stamp, now_us, max_age_s):
            under_way = _begun(platform, kind, values, stamp, needed=done is None)
        elif done is None:
            raise _problem(failed)
    if done is None:
        assert under_way is not None, "a job was begun, or an error raised"
        return accepted(under_way)
    started_us = done.started_us or done.created_us
    return Kept[T](
        made=from_us(started_us),
        age_s=max(now_us - started_us, 0) / 1e6,
        current=done.stamp == stamp,
        job=done.id,
        refreshing=None if under_way is None else under_way.id,
        result=of(jobs.result(done)),
    )


def stamp_of(platform: Platform) -> str:
    """What figures depend on: how long the log is, what is defined, and what is live."""
    runtime = platform.runtime
    return f"{runtime.store.next_position}/{runtime.plan.fingerprint}/{runtime.routes.seen}"


def _is_due(job: Job, stamp: str, now_us: int, max_age_s: float) -> bool:
    return job.stamp != stamp and now_us - (job.started_us or job.created_us) > max_age_s * 1e6


def _begun(platform: Platform, kind: str, values: dict[str, Any], stamp: str, *, needed: bool) -> Job | None:
    try:
        return platform.jobs.submit(kind, values, actor=ACTOR, stamp=stamp, once=True, figures=True)
    except OverloadError:
        if needed:
            raise
        return None


def _problem(job: Job) -> ProblemError:
    """Why there is no result, as the job's process told it."""
    from http import HTTPStatus

    error = job.error or {}
    status = HTTPStatus(int(error.get("status", 500)))
    code = str(error.get("type", "")).rpartition(":")[2] or "internal"
    return ProblemError(status, code, str(error.get("detail", "")), job=shape_of(job).id)
