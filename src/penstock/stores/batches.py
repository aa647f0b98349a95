"""Log and decision batches as rows of a table: checksums, scans in log order, look-up by position.

One row holds the rows of one source (or endpoint) in one commit. Its key is the position of the first of them, with
the number of the source or endpoint in the lowest bits; where the positions have gaps they are stored beside it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError, StoreError
from penstock.core.records import DecisionBatch, EventIds, LogBatch
from penstock.stores.connection import Connection, Row
from penstock.stores.schema import NAME_BITS

Fetch = Callable[[str, Sequence[Any]], list[Row]]
PositionArray = npt.NDArray[np.int64]

_HEADER = struct.Struct("<6q")
_PAGE_BYTES = 4 << 20  # payload held at a time while scanning
_PAGE_ROWS = 1024
_NAME_MASK = (1 << NAME_BITS) - 1


@dataclass(frozen=True, slots=True)
class BatchTable:
    """A table of batches; `ingest_time` is the column (or constant) with the time at which the log accepted them."""

    name: str
    ingest_time: str

    @property
    def columns(self) -> str:
        """What a `StoredBatch` is made from."""
        return f"id, commit_start, commit_stop, last_position, rows, checksum, {self.ingest_time}, positions, payload"


LOG = BatchTable("log", "ingest_time_us")
DECISIONS = BatchTable("decisions", "0")


class StoredBatch(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One row of a batch table, as it stands in the file."""

    key: int
    commit_start: int
    commit_stop: int
    last_position: int
    rows: int
    checksum: int
    ingest_time_us: int
    positions: bytes | None
    payload: bytes

    @classmethod
    def of(cls, batch: LogBatch | DecisionBatch, commit: range, number: int) -> StoredBatch:
        """The row for a batch of the commit that covers the positions `commit`."""
        positions, rows = batch.positions, len(batch.positions)
        first, last = int(positions[0]), int(positions[-1])
        ingest_time_us = batch.ingest_time_us if isinstance(batch, LogBatch) else 0
        key = first << NAME_BITS | number
        gaps = None if last - first + 1 == rows else positions.astype("<i8", copy=False).tobytes()
        header = _HEADER.pack(key, commit.start, commit.stop, last, rows, ingest_time_us)
        checksum = _checksum(header, gaps, batch.payload)
        return cls(key, commit.start, commit.stop, last, rows, checksum, ingest_time_us, gaps, batch.payload)

    def position_array(self) -> PositionArray:
        """int64[rows]: the positions of the payload's rows."""
        return _position_array(self.key >> NAME_BITS, self.last_position, self.positions)

    def check(self, table: BatchTable) -> None:
        """Raise `CorruptionError`, naming the batch, where the stored bytes are not those that were written."""
        header = _HEADER.pack(
            self.key, self.commit_start, self.commit_stop, self.last_position, self.rows, self.ingest_time_us
        )
        if _checksum(header, self.positions, self.payload) != self.checksum:
            raise CorruptionError(
                f"{table.name} batch at positions {self.key >> NAME_BITS} to {self.last_position}: the checksum does not "
                f"match its {len(self.payload)} bytes. The file was damaged; restore it from a backup."
            )


def insert_log(connection: Connection, stored: StoredBatch, ids: EventIds | None) -> None:
    """Add a log batch; the event ids of the whole commit stand beside its first batch."""
    checksum = hashes = gaps = None
    if ids is not None and len(ids.hashes):
        first, last = int(ids.positions[0]), int(ids.positions[-1])
        same = (
            len(ids.positions) == stored.rows
            and first == stored.key >> NAME_BITS
            and stored.positions is None
        )
        hashes = ids.hashes.astype("<u8", copy=False).tobytes()
        gaps = (
            None
            if same and last == stored.last_position
            else ids.positions.astype("<i8", copy=False).tobytes()
        )
        checksum = _checksum(b"", gaps, hashes)
    connection.execute(
        "INSERT INTO log VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            stored.key, stored.commit_start, stored.commit_stop, stored.last_position, stored.rows, stored.checksum,
            stored.ingest_time_us, stored.positions, checksum, gaps, hashes, stored.payload,
        ),
    )  # fmt: skip


def insert_decisions(connection: Connection, stored: StoredBatch) -> None:
    """Add a decision batch."""
    connection.execute(
        "INSERT INTO decisions VALUES (?,?,?,?,?,?,?,?)",
        (
            stored.key, stored.commit_start, stored.commit_stop, stored.last_position, stored.rows, stored.checksum,
            stored.positions, stored.payload,
        ),
    )  # fmt: skip


def rewrite(connection: Connection, table: BatchTable, batch: LogBatch | DecisionBatch, number: int) -> None:
    """Give the stored batch at the same positions another payload."""
    first, last = int(batch.positions[0]), int(batch.positions[-1])
    key = first << NAME_BITS | number
    found = connection.execute(
        f"SELECT commit_start, commit_stop, positions FROM {table.name} WHERE id = ? AND last_position = ?",
        (key, last),
    ).fetchone()
    stored = None if found is None else StoredBatch.of(batch, range(found[0], found[1]), number)
    if stored is None or stored.positions != found[2]:
        raise StoreError(
            f"{table.name} batch at positions {first} to {last}: no stored batch has exactly these positions. Rewrite "
            "whole batches, as they were read."
        )
    connection.execute(
        f"UPDATE {table.name} SET checksum = ?, payload = ?"
        + (", ingest_time_us = ?" if table is LOG else "")
        + " WHERE id = ?",
        (stored.checksum, stored.payload, *((stored.ingest_time_us,) if table is LOG else ()), key),
    )


