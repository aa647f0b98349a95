"""The effects of a step: what one transaction stores, and the counting of every event."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import msgspec
import numpy as np

from penstock.core.errors import StoreError
from penstock.core.records import Commit, DeadLetter, DecisionBatch, EventIds, LabelRecords, LogBatch
from penstock.engine.admission import Admitted
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.labels import JoinedLabels, concat_labels
from penstock.kernel.columns import IntArray
from penstock.plan.nodes import Plan

# As NumPy numbers: IntFlag arithmetic would cost microseconds an event.
_LATE, _TOO_LATE = np.uint8(Flag.LATE), np.uint8(Flag.TOO_LATE)
_EXPLORED, _OVER_BUDGET = np.uint8(Flag.EXPLORED), np.uint8(Flag.OVER_BUDGET)


class Outcome(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What became of one input.

    Attributes
    ----------
    admitted
        New events, duplicates and refused rows.
    positions
        int64[n]: the log positions of the new events.
    decisions
        One a new event; None where no endpoint decides on the source.
    """

    admitted: Admitted
    positions: IntArray
    decisions: Decisions | None


class LetterChanges(msgspec.Struct, frozen=True, eq=False):
    """Dead letters that a micro-batch is about.

    Attributes
    ----------
    replays
        By source the rows of its input that are another attempt at a dead letter, and which. An accepted row removes the letter in
        the transaction that stores the event; a refused one leaves it as it was, and makes no other.
    dropped
        Letters that go unheard.
    """

    replays: Mapping[str, Mapping[int, int]] = msgspec.field(default_factory=dict)
    dropped: Sequence[int] = ()

    def removed(self, outcomes: Sequence[Outcome]) -> list[int]:
        """The letters that go, given what became of the inputs."""
        found = list(self.dropped)
        for outcome in outcomes:
            replays = self.replays.get(outcome.admitted.source.name, {})
            again = {refused.row for refused in outcome.admitted.refused}
            found += [letter for row, letter in replays.items() if row not in again]
        return found


NO_CHANGES = LetterChanges()


def commit_of(
    plan: Plan,
    outcomes: Sequence[Outcome],
    labels: Sequence[tuple[int, JoinedLabels]],
    *,
    ids: EventIds | None,
    now_us: int,
    offsets: Mapping[str, str],
    counters: Mapping[str, int],
    changes: LetterChanges = NO_CHANGES,
) -> Commit:
    """The effects of a step; `ids` are those of its new events, `labels` are joined labels with the input that they came by (-1: they waited)."""
    log, decided, letters = [], [], []
    totals = dict(counters)
    payloads = {index: joined.payload for index, joined in labels if joined.payload is not None}
    for i, outcome in enumerate(outcomes):
        admitted = outcome.admitted
        if len(outcome.positions):
            payload = payloads.get(i, admitted.columns).to_bytes()
            log.append(
                LogBatch(admitted.source.name, outcome.positions, ingest_time_us=now_us, payload=payload)
            )
        if outcome.decisions is not None:
            name = plan.endpoint_of[admitted.source.name].name
            decided.append(DecisionBatch(name, outcome.positions, payload=outcome.decisions.to_bytes()))
        if admitted.refused:
            letters += _dead_letters(admitted, now_us, changes.replays.get(admitted.source.name, ()))
        _count(totals, outcome)
    joined = [j for _, j in labels]
    for one in joined:
        for name, count in one.counters.items():
            totals[name] = totals.get(name, 0) + count
    return Commit(
        log=log,
        ids=ids,
        decisions=decided,
        labels=_records([j.records for j in joined if j.records is not None]),
        pending_added=[p for j in joined for p in j.pending_added],
        pending_resolved=[p for j in joined for p in j.pending_resolved],
        dead_letters=letters,
        letters_removed=[] if changes is NO_CHANGES else changes.removed(outcomes),
        counters=totals,
        offsets=offsets,
    )


def _records(parts: Sequence[LabelRecords]) -> LabelRecords | None:
    return concat_labels(parts) if parts else None


def event_ids_of(inputs: Sequence[Admitted], positions: Sequence[IntArray]) -> EventIds | None:
    """The ids of all new events of a micro-batch, by position; None where none has one."""
    if len(inputs) == 1:
        hashes, places = inputs[0].hashes, positions[0]
        return None if hashes is None or not len(places) else EventIds(hashes, places)
    parts = [(a.hashes, p) for a, p in zip(inputs, positions, strict=True) if a.hashes is not None and len(p)]
    if not parts:
        return None
    if len(parts) == 1:
        return EventIds(*parts[0])
    hashes = np.concatenate([h for h, _ in parts])
    places = np.concatenate([p for _, p in parts])
    order = np.argsort(places)
    return EventIds(hashes[order], places[order])


def _dead_letters(admitted: Admitted, now_us: int, replayed: Container[int]) -> list[DeadLetter]:
    return [
        DeadLetter(
            source=admitted.source.name,
            received_us=now_us,
            reason=refused.reason,
            detail=refused.detail,
            payload=refused.payload,
        )
        for refused in admitted.refused
        if refused.row not in replayed
    ]


def _count(counters: dict[str, int], outcome: Outcome) -> None:
    """Add one input to the counters: received = scored (or logged) + duplicate + rejected."""
    admitted = outcome.admitted
    if admitted.source.label_of is not None:
        _add(counters, "labels_rejected", len(admitted.refused))
        _add(counters, "labels_received", len(admitted.refused))
        return
    new = len(outcome.positions)
    duplicates = len(admitted.duplicates) + len(admitted.repeats)
    if admitted.received != new + duplicates + len(admitted.refused):
        raise StoreError(
            f"engine: {admitted.received} events of {admitted.source.name!r} came in, but {new} were accepted, "
            f"{duplicates} repeated and {len(admitted.refused)} refused. This is a defect of Penstock; please report it."
        )
    _add(counters, "received", admitted.received)
    _add(counters, "logged" if outcome.decisions is None else "scored", new)
    if duplicates or admitted.refused:
        _add(counters, "duplicate", duplicates)
        _add(counters, "rejected", len(admitted.refused))
    if outcome.decisions is not None and new:
        flags = outcome.decisions.flags
        if flags.tobytes().count(0) < new:
            _add(counters, "late", int(((flags & _LATE) > 0).sum()))
            _add(counters, "too_late", int(((flags & _TOO_LATE) > 0).sum()))
        taken = outcome.decisions.taken.tobytes()  # bytes count faster than arrays, few and many
        for code, action in enumerate(outcome.decisions.actions):
            if count := taken.count(code):
                _add(counters, f"action.{action}", count)
        _count_beside_score(counters, outcome.decisions)


def _count_beside_score(counters: dict[str, int], decisions: Decisions) -> None:
    if decisions.meant is not None:
        _add(counters, "explored", int(np.count_nonzero(decisions.flags & _EXPLORED)))
        _add(counters, "over_budget", int(np.count_nonzero(decisions.flags & _OVER_BUDGET)))
    if decisions.fired is not None:
        fired = decisions.fired.tobytes()
        for code, rule in enumerate(decisions.rules, 1):
            _add(counters, f"rule.{rule}", fired.count(code))


def _add(counters: dict[str, int], name: str, count: int) -> None:
    if count:
        counters[name] = counters.get(name, 0) + count
