"""Alerts: how they stand, what was told, silence."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app import alerting
from penstock.core.time import from_us
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import Because, actor_of
from penstock.serving.paging import Cursor, Limit, Page, cursor_of, part, place_of
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.app.alerting import AlertStatus
    from penstock.stores.alerts import LogRow

router = APIRouter(tags=["alerts"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})

LONGEST_SILENCE_S = 366 * 86_400.0
MessageState = Literal["waiting", "sent", "silenced", "dead"]


class AlertShape(BaseModel):
    """An alert and how it stands."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "busy",
                "on": "checkout alert_rate above 0.05 for 5m",
                "to": ["TEAM_CHAT"],
                "owner": "risk",
                "state": "firing",
                "value": 0.071,
                "silenced_until": None,
                "messages": {"sent": 3},
                "problems": [],
            }
        }
    )

    name: str
    on: str = Field(description="When somebody is told, in words.")
    to: list[str] = Field(description="The receivers, by name.")
    owner: str | None
    state: str = Field(description="Of one on a metric: ok, pending or firing; empty of one on decisions.")
    value: float | None = Field(description="The metric's, when it was looked at last.")
    silenced_until: datetime | None
    messages: dict[str, int] = Field(description="How many are waiting, sent, silenced, dead.")
    problems: list[str] = Field(description="Why messages cannot be sent as things stand.")


class MessageShape(BaseModel):
    """A message to a receiver, and what became of it."""

    id: int
    key: str = Field(description="The idempotency key.")
    alert: str
    to: str
    kind: str
    state: MessageState
    attempts: int
    created: datetime
    due: datetime = Field(description="When it is tried next, or was.")
    done: datetime | None
    error: str


class SilenceAsked(Because):
    """How long nobody is told."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"for_s": 3600, "reason": "load test"}}
    )

    for_s: float = Field(ge=0, le=LONGEST_SILENCE_S, description="Seconds; 0 ends a silence.")


class OutcomeShape(BaseModel):
    """What became of a test message."""

    delivered: bool
    error: str


class RetriedShape(BaseModel):
    """How many messages wait again."""

    waiting: int


@router.get("/v1/alerts", summary="List alerts")
def list_alerts(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[AlertShape]:
    """Alerts by name: their state, silences, and how many messages wait, were sent, or were given up."""
    found = {one.name: one for one in _statuses(request)}
    some, after = part(sorted(found), str, cursor=cursor, limit=limit)
    return Page(items=[_alert(request, found[name]) for name in some], next=after)


@router.get("/v1/alerts/{alert}", summary="Get an alert")
def get_alert(request: Request, alert: str) -> AlertShape:
    """One alert and how it stands."""
    alerting.alert_named(platform_of(request).runtime.project, alert)
    return _alert(request, next(one for one in _statuses(request) if one.name == alert))


@router.get("/v1/alert-messages", summary="List messages of alerts")
def list_messages(
    request: Request,
    alert: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[MessageState | None, Query()] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[MessageShape]:
    """Messages and what became of them, newest first; without their content."""
    rows = alerting.logged(
        platform_of(request).root,
        alert=alert,
        state=state,
        limit=limit + 1,
        before=None if cursor is None else place_of(cursor, int),
    )
    after = cursor_of(rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[_message(row) for row in rows[:limit]], next=after)


@router.post("/v1/alerts/{alert}/silence", summary="Silence an alert")
def silence_alert(request: Request, alert: str, asked: SilenceAsked) -> AlertShape:
    """Tell nobody for a while; what it has to tell is noted, and a metric that is still out of bounds at the end is told then."""
    alerting.silence(
        platform_of(request).runtime.project,
        alert,
        timedelta(seconds=asked.for_s),
        actor=actor_of(request),
        reason=asked.reason,
        clock=platform_of(request).runtime.clock,
    )
    return get_alert(request, alert)


@router.post("/v1/alerts/{alert}/retry", summary="Send again what was given up")
def retry_alert(request: Request, alert: str, asked: Because) -> RetriedShape:
    """Let messages that were given up wait again."""
    runtime = platform_of(request).runtime
    count = alerting.revive(runtime.project, alert, clock=runtime.clock)
    detail = {"messages": count}
    runtime.routes.audit.append(alerting.RETRY, alert, detail, actor=actor_of(request), reason=asked.reason)
    return RetriedShape(waiting=count)


@router.post("/v1/alerts/{alert}/test", summary="Send a test message")
def test_alert(request: Request, alert: str, asked: Because) -> dict[str, OutcomeShape]:
    """Send a test message to each receiver, once, and say what became of it."""
    runtime = platform_of(request).runtime
    definition = alerting.alert_named(runtime.project, alert)
    runtime.routes.audit.append(alerting.TEST, alert, {}, actor=actor_of(request), reason=asked.reason)
    return {
        name: OutcomeShape(delivered=one.delivered, error=one.error)
        for name, one in alerting.try_out(definition, clock=runtime.clock).items()
    }


def _statuses(request: Request) -> list[AlertStatus]:
    runtime = platform_of(request).runtime
    return alerting.statuses(runtime.project, clock=runtime.clock)


def _alert(request: Request, found: AlertStatus) -> AlertShape:
    until = found.silenced_until_us
    return AlertShape(
        name=found.name,
        on=found.on,
        to=list(found.to),
        owner=platform_of(request).runtime.project.alerts[found.name].owner or None,
        state=found.state,
        value=found.value,
        silenced_until=None if until is None else from_us(until),
        messages=dict(found.messages),
        problems=list(found.problems),
    )


def _message(row: LogRow) -> MessageShape:
    return MessageShape(
        id=row.id,
        key=row.key,
        alert=row.alert,
        to=row.target,
        kind=row.kind,
        state=row.state,
        attempts=row.attempts,
        created=from_us(row.created_us),
        due=from_us(row.due_us),
        done=None if row.done_us is None else from_us(row.done_us),
        error=row.error,
    )
