"""Decisions with what quality is split by: event time, version, arm, segments, amounts, cards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.definitions.monitors import Monitor
from penstock.definitions.policies import CostMatrix
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.lookup import RowReader
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.models.segments import Coded, segments_of
from penstock.monitoring.board import Group, Scored
from penstock.plan.nodes import Plan

if TYPE_CHECKING:
    from penstock.app.version_thresholds import VersionThresholds

NO_MODEL = "(no model)"
UNKNOWN = "(unknown)"
"""A feature of decisions that were made with other definitions."""

_CARD_SEED = 0


class Describer:
    """Makes `Scored` rows of an endpoint's decisions and their events.

    Parameters
    ----------
    plan
        The plan with the endpoint.
    monitor
        What is watched of it.
    thresholds
        By which each decision is judged; None: all by the board's own.
    """

    def __init__(self, plan: Plan, monitor: Monitor, *, thresholds: VersionThresholds | None = None) -> None:
        self._thresholds = thresholds
        endpoint = plan.endpoints[monitor.endpoint.name]
        service = plan.services[endpoint.service]
        self.endpoint = endpoint
        self.source = endpoint.source
        self._time_field = plan.sources[endpoint.source].time_field
        self._service = service.fingerprint
        self._features = {output.name: i for i, output in enumerate(service.outputs)}
        self._segments = monitor.segments
        types = {field.name: field.dtype for field in monitor.endpoint.source.schema}
        types |= {output.name: output.dtype for output in service.outputs}
        self._types = {name: types[name].name for name in monitor.segments}
        self._keys = next((lookup.key_columns for lookup in service.lookups if lookup.own), ())
        costs: CostMatrix | None = monitor.endpoint.policy.costs
        named = (None, None) if costs is None else (costs.false_negative, costs.false_positive)
        self._amount, self._alarm_amount = (each if isinstance(each, str) else None for each in named)

    def __call__(self, events: Columns, decisions: Decisions) -> Scored:
        """Row i of `events` is what row i of `decisions` was decided on; forgotten events must have been left out."""
        groups = {"version": _decided(decisions, [_registered(arm.version) for arm in decisions.arms])}
        if any(arm.arm for arm in decisions.arms):
            groups["arm"] = _decided(decisions, [arm.arm or NO_MODEL for arm in decisions.arms])
        for name in self._segments:
            groups[name] = self._segment(name, events, decisions)
        return Scored(
            times_us=_numbers(events[self._time_field]).astype(np.int64),
            scores=decisions.scores,
            groups=groups,
            amounts=None if self._amount is None else _amounts(events[self._amount]),
            cards=self._cards(events),
            alarm_amounts=None if self._alarm_amount is None else _amounts(events[self._alarm_amount]),
            limits=None if self._thresholds is None else self._thresholds.by_row(decisions),
        )

    def of_group(self, group: Group, events: Columns, decisions: Decisions) -> BoolArray:
        """Which rows are of a version, an arm or a segment; see `__call__`."""
        coded = self(events, decisions).groups.get(group.dimension)
        if coded is None or group.value not in coded.names:
            return np.zeros(len(decisions), np.bool_)
        found: BoolArray = coded.codes == coded.names.index(group.value)
        return found

    def at(self, rows: RowReader, positions: IntArray) -> Iterator[tuple[IntArray, Scored]]:
        """The decisions at `positions`, of which some may have none, in parts: which positions, and the rows."""
        for at, decisions in rows.decisions(self.endpoint.name, positions):
            kept, _, scored = self.part(rows, at, decisions)
            yield kept, scored

    def part(
        self, rows: RowReader, positions: IntArray, decisions: Decisions
    ) -> tuple[IntArray, Decisions, Scored]:
        """Decisions with their events, without those that were forgotten: positions, decisions, described."""
        kept = np.flatnonzero((decisions.flags & np.uint8(Flag.ERASED)) == 0)
        if len(kept) < len(positions):
            positions, decisions = positions[kept], decisions.take(kept)
        if not len(positions):
            return positions, decisions, _nothing()
        return positions, decisions, self(rows.events(self.source, positions), decisions)

    def _segment(self, name: str, events: Columns, decisions: Decisions) -> Coded:
        dtype = self._types[name]
        if name not in self._features:
            return segments_of(events[name], dtype)
        if decisions.service != self._service:
            return _same(UNKNOWN, len(decisions))
        return segments_of(Numeric(decisions.vectors[:, self._features[name]]), dtype)

    def _cards(self, events: Columns) -> npt.NDArray[np.uint64] | None:
        if not self._keys:
            return None
        return hash_text(encode_keys([events[name] for name in self._keys]), _CARD_SEED)


def _decided(decisions: Decisions, names: list[str]) -> Coded:
    """A name of who decided, by row."""
    if decisions.by is None:
        return _same(names[0], len(decisions))
    unique = list(dict.fromkeys(names))
    codes = np.array([unique.index(name) for name in names], np.int64)
    return Coded(codes[decisions.by], tuple(unique))


def _registered(version: str) -> str:
    """The registered version of which a copy of a learner (``NAME:VERSION+LABELS``) is."""
    return version.partition("+")[0] or NO_MODEL


def _same(value: str, count: int) -> Coded:
    return Coded(np.zeros(count, np.int64), (value,))


def _numbers(column: Column) -> npt.NDArray[Any]:
    assert isinstance(column, Numeric)
    return column.values


def _amounts(column: Column) -> npt.NDArray[np.float64]:
    """A null amount costs nothing."""
    assert isinstance(column, Numeric)
    values = column.values.astype(np.float64)
    if column.valid is not None:
        values = np.where(column.valid, values, 0.0)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _nothing() -> Scored:
    return Scored(np.zeros(0, np.int64), np.zeros(0), {})
