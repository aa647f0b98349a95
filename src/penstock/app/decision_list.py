"""Decisions from the newest to the oldest, filtered a batch at a time: what the API lists and streams.

The work of one page is bounded. Where a rare filter finds little in what may be looked at, the page says how far it has come, and
the next one goes on there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from penstock.engine.answers import event_ids, flag_names
from penstock.engine.decisions import Decisions
from penstock.engine.gathering import plain
from penstock.engine.lookup import ERASED, conformed
from penstock.engine.values import to_list
from penstock.kernel.columns import BoolArray, Columns, Numeric, Text

if TYPE_CHECKING:
    from penstock.core.records import CommitHead
    from penstock.engine.gathering import Value
    from penstock.kernel.columns import Column, IntArray
    from penstock.plan.nodes import EndpointNode, Plan, SourceNode
    from penstock.stores.reader import ProjectReader

MOST_LOOKED_AT = 200_000
MOST_WITH_KEY = 40_000
"""As `MOST_LOOKED_AT`, where the events must be looked at, too."""

MOST_COMMITS = 5_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions are wanted; None and nothing: all.

    Attributes
    ----------
    model
        A version (``fraud:3``), or a model with all its versions (``fraud``).
    min_score, max_score
        Both inclusive; a decision without a score is within no bounds.
    since_us, until_us
        When the event was accepted, from inclusive to exclusive.
    key
        The value of any key by which the endpoint's features are looked up.
    """

    endpoint: str | None = None
    action: str | None = None
    model: str | None = None
    arm: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    since_us: int | None = None
    until_us: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision, with what names its event."""

    endpoint: str
    source: str
    position: int
    event_id: str | None
    event_time_us: int | None
    decided_at_us: int
    keys: Mapping[str, Value]
    score: float | None
    action: str
    model: str | None
    arm: str | None
    flags: tuple[str, ...]
    rule: str | None
    lists: Mapping[str, int]
    """By list of keys the version that was in force."""


@dataclass(frozen=True, slots=True)
class Page:
    """Decisions, newest first.

    Attributes
    ----------
    next
        Position below which the next page goes on; None where everything was looked at.
    looked_at
        How many decisions were looked at for it.
    reached_us
        When the oldest of these was made; None where there was none.
    """

    rows: list[Decided]
    next: int | None
    looked_at: int
    reached_us: int | None


@dataclass(slots=True)
class _Look:
    """How much was looked at."""

    most: int
    rows: int = 0
    commits: int = 0
    matched: int = 0
    reached_us: int | None = None

    @property
    def enough(self) -> bool:
        return self.rows >= self.most or self.commits >= MOST_COMMITS


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """A decision that passed the filter of its batch."""

    position: int
    endpoint: EndpointNode
    decisions: Decisions
    row: int
    head: CommitHead


def page(
    store: ProjectReader, plan: Plan, wanted: Filter, *, before: int | None = None, limit: int = 100
) -> Page:
    """Up to `limit` decisions at positions below `before` (None: the newest)."""
    if wanted.until_us is not None:
        until = store.position_at(wanted.until_us - 1)
        before = until if before is None else min(before, until)
    floor = 0 if wanted.since_us is None else store.position_at(wanted.since_us - 1)
    most = MOST_LOOKED_AT if wanted.key is None else min(MOST_WITH_KEY, MOST_LOOKED_AT)
    look, events = _Look(most), _Events(store, plan)
    rows: list[Decided] = []
    for head, matches in _matches(store, plan, wanted, before=before, floor=floor, look=look):
        for part in _parts(matches, wanted, limit - len(rows)):
            rows += events.described(part, wanted.key)
            if len(rows) >= limit:
                kept = rows[:limit]
                return Page(kept, kept[-1].position, look.rows, look.reached_us)
        if look.enough and head.start > floor:
            return Page(rows, head.start, look.rows, look.reached_us)
    return Page(rows, None, look.rows, look.reached_us)


def newest_since(
    store: ProjectReader, plan: Plan, wanted: Filter, *, floor: int, stop: int, limit: int
) -> tuple[list[Decided], int]:
    """The newest `limit` decisions at positions from `floor` to `stop`, oldest first, and how many matching ones it left out.

    Of more than a page may look at, those that it did not look at count as left out.
    """
    look, found = _Look(MOST_LOOKED_AT), list[_Match]()
    reached = stop
    for head, matches in _matches(store, plan, wanted, before=stop, floor=floor, look=look):
        found += matches[: limit - len(found)]
        reached = head.start
        if look.enough:
            break
    unseen = store.decisions_between(floor, reached) if look.enough else 0
    rows = _Events(store, plan).described(found, None)
    return rows[::-1], look.matched - len(rows) + unseen


def at_positions(store: ProjectReader, plan: Plan, wanted: Filter, positions: Sequence[int]) -> list[Decided]:
    """The decisions on the events at these positions that pass the filter, newest first."""
    rows: list[Decided] = []
    for position in sorted(positions, reverse=True):
        one = (position + 1, position)
        for _, matches in _matches(store, plan, wanted, before=one[0], floor=one[1], look=_Look(1)):
            rows += _Events(store, plan).described(matches, wanted.key)
            break
    return rows


def _parts(matches: list[_Match], wanted: Filter, most: int) -> Iterator[list[_Match]]:
    """`matches` in pieces worth describing: without a filter by key no more than are wanted."""
    size = max(most, 1) if wanted.key is None else MOST_WITH_KEY
    for start in range(0, len(matches), size):
        yield matches[start : start + size]


def _matches(
    store: ProjectReader, plan: Plan, wanted: Filter, *, before: int | None, floor: int, look: _Look
) -> Iterator[tuple[CommitHead, list[_Match]]]:
    """Commit by commit the decisions that pass the filter, all but that by key; newest first."""
    stop = store.next_position if before is None else before
    for head in store.heads_before(stop):
        if head.stop <= floor:
            return
        look.commits += 1
        found: list[_Match] = []
        for key, (name, _) in head.decisions.items():
            endpoint = plan.endpoints.get(name)
            if endpoint is None or wanted.endpoint not in {None, name}:
                continue
            batch = store.decision_batch(key)
            decisions = Decisions.from_bytes(batch.payload)
            kept = _passing(decisions, wanted) & (batch.positions < stop) & (batch.positions >= floor)
            look.rows += len(decisions)
            found += [
                _Match(int(batch.positions[row]), endpoint, decisions, row, head)
                for row in np.flatnonzero(kept)[::-1].tolist()
            ]
        if len(head.decisions) > 1:
            found.sort(key=lambda match: -match.position)
        look.matched += len(found)
        look.reached_us = head.ingest_time_us
        yield head, found


def _passing(decisions: Decisions, wanted: Filter) -> BoolArray:
    kept = np.ones(len(decisions), np.bool_)
    if wanted.action is not None:
        codes = [code for code, name in enumerate(decisions.actions) if name == wanted.action]
        kept &= np.isin(decisions.taken, codes)
    if wanted.model is not None or wanted.arm is not None:
        own = np.array([_made_by(arm.version, arm.arm, wanted) for arm in decisions.arms], np.bool_)
        kept &= own[0] if decisions.by is None else own[decisions.by]
    if wanted.min_score is not None:
        kept &= decisions.scores >= wanted.min_score
    if wanted.max_score is not None:
        kept &= decisions.scores <= wanted.max_score
    return kept


def _made_by(version: str, arm: str, wanted: Filter) -> bool:
    label = version.partition("+")[0]
    return wanted.arm in {None, arm} and wanted.model in {None, version, label, label.partition(":")[0]}


class _Events:
    """Finds the events of decisions, commit by commit."""

    def __init__(self, store: ProjectReader, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._key = -1
        self._batch: tuple[IntArray, Columns]

    def described(self, matches: Sequence[_Match], key: str | None) -> list[Decided]:
        """The decisions with their events, in this order; only those of events with `key`, where there is one."""
        found: list[Decided] = []
        for (_, name), group in groupby(matches, lambda match: (match.head.start, match.endpoint.name)):
            found += self._of_commit(list(group), self._plan.endpoints[name], key)
        return found

    def _of_commit(
        self, matches: Sequence[_Match], endpoint: EndpointNode, key: str | None
    ) -> Iterator[Decided]:
        source = self._plan.sources[endpoint.source]
        positions, columns = self._events(matches[0].head.log[source.name], source)
        rows = np.searchsorted(positions, [match.position for match in matches])
        names = key_columns(self._plan, endpoint, source)
        kept = np.ones(len(matches), np.bool_)
        if key is not None:
            same = np.zeros(columns.length, np.bool_)
            for name in names:
                same |= _equals(columns[name], key)
            kept = same[rows]
        return (
            _described(matches[i], columns, int(rows[i]), source, names)
            for i in np.flatnonzero(kept).tolist()
        )

    def _events(self, key: int, source: SourceNode) -> tuple[IntArray, Columns]:
        if key != self._key:
            batch = self._store.log_batch(key)
            columns = conformed(Columns.from_bytes(batch.payload), source)
            self._key, self._batch = key, (batch.positions, columns)
        return self._batch


def key_columns(plan: Plan, endpoint: EndpointNode, source: SourceNode) -> list[str]:
    """The columns of the endpoint's events by which its features are looked up."""
    lookups = plan.services[endpoint.service].lookups
    asked = dict.fromkeys(name for lookup in lookups for name in lookup.key_columns)
    own = {item.name for item in source.fields}
    return [name for name in asked if name in own]


