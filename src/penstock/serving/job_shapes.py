"""How jobs look over HTTP."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.time import from_us
from penstock.serving.acting import Reason
from penstock.serving.job_records import Job
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from pydantic.config import JsonDict

JobKindName = Literal[
    "metrics", "drift", "distributions", "experiment", "backtest", "dataset", "retrain", "gate", "promote"
]
_EXAMPLE: JsonDict = {
    "id": "job-000642f1c7a80e019f3c21d7",
    "kind": "backtest",
    "params": {"endpoint": "checkout", "models": ["fraud:2"], "thresholds": {}},
    "state": "running",
    "actor": "ana",
    "reason": "",
    "created": "2026-11-22T10:15:00Z",
    "started": "2026-11-22T10:15:00Z",
    "ended": None,
    "progress": {"done": 65536, "total": 280000, "text": ""},
    "error": None,
}


class ProgressShape(BaseModel):
    """How far a job is."""

    done: int
    total: int = Field(description="0 where it is not known.")
    text: str = Field(description="What it does at the moment.")


class JobShape(BaseModel):
    """One piece of long work."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str
    kind: str
    params: dict[str, Any]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    actor: str = Field(description="Who asked for it.")
    reason: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    progress: ProgressShape
    error: ProblemShape | None = Field(None, description="Of one that failed.")


class JobDetail(JobShape):
    """A job with what came of it."""

    result: Any = Field(None, description="Of one that has succeeded; its members depend on the kind.")
    log: str = Field("", description="Of one that failed: the end of what its process wrote.")


class JobAsked(BaseModel):
    """A job to begin."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"kind": "backtest", "params": {"endpoint": "checkout", "models": ["fraud:2"]}}
        },
    )

    kind: JobKindName
    params: dict[str, Any] = Field(description="What the kind needs; see `GET /v1/jobs/kinds`.")
    reason: Reason | None = Field(
        None, description="Why; needed for kinds that change something, and kept in the audit log."
    )


class JobKindShape(BaseModel):
    """A kind of job."""

    kind: str
    text: str
    changes: bool = Field(description="Whether it changes anything, and needs a reason.")
    params: dict[str, Any] = Field(description="The JSON schema of its parameters.")


def shape_of(job: Job) -> JobShape:
    """A job without its result."""
    return JobShape(**_values(job))


def detail_of(job: Job, result: Any) -> JobDetail:
    """A job with its result."""
    return JobDetail(**_values(job), result=result, log=job.log)


def accepted(job: Job) -> Response:
    """202, and where to look."""
    return JSONResponse(
        shape_of(job).model_dump(mode="json"), HTTPStatus.ACCEPTED, {"Location": f"/v1/jobs/{job.id}"}
    )


def _values(job: Job) -> dict[str, Any]:
    times = {"created": job.created_us, "started": job.started_us, "ended": job.ended_us}
    return {
        "id": job.id,
        "kind": job.kind,
        "params": job.params,
        "state": job.state,
        "actor": job.actor,
        "reason": job.reason,
        **{name: None if us is None else from_us(us) for name, us in times.items()},
        "progress": ProgressShape(done=job.done, total=job.total, text=job.said),
        "error": None if job.error is None else ProblemShape(**job.error),
    }
