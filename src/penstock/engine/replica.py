"""Scoring and reading without a log or a state: what an event's keys hold is borrowed, and the kernel goes on from there.

1. An event's view functions say which keys of which views it needs.
2. Their states, and how far they are, are read from a blob store at one moment.
3. They are put into an empty state; from there on it is the same step as in the engine, over the event itself.

What the store does not know is null, and the answer says so; features of the request alone are computed all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from msgspec import structs

from penstock.core.clock import Clock
from penstock.core.errors import SnapshotError, StoreError
from penstock.engine.assembly import FeatureRows, LookedUp
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import KernelRows, Rows, asking_rows
from penstock.engine.key_blobs import BlobNames, Published, unseal
from penstock.engine.online import AT
from penstock.engine.ports import BlobReader
from penstock.kernel.columns import Columns, IntArray, Numeric, Text
from penstock.kernel.state import Op, Output, Taken
from penstock.plan.nodes import Plan, ServiceNode

UNKNOWN = -1
"""The position of an answer where nothing is known of the log."""
_decoder = msgspec.json.Decoder(Published)
Keys = dict[int, list[bytes]]
"""The keys that are needed, by view."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What was known of the keys of a request.

    Attributes
    ----------
    position
        All that the log had accepted before it was taken into account; `UNKNOWN` where the store did not answer.
    flags
        Why that is not all that there is to know: ``store_away``, ``rebuilding`` (not all keys of a view are there yet),
        ``stale`` (the engine published nothing for a while). Empty where all is well.
    """

    position: int
    flags: tuple[str, ...]


class Replica:
    """Answers from the states that an engine publishes; safe for several threads.

    Parameters
    ----------
    plan
        The definitions, which must be those of the engine: states of others are not found.
    blobs, namespace, clock
        Where states are published, under which name, and the time.
    fresh_s
        After how many seconds without a sign of the engine answers are flagged ``stale``.
    refuse
        Raise `StoreError` where the store does not answer, instead of going on without it.
    """

    def __init__(
        self,
        plan: Plan,
        blobs: BlobReader,
        *,
        namespace: str,
        clock: Clock,
        fresh_s: float = 10.0,
        refuse: bool = False,
    ) -> None:
        self.plan = plan
        self._blobs = blobs
        self._names = BlobNames.of(plan, namespace)
        self._clock = clock
        self._fresh_us = round(fresh_s * 1e6)
        self._refuse = refuse
        self._idle: deque[_BorrowedState] = deque()
        self._own = {
            source: [i for i, view in enumerate(plan.views) if view.source == source]
            for source in plan.sources
        }

    def features(self, service: ServiceNode, events: Columns) -> tuple[Borrowed, FeatureRows]:
        """The features of events of the service's stream, each with those before it in `events` and itself.

        Raises
        ------
        TransformError
            A view's function failed.
        """
        rows = Rows(events, np.arange(events.length))
        time = self.plan.sources[service.source].time_field
        with self._state() as state:
            prepared = state.prepare(service.source, events, rows.positions)
            wanted: Keys = {}
            for lookup in service.lookups:
                asking = (
                    prepared[lookup.view]
                    if lookup.own
                    else asking_rows(self.plan.views[lookup.view], lookup.key_columns, time, rows)
                )
                _add_keys(wanted, lookup.view, asking)
            borrowed = self._lend(state, wanted, also=self._own[service.source])
            found = state.advance(
                {service.source: rows}, services=[service], prepared=prepared, skip_failing=True
            )
        return borrowed, found[service.name]

    def look_up(
        self, plan: Plan, service: ServiceNode, columns: Columns
    ) -> tuple[int, LookedUp, IntArray] | None:
        """See `penstock.engine.ports.OnlineStore`."""
        if plan is not self.plan:
            return None
        rows = Rows(columns, np.arange(columns.length))
        wanted: Keys = {}
        for lookup in service.lookups:
            asking = asking_rows(plan.views[lookup.view], lookup.key_columns, AT, rows)
            _add_keys(wanted, lookup.view, asking)
        with self._state() as state:
            borrowed = self._lend(state, wanted)
            found, newest = state.look_up(service, columns, AT)
        found.degraded = bool(borrowed.flags)
        return borrowed.position, found, newest

    @contextmanager
    def _state(self) -> Iterator[_BorrowedState]:
        """A state that nobody else works on."""
        try:
            state = self._idle.pop()
        except IndexError:
            state = _BorrowedState(self.plan)
        yield state
        self._idle.append(state)  # one that failed is left to the garbage collector

    def _lend(self, state: _BorrowedState, wanted: Keys, also: Sequence[int] = ()) -> Borrowed:
        """Fill the views of a state with what is known of keys; those in `also` are emptied at least."""
        names = [self._names.view(view) + key for view, keys in wanted.items() for key in keys]
        try:
            head, *found = self._blobs.get([self._names.published, *names])
        except StoreError:
            if self._refuse:
                raise
            state.fill({}, unknown={*wanted, *also})
            return Borrowed(UNKNOWN, ("store_away",))
        published = None if head is None else _decoder.decode(head[1])
        complete = () if published is None else published.views
        states: dict[int, list[bytes]] = {view: [] for view in (*also, *wanted)}
        unknown = set()
        blobs = iter(found)
        for view, keys in wanted.items():
            fingerprint = self._names.views[view]
            for _, blob in zip(keys, blobs, strict=False):
                if blob is None:
                    if fingerprint not in complete:
                        unknown.add(view)
                    continue
                try:
                    states[view].append(unseal(fingerprint, *blob))
                except SnapshotError:
                    unknown.add(view)
        state.fill(states, unknown=unknown)
        return self._borrowed(published, rebuilding=bool(unknown))

    def _borrowed(self, published: Published | None, *, rebuilding: bool) -> Borrowed:
        flags = ["rebuilding"] if rebuilding else []
        if published is None:
            return Borrowed(UNKNOWN, tuple(flags))
        if self._clock.now_us() - published.at_us > self._fresh_us:
            flags.append("stale")
        return Borrowed(published.position, tuple(flags))


class _BorrowedState(FeatureState):
    """A state that is filled for one request; the features of views of which too little is known are null."""

    unknown: set[int]

    def fill(self, states: dict[int, list[bytes]], *, unknown: set[int]) -> None:
        """Hold these keys' states in these views, and nothing in those that are unknown."""
        self.unknown = unknown
        for view in states.keys() | unknown:
            self.views[view].load([] if view in unknown else states[view])

    def _process(self, index: int, rows: KernelRows) -> Output:
        if index not in self.unknown:
            return super()._process(index, rows)
        nowhere = np.full(len(rows.ops), Op.NONE, np.uint8)
        empty = super()._process(index, structs.replace(rows, ops=nowhere))
        none = np.zeros_like(empty.bits)
        apart = {at: _nulled(values) for at, values in (empty.apart or {}).items()}
        return Output(none, none.astype(np.bool_), empty.lateness, apart or None)


def _nulled(values: Taken) -> Taken:
    """Nulls in the place of a column's values; lists stay as they are for no rows: empty."""
    if isinstance(values, Text):
        return Text(values.offsets, values.data, np.zeros(len(values), np.bool_))
    if isinstance(values, Numeric):
        return Numeric(values.values, np.zeros(len(values.values), np.bool_))
    return values


def _add_keys(wanted: Keys, view: int, rows: KernelRows) -> None:
    """Note the keys of `rows`, each once."""
    there = rows.ops != Op.NONE
    if rows.keys.valid is not None:
        there &= rows.keys.valid
    data = rows.keys.data.tobytes()
    keys = [data[a:b] for a, b in pairwise(rows.keys.offsets.tolist())]
    known = wanted.setdefault(view, [])
    fresh = dict.fromkeys(key for key, ok in zip(keys, there.tolist(), strict=True) if ok)
    known += [key for key in fresh if key not in known] if known else fresh
