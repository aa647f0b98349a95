"""What watches the endpoints of a project, as plain values: monitors, guards, alerts. Part of what is applied and of `penstock plan`."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from penstock.core.time import format_duration, to_us
from penstock.definitions.guards import DEFAULT_GUARD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.definitions.alerts import Alert
    from penstock.definitions.endpoints import Endpoint
    from penstock.definitions.monitors import Monitor
    from penstock.plan.describe import Description

KINDS = ("monitor", "guard", "alert")


def describe_watching(
    monitors: Iterable[Monitor], endpoints: Iterable[Endpoint], alerts: Iterable[Alert]
) -> Description:
    """``{"monitors": [...], "guards": [...], "alerts": [...]}``, each with a name. An endpoint's guard as it comes is left out."""
    return {
        "monitors": [_monitor(monitor) for monitor in monitors],
        "guards": [_guard(one) for one in endpoints if one.guard != DEFAULT_GUARD],
        "alerts": [_alert(alert) for alert in alerts],
    }


def monitor_text(monitor: Monitor) -> str:
    """What a monitor looks at, in a few words."""
    windows = ", ".join(format_duration(to_us(window)) for window in monitor.windows)
    segments = f", by {', '.join(monitor.segments)}" if monitor.segments else ""
    return f"windows of {windows}, labels after {format_duration(to_us(monitor.delay))}{segments}"


def guard_text(endpoint: Endpoint) -> str:
    """When an endpoint's guard takes a version out, in a few words."""
    guard = endpoint.guard
    if guard is None:
        return "none"
    ranking = f", ranking from {guard.min_positives} positives on" if guard.min_positives else ""
    return (
        f"failures above {guard.max_failed:.1%}, calls longer than {guard.max_latency_ms:g} ms, scores shifted by more than "
        f"{guard.max_score_shift:g}{ranking}"
    )


def _monitor(monitor: Monitor) -> Description:
    described = _fields(monitor)
    return {"rolling" if name == "windows" else name: value for name, value in described.items()}


def _guard(endpoint: Endpoint) -> Description:
    limits = {"is_on": False} if endpoint.guard is None else asdict(endpoint.guard)
    return {"name": endpoint.name, **limits}


def _alert(alert: Alert) -> Description:
    return _fields(alert) | _fields(alert.on) | {"on": alert.on.text}


def _fields(definition: Any) -> Description:
    """The fields of a definition that say what it does, as JSON values."""
    words = {"description", "owner", "tags"}
    return {
        one.name: _value(getattr(definition, one.name)) for one in fields(definition) if one.name not in words
    }


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "total_seconds"):
        return format_duration(to_us(value))
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    return getattr(value, "name", None) or type(value).__name__