def _equals(column: Column, wanted: str) -> BoolArray:
    if isinstance(column, Text):
        wanted = unicodedata.normalize("NFC", wanted)
        return np.fromiter((one == wanted for one in column.to_strings()), np.bool_, len(column))
    if not wanted.removeprefix("-").isdigit() or not wanted.isascii():
        return np.zeros(len(column), np.bool_)
    same: BoolArray = column.values == int(wanted)
    return same if column.valid is None else same & column.valid


def _described(
    match: _Match, columns: Columns, row: int, source: SourceNode, names: Sequence[str]
) -> Decided:
    decisions, at = match.decisions, match.row
    by, score = decisions.decided_by(at), float(decisions.scores[at])
    forgotten = ERASED in columns and bool(_numbers(columns[ERASED]).values[row])
    types = {item.name: item.dtype for item in source.fields}
    one = columns.take(np.array([row]))
    return Decided(
        endpoint=match.endpoint.name,
        source=source.name,
        position=match.position,
        event_id=None if forgotten else event_ids(one, source, [match.position])[0],
        event_time_us=None if forgotten else int(_numbers(one[source.time_field]).values[0]),
        decided_at_us=match.head.ingest_time_us,
        keys={} if forgotten else {name: plain(to_list(one[name], types[name])[0]) for name in names},
        score=None if score != score else score,
        action=decisions.actions[int(decisions.taken[at])],
        model=by.version or None,
        arm=by.arm or None,
        flags=flag_names(int(decisions.flags[at])),
        rule=decisions.rule(at),
        lists=decisions.versions_of_lists(at),
    )


def _numbers(column: Column) -> Numeric:
    assert isinstance(column, Numeric)
    return column
