"""The shapes of a platform that users may come from: features by key, and rows of several sources in one call.

Whoever calls these speaks that platform's form, so answers and errors are in it, too. What they do is what the routes under ``/v1`` do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from penstock.app.event_lines import one_line
from penstock.app.key_lists import check_no_list
from penstock.app.requests import verdicts
from penstock.core.errors import NotFoundError, PenstockError
from penstock.serving.access import NOTHING, GuardedRoute
from penstock.serving.bodies import body_of, check_commas, taken_apart
from penstock.serving.parts import taken_or_told
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError, problem_of

if TYPE_CHECKING:
    from penstock.engine.answers import Answer
    from penstock.engine.online import OnlineFeatures
    from penstock.serving.platform import Platform

MOST_RECORDS = 10_000
_KINDS = {
    "Int32": "int64",
    "Int64": "int64",
    "Float32": "float64",
    "Float64": "float64",
    "String": "string",
    "Bool": "boolean",
}
_NUMBERS = {401: 16, 403: 7, 404: 5, 409: 9, 413: 11, 422: 3, 429: 8, 501: 12, 503: 14, 504: 4}
"""Their numbers for errors, by HTTP status."""

_INGEST = "/ingest"


class TheirRoute(GuardedRoute):
    """A route that answers errors in their form."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The handler, whose errors become answers."""
        handler = super().get_route_handler()
        form = _ingest_error if self.path == _INGEST else _features_error

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                return form(
                    ProblemError(
                        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", f"{place}: {first['msg']}"
                    )
                )
            except PenstockError as error:
                return form(problem_of(error))
            except ProblemError as error:
                return form(error)

        return handle


def _features_error(problem: ProblemError) -> Response:
    detail = problem.detail[:1500]
    body = {"error": detail, "code": _NUMBERS.get(problem.status, 13), "message": detail, "details": []}
    return JSONResponse(body, _status(problem), _headers(problem))


def _ingest_error(problem: ProblemError) -> Response:
    body = {"requestError": {"errorMessage": problem.detail[:1500], "errorType": _type_of(problem)}}
    return JSONResponse(body, _status(problem), _headers(problem))


def _status(problem: ProblemError) -> int:
    return 400 if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY else int(problem.status)


def _type_of(problem: ProblemError) -> str:
    return "RequestValidationError" if _status(problem) == 400 else problem.code


def _headers(problem: ProblemError) -> dict[str, str]:
    return {} if problem.retry_after_s is None else {"Retry-After": str(max(1, round(problem.retry_after_s)))}


router = APIRouter(tags=["compatible"], route_class=TheirRoute)

_ROW = {"type": "object", "additionalProperties": True}
_ROWS = {
    "type": "array",
    "items": {"type": "object", "required": ["record"], "properties": {"record": _ROW}},
    "maxItems": MOST_RECORDS,
}
INGEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["records"],
                    "properties": {
                        "records": {"type": "object", "additionalProperties": _ROWS},
                        "dry_run": {"type": "boolean", "default": False},
                    },
                    "description": "Rows by source.",
                },
                "example": {
                    "records": {
                        "payments": [
                            {
                                "record": {
                                    "payment_id": "pay-81",
                                    "card_id": "card-017",
                                    "shop_id": "shop-03",
                                    "amount": 1.5,
                                }
                            }
                        ]
                    },
                    "dry_run": False,
                },
            }
        },
    }
}


class Params(BaseModel):
    """Which service, for which keys."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    service: str = Field(alias="featureServiceName")
    join_keys: dict[str, Any] = Field(default={}, alias="joinKeyMap", description="An Int64 may be a text.")
    request_data: dict[str, Any] = Field(default={}, alias="requestContextMap")
    options: dict[str, bool] = Field(
        default={}, alias="metadataOptions", description="Everything is told anyway."
    )


class GetFeatures(BaseModel):
    """A request for features."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "params": {
                    "featureServiceName": "fraud_features",
                    "joinKeyMap": {"card_id": "card-017", "shop_id": "shop-03"},
                    "requestContextMap": {"amount": 129.9},
                    "metadataOptions": {"includeNames": True, "includeDataTypes": True},
                }
            }
        }
    )

    params: Params


class Values(BaseModel):
    """The values, in the order of the service; an Int64 is a text."""

    features: list[Any]


class FeatureMetadata(BaseModel):
    """What is known of a value."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    data_type: dict[str, Any] = Field(alias="dataType")
    effective_time: datetime | None = Field(alias="effectiveTime")
    status: str = Field(description="`PRESENT` or `MISSING_DATA`.")


class Metadata(BaseModel):
    """One for each value."""

    features: list[FeatureMetadata]


class Features(BaseModel):
    """Values, and what is known of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "result": {"features": ["2", 41.3]},
                "metadata": {
                    "features": [
                        {
                            "name": "card_spending.amount_count_1h_continuous",
                            "dataType": {"type": "int64"},
                            "effectiveTime": "2026-11-22T10:02:11Z",
                            "status": "PRESENT",
                        }
                    ]
                },
            }
        }
    )

    result: Values
    metadata: Metadata


class Record(msgspec.Struct):
    """One row of a source, as it was written."""

    record: msgspec.Raw


