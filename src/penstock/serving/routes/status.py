"""How the project is doing at this moment, and the machine that it runs on."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app.auditing import read_totals
from penstock.app.overview import sizes_of
from penstock.monitoring.system import SystemReader
from penstock.serving.access import GuardedRoute
from penstock.serving.platform import Platform, platform_of

router = APIRouter(tags=["status"], route_class=GuardedRoute)


class Now(BaseModel):
    """The present moment."""

    ready: bool = Field(description="Whether events are taken.")
    started_us: int
    events_per_s: float = Field(description="Over the last seconds.")
    p50_s: float | None
    p99_s: float | None
    lag_s: float | None = Field(
        description="How far the newest event time is behind the clock; null before the first event."
    )
    queue_requests: int
    queue_events: int


class Status(BaseModel):
    """Now, and in total."""

    model_config = ConfigDict(json_schema_extra={"example": {"problems": {}, "log_length": 104211}})

    now: Now
    problems: dict[str, str] = Field(
        description="What does not work though the project is open, by what it concerns."
    )
    log_length: int
    totals: dict[str, int] = Field(description="The store's counts since the project began.")
    audit: dict[str, int] | None = Field(
        description="What the running audit recomputed; null where it has not begun."
    )


class Gpu(BaseModel):
    """A GPU."""

    number: int
    busy: float
    memory_used: int
    memory_total: int


class System(BaseModel):
    """The machine and this process."""

    cpu_s: dict[str, float] = Field(
        description="Seconds of all processors since the machine started, by what they did."
    )
    processors: int
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    process_cpu_s: float
    process_memory_bytes: int
    process_threads: int
    process_read_bytes: int | None
    process_written_bytes: int | None
    gpus: list[Gpu]
    queue_requests: int
    queue_events: int
    bytes: dict[str, int] = Field(description="On disk, by part of the project's state.")


@router.get("/v1/status", summary="How the project is doing")
def status(request: Request) -> Status:
    """Whether events are taken, how fast, what is wrong, and the store's counts. How that went over time, `GET /v1/live` says."""
    platform = platform_of(request)
    store = platform.runtime.store  # its own memory: an answer also while the database is away
    totals, length = store.counters(), store.next_position
    audit = read_totals(platform.root)
    return Status(
        now=_now(platform),
        problems=dict(platform.runtime.problems),
        log_length=length,
        totals=totals,
        audit=None if audit is None else audit.counters(),
    )


@router.get("/v1/system", summary="The machine and this process")
def system(request: Request) -> System:
    """Processors, memory, disk, GPUs where there are any, and what waits."""
    platform = platform_of(request)
    found = SystemReader(platform.root).read()
    values: dict[str, Any] = {
        name: getattr(found, name) for name in System.model_fields if hasattr(found, name)
    }
    return System(
        **values | {"gpus": [Gpu(**gpu._asdict()) for gpu in found.gpus]},
        queue_requests=len(platform.queue),
        queue_events=platform.queue.events,
        bytes=sizes_of(platform.root),
    )


def _now(platform: Platform) -> Now:
    summary = platform.live
    return Now(
        ready=summary is not None and not platform.runtime.engine.stopped,
        started_us=platform.started_us,
        events_per_s=0.0 if summary is None else summary.recent_events_per_s,
        p50_s=None if summary is None else summary.p50_s,
        p99_s=None if summary is None else summary.p99_s,
        lag_s=platform.observability.observing.lag_s(),
        queue_requests=len(platform.queue),
        queue_events=platform.queue.events,
    )