def scan(
    fetch: Fetch, table: BatchTable, start: int, stop: int, numbers: Collection[int] | None = None
) -> Iterator[StoredBatch]:
    """Batches with rows in ``[start, stop)``, in the order of their first positions, a few MiB at a time.

    No read transaction stays open between the steps, so that a slow reader never holds up the write-ahead log.
    """
    key = _commit_start(fetch, table, start) << NAME_BITS
    while True:
        page = fetch(
            f"SELECT id, length(payload), last_position FROM {table.name} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (key, stop << NAME_BITS, _PAGE_ROWS),
        )
        wanted = [
            (found, size)
            for found, size, last in page
            if last >= start and (numbers is None or found & _NAME_MASK in numbers)
        ]
        for first, last in _bounded(wanted):
            for row in fetch(
                f"SELECT {table.columns} FROM {table.name} WHERE id BETWEEN ? AND ?", (first, last)
            ):
                if row[3] >= start and (numbers is None or row[0] & _NAME_MASK in numbers):
                    stored = StoredBatch(*row)
                    stored.check(table)
                    yield stored
        if len(page) < _PAGE_ROWS:
            return
        key = page[-1][0] + 1


def _bounded(keys: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut (key, size) pairs into runs of keys whose sizes add up to a bounded number of bytes."""
    first, total = -1, 0
    last = -1
    for key, size in keys:
        if first >= 0 and total + size > _PAGE_BYTES:
            yield first, last
            first, total = -1, 0
        first, last, total = (key if first < 0 else first), key, total + size
    if first >= 0:
        yield first, last


def batches_at(fetch: Fetch, table: BatchTable, positions: PositionArray) -> Iterator[StoredBatch]:
    """Each batch that holds one of `positions`, once, in log order; positions that nothing holds are passed over."""
    remaining = np.unique(positions)
    while len(remaining):
        position = int(remaining[0])
        commit = fetch(
            f"SELECT commit_start, commit_stop FROM {table.name} WHERE id < ? ORDER BY id DESC LIMIT 1",
            ((position + 1) << NAME_BITS,),
        )
        if not commit or commit[0][1] <= position:
            following = fetch(
                f"SELECT id FROM {table.name} WHERE id >= ? ORDER BY id LIMIT 1",
                ((position + 1) << NAME_BITS,),
            )
            if not following:
                return
            remaining = remaining[np.searchsorted(remaining, following[0][0] >> NAME_BITS) :]
            continue
        start, stop = commit[0]
        inside = remaining[: np.searchsorted(remaining, stop)]
        remaining = remaining[len(inside) :]
        yield from _in_commit(fetch, table, range(start, stop), inside)


def _in_commit(
    fetch: Fetch, table: BatchTable, commit: range, positions: PositionArray
) -> Iterator[StoredBatch]:
    rows = fetch(
        f"SELECT id, last_position, positions FROM {table.name} WHERE id >= ? AND id < ? ORDER BY id",
        (commit.start << NAME_BITS, commit.stop << NAME_BITS),
    )
    for key, last, gaps in rows:
        if np.isin(positions, _position_array(key >> NAME_BITS, last, gaps)).any():
            (row,) = fetch(f"SELECT {table.columns} FROM {table.name} WHERE id = ?", (key,))
            stored = StoredBatch(*row)
            stored.check(table)
            yield stored


def row_counts(fetch: Fetch, table: BatchTable) -> dict[int, int]:
    """The rows of each source (or endpoint), by its number; payloads are not read."""
    sql = f"SELECT id & {_NAME_MASK}, sum(rows) FROM {table.name} GROUP BY 1"
    return dict(fetch(sql, ()))


def event_ids(fetch: Fetch, start: int) -> Iterator[EventIds]:
    """The stored event ids of rows at positions ≥ `start`, a commit at a time."""
    key = _commit_start(fetch, LOG, start) << NAME_BITS
    while True:
        page = fetch(
            "SELECT id, last_position, ids_checksum, id_positions, id_hashes FROM log "
            "WHERE id >= ? ORDER BY id LIMIT 64",
            (key,),
        )
        for found, last, checksum, gaps, blob in page:
            if blob is None:
                continue
            if _checksum(b"", gaps, blob) != checksum:
                raise CorruptionError(
                    f"event ids of the commit at position {found >> NAME_BITS}: the checksum does not match. The file "
                    "was damaged; restore it from a backup."
                )
            positions = _position_array(found >> NAME_BITS, last, gaps)
            after = int(np.searchsorted(positions, start))
            yield EventIds(np.frombuffer(blob, np.uint64)[after:], positions[after:])
        if len(page) < 64:
            return
        key = page[-1][0] + 1


def _commit_start(fetch: Fetch, table: BatchTable, position: int) -> int:
    """Where the commit that holds `position` starts (or the last one before it)."""
    found = fetch(
        f"SELECT commit_start FROM {table.name} WHERE id < ? ORDER BY id DESC LIMIT 1",
        ((position + 1) << NAME_BITS,),
    )
    return int(found[0][0]) if found else 0


def _position_array(first: int, last: int, gaps: bytes | None) -> PositionArray:
    if gaps is None:
        return np.arange(first, last + 1, dtype=np.int64)
    return np.frombuffer(gaps, np.int64)


def _checksum(header: bytes, positions: bytes | None, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(positions or b"", zlib.crc32(header)))
