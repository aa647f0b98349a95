"""Policies by digest: what the policy was that a decision names."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from penstock.app.policies_then import known_policies, policy_of_digest
from penstock.serving.access import GuardedRoute
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of
from penstock.serving.shapes import ProblemShape

router = APIRouter(tags=["endpoints"], route_class=GuardedRoute)

_COSTS: Any = {"false_positive": 5.0, "false_negative": "amount", "alert": 0.5}
_POLICY: Any = {
    "digest": "6b0f2d91c7a4e853",
    "name": "card",
    "default": "approve",
    "actions": [
        {"action": "review", "threshold": 0.4, "chosen": None},
        {
            "action": "block",
            "threshold": 0.9,
            "chosen": {"by": "cost", "until": 0.9, "alerts_per_day": 200, "costs": _COSTS},
        },
    ],
    "rules": [
        {"rule": "blocked card", "when": "blocked_cards.listed", "action": "block", "list": "blocked_cards"}
    ],
    "explore": {"block": 0.01},
    "cap": {"per_day": 200, "actions": ["review"], "instead": "approve"},
    "costs": _COSTS,
    "in_force": [
        {
            "endpoint": "checkout",
            "version": 3,
            "from": "2026-11-02T09:00:00Z",
            "until": None,
            "actor": "ann",
            "reason": "fewer false alarms",
        }
    ],
}


class CostsShape(BaseModel):
    """What wrong decisions cost: numbers, or columns of the event."""

    false_positive: float | str
    false_negative: float | str
    alert: float


class ChoiceShape(BaseModel):
    """How each version chooses the threshold of an action."""

    by: Literal["cost", "alerts"]
    until: float = Field(description="The threshold while no version decides that brings one.")
    alerts_per_day: float | None
    costs: CostsShape | None


class ActionShape(BaseModel):
    """An action of the score."""

    action: str
    threshold: float = Field(description="With `chosen`: until a version brings its own.")
    chosen: ChoiceShape | None


class PolicyRuleShape(BaseModel):
    """A rule beside the score; the first that holds decides."""

    rule: str
    when: str = Field(description="The feature.")
    action: str
    list: str | None = Field(description="The list of keys that the rule names, where it names one.")


class PolicyCapShape(BaseModel):
    """At most so many alerts a day."""

    per_day: int
    actions: list[str]
    instead: str | None = Field(description="Null: the default.")


class InForceShape(BaseModel):
    """When an endpoint decided by the policy."""

    model_config = ConfigDict(populate_by_name=True)

    endpoint: str
    version: int = Field(description="Of the definitions.")
    since: datetime = Field(alias="from")
    until: datetime | None = Field(description="Null: it is in force.")
    actor: str
    reason: str


class PolicyShape(BaseModel):
    """A policy, with all that its digest covers, its costs, and when it was in force."""

    model_config = ConfigDict(json_schema_extra={"example": _POLICY})

    digest: str
    name: str
    default: str = Field(description="The action below all thresholds.")
    actions: list[ActionShape] = Field(description="By threshold, ascending.")
    rules: list[PolicyRuleShape]
    explore: dict[str, float]
    cap: PolicyCapShape | None
    costs: CostsShape | None
    in_force: list[InForceShape]


@router.get("/v1/policies", summary="List policies")
def list_policies(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[PolicyShape]:
    """The policies that endpoints decided by, the newest first: of the definitions that were applied."""
    found = known_policies(platform_of(request).root)
    at = {one.digest: len(found) - i for i, one in enumerate(found)}
    some, after = part(found, lambda one: at[one.digest], cursor=cursor, limit=limit, descending=True)
    return Page(items=[PolicyShape.model_validate(one.to_dict()) for one in some], next=after)


@router.get("/v1/policies/{digest}", summary="Get a policy", responses={404: {"model": ProblemShape}})
def get_policy(request: Request, digest: str) -> PolicyShape:
    """What the policy was whose digest a decision names (`policy_version`); the digest's first characters do."""
    return PolicyShape.model_validate(policy_of_digest(platform_of(request).root, digest).to_dict())
