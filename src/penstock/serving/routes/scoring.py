"""Scoring and ingesting: events in, answers out, when they are durable."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from penstock.app.key_lists import check_no_list
from penstock.app.requests import verdicts
from penstock.app.routing import endpoint_named
from penstock.serving.bodies import Events, Wanted, events_of, flag_of
from penstock.serving.bytes_route import BytesRoute, JsonBytes
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError, response_of
from penstock.serving.shapes import ANSWERS, EVENTS_BODY, QUERY

if TYPE_CHECKING:
    from penstock.engine.answers import Answer
    from penstock.serving.platform import Platform

router = APIRouter(tags=["scoring"], route_class=BytesRoute)

_encode = msgspec.json.Encoder().encode


@router.post(
    "/v1/endpoints/{endpoint}/score",
    summary="Score events",
    responses=ANSWERS,
    openapi_extra={**EVENTS_BODY, "parameters": QUERY},
)
async def score(request: Request, endpoint: str) -> Response:
    """Take events into the log, compute their features, score and decide, and answer when that is durable.

    One event has one decision: sending an id again returns the stored decision, as ``duplicate``. A single event that is
    refused is answered 422, or 409 where its id was used with other values; of several, each has its own answer.
    """
    platform = platform_of(request)
    node = endpoint_named(platform.runtime.plan, endpoint)
    wanted = Wanted.of(request, timeout_s=platform.settings.timeout_s)
    events = await events_of(request)
    answers = await _asked(platform, node.source, events, wanted)
    if wanted.reasons:
        answers = await run_in_threadpool(
            platform.reasoners.with_reasons, node.name, answers, features=wanted.features
        )
    return answer_of(request, events, answers)


@router.post(
    "/v1/sources/{source}/events",
    summary="Ingest events or labels",
    responses=ANSWERS,
    openapi_extra={**EVENTS_BODY, "parameters": QUERY},
)
async def ingest(request: Request, source: str) -> Response:
    """Take events, labels or rows of a source into the log, and answer when they are durable.

    Where an endpoint decides on the source's events they are scored, as by ``score``. With ``dry_run=true`` they are only checked.
    """
    platform = platform_of(request)
    check_no_list(platform.runtime.plan.sources[platform.runtime.source_name(source)])
    wanted = Wanted.of(request, timeout_s=platform.settings.timeout_s)
    events = await events_of(request)
    if request.scope["query_string"] and flag_of(request, "dry_run"):
        contract = platform.runtime.engine.contract(platform.runtime.plan.sources[source])
        checked = await run_in_threadpool(contract.decode_json, events.data)
        return answer_of(request, events, verdicts(checked))
    return answer_of(request, events, await _asked(platform, source, events, wanted))


async def _asked(platform: Platform, source: str, events: Events, wanted: Wanted) -> list[Answer]:
    platform.check_ready()
    if not events.count:
        return []
    return await platform.asker.ask(
        source,
        events.data,
        events.count,
        timeout_s=wanted.timeout_s,
        with_features=wanted.features or wanted.reasons,
    )


def answer_of(request: Request, events: Events, answers: Sequence[Answer]) -> Response:
    """Answers as JSON: of a single event its own, or why it was refused; of several a list."""
    if not events.single:
        return JsonBytes(_encode({"answers": answers}))
    answer = answers[0]
    if answer.status == "rejected":
        return response_of(_refused(answer), str(request.scope.get("request_id", "")))
    return JsonBytes(_encode(answer))


def _refused(answer: Answer) -> ProblemError:
    """Why a single event was refused; its bytes are a dead letter, and are not echoed."""
    conflict = answer.reason == "conflict"
    status = HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY
    members: dict[str, Any] = {"answer": {"status": "rejected", "reason": answer.reason}}
    return ProblemError(status, str(answer.reason), str(answer.detail), **members)
