"""Log and decision batches as rows of one table: checksums, scans in log order, look-up by position.

One row holds the rows of one source (or endpoint) in one commit. Its key is the position of the first of them, with
what it is and the number of the source or endpoint in the lowest bits; where the positions have gaps they are stored
beside it. The last row of a commit also has the commit's event ids, and the totals of all counters after it: the newest
row says how far the store has come.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError, StoreError
from penstock.core.records import DecisionBatch, EventIds, LogBatch
from penstock.stores.connection import Connection, Row
from penstock.stores.schema import KEY_BITS, NAME_BITS, NOBODY

Fetch = Callable[[str, Sequence[Any]], list[Row]]
PositionArray = npt.NDArray[np.int64]

_HEADER = struct.Struct("<6q")
_I8, _U8 = np.dtype("<i8"), np.dtype("<u8")
_PAGE_BYTES = 4 << 20  # payload held at a time while scanning
_PAGE_ROWS = 1024
_NAME_MASK = (1 << NAME_BITS) - 1


_DECISION_BIT = 1 << NAME_BITS
_COLUMNS = "id, commit_start, commit_stop, last_position, rows, checksum, ingest_time_us, positions, payload"
_ALL_COLUMNS = 13


@dataclass(frozen=True, slots=True)
class Kind:
    """What a batch is: its name, its bit in the key, and the condition that finds its rows."""

    name: str
    bit: int
    where: str


LOG = Kind("log", 0, f"id & {_DECISION_BIT} = 0 AND rows > 0")
DECISIONS = Kind("decisions", _DECISION_BIT, f"id & {_DECISION_BIT} != 0")


class StoredBatch(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One batch, as it stands in the file."""

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
        first, last = positions.item(0), positions.item(-1)
        kind, ingest_time_us = (LOG, batch.ingest_time_us) if isinstance(batch, LogBatch) else (DECISIONS, 0)
        key = first << KEY_BITS | kind.bit | number
        gaps = None if last - first + 1 == rows else positions.astype(_I8, copy=False).tobytes()
        header = _HEADER.pack(key, commit.start, commit.stop, last, rows, ingest_time_us)
        checksum = _checksum(header, gaps, batch.payload)
        return cls(key, commit.start, commit.stop, last, rows, checksum, ingest_time_us, gaps, batch.payload)

    def position_array(self) -> PositionArray:
        """int64[rows]: the positions of the payload's rows."""
        return _position_array(self.key >> KEY_BITS, self.last_position, self.positions)

    def check(self, kind: Kind) -> None:
        """Raise `CorruptionError`, naming the batch, where the stored bytes are not those that were written."""
        header = _HEADER.pack(
            self.key, self.commit_start, self.commit_stop, self.last_position, self.rows, self.ingest_time_us
        )
        if _checksum(header, self.positions, self.payload) != self.checksum:
            raise CorruptionError(
                f"{kind.name} batch at positions {self.key >> KEY_BITS} to {self.last_position}: the checksum does not "
                f"match its {len(self.payload)} bytes. The file was damaged; restore it from a backup."
            )


def insert(
    connection: Connection,
    batches: Sequence[StoredBatch],
    ids: EventIds | None,
    *,
    commit: range,
    totals: str,
) -> None:
    """Add the batches of a commit in one statement; `totals` are those of the counters after it."""
    if not batches:
        key = commit.stop << KEY_BITS | NOBODY
        nothing = (key, commit.start, commit.stop, commit.start, 0, 0, 0, totals, None, None, None, None, b"")
        connection.execute(
            f"INSERT {_values(1)} ON CONFLICT (id) DO UPDATE SET totals = excluded.totals", nothing
        )
        return
    if len(batches) > 1:
        batches = sorted(batches, key=_key)
    values: list[Any] = []
    for one in batches:
        values += (
            one.key, one.commit_start, one.commit_stop, one.last_position, one.rows, one.checksum, one.ingest_time_us,
            None, one.positions, None, None, None, one.payload,
        )  # fmt: skip
    values[-_ALL_COLUMNS + 7] = totals
    if ids is not None and len(ids.hashes):
        values[-4:-1] = _id_columns(batches[-1], ids)
    connection.execute(f"INSERT {_values(len(batches))}", values)


