"""Data sets: recorded training sets, and their rows made again bit for bit."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from penstock.app.datasets import Dataset, DatasetFolder
from penstock.core.errors import StoreError
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import Reason, actor_of
from penstock.serving.beginning import begin
from penstock.serving.catalog_shapes import DatasetShape
from penstock.serving.job_kinds import DatasetParams
from penstock.serving.job_process import dated
from penstock.serving.job_shapes import JobShape, accepted
from penstock.serving.job_stream import first_bytes, rest
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ProblemShape
from penstock.serving.timely import TimelyStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from penstock.serving.job_child import JobProcess
    from penstock.serving.jobs import Jobs

router = APIRouter(tags=["datasets"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})

TYPES = {"parquet": "application/vnd.apache.parquet", "ndjson": "application/x-ndjson"}


class DatasetAsked(DatasetParams):
    """A training set to record."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "service": "fraud_features",
                "label": "chargebacks",
                "reason": "for next week's model",
            }
        },
    )

    reason: Reason = Field(description="Kept in the audit log.")


@router.get("/v1/datasets", summary="List data sets")
def list_datasets(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[DatasetShape]:
    """Recorded training sets, newest first."""
    found = reversed(DatasetFolder(platform_of(request).root).all())
    some, after = part(found, _place, cursor=cursor, limit=limit, descending=True)
    return Page(items=[dataset_of(one) for one in some], next=after)


@router.post(
    "/v1/datasets",
    summary="Record a data set",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobShape,
    responses={422: {"model": ProblemShape}, 429: {"model": ProblemShape}},
)
def record_dataset(request: Request, asked: DatasetAsked) -> Response:
    """Record the training set of a service as the log stands, so that it can be made again bit for bit; a job does it.

    The job's result is the record.
    """
    params = asked.model_dump(mode="json", exclude={"reason"})
    return accepted(begin(request, "dataset", params, reason=asked.reason))


@router.get("/v1/datasets/{dataset}", summary="Get a data set")
def get_dataset(request: Request, dataset: str) -> DatasetShape:
    """One record: what was asked, which table versions hold it, its digest."""
    return dataset_of(DatasetFolder(platform_of(request).root).get(dataset))


@router.get(
    "/v1/datasets/{dataset}/rows",
    summary="Download a data set",
    response_class=StreamingResponse,
    responses={
        200: {"content": {one: {} for one in TYPES.values()}, "description": "The rows."},
        409: {"model": ProblemShape},
        429: {"model": ProblemShape},
        503: {"model": ProblemShape},
    },
)
async def get_rows(
    request: Request,
    dataset: str,
    as_: Annotated[Literal["parquet", "ndjson"], Query(alias="format")] = "parquet",
) -> StreamingResponse:
    """The rows, made again from the table versions that it names, by a process beside the engine.

    Every value is compared with the recorded digest: if they are not those that were recorded, the answer is cut off before its
    end, and a Parquet file without its end cannot be read.
    """
    platform = platform_of(request)
    record = await run_in_threadpool(DatasetFolder(platform.root).get, dataset)
    if record.unavailable is not None:
        raise StoreError(f"data set {record.id}: it cannot be made again: {record.unavailable}.")
    asked = {
        "kind": "rows",
        "params": {"dataset": record.id, "format": as_},
        "actor": actor_of(request),
        "reason": "",
    }
    child = await run_in_threadpool(platform.jobs.stream, asked)
    try:
        first = await run_in_threadpool(first_bytes, child)
    except BaseException:
        await run_in_threadpool(platform.jobs.end_stream, child)
        raise
    name = f'attachment; filename="{record.id}.{as_}"'
    return _Rows(platform.jobs, child, first, media_type=TYPES[as_], headers={"Content-Disposition": name})


class _Rows(TimelyStream):
    """The bytes of a process, which ends with the answer, however that ends."""

    def __init__(self, jobs: Jobs, child: JobProcess, first: bytes, **given: Any) -> None:
        super().__init__(_bytes(child, first), **given)
        self._jobs, self._child = jobs, child

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # In a thread of its own: it waits for the process, and this task may have been cancelled.
            self._jobs.let_go(self._child)


async def _bytes(child: JobProcess, first: bytes) -> AsyncIterator[bytes]:
    yield first
    while data := await run_in_threadpool(rest, child):
        yield data


def dataset_of(record: Dataset) -> DatasetShape:
    """A record as it looks over HTTP."""
    found = dated(msgspec.to_builtins(record))
    delay_us = found["question"].pop("label_delay_us")
    found["question"]["label_delay_s"] = None if delay_us is None else delay_us / 1e6
    return DatasetShape(**found)


def _place(record: Dataset) -> str:
    return f"{record.created_us:020d}{record.id}"
