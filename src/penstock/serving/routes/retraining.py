"""Retraining: what a model waits for, and what came of it each time. To train now, begin a job of kind `retrain`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app.runtime import open_reader
from penstock.app.training import model_named
from penstock.core.time import from_us
from penstock.serving.access import GuardedRoute
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.app.retraining_journal import Attempt
    from penstock.definitions.retraining import Retraining

router = APIRouter(tags=["retraining"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})


class RulesShape(BaseModel):
    """When a model is trained again without a hand."""

    new_labels: int | None
    min_positives: int
    schedule: str | None
    on_drift: bool
    metric_floor: dict[str, float]
    cooldown_s: float
    to: str = Field(description="The stage that a version reaches which passes its gate.")
    shadow_for_s: float | None


class AttemptShape(BaseModel):
    """One attempt to train a model again."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 7,
                "trigger": "labels",
                "why": "500 new labels, 60 of them positive",
                "started": "2026-11-20T03:00:00Z",
                "ended": "2026-11-20T03:10:22Z",
                "outcome": "promoted",
                "version": "fraud:3",
                "verdict": "pass",
                "position": 104211,
                "detail": {"rows": 4200},
            }
        }
    )

    number: int
    trigger: str
    why: str
    started: datetime
    ended: datetime | None
    outcome: str = Field(
        description="promoted, staged, shadowing, kept, archived, overtaken, failed; empty: killed, or under way."
    )
    version: str | None
    verdict: str | None
    position: int = Field(description="The log's length when it began.")
    detail: dict[str, Any]


class RetrainingShape(BaseModel):
    """What a model waits for."""

    model: str
    rules: RulesShape | None = Field(description="Null: it is trained by hand only.")
    learning: bool = Field(description="Whether it goes on learning, so that nothing is trained again.")
    watched: bool = Field(description="Whether the running project has looked at it yet.")
    labels: int | None = Field(
        description="That joined their events since the newest attempt, or the newest version in use that was trained by hand."
    )
    positives: int | None
    is_cooling: bool
    next_scheduled: datetime | None
    newest: AttemptShape | None


@router.get("/v1/models/{model}/retraining", summary="Get what a model's retraining waits for")
def get_retraining(request: Request, model: str) -> RetrainingShape:
    """When a model is trained again, how far it is from that, and the newest attempt."""
    platform = platform_of(request)
    runtime = platform.runtime
    definition = model_named(runtime.project, model)
    with open_reader(platform.root) as store:
        found = platform.retraining.look(
            definition,
            runtime.plan,
            store,
            audit=runtime.routes.audit,
            registry=runtime.registry,
            clock=runtime.clock,
        )
    return RetrainingShape(
        model=model,
        rules=_rules(definition.retraining),
        learning=definition.learning is not None,
        watched=found.watched,
        labels=found.labels,
        positives=found.positives,
        is_cooling=found.is_cooling,
        next_scheduled=None if found.next_scheduled_us is None else from_us(found.next_scheduled_us),
        newest=_attempt(found.attempts[-1]) if found.attempts else None,
    )


@router.get("/v1/models/{model}/retraining/attempts", summary="List attempts to train a model again")
def list_attempts(
    request: Request, model: str, limit: Limit = 100, cursor: Cursor = None
) -> Page[AttemptShape]:
    """The journal, newest first: why each attempt began, and what became of it."""
    platform = platform_of(request)
    model_named(platform.runtime.project, model)
    rows = reversed(platform.retraining.attempts(model, platform.runtime.routes.audit))
    some, after = part(rows, lambda one: one.number, cursor=cursor, limit=limit, descending=True)
    return Page(items=[_attempt(one) for one in some], next=after)


def _rules(rules: Retraining | None) -> RulesShape | None:
    if rules is None:
        return None
    return RulesShape(
        new_labels=rules.new_labels,
        min_positives=rules.min_positives,
        schedule=rules.schedule,
        on_drift=rules.on_drift,
        metric_floor=dict(rules.metric_floor),
        cooldown_s=rules.cooldown.total_seconds(),
        to=rules.to,
        shadow_for_s=None if rules.shadow_for is None else rules.shadow_for.total_seconds(),
    )


def _attempt(found: Attempt) -> AttemptShape:
    detail = dict(found.detail)
    return AttemptShape(
        number=found.number,
        trigger=found.trigger,
        why=found.why,
        started=from_us(found.started_us),
        ended=None if found.ended_us is None else from_us(found.ended_us),
        outcome=found.outcome,
        version=detail.pop("version", None),
        verdict=detail.pop("verdict", None),
        position=found.position,
        detail=detail,
    )
