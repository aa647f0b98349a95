"""Who enters the log: future events and conflicts are refused, duplicates answered with what was decided before."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.time import format_duration
from penstock.core.types import Field
from penstock.engine.contract import Decoded, Refused
from penstock.engine.lookup import ERASED, RowReader
from penstock.engine.ports import EventIdIndex, HashArray
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.plan.nodes import SourceNode


class Admitted(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One input after admission.

    Attributes
    ----------
    source
        Where it comes from.
    columns, rows, hashes
        The new events, their row numbers in the input, and the hashes of their ids (None: the source has no ids).
    duplicates
        Row number in the input and log position of the event that it repeats.
    repeats
        Row number in the input and index into `columns` of the event of this same input that it repeats.
    refused
        Rows that become dead letters.
    """

    source: SourceNode
    columns: Columns
    rows: IntArray
    hashes: HashArray | None
    duplicates: tuple[tuple[int, int], ...]
    repeats: tuple[tuple[int, int], ...]
    refused: tuple[Refused, ...]
    received: int


def id_seed(store_seed: int, source: str) -> int:
    """The seed for hashing the event ids of `source`: ids of different sources are different ids."""
    return store_seed ^ zlib.crc32(source.encode())


class Admission:
    """Decides row by row what is new; touches nothing.

    `covered` says up to which time (µs) a history was loaded, by source.
    """

    def __init__(
        self,
        ids: EventIdIndex,
        rows: RowReader,
        *,
        seed: int,
        settle: Callable[[int], None],
        covered: Mapping[str, int] | None = None,
    ) -> None:
        self._ids = ids
        self._rows = rows
        self._settle = settle
        self._id_seed = cache(partial(id_seed, seed))
        self._covered = {} if covered is None else covered

    def admit(self, source: SourceNode, decoded: Decoded, *, now_us: int | None) -> Admitted:
        """Sort `decoded` into new events, duplicates and refused rows; `now_us` None skips the future check."""
        columns, rows, refused = decoded.columns, decoded.rows, decoded.refused
        if now_us is not None:
            latest_us = now_us + source.max_future_skew_us
            times = _times(columns, source)
            if times.item() > latest_us if len(times) == 1 else len(times) and times.max() > latest_us:
                ahead = times > latest_us
                refused = (*refused, *_in_future(source, decoded, ahead, now_us))
                columns, rows = columns.take(np.flatnonzero(~ahead)), rows[~ahead]
        until_us = self._covered.get(source.name) if source.id_field is None else None
        if until_us is not None:
            old = _times(columns, source) <= until_us
            if old.any():
                refused = (*refused, *_in_history(source, decoded, rows[old]))
                columns, rows = columns.take(np.flatnonzero(~old)), rows[~old]
        if source.id_field is None or source.label_of is not None:
            return Admitted(source, columns, rows, None, (), (), refused, decoded.received)
        ids = columns[source.id_field]
        hashes = hash_text(ids if isinstance(ids, Text) else encode_keys([ids]), self._id_seed(source.name))
        found = self._ids.lookup(hashes)
        first = None if len(hashes) == 1 else _first_with_hash(hashes)
        if first is None and (found.item() if len(found) == 1 else found.max(initial=-1)) < 0:
            return Admitted(source, columns, rows, hashes, (), (), refused, decoded.received)
        if first is None:
            first = np.arange(len(hashes))
        sorter = _Duplicates(
            self, source, decoded, columns=columns, rows=rows, hashes=hashes, found=found, first=first
        )
        return sorter.sort_out(refused)

    def confirm(self, source: SourceNode, ids: Column, hashes: HashArray, found: IntArray) -> IntArray:
        """`found` where the event of `source` stored there has that very id, another position or -1 where not.

        All at once where the first candidates are right, which they are unless 64-bit hashes collide.
        """
        if not len(found):
            return found
        self._settle(int(found.max()))
        stored = self._rows.events_if_all(source.name, found)
        if stored is not None and (same_values(stored[str(source.id_field)], ids) | _erased(stored)).all():
            return found
        pairs = zip(hashes.tolist(), found.tolist(), strict=True)
        each = [self._confirm_one(source, ids.take(np.array([i])), *pair) for i, pair in enumerate(pairs)]
        return np.array(each, np.int64)

    def _confirm_one(self, source: SourceNode, event_id: Column, hashed: int, found: int) -> int:
        candidates: list[int] = [found, *self._ids.candidates(hashed).tolist()]
        for position in dict.fromkeys(candidates):
            self._settle(position)
            at = np.array([position])
            if self._rows.sources_at(at).get(position) != source.name:
                continue
            stored = self._rows.events(source.name, at)
            if (same_values(stored[str(source.id_field)], event_id) | _erased(stored))[0]:
                return position
        return -1

    def stored(self, source: SourceNode, positions: IntArray) -> Columns:
        """The stored events of `source` at `positions`."""
        if len(positions):
            self._settle(int(positions.max()))
        return self._rows.events(source.name, positions)

    def same_as_accepted(
        self, source: SourceNode, stored: Columns, sent: Columns, positions: IntArray
    ) -> BoolArray:
        """Which of the events `sent` are those `stored` at `positions`, as the schema of then reads them."""
        same = np.zeros(stored.length, np.bool_)
        for version in self._rows.versions_of(source):
            at = np.flatnonzero(version.holds_at(positions))
            read = version.reading(sent.take(at))
            same[at] = rows_equal(stored.take(at), read, [f for f in source.fields if f.name in read])
        return same


