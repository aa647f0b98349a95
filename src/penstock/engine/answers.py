"""Answers: what each event that was sent in is told, in the order in which they were sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from penstock.engine.decisions import Decisions, Flag
from penstock.engine.effects import Outcome
from penstock.engine.lookup import RowReader
from penstock.kernel.columns import Columns, Text
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

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def answers_of(outcome: Outcome, plan: Plan, rows: RowReader, *, with_features: bool = False) -> list[Answer]:
    """One answer for each event of an input, in input order; everything in `outcome` must be durable."""
    admitted = outcome.admitted
    source = admitted.source
    names = _feature_names(plan, source) if with_features else ()
    found: dict[int, Answer] = {}
    fresh = [
        _decided(
            "logged" if outcome.decisions is None else "scored",
            event_id(admitted.columns, i, source, position),
            position,
            decisions=outcome.decisions,
            row=i,
            features=names,
        )
        for i, position in enumerate(outcome.positions.tolist())
    ]
    found |= dict(zip(admitted.rows.tolist(), fresh, strict=True))
    for row, first in admitted.repeats:
        found[row] = _as_duplicate(fresh[first])
    for row, position in admitted.duplicates:
        found[row] = stored_answer(plan, rows, source, position, status="duplicate", names=names)
    for refused in admitted.refused:
        found[refused.row] = Answer("rejected", reason=refused.reason, detail=refused.detail)
    return [found[row] for row in sorted(found)]


def stored_answer(
    plan: Plan,
    rows: RowReader,
    source: SourceNode,
    position: int,
    *,
    status: str,
    names: tuple[str, ...] = (),
) -> Answer:
    """The answer to the event of `source` that stands at `position`, from the store."""
    at = np.array([position])
    name = event_id(rows.events(source.name, at), 0, source, position)
    endpoint = plan.endpoint_of.get(source.name)
    stored = [] if endpoint is None else rows.decisions(endpoint.name, at)
    decisions = stored[0][1] if stored else None
    return _decided(status, name, position, decisions=decisions, row=0, features=names)


def event_id(columns: Columns, row: int, source: SourceNode, position: int) -> str:
    """The id of an event: its own, or ``source:position`` where the log assigned one."""
    if source.id_field is None:
        return f"{source.name}:{position}"
    column = columns[source.id_field]
    one = column.take(np.array([row]))
    return str(one.to_strings()[0]) if isinstance(one, Text) else str(one.values[0])


def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the flags that are set, for people.

    >>> flag_names(5)
    ('late', 'degraded')
    """
    return tuple(str(flag.name).lower() for flag in Flag if flags & flag)


def _decided(
    status: str,
    name: str,
    position: int,
    *,
    decisions: Decisions | None,
    row: int,
    features: tuple[str, ...],
) -> Answer:
    if decisions is None:
        return Answer(status, name, position)
    score, by = float(decisions.scores[row]), decisions.decided_by(row)
    values = [None if v != v else v for v in decisions.vectors[row].tolist()]
    same = len(features) == len(values)
    return Answer(
        status,
        name,
        position,
        score=None if score != score else score,
        action=decisions.actions[int(decisions.taken[row])],
        model=by.version or None,
        arm=by.arm or None,
        flags=flag_names(int(decisions.flags[row])),
        rule=decisions.rule(row),
        features=dict(zip(features, values, strict=True)) if features and same else None,
    )


def _as_duplicate(answer: Answer) -> Answer:
    return structs.replace(answer, status="duplicate")


def _feature_names(plan: Plan, source: SourceNode) -> tuple[str, ...]:
    endpoint = plan.endpoint_of.get(source.name)
    return () if endpoint is None else plan.services[endpoint.service].feature_names