class Ingest(msgspec.Struct):
    """Rows by source."""

    records: dict[str, list[Record]]
    dry_run: bool = False


_ingest_decoder = msgspec.json.Decoder(Ingest)


@router.post(
    "/api/v1/feature-service/get-features",
    summary="Read features, in Tecton's form",
    responses={404: {"description": NOTHING}},
)
def get_features(request: Request, body: GetFeatures) -> Features:
    """The features of a service for one set of keys, now."""
    runtime = platform_of(request).runtime
    service, params = runtime.plan.services.get(body.params.service), body.params
    if service is None:
        known = ", ".join(runtime.plan.services)
        raise NotFoundError(f"feature service {params.service[:100]!r} does not exist; there are {known}.")
    integers = {key.name for view in runtime.plan.views for key in view.keys if key.dtype.kind == "int"}
    keys = {name: _integer(value) if name in integers else value for name, value in params.join_keys.items()}
    return _as_theirs(runtime.online.read(params.service, keys, params.request_data))


def _integer(value: Any) -> Any:
    """An integer that came as a text, since not all JSON has integers of 64 bits."""
    is_text = isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit()
    return int(value) if is_text and len(value) < 21 else value


def _as_theirs(found: OnlineFeatures) -> Features:
    values = found.to_dict()
    metadata = [
        FeatureMetadata(
            name=one["name"],
            data_type=_data_type(one["dtype"]),
            effective_time=one["effective_time"],
            status="PRESENT" if one["status"] == "present" else "MISSING_DATA",
        )
        for one in found.metadata()
    ]
    own = [_value(values[one["name"]], one["dtype"]) for one in found.metadata()]
    return Features(result=Values(features=own), metadata=Metadata(features=metadata))


def _data_type(dtype: str) -> dict[str, Any]:
    if dtype.startswith("Array("):
        return {"type": "array", "elementType": _data_type(dtype[6:-1])}
    return {"type": _KINDS.get(dtype, dtype.lower())}


def _value(value: Any, dtype: str) -> Any:
    if isinstance(value, list):
        return [_value(one, dtype[6:-1]) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return str(value) if value is not None and _KINDS.get(dtype) == "int64" else value


@router.post(
    _INGEST,
    summary="Ingest rows of several sources, in Tecton's form",
    openapi_extra=INGEST_BODY,
    responses={404: {"description": NOTHING}},
)
async def ingest(request: Request) -> JSONResponse:
    """Take rows of several sources into the log; features see them when this returns.

    Each row counts for itself: where some are refused (`recordErrors`), the others are taken all the same. 400 where all are. Rows of a
    source that could not be asked for, as when too many wait, are told there, too (`overloaded`); 429 where nothing was taken.
    """
    platform = platform_of(request)
    body = await taken_apart(await body_of(request), _records)
    for source in body.records:
        check_no_list(platform.runtime.plan.sources[platform.runtime.source_name(source)])
    count = sum(len(rows) for rows in body.records.values())
    if count > MOST_RECORDS:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_events",
            f"{count} records in one request; allowed are {MOST_RECORDS}. Send them in parts.",
        )
    given = {
        source: [one_line(bytes(row.record)) for row in rows] for source, rows in body.records.items() if rows
    }
    if body.dry_run:
        found = await run_in_threadpool(_checked, platform, given)
    else:
        platform.check_ready()
        asked = (_asked(platform, source, rows) for source, rows in given.items())
        told = dict(zip(given, await asyncio.gather(*asked), strict=True))
        found = taken_or_told(told, {source: len(rows) for source, rows in given.items()})
    return _ingested(found)


async def _asked(platform: Platform, source: str, rows: Sequence[bytes]) -> list[Answer] | PenstockError:
    try:
        return await platform.asker.ask(
            source, b"\n".join(rows), len(rows), timeout_s=platform.settings.timeout_s
        )
    except PenstockError as error:
        return error


def _records(body: bytes) -> Ingest:
    check_commas(body)
    try:
        return _ingest_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"the body is not what is allowed, rows by source ({error}); nothing of it was stored.",
        ) from error


def _checked(platform: Platform, given: Mapping[str, Sequence[bytes]]) -> dict[str, list[Answer]]:
    engine, sources = platform.runtime.engine, platform.runtime.plan.sources
    return {
        source: verdicts(engine.contract(sources[source]).decode_json(b"\n".join(rows)))
        for source, rows in given.items()
    }


def _ingested(found: Mapping[str, Sequence[Answer]]) -> JSONResponse:
    errors = [
        {
            "pushSourceName": source,
            "errorType": answer.reason,
            "errorMessage": answer.detail,
            "recordIndex": i,
        }
        for source, answers in found.items()
        for i, answer in enumerate(answers)
        if answer.status == "rejected"
    ]
    accepted = {
        source: sum(answer.status != "rejected" for answer in answers) for source, answers in found.items()
    }
    metrics = [{"sourceName": source, "recordIngestCount": str(count)} for source, count in accepted.items()]
    body: dict[str, Any] = {"ingestMetrics": {"sourceIngestMetrics": metrics}}
    if errors:
        body["recordErrors"] = errors
    return JSONResponse(body, 400 if errors and not any(accepted.values()) else 200)
