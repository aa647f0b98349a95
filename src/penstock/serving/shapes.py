"""How the hot routes look in the OpenAPI document; they parse and write their bytes themselves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ProblemShape(BaseModel):
    """What went wrong, after RFC 9457."""

    type: str = Field(description="`urn:penstock:problem:<code>`, for machines.")
    title: str
    status: int
    detail: str = Field(description="What was found, what is allowed, what to do.")
    request_id: str | None = None


class ReasonShape(BaseModel):
    """What a feature added to a score, in the model's own space."""

    feature: str
    value: float | None
    contribution: float
    text: str
    model: str | None = Field(
        None,
        description="Whose it is: of a version that goes on learning also the copy, which may be a later one.",
    )


class AnswerShape(BaseModel):
    """What became of one event."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "scored",
                "event_id": "pay-81",
                "position": 104211,
                "score": 0.9312,
                "action": "block",
                "model": "fraud:3",
                "arm": "champion",
            }
        }
    )

    status: Literal["scored", "logged", "duplicate", "rejected", "valid"] = Field(
        description="`logged`: no endpoint decides on the source; `valid`: by a dry run."
    )
    event_id: str | None = None
    position: int | None = Field(None, description="The event's place in the log.")
    score: float | None = None
    action: str | None = None
    model: str | None = Field(None, description="The version that scored.")
    arm: str | None = None
    flags: list[str] | None = None
    rule: str | None = Field(None, description="The rule that decided, where one did.")
    lists: dict[str, int] | None = Field(
        None, description="By list of keys the version that was in force; left out where there are no lists."
    )
    reason: str | None = Field(None, description="Why the event was refused.")
    detail: str | None = None
    features: dict[str, float | None] | None = None
    reasons: list[ReasonShape] | None = None


class AnswersShape(BaseModel):
    """One answer for each event of a list, in its order."""

    answers: list[AnswerShape]


_PROBLEMS = {
    409: "The event id was used with other values.",
    413: "The body is too large.",
    422: "The event is refused; it is kept as a dead letter.",
    429: "Too much waits for the engine: ask again after `Retry-After` seconds.",
    503: "Not ready, or the deadline passed while the request waited. Nothing was stored.",
    504: "The deadline passed while the events were processed; they may be stored.",
}

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": AnswerShape | AnswersShape,
        "description": "The answer, or a list of them for a list of events.",
    },
    **{status: {"model": ProblemShape, "description": text} for status, text in _PROBLEMS.items()},
}

_EVENT = {"type": "object", "additionalProperties": True}

EVENTS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "maxItems": 10_000}]},
                "examples": {
                    "one": {
                        "summary": "one event",
                        "value": {
                            "event_id": "pay-81",
                            "card": "c-17",
                            "amount": 129.9,
                            "at": "2026-11-22T10:15:00Z",
                        },
                    },
                },
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
        },
    }
}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


QUERY: list[dict[str, Any]] = [
    _query("features", {"type": "boolean", "default": False}, "Add the values of the features."),
    _query(
        "reasons", {"type": "boolean", "default": False}, "Add what each feature contributed to the score."
    ),
    _query(
        "timeout_ms",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 300_000},
        "How long the request may take.",
    ),
]