class _Duplicates:
    """Compares rows whose id hash was seen with what was seen."""

    def __init__(
        self,
        admission: Admission,
        source: SourceNode,
        decoded: Decoded,
        *,
        columns: Columns,
        rows: IntArray,
        hashes: HashArray,
        found: IntArray,
        first: IntArray,
    ) -> None:
        self._admission = admission
        self._source = source
        self._decoded = decoded
        self._columns = columns
        self._rows = rows
        self._hashes = hashes
        self._found = found
        self._first = first
        self._duplicates: list[tuple[int, int]] = []
        self._refused: list[Refused] = []

    def sort_out(self, refused: tuple[Refused, ...]) -> Admitted:
        new = np.ones(self._columns.length, np.bool_)
        self._against_log(new)
        repeats = self._against_each_other(new)
        keep = np.flatnonzero(new)
        place = np.full(self._columns.length, -1)
        place[keep] = np.arange(len(keep))
        return Admitted(
            self._source,
            self._columns.take(keep),
            self._rows[keep],
            self._hashes[keep],
            tuple(self._duplicates),
            tuple((row, int(place[first])) for row, first in repeats),
            (*refused, *self._refused),
            self._decoded.received,
        )

    def _against_log(self, new: BoolArray) -> None:
        hits = np.flatnonzero(self._found >= 0)
        ids = self._columns[str(self._source.id_field)]
        if not len(hits):
            return
        positions = self._admission.confirm(
            self._source, ids.take(hits), self._hashes[hits], self._found[hits]
        )
        known = positions >= 0
        hits, positions = hits[known], positions[known]
        if not len(hits):
            return
        new[hits] = False
        stored = self._admission.stored(self._source, positions)
        gone = _erased(stored)
        same = self._admission.same_as_accepted(self._source, stored, self._columns.take(hits), positions)
        for hit, position, alike, lost in zip(
            hits.tolist(), positions.tolist(), same.tolist(), gone.tolist(), strict=True
        ):
            if alike and not lost:
                self._duplicates.append((int(self._rows[hit]), position))
            else:
                self._refuse(hit, "erased" if lost else "conflict")

    def _against_each_other(self, new: BoolArray) -> list[tuple[int, int]]:
        """Rows that repeat an earlier row of the same input: (row number, index of the earlier one)."""
        ids = self._columns[str(self._source.id_field)]
        again = np.flatnonzero(new & (self._first != np.arange(len(self._first))))
        again = again[new[self._first[again]]]
        earlier = self._first[again]
        truly = same_values(ids.take(again), ids.take(earlier))
        again, earlier = again[truly], earlier[truly]
        alike = rows_equal(self._columns.take(again), self._columns.take(earlier), self._source.fields)
        new[again] = False
        for row in again[~alike].tolist():
            self._refuse(row, "conflict")
        return [
            (int(self._rows[row]), int(first))
            for row, first in zip(again[alike], earlier[alike], strict=True)
        ]

    def _refuse(self, index: int, reason: str) -> None:
        row = int(self._rows[index])
        detail = (
            "the event with this id was erased"
            if reason == "erased"
            else "an event with this id was accepted before with other values; send corrections under a new id"
        )
        original = b"" if reason == "erased" else self._decoded.original(row)  # what was forgotten stays so
        self._refused.append(Refused(row, reason, detail, original))


def _first_with_hash(hashes: HashArray) -> npt.NDArray[np.int64] | None:
    """For each row the first row with its hash; None where all differ."""
    if len(hashes) < 2:
        return None
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return None if len(first) == len(hashes) else first[inverse]


def _times(columns: Columns, source: SourceNode) -> IntArray:
    column = columns[source.time_field]
    assert isinstance(column, Numeric)
    return column.values  # type: ignore[return-value]


def _in_future(source: SourceNode, decoded: Decoded, ahead: BoolArray, now_us: int) -> list[Refused]:
    times = _times(decoded.columns, source)
    refused = []
    for i in np.flatnonzero(ahead).tolist():
        row = int(decoded.rows[i])
        by = format_duration(int(times[i]) - now_us)
        allowed = format_duration(source.max_future_skew_us)
        detail = f"{by} ahead of the clock; {allowed} is allowed - at `$.{source.time_field}`"
        refused.append(Refused(row, "in_future", detail, decoded.original(row)))
    return refused


def _in_history(source: SourceNode, decoded: Decoded, rows: IntArray) -> list[Refused]:
    detail = (
        f"not later than the loaded history, and without ids it may be in it - at `$.{source.time_field}`"
    )
    return [Refused(row, "in_history", detail, decoded.original(row)) for row in rows.tolist()]


def _erased(stored: Columns) -> BoolArray:
    if ERASED not in stored:
        return np.zeros(stored.length, np.bool_)
    column = stored[ERASED]
    assert isinstance(column, Numeric)
    return column.values.astype(np.bool_)


def rows_equal(left: Columns, right: Columns, fields: Iterable[Field]) -> BoolArray:
    """Which rows hold the same values in the columns of `fields`."""
    equal = np.ones(left.length, np.bool_)
    for f in fields:
        equal &= same_values(left[f.name], right[f.name])
    return equal


def same_values(left: Column, right: Column) -> BoolArray:
    """Which rows hold the same value; null equals null."""
    if isinstance(left, Text) or isinstance(right, Text):
        assert isinstance(left, Text) and isinstance(right, Text)  # noqa: PT018 - one schema
        pairs = zip(left.to_strings(), right.to_strings(), strict=True)
        return np.fromiter((a == b for a, b in pairs), np.bool_, len(left))
    left_valid = np.ones(len(left), np.bool_) if left.valid is None else left.valid
    right_valid = np.ones(len(left), np.bool_) if right.valid is None else right.valid
    equal: BoolArray = (left_valid == right_valid) & ((left.values == right.values) | ~left_valid)
    return equal
