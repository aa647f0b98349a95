"""Events and the decisions on them: one with all that is behind it, or many, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app.decision_list import Filter, at_positions, page
from penstock.app.event_view import decided_by_then, thresholds_then, view_event
from penstock.app.routing import endpoint_named
from penstock.app.runtime import open_reader
from penstock.engine.answers import flag_names
from penstock.serving.access import MISSING, GuardedRoute
from penstock.serving.moments import Number, microseconds, moment
from penstock.serving.paging import Cursor, Limit, cursor_of, place_of
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ReasonShape
from penstock.serving.tracing_back import provenance_of

if TYPE_CHECKING:
    from penstock.app.decision_list import Decided
    from penstock.app.event_view import EventView
    from penstock.serving.platform import Platform

router = APIRouter(tags=["decisions"], route_class=GuardedRoute)

TOP_REASONS = 20


class DecisionRow(BaseModel):
    """A decision, and what names its event."""

    endpoint: str
    source: str
    position: int = Field(description="The event's place in the log.")
    event_id: str | None = Field(description="Null where the event was forgotten.")
    event_time: datetime | None
    decided_at: datetime = Field(description="When the event was accepted.")
    keys: dict[str, Any] = Field(description="The event's keys, by column.")
    score: float | None
    action: str
    model: str | None
    arm: str | None
    flags: list[str]
    rule: str | None
    lists: dict[str, int] = Field(description="By list of keys the version that was in force.")

    @classmethod
    def of(cls, one: Decided) -> DecisionRow:
        """The row of a list."""
        return cls(
            endpoint=one.endpoint,
            source=one.source,
            position=one.position,
            event_id=one.event_id,
            event_time=None if one.event_time_us is None else moment(one.event_time_us),
            decided_at=moment(one.decided_at_us),
            keys=dict(one.keys),
            score=one.score,
            action=one.action,
            model=one.model,
            arm=one.arm,
            flags=list(one.flags),
            rule=one.rule,
            lists=dict(one.lists),
        )


class DecisionsPage(BaseModel):
    """Decisions, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [
                    {
                        "endpoint": "checkout",
                        "source": "payments",
                        "position": 104211,
                        "event_id": "pay-81",
                        "event_time": "2026-11-22T10:15:00Z",
                        "decided_at": "2026-11-22T10:15:00.118000Z",
                        "keys": {"card_id": "card-017", "shop_id": "shop-03"},
                        "score": 0.9312,
                        "action": "block",
                        "model": "fraud:3",
                        "arm": "champion",
                        "flags": [],
                        "rule": None,
                        "lists": {"blocked_cards": 18},
                    }
                ],
                "next": "MTA0MjEx",
                "looked_at": 4096,
                "reached": "2026-11-22T10:14:58.020000Z",
            }
        }
    )

    items: list[DecisionRow]
    next: str | None = Field(description="Cursor of the next page; null where everything was looked at.")
    looked_at: int = Field(
        description="How many decisions were looked at. The work of a page is bounded: with a rare filter a page may hold few rows, or "
        "none, and `next` goes on."
    )
    reached: datetime | None = Field(description="When the oldest decision that was looked at was made.")


