"""How drift as it happens looks over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from penstock.app.drift_live import LiveDrift
from penstock.core.time import from_us


class ListenedShape(BaseModel):
    """A stream that detectors of change listen to."""

    name: str = Field(description="`score`, `error`, or a feature.")
    steps: int = Field(description="Blocks of values since the watch began.")
    listening: bool = Field(description="Whether it is known how blocks vary, so that a change can be told.")
    wanted: int = Field(description="How many blocks it takes to know.")
    value: float | None = Field(description="The mean of the newest block.")


class DriftLookShape(BaseModel):
    """A look at all columns, at a log position."""

    version: str
    position: int
    time: datetime = Field(description="The newest event time.")
    rows: int = Field(description="Rows of the drift window until then.")
    level: float = Field(description="With which probability it alarms without drift, at most.")
    drifted: list[str]


class LiveChangePointShape(BaseModel):
    """A detector's alarm, at the log position of the row that raised it."""

    version: str
    position: int
    stream: str
    method: str
    time: datetime
    before: float
    after: float


class RaisedShape(BaseModel):
    """How often a detector has alarmed."""

    stream: str
    method: str
    count: int


class LiveDriftShape(BaseModel):
    """Drift of an endpoint as it happens, against the training data of the version in Production."""

    endpoint: str
    watched: bool = Field(
        description="Whether anything is watched: an alert or retraining waits for drift, or the monitor names streams."
    )
    version: str | None
    position: int = Field(description="The log position up to which it has seen.")
    window_us: int = Field(description="A drift window, in microseconds of event time.")
    false_alarms: float = Field(description="The share of drift windows without drift that may alarm.")
    drifted: list[str] | None = Field(
        description="The columns that alarmed at the newest look; null before it."
    )
    rows: int | None = Field(description="Of how many rows the newest look was.")
    streams: list[ListenedShape]
    looks: list[DriftLookShape] = Field(description="The newest, oldest first.")
    change_points: list[LiveChangePointShape] = Field(description="The newest, oldest first.")
    raised: list[RaisedShape]
    note: str = Field(description="Why nothing is listened to, where it should be.")


def live_drift_shape(found: LiveDrift) -> LiveDriftShape:
    """The answer."""
    values = found.to_dict()
    for name in ("looks", "change_points"):
        values[name] = [_dated(one) for one in values[name]]
    return LiveDriftShape(**values)


def _dated(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value for name, value in one.items() if name != "time_us"},
        "time": from_us(one["time_us"]),
    }