@cache
def _values(rows: int) -> str:
    return "INTO batches VALUES " + ",".join(["(?,?,?,?,?,?,?,?,?,?,?,?,?)"] * rows)


def _key(stored: StoredBatch) -> int:
    return stored.key


def _id_columns(beside: StoredBatch, ids: EventIds) -> tuple[int, bytes | None, bytes]:
    """Checksum, positions (None: those of the batch that they stand beside) and hashes of event ids."""
    hashes = ids.hashes.astype(_U8, copy=False).tobytes()
    first, last = ids.positions.item(0), ids.positions.item(-1)
    same = (
        beside.positions is None
        and len(ids.positions) == beside.rows
        and first == beside.key >> KEY_BITS
        and last == beside.last_position
    )
    gaps = None if same else ids.positions.astype(_I8, copy=False).tobytes()
    return _checksum(b"", gaps, hashes), gaps, hashes


def rewrite(connection: Connection, batch: LogBatch | DecisionBatch, number: int) -> None:
    """Give the stored batch at the same positions another payload."""
    kind = LOG if isinstance(batch, LogBatch) else DECISIONS
    first, last = int(batch.positions[0]), int(batch.positions[-1])
    key = first << KEY_BITS | kind.bit | number
    found = connection.execute(
        "SELECT commit_start, commit_stop, positions FROM batches WHERE id = ? AND last_position = ?",
        (key, last),
    ).fetchone()
    stored = None if found is None else StoredBatch.of(batch, range(found[0], found[1]), number)
    if stored is None or stored.positions != found[2]:
        raise StoreError(
            f"{kind.name} batch at positions {first} to {last}: no stored batch has exactly these positions. Rewrite "
            "whole batches, as they were read."
        )
    connection.execute(
        "UPDATE batches SET checksum = ?, payload = ?, ingest_time_us = ? WHERE id = ?",
        (stored.checksum, stored.payload, stored.ingest_time_us, key),
    )


def scan(
    fetch: Fetch, kind: Kind, start: int, stop: int, numbers: Collection[int] | None = None
) -> Iterator[StoredBatch]:
    """Batches with rows in ``[start, stop)``, in the order of their first positions, a few MiB at a time.

    No read transaction stays open between the steps, so that a slow reader never holds up the write-ahead log.
    """
    key = _commit_start(fetch, start) << KEY_BITS
    while True:
        page = fetch(
            f"SELECT id, length(payload), last_position FROM batches WHERE id >= ? AND id < ? AND {kind.where} "
            "ORDER BY id LIMIT ?",
            (key, stop << KEY_BITS, _PAGE_ROWS),
        )
        wanted = [
            (found, size)
            for found, size, last in page
            if last >= start and (numbers is None or found & _NAME_MASK in numbers)
        ]
        for first, last in _bounded(wanted):
            for row in fetch(
                f"SELECT {_COLUMNS} FROM batches WHERE id BETWEEN ? AND ? AND {kind.where} ORDER BY id",
                (first, last),
            ):
                if row[3] >= start and (numbers is None or row[0] & _NAME_MASK in numbers):
                    stored = StoredBatch(*row)
                    stored.check(kind)
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


def batches_at(fetch: Fetch, kind: Kind, positions: PositionArray) -> Iterator[StoredBatch]:
    """Each batch that holds one of `positions`, once, in log order; positions that nothing holds are passed over."""
    remaining = np.unique(positions)
    while len(remaining):
        position = int(remaining[0])
        commit = fetch(
            "SELECT commit_start, commit_stop FROM batches WHERE id < ? ORDER BY id DESC LIMIT 1",
            ((position + 1) << KEY_BITS,),
        )
        if not commit or commit[0][1] <= position:
            following = fetch(
                "SELECT id FROM batches WHERE id >= ? ORDER BY id LIMIT 1",
                ((position + 1) << KEY_BITS,),
            )
            if not following:
                return
            remaining = remaining[np.searchsorted(remaining, following[0][0] >> KEY_BITS) :]
            continue
        start, stop = commit[0]
        inside = remaining[: np.searchsorted(remaining, stop)]
        remaining = remaining[len(inside) :]
        yield from _in_commit(fetch, kind, range(start, stop), inside)


