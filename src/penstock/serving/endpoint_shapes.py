"""How endpoints, their arms and the guard look over HTTP."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.serving.acting import Because

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_ENDPOINT: JsonDict = {
    "name": "checkout",
    "source": "payments",
    "service": "fraud_features",
    "model": "fraud",
    "policy": "card_policy",
    "actions": ["approve", "review", "block"],
    "thresholds": {"review": 0.3, "block": 0.8},
    "rules": [],
    "explore": {},
    "lists": ["blocked_cards"],
    "cap": {
        "per_day": 200,
        "actions": ["review"],
        "instead": "approve",
        "newest_day": "2026-11-22",
        "alerts": 131,
    },
    "arms": [
        {
            "arm": "champion",
            "of": "fraud champion",
            "version": "fraud:3",
            "serving": "fraud:3",
            "shadow": False,
            "weight": 1.0,
            "share": 1.0,
            "thresholds": {"review": 0.3, "block": 0.8},
        }
    ],
    "shadows": {},
    "guard": None,
    "problem": None,
}


class ArmShape(BaseModel):
    """An arm of an endpoint."""

    arm: str
    of: str = Field(description="The model, and its version by number or alias.")
    version: str | None = Field(description="The version that registry and definitions put into it.")
    serving: str | None = Field(description="The version that the engine has in it; null: none.")
    shadow: bool = Field(description="Whether it scores beside those that decide.")
    weight: float
    share: float = Field(description="Of the keys, as weights and versions stand.")
    thresholds: dict[str, float] = Field(description="By action, the score from which on it is taken.")


class RuleShape(BaseModel):
    """A rule of the policy: where its feature is true, its action is taken whatever the score."""

    name: str
    feature: str
    action: str


class ShadowCounts(BaseModel):
    """What shadow arms did since the engine started, in events."""

    scored: dict[str, int] = Field(description="By arm.")
    left_out: int = Field(description="Because too many waited.")
    failed: dict[str, int] = Field(description="By arm: the model failed.")
    lost: dict[str, int] = Field(description="By arm: the scores could not be stored.")


class VerdictShape(BaseModel):
    """What the guard found about a version."""

    time: datetime
    version: str
    what: str = Field(description="What was watched: `scoring` or `labels`.")
    verdict: Literal["passed", "refused"]
    reason: str
    numbers: dict[str, Any]


class GuardShape(BaseModel):
    """The guard of an endpoint: its limits, and its newest verdicts."""

    limits: dict[str, float]
    verdicts: list[VerdictShape]


class CapShape(BaseModel):
    """At most so many alerts a day."""

    per_day: int
    actions: list[str] = Field(description="What counts.")
    instead: str = Field(description="What is done to the events over it.")
    newest_day: date | None = Field(description="The day of the newest alert, by that event's time.")
    alerts: int = Field(description="How many alerts that day has had.")


class EndpointShape(BaseModel):
    """An endpoint: what it decides on, by what, and what is in its arms."""

    model_config = ConfigDict(json_schema_extra={"example": _ENDPOINT})

    name: str
    source: str
    service: str
    model: str = Field(description="The one that it is named for.")
    policy: str
    actions: list[str] = Field(description="The default first, then by threshold, then those of rules alone.")
    thresholds: dict[str, float] = Field(description="Of the first arm, as its version brings them along.")
    rules: list[RuleShape]
    explore: dict[str, float] = Field(description="By action, the share that gets the default instead.")
    lists: list[str] = Field(description="The lists of keys among its features.")
    cap: CapShape | None = Field(description="The most alerts a day; null where there is no limit.")
    arms: list[ArmShape]
    shadows: ShadowCounts
    guard: GuardShape | None
    problem: str | None = Field(description="Why it does not serve what it should.")


class WeightsAsked(Because):
    """New weights of arms."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"weights": {"challenger": 10}, "reason": "first tenth"}},
    )

    weights: dict[str, float] = Field({}, description="By arm; those that are not named stay.")
    reset: bool = Field(False, description="Go back to the weights of the definition first.")

    @model_validator(mode="after")
    def _changes_something(self) -> WeightsAsked:
        if not self.weights and not self.reset:
            raise ValueError("weights are missing; give some, or reset=true")
        return self


class WeightsRow(BaseModel):
    """A change of weights."""

    sequence: int
    time: datetime
    actor: str
    reason: str
    weights: dict[str, float] | None = Field(description="Of all arms from then on; null: as defined.")
    position: int = Field(description="The length of the log then.")
