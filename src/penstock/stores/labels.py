"""Labels: the truth about earlier events, every version of it, and those that wait for their event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.core.records import LabelRecords, PendingLabel

if TYPE_CHECKING:
    from penstock.stores.batches import Fetch
    from penstock.stores.connection import Connection, Row

HashArray = npt.NDArray[np.uint64]
PositionArray = npt.NDArray[np.int64]

_COLUMNS = "event_position, label_position, value, known_at_us"
_PAGE_ROWS = 65_536


def insert_labels(connection: Connection, labels: LabelRecords) -> None:
    """Add labels; several for one event are several versions of its truth."""
    connection.executemany(
        f"INSERT INTO labels({_COLUMNS}) VALUES (?,?,?,?)",
        zip(
            labels.event_positions.tolist(),
            labels.label_positions.tolist(),
            labels.values.tolist(),
            labels.known_at_us.tolist(),
            strict=True,
        ),
    )


def insert_pending(connection: Connection, labels: Iterable[PendingLabel]) -> None:
    """Add labels that wait for their event."""
    connection.executemany(
        "INSERT INTO pending_labels(label_position, event_hash, source, event_id, value, known_at_us) "
        "VALUES (?,?,?,?,?,?)",
        [
            (
                one.label_position,
                _signed(one.event_hash),
                one.source,
                one.event_id,
                one.value,
                one.known_at_us,
            )
            for one in labels
        ],
    )


def delete_pending(connection: Connection, label_positions: Iterable[int]) -> None:
    """Remove labels that wait no longer."""
    connection.executemany(
        "DELETE FROM pending_labels WHERE label_position = ?", [(p,) for p in label_positions]
    )


def drop_oldest_pending(connection: Connection, count: int) -> None:
    """Remove the `count` labels that have waited longest."""
    connection.execute(
        "DELETE FROM pending_labels WHERE label_position IN "
        "(SELECT label_position FROM pending_labels ORDER BY label_position LIMIT ?)",
        (count,),
    )


def delete_labels_of(connection: Connection, event_positions: PositionArray) -> None:
    """Remove every label of these events."""
    connection.executemany(
        "DELETE FROM labels WHERE event_position = ?", [(p,) for p in event_positions.tolist()]
    )


def latest(fetch: Fetch, start: int, stop: int, as_of_us: int | None) -> LabelRecords:
    """The truth of each labelled event in ``[start, stop)``, as known at `as_of_us` (None: now), by event position.

    Of several labels the one with the greatest (known_at, label position) counts.
    """
    known = np.iinfo(np.int64).max if as_of_us is None else as_of_us
    pages = []
    event, label = start, -1
    while True:
        rows = fetch(
            f"SELECT {_COLUMNS} FROM labels WHERE (event_position, label_position) > (?, ?) AND event_position < ? "
            "ORDER BY event_position, label_position LIMIT ?",
            (event, label, stop, _PAGE_ROWS),
        )
        pages.append(newest(_records([row for row in rows if row[3] <= known])))
        if len(rows) < _PAGE_ROWS:
            return newest(_concatenated(pages))
        event, label = rows[-1][:2]


def of_events(fetch: Fetch, positions: PositionArray) -> LabelRecords:
    """Every label of the events at `positions`, by (event position, label position)."""
    rows = fetch(
        f"SELECT {_COLUMNS} FROM labels WHERE event_position IN (SELECT json_each.value FROM json_each(?)) "
        "ORDER BY event_position, label_position",
        (json.dumps(np.unique(positions).tolist()),),
    )
    return _records(rows)


def arrived(fetch: Fetch, start: int, stop: int) -> LabelRecords:
    """The first label of each event for which label and event were both there at a position in ``[start, stop)``.

    In the order in which they were, which is that of (the later position of the two, label position).
    """
    first = (
        f"SELECT {_COLUMNS} FROM labels one WHERE NOT EXISTS (SELECT 1 FROM labels WHERE "
        "event_position = one.event_position AND label_position < one.label_position) AND "
    )
    rows = fetch(
        f"{first} label_position >= ? AND label_position < ? AND event_position < ?", (start, stop, stop)
    )
    rows += fetch(
        f"{first} event_position >= ? AND event_position < ? AND label_position < ?", (start, stop, start)
    )
    return _records(sorted(rows, key=lambda row: (max(row[0], row[1]), row[1])))


def index_by_position(connection: Connection) -> None:
    """Let `arrived` find labels without reading all of them; kept up from then on."""
    connection.execute("CREATE INDEX IF NOT EXISTS labels_by_position ON labels(label_position)")


def pending_for(fetch: Fetch, hashes: HashArray) -> list[PendingLabel]:
    """The waiting labels whose event id has one of these hashes, by label position."""
    rows = fetch(
        "SELECT source, event_id, event_hash, label_position, value, known_at_us FROM pending_labels "
        "WHERE event_hash IN (SELECT json_each.value FROM json_each(?)) ORDER BY label_position",
        (json.dumps(np.unique(hashes).view(np.int64).tolist()),),
    )
    return [_pending(row) for row in rows]


def all_pending(fetch: Fetch, limit: int, after: int) -> list[PendingLabel]:
    """Up to `limit` waiting labels with a label position greater than `after`."""
    rows = fetch(
        "SELECT source, event_id, event_hash, label_position, value, known_at_us FROM pending_labels "
        "WHERE label_position > ? ORDER BY label_position LIMIT ?",
        (after, limit),
    )
    return [_pending(row) for row in rows]


class PendingFilter:
    """Which hashes may have a label waiting: no false negatives, so that most batches ask the file nothing."""

    def __init__(self, hashes: HashArray) -> None:
        self._sorted = np.sort(hashes)

    def add(self, hashes: Sequence[int]) -> None:
        """Note further hashes (0 … 2**64 - 1)."""
        self._sorted = np.sort(np.concatenate([self._sorted, np.array(hashes, np.uint64)]), kind="stable")

    def __len__(self) -> int:
        return len(self._sorted)

    def possible(self, hashes: HashArray) -> HashArray:
        """Those of `hashes` that were noted."""
        known = self._sorted
        if not len(known):
            return hashes[:0]
        found = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        matching: HashArray = hashes[known[found] == hashes]
        return matching


def _pending(row: Row) -> PendingLabel:
    source, event_id, event_hash, label_position, value, known_at_us = row
    return PendingLabel(
        source=source,
        event_id=event_id,
        event_hash=event_hash & 0xFFFF_FFFF_FFFF_FFFF,
        label_position=label_position,
        value=value,
        known_at_us=known_at_us,
    )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _records(rows: Sequence[Row]) -> LabelRecords:
    return LabelRecords(
        event_positions=_column(rows, 0, np.int64),
        label_positions=_column(rows, 1, np.int64),
        values=_column(rows, 2, np.float64),
        known_at_us=_column(rows, 3, np.int64),
    )


def _column(rows: Sequence[Row], index: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.fromiter(map(itemgetter(index), rows), dtype, len(rows))


def newest(labels: LabelRecords) -> LabelRecords:
    """The label of each event that was known last, of equally late ones the last in the log; by event position."""
    order = np.lexsort((labels.label_positions, labels.known_at_us, labels.event_positions))
    events = labels.event_positions[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = events[1:] != events[:-1]
    kept = order[last]
    return LabelRecords(
        event_positions=labels.event_positions[kept],
        label_positions=labels.label_positions[kept],
        values=labels.values[kept],
        known_at_us=labels.known_at_us[kept],
    )


def _concatenated(pages: Sequence[LabelRecords]) -> LabelRecords:
    return LabelRecords(
        event_positions=np.concatenate([page.event_positions for page in pages]),
        label_positions=np.concatenate([page.label_positions for page in pages]),
        values=np.concatenate([page.values for page in pages]),
        known_at_us=np.concatenate([page.known_at_us for page in pages]),
    )
