"""Point-in-time features for events that somebody gives, over a project's log in event-time order, in bounded memory.

What `penstock.engine.training_set` does with frames of history, done with the log, of which little is in memory at a time:

1. While the log is put in order, the given events are looked for by their ids. Those that it does not have join the order
   as bare rows, last at equal times.
2. The state is moved over that order. Of each stretch only the features of the given events are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.definitions.sources import StreamSource
from penstock.definitions.views import FeatureReference
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.feature_frame import FeatureFrame, append_features
from penstock.engine.features import FeatureState
from penstock.engine.frames import believed_columns, to_table
from penstock.engine.kernel_rows import Rows
from penstock.engine.ordered_log import Asking, OrderedRows, Shelf, rows_by_event_time
from penstock.engine.ports import LogReader
from penstock.engine.training_set import HISTORY, SPINE, cannot_look_up, frame_plan
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.plan.nodes import Plan


def features_over_log(
    store: LogReader,
    references: Sequence[FeatureReference],
    source: StreamSource,
    events: Any,
    *,
    timestamp_key: str | None = None,
    shelf: Shelf | None = None,
) -> FeatureFrame:
    """Features for `events` of `source` as the whole log knows them, late and corrected events in their places.

    Parameters
    ----------
    timestamp_key
        The column with the time of events that the log does not have; default: that of the source.
    shelf
        Where the log is kept aside while it is put in order; default: memory, which must then hold it.

    Raises
    ------
    InputError
        An event is not in the log, and lacks the columns by which it could be looked up.
    """
    table = to_table(events, owner="events")
    plan = frame_plan(references, source, table, timestamp_key)
    id_field = source.event_id_field
    node = plan.sources.get(SPINE)
    fields = [f for f in source.schema if f.name == id_field and id_field in table.column_names]
    spine = believed_columns(table, fields if node is None else node.fields, owner="events")
    ids = spine[id_field] if id_field is not None and id_field in spine else None
    given = _Given(plan, source, spine, ids, why_not=lambda row: cannot_look_up(row, plan, table, source))
    asking = Asking(SPINE, given.note, given.bare)
    state = FeatureState(plan)
    for ordered in rows_by_event_time(store, plan, stop=store.next_position, shelf=shelf, asking=asking):
        given.keep(ordered, state)
    return append_features(table, plan.services[HISTORY], given.features())


class _Given:
    """The given events: which of them the log has, and what became known of their features."""

    def __init__(
        self,
        plan: Plan,
        source: StreamSource,
        spine: Columns,
        ids: Column | None,
        *,
        why_not: Callable[[int], str],
    ) -> None:
        self._plan, self._source, self._spine = plan, source, spine
        self._known = KeyTable()
        self._slots = np.full(spine.length, -1) if ids is None else self._known.assign(encode_keys([ids]))
        self._logged = np.zeros(self._known.slots, np.bool_)
        self._row_of_slot = np.full(self._known.slots, -1)
        self._row_of_bare = np.full(spine.length, -1)
        self._made: list[FeatureRows] = []
        self._count = 0
        self._why_not = why_not

    def note(self, entering: Mapping[str, Rows]) -> Iterator[Rows]:
        """Note which events are in a chunk of the log; asks for nothing."""
        rows = entering.get(self._source.name)
        if rows is not None:
            slots = self._slots_of(rows.columns)
            self._logged[slots[slots >= 0]] = True
        return iter(())

    def bare(self) -> Iterator[Rows]:
        """Once all of the log was seen: the events that it does not have."""
        rows = np.flatnonzero(~self._is_logged())
        if not len(rows):
            return
        if SPINE not in self._plan.sources:
            raise InputError(self._why_not(int(rows[0])))
        yield Rows(self._spine.take(rows), rows)

    def keep(self, ordered: OrderedRows, state: FeatureState) -> None:
        """Move `state` over a stretch of the order, and keep what is asked for."""
        own = ordered.rows.get(self._source.name)
        slots = np.zeros(0, np.int64) if own is None else self._slots_of(own.columns)
        at = np.flatnonzero(slots >= 0)
        names = [HISTORY] * bool(len(at)) + [SPINE] * (SPINE in ordered.rows)
        made = state.advance(ordered.rows, services=[self._plan.services[n] for n in names], exact=True)
        if len(at):
            self._row_of_slot[slots[at]] = self._add(made[HISTORY].take(at))
        if SPINE in ordered.rows:
            self._row_of_bare[ordered.logged[SPINE]] = self._add(made[SPINE])

    def features(self) -> list[FeatureRows]:
        """The features of all events, in their order."""
        if not self._spine.length:
            return []
        rows = self._row_of_bare.copy()
        logged = self._is_logged()
        rows[logged] = self._row_of_slot[self._slots[logged]]
        return [concat_features(self._made).take(rows)]

    def _add(self, made: FeatureRows) -> IntArray:
        start, self._count = self._count, self._count + len(made)
        self._made.append(made)
        return np.arange(start, self._count)

    def _slots_of(self, events: Columns) -> IntArray:
        if not self._known.slots:
            return np.full(events.length, -1)
        return self._known.find(encode_keys([events[str(self._source.event_id_field)]]))

    def _is_logged(self) -> BoolArray:
        found = np.zeros(self._spine.length, np.bool_)
        named = self._slots >= 0
        found[named] = self._logged[self._slots[named]]
        return found