def _in_commit(fetch: Fetch, kind: Kind, commit: range, positions: PositionArray) -> Iterator[StoredBatch]:
    rows = fetch(
        f"SELECT id, last_position, positions FROM batches WHERE id >= ? AND id < ? AND {kind.where} ORDER BY id",
        (commit.start << KEY_BITS, commit.stop << KEY_BITS),
    )
    for key, last, gaps in rows:
        if np.isin(positions, _position_array(key >> KEY_BITS, last, gaps)).any():
            yield one(fetch, kind, key)


def one(fetch: Fetch, kind: Kind, key: int) -> StoredBatch:
    """The batch with this key."""
    (row,) = fetch(f"SELECT {_COLUMNS} FROM batches WHERE id = ?", (key,))
    stored = StoredBatch(*row)
    stored.check(kind)
    return stored


def newest(fetch: Fetch, kind: Kind, start: int, number: int) -> StoredBatch | None:
    """The newest batch of a source (or endpoint) that begins at position `start` or later; no other's payload is read."""
    keys = fetch(
        f"SELECT id FROM batches WHERE id >= ? AND id & {_NAME_MASK} = ? AND {kind.where} ORDER BY id DESC LIMIT 1",
        (start << KEY_BITS, number),
    )
    if not keys:
        return None
    (row,) = fetch(f"SELECT {_COLUMNS} FROM batches WHERE id = ?", keys[0])
    stored = StoredBatch(*row)
    stored.check(kind)
    return stored


def row_counts(fetch: Fetch, kind: Kind, start: int = 0) -> dict[int, int]:
    """The rows of each source (or endpoint) in batches that begin at `start` or later, by its number; no payload is read."""
    sql = f"SELECT id & {_NAME_MASK}, sum(rows) FROM batches WHERE id >= ? AND {kind.where} GROUP BY 1"
    return dict(fetch(sql, (start << KEY_BITS,)))


def event_ids(fetch: Fetch, start: int) -> Iterator[EventIds]:
    """The stored event ids of rows at positions ≥ `start`, a commit at a time."""
    key = _commit_start(fetch, start) << KEY_BITS
    while True:
        page = fetch(
            "SELECT id, last_position, ids_checksum, id_positions, id_hashes FROM batches "
            "WHERE id >= ? ORDER BY id LIMIT 64",
            (key,),
        )
        for found, last, checksum, gaps, blob in page:
            if blob is None:
                continue
            if _checksum(b"", gaps, blob) != checksum:
                raise CorruptionError(
                    f"event ids of the commit at position {found >> KEY_BITS}: the checksum does not match. The file "
                    "was damaged; restore it from a backup."
                )
            positions = _position_array(found >> KEY_BITS, last, gaps)
            after = int(np.searchsorted(positions, start))
            yield EventIds(np.frombuffer(blob, np.uint64)[after:], positions[after:])
        if len(page) < 64:
            return
        key = page[-1][0] + 1


def _commit_start(fetch: Fetch, position: int) -> int:
    """Where the commit that holds `position` starts (or the last one before it)."""
    found = fetch(
        "SELECT commit_start FROM batches WHERE id < ? ORDER BY id DESC LIMIT 1",
        ((position + 1) << KEY_BITS,),
    )
    return int(found[0][0]) if found else 0


def _position_array(first: int, last: int, gaps: bytes | None) -> PositionArray:
    if gaps is None:
        return np.arange(first, last + 1, dtype=np.int64)
    return np.frombuffer(gaps, np.int64)


def _checksum(header: bytes, positions: bytes | None, payload: bytes) -> int:
    before = zlib.crc32(header)
    return zlib.crc32(payload, zlib.crc32(positions, before) if positions else before)


def progress(fetch: Fetch) -> tuple[int, str]:
    """The length of the log and the totals of the counters, as the newest commit left them."""
    ((next_position, totals),) = fetch("SELECT commit_stop, totals FROM batches ORDER BY id DESC LIMIT 1", ())
    if totals is None:
        raise CorruptionError(
            f"commit up to position {next_position}: its last row is missing. The file was damaged; restore it from a backup."
        )
    return next_position, totals
