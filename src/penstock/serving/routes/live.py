"""What happens now, and how it went in the last minutes, hours and days."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app.auditing import read_totals
from penstock.app.overview import sizes_of
from penstock.app.runtime import open_reader
from penstock.monitoring.system import SystemReader
from penstock.serving.access import GuardedRoute
from penstock.serving.platform import Platform, platform_of

router = APIRouter(tags=["live"], route_class=GuardedRoute)

Step = Literal["second", "minute", "hour"]


class History(BaseModel):
    """A list for each figure, a value for each slot that an engine ran in, the oldest first."""

    step_s: int = Field(description="Seconds of a slot.")
    until_us: int = Field(description="Up to when the last slot counts.")
    start_us: list[int] = Field(description="When each slot begins, microseconds since 1970.")
    events: list[int]
    scored: list[int]
    alerts: list[int] = Field(description="Decisions with another action than the default.")
    late: list[int]
    too_late: list[int]
    duplicate: list[int]
    rejected: list[int]
    labels: list[int]
    positives: list[int]
    actions: dict[str, list[int]] = Field(description="Decisions by action.")
    mean_score: list[float | None]
    score_edges: list[float] = Field(description="Edges of the steps of `scores`.")
    scores: list[list[int]] = Field(description="Scores by step, with `scores=true`.")
    p50_s: list[float | None] = Field(description="Seconds from taking a micro-batch in until it is durable.")
    p99_s: list[float | None]
    cpu: list[float] = Field(description="Processors in use: 1.5 is one and a half.")
    memory_bytes: list[float]
    read_bytes: list[float]
    written_bytes: list[float]
    lag_s: list[float] = Field(description="How far the newest event time is behind the clock.")
    queue: list[int] = Field(description="Requests that wait.")


class Now(BaseModel):
    """This moment."""

    ready: bool = Field(description="Whether events are taken.")
    started_us: int
    events_per_s: float = Field(description="Over the last seconds.")
    p50_s: float | None
    p99_s: float | None
    lag_s: float | None = Field(description="How far the newest event time is behind the clock; null before the first event.")
    queue_requests: int
    queue_events: int


class Live(BaseModel):
    """Now, in total, and over time."""

    model_config = ConfigDict(json_schema_extra={"example": {"problems": {}, "log_length": 104211}})

    now: Now
    problems: dict[str, str] = Field(description="What does not work though the project is open, by what it concerns.")
    log_length: int
    totals: dict[str, int] = Field(description="The store's counts since the project began.")
    audit: dict[str, int] | None = Field(description="What the running audit recomputed; null where it has not begun.")
    history: History


class Gpu(BaseModel):
    """A GPU."""

    number: int
    busy: float
    memory_used: int
    memory_total: int


class System(BaseModel):
    """The machine and this process."""

    cpu_s: dict[str, float] = Field(description="Seconds of all processors since the machine started, by what they did.")
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


@router.get("/v1/live", summary="What happens now")
def live(
    request: Request,
    *,
    step: Annotated[Step, Query(description="Slots of a second (15 minutes), a minute (24 hours) or an hour (30 days).")] = "minute",
    since_us: Annotated[int | None, Query(ge=0, description="Only slots that begin at this time or later.")] = None,
    scores: Annotated[bool, Query(description="Add how scores are spread in each slot.")] = False,
) -> Live:
    """The figures of the overview: rates, latencies, counts, what is wrong, and their course."""
    platform = platform_of(request)
    runtime = platform.runtime
    with open_reader(platform.root) as store:
        totals, length = store.counters(), store.next_position
    audit = read_totals(platform.root)
    history = platform.observing.history.read(step, now_us=runtime.clock.now_us(), since_us=since_us)
    if not scores:
        history["scores"] = []
    return Live(
        now=_now(platform),
        problems=dict(runtime.problems),
        log_length=length,
        totals=totals,
        audit=None if audit is None else audit.counters(),
        history=History(**history),
    )


@router.get("/v1/system", summary="The machine and this process")
def system(request: Request) -> System:
    """Processors, memory, disk, GPUs where there are any, and what waits."""
    platform = platform_of(request)
    found = SystemReader(platform.root).read()
    values: dict[str, Any] = {name: getattr(found, name) for name in System.model_fields if hasattr(found, name)}
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
        lag_s=platform.observing.lag_s(),
        queue_requests=len(platform.queue),
        queue_events=platform.queue.events,
    )
