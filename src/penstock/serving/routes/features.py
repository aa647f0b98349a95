"""Features by key, now."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.core.errors import NotFoundError
from penstock.serving.access import GuardedRoute
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    from penstock.engine.online import OnlineFeatures
    from penstock.serving.platform import Platform

router = APIRouter(tags=["features"], route_class=GuardedRoute)

MOST_ROWS = 1000
"""Most rows in one request: the engine waits while they are looked up."""

Row = dict[str, Any]


class FeaturesRequest(BaseModel):
    """Keys, and what the service's request sources ask for: one, or as many of both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "join_keys": {"card_id": "card-017", "shop_id": "shop-03"},
                "request_data": {"amount": 129.9},
            }
        },
    )

    join_keys: Row | list[Row] = Field(description="Values by key column; a list for several rows.")
    request_data: Row | list[Row] | None = Field(
        None,
        description="Columns of the service's request sources; one for each of `join_keys`. The stream's time may be left out.",
    )


class FeatureValue(BaseModel):
    """A feature of one row."""

    name: str = Field(description="`view.feature`.")
    dtype: str
    value: Any = Field(None, description="Null where there is none.")
    status: str = Field(description="`present` or `missing`.")
    effective_time: datetime | None = Field(
        None,
        description="Time of the newest row of the key in the view; of a realtime feature, of the request.",
    )
    freshness_s: float | None = Field(None, description="How old that is, in seconds.")


class FeaturesRow(BaseModel):
    """The features of one row, in the order of the service."""

    features: list[FeatureValue]


class FeaturesAnswer(BaseModel):
    """The features of every row that was asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "fraud_features",
                "at": "2026-11-22T10:15:00.250000Z",
                "position": 104211,
                "rows": [
                    {
                        "features": [
                            {
                                "name": "card_spending.amount_count_1h_continuous",
                                "dtype": "Int64",
                                "value": 2,
                                "status": "present",
                                "effective_time": "2026-11-22T10:02:11Z",
                                "freshness_s": 769.25,
                            }
                        ]
                    }
                ],
            }
        }
    )

    name: str = Field(description="The service or view.")
    at: datetime = Field(description="As of when the values are.")
    position: int = Field(description="The length of the log that they take into account.")
    rows: list[FeaturesRow]
    degraded: bool = Field(
        default=False,
        description="Of a replica: the online store did not know all; what it did not know is null.",
    )


@router.post("/v1/services/{service}/features", summary="Read a service's features by key")
def service_features(request: Request, service: str, body: FeaturesRequest) -> FeaturesAnswer:
    """The values that an event with these keys would be scored on if it came now, without being one.

    A window that has run out since the key's last event is found empty. Each value says how fresh it is.
    """
    platform = platform_of(request)
    _check_known("feature service", service, list(platform.runtime.plan.services))
    return _answer(service, read(platform, service, body))


@router.post("/v1/views/{view}/features", summary="Read a view's features by key")
def view_features(request: Request, view: str, body: FeaturesRequest) -> FeaturesAnswer:
    """The values of one view for keys, now. Only views that a service, model or endpoint uses are computed."""
    platform = platform_of(request)
    _check_known("feature view", view, [one.name for one in platform.runtime.plan.views])
    return _answer(view, read(platform, view, body))


def read(platform: Platform, name: str, body: FeaturesRequest) -> OnlineFeatures:
    """The features of a service or view, for at most `MOST_ROWS` rows."""
    if isinstance(body.join_keys, list) and len(body.join_keys) > MOST_ROWS:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_many_rows",
            f"{len(body.join_keys)} rows in one request; allowed are {MOST_ROWS}. Ask for them in parts.",
        )
    return platform.runtime.online.read(name, body.join_keys, body.request_data)


def _check_known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise NotFoundError(f"{what} {name[:100]!r} does not exist; there are {', '.join(known)}.")


def _answer(name: str, found: OnlineFeatures) -> FeaturesAnswer:
    rows = []
    for row, values in enumerate(found.to_dicts()):
        features = [
            FeatureValue(
                name=one["name"],
                dtype=one["dtype"],
                value=_utc(values[one["name"]]),
                status=one["status"],
                effective_time=one["effective_time"],
                freshness_s=None if one["freshness"] is None else one["freshness"].total_seconds(),
            )
            for one in found.metadata(row)
        ]
        rows.append(FeaturesRow(features=features))
    return FeaturesAnswer(name=name, at=found.at, position=found.position, rows=rows, degraded=found.degraded)


def _utc(value: object) -> object:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
