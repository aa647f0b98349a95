"""Which stored decisions an alert tells of, and what it says of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from penstock.app.scored import Describer
from penstock.core.time import to_us
from penstock.core.types import Field
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Alert, OnDecision, OnMetric
from penstock.definitions.monitors import Monitor
from penstock.engine.answers import event_ids
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.lookup import RowReader
from penstock.engine.values import to_list
from penstock.kernel.columns import BoolArray, Columns, IntArray, Numeric
from penstock.monitoring.alerts import Rows
from penstock.monitoring.board import Group
from penstock.plan.nodes import Plan

_ERASED = np.uint8(Flag.ERASED)
_DEGRADED = np.uint8(Flag.DEGRADED | Flag.NO_MODEL)
_LATE = np.uint8(Flag.LATE | Flag.TOO_LATE)


class Reasons(Protocol):
    """Says why a model gave its score: see `penstock.app.reasons.Reasoners.of`."""

    def __call__(
        self,
        endpoint: str,
        model: str | None,
        features: Mapping[str, float | None],
        *,
        score: float | None,
        top: int,
    ) -> list[dict[str, Any]] | None:
        """The weightiest reasons; None where there are none."""


def no_reasons(
    endpoint: str,  # noqa: ARG001 - `Reasons`
    model: str | None,  # noqa: ARG001
    features: Mapping[str, float | None],  # noqa: ARG001
    *,
    score: float | None,  # noqa: ARG001
    top: int,  # noqa: ARG001
) -> list[dict[str, Any]] | None:
    """None."""
    return None


class Told(NamedTuple):
    """A decision that an alert tells of: its place, its event's time and id, and what is said of it.

    `group` are the values of `group_by`, `keys` those that lists are to hold, by receiver.
    """

    position: int
    time_us: int
    event_id: str
    group: dict[str, Any]
    keys: dict[str, dict[str, Any]]
    data: dict[str, Any]
    because: Callable[[], dict[str, Any]]
    """What else is said of it, and takes longer to find: the reasons."""


def group_of(of: tuple[str, str]) -> Group:
    """The group of a metric's rule, as boards name it."""
    return Group(of[0].removeprefix("segment:"), of[1])


def monitor_of_group(on: OnMetric) -> Monitor:
    """What is watched so that decisions can be told apart by the dimension of a metric's rule."""
    dimension = "" if on.of is None else on.of[0]
    segments = [dimension.removeprefix("segment:")] if dimension.startswith("segment:") else []
    return Monitor(endpoint=on.endpoint, segments=segments, windows=[on.window])


class Matcher:
    """Reads decisions and their events under a plan; feature names are kept for the services of earlier plans too."""

    def __init__(
        self, plan: Plan, rows: RowReader, known: dict[str, dict[str, int]], reasons: Reasons = no_reasons
    ) -> None:
        self._plan, self._rows, self._reasons = plan, rows, reasons
        self._features = known
        self._describers: dict[tuple[str, str], Describer] = {}
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
        lists = [to for to in alert.to if isinstance(to, AddTo)]
        in_lists = {column for to in lists for _, column in to.columns}
        wanted = {source.time_field, *alert.include, *alert.group_by, *in_lists}
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
            keys = {to.name: {key: _plain(event[column]) for key, column in to.columns} for to in lists}
            because = partial(self._because, endpoint, decisions, row, alert.reasons)
            yield Told(position, to_us(event[source.time_field]), identity, group, keys, data, because)

    def _because(self, endpoint: str, decisions: Decisions, row: int, top: int) -> dict[str, Any]:
        """The reasons for a score; where a rule decided they would be of something else."""
        names = self._features.get(decisions.service)
        if not top or names is None or decisions.rule(row) is not None:
            return {}
        values = decisions.vectors[row].tolist()
        features = {name: None if values[i] != values[i] else values[i] for name, i in names.items()}
        model = decisions.decided_by(row).version or None
        score = float(decisions.scores[row])
        found = self._reasons(endpoint, model, features, score=score, top=top)
        return {"reasons": found} if found else {}

    def counted(self, on: OnMetric, positions: IntArray, decisions: Decisions) -> Rows:
        """The decisions at `positions` as a metric counts them: of all, or of its version, arm or segment."""
        endpoint = on.endpoint.name
        kept = np.flatnonzero((decisions.flags & _ERASED) == 0)
        decisions = decisions.take(kept)
        if on.of is not None and len(kept):
            events = self._rows.events(self._plan.endpoints[endpoint].source, positions[kept])
            own = np.flatnonzero(self._describer(on).of_group(group_of(on.of), events, decisions))
            kept, decisions = kept[own], decisions.take(own)
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

    def _describer(self, on: OnMetric) -> Describer:
        assert on.of is not None, "only who counts a part asks"
        known = on.endpoint.name, on.of[0]
        if known not in self._describers:
            self._describers[known] = Describer(self._plan, monitor_of_group(on))
        return self._describers[known]

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
        **({} if decisions.rule(row) is None else {"rule": decisions.rule(row)}),
    }


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value
