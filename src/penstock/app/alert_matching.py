"""Which stored decisions an alert tells of, and what it says of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from penstock.core.time import to_us
from penstock.core.types import Field
from penstock.definitions.alerts import Alert, OnDecision
from penstock.engine.answers import event_ids
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.lookup import RowReader
from penstock.engine.values import to_list
from penstock.kernel.columns import BoolArray, Columns, IntArray, Numeric
from penstock.monitoring.alerts import Rows
from penstock.plan.nodes import Plan

_ERASED = np.uint8(Flag.ERASED)
_DEGRADED = np.uint8(Flag.DEGRADED | Flag.NO_MODEL)
_LATE = np.uint8(Flag.LATE | Flag.TOO_LATE)


class Told(NamedTuple):
    """A decision that an alert tells of: its place, its event's time and id, the values of `group_by`, and what is said of it."""

    position: int
    time_us: int
    event_id: str
    group: dict[str, Any]
    data: dict[str, Any]


class Matcher:
    """Reads decisions and their events under a plan; feature names are kept for the services of earlier plans too."""

    def __init__(self, plan: Plan, rows: RowReader, known: dict[str, dict[str, int]]) -> None:
        self._plan, self._rows = plan, rows
        self._features = known
        for service in plan.services.values():
            known[service.fingerprint] = {name: i for i, name in enumerate(service.feature_names)}

    def told(self, alert: Alert, endpoint: str, positions: IntArray, decisions: Decisions) -> Iterator[Told]:
        """What `alert` has to tell of the decisions at `positions`."""
        on = alert.on
        assert isinstance(on, OnDecision)
        codes = [i for i, name in enumerate(decisions.actions) if name in on.actions]
        chosen = np.flatnonzero(np.isin(decisions.taken, codes) & ((decisions.flags & _ERASED) == 0))
        if not len(chosen):
            return
        positions, decisions = positions[chosen], decisions.take(chosen)
        events = self._rows.events(self._plan.endpoints[endpoint].source, positions)
        source = self._plan.sources[self._plan.endpoints[endpoint].source]
        types = {field.name: field.dtype for field in source.fields}
        wanted = {source.time_field, *alert.include, *alert.group_by}
        chosen = np.flatnonzero(self._holds(on, endpoint, decisions, events))
        part = events.take(chosen)
        values = {name: to_list(part[name], types[name]) for name in wanted}
        identities = event_ids(part, source, positions[chosen].tolist())
        for i, row in enumerate(chosen.tolist()):
            position, identity = int(positions[row]), identities[i]
            event = {name: values[name][i] for name in wanted}
            data: dict[str, Any] = {"alert": alert.name, "endpoint": endpoint, "event_id": identity}
            data |= _said(decisions, row, event[source.time_field])
            if alert.include:
                data["include"] = {name: _plain(event[name]) for name in alert.include}
            group = {name: _plain(event[name]) for name in alert.group_by}
            yield Told(position, to_us(event[source.time_field]), identity, group, data)

    def counted(self, endpoint: str, positions: IntArray, decisions: Decisions) -> Rows:
        """The decisions at `positions` as metrics count them."""
        kept = np.flatnonzero((decisions.flags & _ERASED) == 0)
        decisions = decisions.take(kept)
        node = self._plan.endpoints[endpoint]
        if len(kept):
            column = self._rows.events(node.source, positions[kept])[
                self._plan.sources[node.source].time_field
            ]
            assert isinstance(column, Numeric)
            times = column.values.astype(np.int64)
        else:
            times = np.zeros(0, np.int64)
        default = [i for i, name in enumerate(decisions.actions) if name == node.actions[0]]
        return Rows(
            times,
            decisions.scores,
            ~np.isin(decisions.taken, default),
            (decisions.flags & _DEGRADED) != 0,
            (decisions.flags & _LATE) != 0,
        )

    def _holds(self, on: OnDecision, endpoint: str, decisions: Decisions, events: Columns) -> BoolArray:
        holds = np.ones(len(decisions), np.bool_)
        for name, allowed in on.where:
            found = [value in allowed for value in self._values(name, endpoint, decisions, events)]
            holds &= np.array(found, np.bool_)
        return holds

    def _values(self, name: str, endpoint: str, decisions: Decisions, events: Columns) -> list[Any]:
        field = self._field(endpoint, name)
        if field is not None:
            return to_list(events[name], field.dtype)
        column = self._features.get(decisions.service, {}).get(name)
        if column is None:  # decided under definitions that have no such feature
            return [None] * len(decisions)
        return [None if value != value else value for value in decisions.vectors[:, column].tolist()]

    def _field(self, endpoint: str, name: str) -> Field | None:
        source = self._plan.sources[self._plan.endpoints[endpoint].source]
        return next((field for field in source.fields if field.name == name), None)


def _said(decisions: Decisions, row: int, time: datetime) -> dict[str, Any]:
    return {
        "time": time.isoformat(),
        "action": decisions.actions[int(decisions.taken[row])],
        "score": _plain(float(decisions.scores[row])),
        "model": decisions.decided_by(row).version or None,
    }


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value
