"""Answers: what each event that was sent in is told, in the order in which they were sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from penstock.engine.decisions import Decisions, Flag
from penstock.engine.effects import Outcome
from penstock.engine.lookup import RowReader
from penstock.kernel.columns import Columns, IntArray, Text
from penstock.plan.nodes import Plan, SourceNode


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one event.

    Attributes
    ----------
    status
        ``"scored"``, ``"logged"`` (no endpoint decides on its source), ``"duplicate"`` or ``"rejected"``.
    event_id
        The event's id; where the source has no ids, ``source:position``. None for a rejected event.
    position
        Its place in the log; None for a rejected event.
    score, action, model, arm, flags
        The decision, and who made it: as stored, for a duplicate.
    rule
        The rule that decided, where one did.
    lists
        By list of keys the version that was in force; None where there are no lists.
    reason, detail
        Why an event was rejected.
    features
        ``{"view.feature": value}`` as served, where asked for.
    reasons
        What the score was made of, the weightiest first, where asked for.
    """

    status: str
    event_id: str | None = None
    position: int | None = None
    score: float | None = None
    action: str | None = None
    model: str | None = None
    arm: str | None = None
    flags: tuple[str, ...] = ()
    rule: str | None = None
    reason: str | None = None
    detail: str | None = None
    features: Mapping[str, float | None] | None = None
    reasons: Sequence[Mapping[str, Any]] | None = None
    lists: Mapping[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def answers_of(outcome: Outcome, plan: Plan, rows: RowReader, *, with_features: bool = False) -> list[Answer]:
    """One answer for each event of an input, in input order; everything in `outcome` must be durable."""
    admitted = outcome.admitted
    source = admitted.source
    names = _feature_names(plan, source) if with_features else ()
    status = "logged" if outcome.decisions is None else "scored"
    fresh = decided_answers(
        status, admitted.columns, source, outcome.positions, decisions=outcome.decisions, features=names
    )
    if admitted.received == len(fresh):
        return fresh
    found = dict(zip(admitted.rows.tolist(), fresh, strict=True))
    for row, first in admitted.repeats:
        found[row] = structs.replace(fresh[first], status="duplicate")
    if admitted.duplicates:
        stored = stored_answers(plan, rows, source, [at for _, at in admitted.duplicates], names=names)
        found |= {row: stored[at] for row, at in admitted.duplicates}
    for refused in admitted.refused:
        found[refused.row] = Answer("rejected", reason=refused.reason, detail=refused.detail)
    return [found[row] for row in sorted(found)]


def stored_answers(
    plan: Plan,
    rows: RowReader,
    source: SourceNode,
    positions: Sequence[int],
    *,
    status: str = "duplicate",
    names: tuple[str, ...] = (),
) -> dict[int, Answer]:
    """What is answered about events of `source` that are in the store, by their positions."""
    wanted = np.unique(np.array(positions, np.int64))
    events = rows.events(source.name, wanted)
    found = dict(zip(wanted.tolist(), decided_answers(status, events, source, wanted), strict=True))
    endpoint = plan.endpoint_of.get(source.name)
    for decided, decisions in () if endpoint is None else rows.decisions(endpoint.name, wanted):
        own = events.take(np.searchsorted(wanted, decided))
        answers = decided_answers(status, own, source, decided, decisions=decisions, features=names)
        found |= dict(zip(decided.tolist(), answers, strict=True))
    return found


def event_ids(columns: Columns, source: SourceNode, positions: Sequence[int]) -> list[str]:
    """The ids of events: their own, or ``source:position`` where the log assigned them."""
    if source.id_field is None:
        return [f"{source.name}:{position}" for position in positions]
    column = columns[source.id_field]
    values = column.to_strings() if isinstance(column, Text) else column.values.tolist()
    return [str(value) for value in values]


@cache
def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the flags that are set, for people.

    >>> flag_names(5)
    ('late', 'degraded')
    """
    return tuple(str(flag.name).lower() for flag in Flag if flags & flag)


def decided_answers(
    status: str,
    columns: Columns,
    source: SourceNode,
    positions: IntArray,
    *,
    decisions: Decisions | None = None,
    features: tuple[str, ...] = (),
) -> list[Answer]:
    """The answers to the events in `columns`, which stand at `positions`; nothing is looked up an event."""
    at = positions.tolist()
    ids = event_ids(columns, source, at)
    if decisions is None:
        return [Answer(status, name, position) for name, position in zip(ids, at, strict=True)]
    arms = [(arm.version or None, arm.arm or None) for arm in decisions.arms]
    rules = (None, *decisions.rules)
    none, none_known = [0] * len(at), [None] * len(at)
    return [
        Answer(
            status,
            name,
            position,
            None if score != score else score,
            decisions.actions[action],
            arms[by][0],
            arms[by][1],
            flag_names(flags),
            rules[fired],
            features=values,
            lists=versions,
        )
        for name, position, score, action, by, flags, fired, values, versions in zip(
            ids,
            at,
            decisions.scores.tolist(),
            decisions.taken.tolist(),
            none if decisions.by is None else decisions.by.tolist(),
            decisions.flags.tolist(),
            none if decisions.fired is None else decisions.fired.tolist(),
            _values(decisions, features),
            none_known if decisions.list_versions is None else _list_versions(decisions),
            strict=True,
        )
    ]


def _list_versions(decisions: Decisions) -> Sequence[Mapping[str, int] | None]:
    return [decisions.versions_of_lists(row) for row in range(len(decisions))]


def _values(decisions: Decisions, features: tuple[str, ...]) -> Sequence[Mapping[str, float | None] | None]:
    """The values of the features of each event; None where they are not asked for, or were of other definitions."""
    if not features or decisions.vectors.shape[1] != len(features):
        return [None] * len(decisions)
    return [
        {name: None if value != value else value for name, value in zip(features, row, strict=True)}
        for row in decisions.vectors.tolist()
    ]


def _feature_names(plan: Plan, source: SourceNode) -> tuple[str, ...]:
    endpoint = plan.endpoint_of.get(source.name)
    return () if endpoint is None else plan.services[endpoint.service].feature_names