@router.get("/v1/decisions", summary="List decisions, newest first", responses=MISSING)
def decisions(
    request: Request,
    *,
    endpoint: Annotated[str | None, Query(description="Only of this endpoint.")] = None,
    action: Annotated[str | None, Query(description="Only with this action.")] = None,
    model: Annotated[
        str | None, Query(description="Only by this version (`fraud:3`) or model (`fraud`).")
    ] = None,
    arm: Annotated[str | None, Query(description="Only by this arm.")] = None,
    min_score: Annotated[float | None, Query(description="Scores from this one on.")] = None,
    max_score: Annotated[float | None, Query(description="Scores up to this one.")] = None,
    since: Annotated[datetime | None, Query(description="Decided at this time or later.")] = None,
    until: Annotated[datetime | None, Query(description="Decided before this time.")] = None,
    key: Annotated[
        str | None, Query(description="Only of events with this entity key: a card, a shop.")
    ] = None,
    event_id: Annotated[str | None, Query(description="Only on the event with this id.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> DecisionsPage:
    """Decisions that pass all filters, newest first, a page at a time.

    Times are those at which events were accepted, not those at which they happened.
    """
    platform = platform_of(request)
    plan = platform.runtime.plan
    before = None if cursor is None else place_of(cursor, Number)
    if endpoint is not None:
        endpoint_named(plan, endpoint)
    wanted = Filter(
        endpoint=endpoint,
        action=action,
        model=model,
        arm=arm,
        min_score=min_score,
        max_score=max_score,
        since_us=microseconds(since),
        until_us=microseconds(until),
        key=key,
    )
    with open_reader(platform.root) as store:
        if event_id is not None:
            sources = {one.source for one in plan.endpoints.values() if endpoint in {None, one.name}}
            places = [platform.runtime.position_of(source, event_id) for source in sources]
            rows = at_positions(store, plan, wanted, [place for place in places if place is not None])
            return _page(rows, next_=None, looked_at=len(rows), reached_us=None)
        found = page(store, plan, wanted, before=before, limit=limit)
        return _page(found.rows, next_=found.next, looked_at=found.looked_at, reached_us=found.reached_us)


def _page(rows: list[Decided], *, next_: int | None, looked_at: int, reached_us: int | None) -> DecisionsPage:
    return DecisionsPage(
        items=[DecisionRow.of(one) for one in rows],
        next=None if next_ is None else cursor_of(next_),
        looked_at=looked_at,
        reached=None if reached_us is None else moment(reached_us),
    )


class LabelRow(BaseModel):
    """The truth about an event, as it became known."""

    value: float
    known_at: datetime
    position: int = Field(description="The label's own place in the log.")


class DecisionShape(BaseModel):
    """What was decided, by what."""

    endpoint: str
    score: float | None
    action: str
    model: str | None = Field(description="The version that scored.")
    arm: str | None
    digest: str | None = Field(description="SHA-256 of that version's manifest.")
    flags: list[str]
    rule: str | None = Field(description="The rule that decided, where one did.")
    lists: dict[str, int] = Field(description="By list of keys the version that was in force.")
    propensity: float | None = Field(description="How likely the default was, of an event that was explored.")
    service: str = Field(description="Fingerprint of the definitions of the features.")
    policy: str
    policy_version: str | None = Field(
        description="Digest of what the policy meant then; see `GET /v1/policies/{digest}`."
    )
    thresholds: dict[str, float] | None = Field(
        description="The thresholds that were in force, by action; null where nothing is known of the policy any more."
    )
    default: str = Field(description="The action below all thresholds.")


class EventAnswer(BaseModel):
    """An event, the decision on it, and its labels."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "source": "payments",
                "event_id": "pay-81",
                "position": 104211,
                "event_time": "2026-11-22T10:15:00Z",
                "ingest_time": "2026-11-22T10:15:00.118000Z",
                "event": {"payment_id": "pay-81", "card_id": "card-017", "amount": 129.9},
                "decision": {
                    "endpoint": "checkout",
                    "score": 0.9312,
                    "action": "block",
                    "model": "fraud:3",
                    "arm": "champion",
                    "digest": "5f0c…",
                    "flags": [],
                    "rule": None,
                    "lists": {"blocked_cards": 18},
                    "propensity": None,
                    "service": "91ab…",
                    "policy": "card_policy",
                    "policy_version": "77de…",
                    "thresholds": {"review": 0.3, "block": 0.8},
                    "default": "approve",
                },
                "labels": [{"value": 1.0, "known_at": "2026-11-25T10:15:00Z", "position": 110054}],
            }
        }
    )

    source: str
    event_id: str
    position: int
    event_time: datetime
    ingest_time: datetime
    event: dict[str, Any] = Field(description="The event as accepted, by field.")
    decision: DecisionShape | None = Field(description="Null where none was made: no endpoint, or history.")
    labels: list[LabelRow] = Field(description="All labels that are known, oldest first.")
    features: dict[str, float | None] | None = Field(
        None,
        description="As the model saw them, with `features=true`; null where the definitions have changed since.",
    )
    reasons: list[ReasonShape] | None = Field(
        None, description="With `reasons=true`; null where the score cannot be explained."
    )
    provenance: dict[str, Any] | None = Field(
        None,
        description="With `provenance=true`: every feature with its window, the events that entered it, and its value recomputed.",
    )


@router.get("/v1/sources/{source}/events/{event_id:path}", summary="Look up an event")
def event(
    request: Request,
    source: str,
    event_id: str,
    *,
    features: Annotated[bool, Query(description="Add the values of the features.")] = False,
    reasons: Annotated[bool, Query(description="Add what each feature contributed to the score.")] = False,
    provenance: Annotated[
        bool,
        Query(
            description="Add the events behind each feature. Reads the log up to the event: takes seconds."
        ),
    ] = False,
) -> EventAnswer:
    """An event by its id: what it was, what was decided by which version, and what became known of it."""
    platform = platform_of(request)
    with open_reader(platform.root) as store:
        view = view_event(platform.runtime, store, source, event_id)
    return EventAnswer(
        source=view.source,
        event_id=view.event_id,
        position=view.position,
        event_time=moment(view.event_time_us),
        ingest_time=moment(view.ingest_time_us),
        event=dict(view.event),
        decision=_decision(platform, view),
        labels=_labels(view),
        features=dict(view.answer.features) if features and view.answer.features is not None else None,
        reasons=_reasons(platform, view) if reasons else None,
        provenance=provenance_of(platform, view) if provenance and view.endpoint is not None else None,
    )


def _decision(platform: Platform, view: EventView) -> DecisionShape | None:
    if view.endpoint is None or view.decision is None:
        return None
    decision, answer = view.decision, view.answer
    endpoint = decided_by_then(platform.runtime, view) or view.endpoint
    return DecisionShape(
        endpoint=view.endpoint.name,
        score=answer.score,
        action=str(answer.action),
        model=answer.model,
        arm=answer.arm,
        digest=decision.decided_by(0).digest or None,
        flags=list(flag_names(int(decision.flags[0]))),
        rule=answer.rule,
        lists=decision.versions_of_lists(0),
        propensity=decision.propensity(0),
        service=decision.service,
        policy=endpoint.policy,
        policy_version=decision.policy or None,
        thresholds=thresholds_then(platform.runtime, view),
        default=endpoint.actions[0],
    )


def _labels(view: EventView) -> list[LabelRow]:
    known = view.labels
    rows = zip(known.values.tolist(), known.known_at_us.tolist(), known.label_positions.tolist(), strict=True)
    return [LabelRow(value=value, known_at=moment(us), position=position) for value, us, position in rows]


def _reasons(platform: Platform, view: EventView) -> list[ReasonShape] | None:
    if view.endpoint is None:
        return None
    (answer,) = platform.reasoners.with_reasons(view.endpoint.name, [view.answer], top=TOP_REASONS)
    if answer.reasons is None:
        return None
    return [ReasonShape(**{name: one[name] for name in ReasonShape.model_fields}) for one in answer.reasons]
