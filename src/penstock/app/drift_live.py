"""What the watch over drift has to say of an endpoint: for the command, the API, the pages and metrics. Reads one small file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock.app.drift_watch import is_awaited, live_streams, read_state
from penstock.app.measuring import monitor_of
from penstock.core.time import to_us
from penstock.monitoring.change_points import CALIBRATION

if TYPE_CHECKING:
    from penstock.app.drift_watch import Alarm, Looked, WatchState
    from penstock.definitions.project import Project

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Stream:
    """What detectors listen to.

    Attributes
    ----------
    steps
        Blocks of values since the watch began.
    listening
        Whether it is known how steps vary, so that a change can be told; until then it learns that, over `wanted` blocks.
    value
        The mean of the newest block; None before the first.
    """

    name: str
    steps: int
    listening: bool
    wanted: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDrift:
    """Drift of an endpoint as it happens.

    Attributes
    ----------
    watched
        Whether anything is watched: an alert or retraining waits for drift, or the monitor names streams.
    version
        Against whose training data; None before anything was seen.
    position
        The log position up to which it has seen.
    drifted, rows
        The columns that alarmed at the newest look, and of how many rows it was; None before the first look.
    looks, change_points
        The newest, oldest first; those of earlier versions, too.
    raised
        Alarms of detectors ever, by stream and method.
    """

    endpoint: str
    watched: bool
    version: str | None
    position: int
    window_us: int
    false_alarms: float
    drifted: tuple[str, ...] | None
    rows: int | None
    streams: tuple[Stream, ...]
    looks: tuple[dict[str, Any], ...]
    change_points: tuple[dict[str, Any], ...]
    raised: tuple[dict[str, Any], ...]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def live_drift(project: Project, endpoint: str | None = None) -> LiveDrift:
    """What is known of an endpoint, the only one where none is named.

    Raises
    ------
    NotFoundError
        There is no such endpoint.
    """
    monitor = monitor_of(project, endpoint)
    streams = live_streams(project, monitor)
    state = read_state(project.root, monitor.endpoint.name)
    look = None if state is None else state.newest_look
    return LiveDrift(
        endpoint=monitor.endpoint.name,
        watched=bool(streams) or is_awaited(project, monitor),
        version=None if state is None else state.version,
        position=0 if state is None else state.position,
        window_us=to_us(monitor.drift_window),
        false_alarms=monitor.false_alarms,
        drifted=None if look is None else look.drifted,
        rows=None if look is None else look.rows,
        streams=tuple(_stream(name, state) for name in streams),
        looks=() if state is None else tuple(_look(one) for one in state.looked[-SHOWN:]),
        change_points=() if state is None else tuple(_point(one) for one in state.alarms[-SHOWN:]),
        raised=() if state is None else _raised(state),
        note="" if state is None else state.note,
    )


def _stream(name: str, state: WatchState | None) -> Stream:
    heard = None if state is None else state.heard.get(name)
    if heard is None:
        return Stream(name, 0, listening=False, wanted=CALIBRATION, value=None)
    value = heard.blocks[-1][1] if heard.blocks else None
    return Stream(name, heard.steps, listening=bool(heard.spread), wanted=CALIBRATION, value=value)


def _look(one: Looked) -> dict[str, Any]:
    return {
        "version": one.version,
        "position": one.position,
        "time_us": one.look.time_us,
        "rows": one.look.rows,
        "level": one.look.level,
        "drifted": list(one.look.drifted),
    }


def _point(one: Alarm) -> dict[str, Any]:
    return {
        "version": one.version,
        "position": one.position,
        "stream": one.stream,
        "method": one.method,
        "time_us": one.time_us,
        "before": one.before,
        "after": one.after,
    }


def _raised(state: WatchState) -> tuple[dict[str, Any], ...]:
    pairs = ((key.rpartition(" "), count) for key, count in sorted(state.raised.items()))
    return tuple({"stream": stream, "method": method, "count": count} for (stream, _, method), count in pairs)
