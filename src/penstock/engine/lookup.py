"""Reading rows and decisions back by position: batches are decoded once and kept while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from penstock.core.errors import CorruptionError, StoreError
from penstock.core.types import Field
from penstock.engine.decisions import Decisions
from penstock.engine.given import completed
from penstock.engine.ports import LogReader
from penstock.engine.schema_versions import SchemaVersion
from penstock.engine.values import nulls
from penstock.kernel.columns import Column, Columns, IntArray, Numeric, Text, concat
from penstock.plan.nodes import SourceNode

_KEPT_BATCHES = 128
_DENSE = 4
"""Positions of which one in so many is asked for are read as a stretch of the log."""


ERASED = "_erased"
"""Column of a logged batch in which an event was forgotten."""


class RowReader:
    """Rows of the log and decisions by position, in any order."""

    def __init__(self, store: LogReader, sources: Mapping[str, SourceNode]) -> None:
        self._store = store
        self._sources = sources
        self.versions: Mapping[str, Sequence[SchemaVersion]] = {}
        """Under which schemas events were accepted, by source; where none is known, under the present one."""
        self._log: OrderedDict[tuple[str, int], tuple[IntArray, Columns]] = OrderedDict()

    def events(self, source: str, positions: IntArray) -> Columns:
        """The events of `source` at `positions`, in that order.

        Raises `CorruptionError` where a position holds no event of `source`.
        """
        found = self.events_if_all(source, positions)
        if found is None:
            raise CorruptionError(
                f"log: one of the positions {int(positions.min())} to {int(positions.max())} holds no event of source "
                f"{source!r}. Was the source renamed? Then give it its old name again; else restore the database."
            )
        return found

    def events_if_all(self, source: str, positions: IntArray) -> Columns | None:
        """The events of `source` at `positions`, in that order; None where one of them holds another source's."""
        pieces: list[Columns] = []
        at: list[IntArray] = []
        missing = positions if (positions[1:] > positions[:-1]).all() else np.unique(positions)
        for key, (stored, columns) in list(self._log.items()):
            if key[0] == source and len(missing) and stored[0] <= missing[-1] and stored[-1] >= missing[0]:
                missing = _use(stored, columns, missing, pieces, at)
                self._log.move_to_end(key)
        if len(missing) > 1 and len(missing) * _DENSE >= missing[-1] - missing[0]:
            missing = self._scan(source, missing, pieces, at)
        else:
            missing = self._fetch(source, missing, pieces, at)
        if len(missing):
            return None
        found = np.concatenate(at)
        order = np.argsort(found)
        return joined(pieces).take(order[np.searchsorted(found[order], positions)])

    def _scan(self, source: str, missing: IntArray, pieces: list[Columns], at: list[IntArray]) -> IntArray:
        """As `_fetch`, of positions close together: of small batches all at once."""
        wanted = self._sources[source]
        stored = [
            (batch.positions, conformed(Columns.from_bytes(batch.payload), wanted))
            for batch in self._store.read_log(int(missing[0]), int(missing[-1]) + 1, sources={source})
        ]
        if not stored:
            return missing
        for positions, columns in stored[-_KEPT_BATCHES:]:
            self._log[source, int(positions[0])] = (positions, columns)
        self._drop_oldest()
        joint = joined([columns for _, columns in stored])
        return _use(np.concatenate([positions for positions, _ in stored]), joint, missing, pieces, at)

    def _fetch(self, source: str, missing: IntArray, pieces: list[Columns], at: list[IntArray]) -> IntArray:
        if not len(missing):
            return missing
        for batch in self._store.log_batches_at(missing):
            if batch.source == source:
                columns = conformed(Columns.from_bytes(batch.payload), self._sources[source])
                self._log[source, int(batch.positions[0])] = (batch.positions, columns)
                missing = _use(batch.positions, columns, missing, pieces, at)
        self._drop_oldest()
        return missing

    def _drop_oldest(self) -> None:
        while len(self._log) > _KEPT_BATCHES:
            self._log.popitem(last=False)

    def versions_of(self, source: SourceNode) -> Sequence[SchemaVersion]:
        """Under which schemas the events of `source` were accepted, oldest first."""
        return self.versions.get(source.name) or (SchemaVersion(source.fields),)

    def sources_at(self, positions: IntArray) -> dict[int, str]:
        """Which source's event stands at each of `positions`."""
        found: dict[int, str] = {}
        for batch in self._store.log_batches_at(positions):
            for position in np.intersect1d(batch.positions, positions).tolist():
                found[position] = batch.source
        return found

    def decisions(self, endpoint: str, positions: IntArray) -> list[tuple[IntArray, Decisions]]:
        """The decisions of `endpoint` at `positions`, with their positions, in batches of one model version."""
        wanted = np.unique(positions)
        out = []
        for batch in self._store.decision_batches_at(wanted):
            if batch.endpoint == endpoint:
                keep = np.isin(batch.positions, wanted)
                out.append((batch.positions[keep], Decisions.from_bytes(batch.payload).take(keep)))
        return out


def _use(
    stored: IntArray, columns: Columns, missing: IntArray, pieces: list[Columns], at: list[IntArray]
) -> IntArray:
    hit = np.isin(stored, missing, assume_unique=True)
    if not hit.any():
        return missing
    rows = np.flatnonzero(hit)
    pieces.append(columns.take(rows))
    at.append(stored[rows])
    return np.setdiff1d(missing, stored[rows], assume_unique=True)


def joined(pieces: Sequence[Columns]) -> Columns:
    """Logged rows of one source, one after another, some of which may have been erased."""
    if any(ERASED in piece for piece in pieces):
        pieces = [_with_erased(piece) for piece in pieces]
    return concat(pieces)


def _with_erased(columns: Columns) -> Columns:
    if ERASED in columns:
        return columns
    return columns.with_columns({ERASED: Numeric(np.zeros(columns.length, np.bool_))})


def conformed(columns: Columns, source: SourceNode) -> Columns:
    """Logged rows as the source's schema is now: an optional field that came later is null in older rows.

    Raises `StoreError` where the log lacks a required field, or holds another type.
    """
    columns = completed(columns, source)
    missing = {f.name: f for f in source.fields if f.name not in columns}
    changed = [f for f in source.fields if f.name in columns and not _is_of(columns[f.name], f)]
    required = [f for f in missing.values() if not f.optional]
    if required or changed:
        field = (required or changed)[0]
        raise StoreError(
            f"log of {source.name!r}: column {field.name!r} ({field.dtype}) "
            f"{'is missing in' if required else 'has another type in'} events that were accepted before. Allowed is to add "
            "fields with optional=True, and to leave types as they are. Restore the field's definition, or start a new "
            "project."
        )
    if not missing:
        return columns
    return columns.with_columns({name: nulls(field, columns.length) for name, field in missing.items()})


def _is_of(column: Column, field: Field) -> bool:
    if isinstance(column, Text) or field.dtype.kind == "text":
        return isinstance(column, Text) and field.dtype.kind == "text"
    return column.values.dtype.kind == {"float": "f", "bool": "b"}.get(field.dtype.kind, "i")
