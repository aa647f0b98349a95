"""What shadow arms scored: a follower of the log in a file of its own, which may be thrown away."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

BUSY_TIMEOUT_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS shadow (
    id INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    arm TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS shadow_by_arm ON shadow (endpoint, arm, first);
"""


class ShadowScores(NamedTuple):
    """What an arm scored: int64[n] log positions, ascending, and float64[n] scores, NaN where the model failed.

    `version` and `digest` name the model.
    """

    endpoint: str
    arm: str
    version: str
    digest: str
    positions: IntArray
    scores: FloatArray


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: str
    digest: str
    positions: bytes
    scores: bytes


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Stored)


class ShadowStore:
    """The scores of shadow arms in one file. Safe to use from several threads; read beside a writer by other processes.

    A power cut may lose the newest scores, never tear the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)

    def append(self, batches: Iterable[ShadowScores]) -> None:
        """Store scores in one transaction."""
        rows = [
            (one.endpoint, one.arm, int(one.positions[0]), int(one.positions[-1]), _encoded(one))
            for one in batches
            if len(one.positions)
        ]
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO shadow (endpoint, arm, first, last, payload) VALUES (?,?,?,?,?)", rows
            )

    def read(
        self, endpoint: str, arm: str, *, start: int = 0, stop: int | None = None
    ) -> Iterator[ShadowScores]:
        """The batches of an arm with rows in ``[start, stop)``, in log order."""
        query = (
            "SELECT payload FROM shadow WHERE endpoint = ? AND arm = ? AND last >= ? AND (?4 IS NULL OR first < ?4)"
            " ORDER BY first"
        )
        with self._guarded(), self._lock:
            found = self._connection.execute(query, (endpoint, arm, start, stop)).fetchall()
        for (payload,) in found:
            yield _decoded(endpoint, arm, payload)

    def erase(self, positions: IntArray) -> int:
        """Take the scores of forgotten events out; how many there were."""
        gone = np.sort(positions)
        count = 0
        with self._transaction() as connection:
            rows = connection.execute("SELECT id, endpoint, arm, payload FROM shadow").fetchall()
            for key, endpoint, arm, payload in rows:
                held = _decoded(endpoint, arm, payload)
                kept = ~np.isin(held.positions, gone)
                if kept.all():
                    continue
                count += int((~kept).sum())
                connection.execute("DELETE FROM shadow WHERE id = ?", (key,))
                if kept.any():
                    left = held._replace(positions=held.positions[kept], scores=held.scores[kept])
                    connection.execute(
                        "INSERT INTO shadow VALUES (?,?,?,?,?,?)",
                        (key, endpoint, arm, int(left.positions[0]), int(left.positions[-1]), _encoded(left)),
                    )
        if count:
            with self._guarded(), self._lock:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"shadow scores {self._path}: {error}. Check that the folder is writable; the file may be removed, scores of "
                "shadow arms are all that it holds."
            ) from error


def _encoded(one: ShadowScores) -> bytes:
    return _ENCODER.encode(_Stored(one.version, one.digest, one.positions.tobytes(), one.scores.tobytes()))


def _decoded(endpoint: str, arm: str, payload: bytes) -> ShadowScores:
    try:
        stored = _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptionError(
            f"shadow scores of {endpoint}/{arm}: the stored bytes cannot be read ({error}). Remove the file; scores of shadow "
            "arms are all that it holds."
        ) from error
    return ShadowScores(
        endpoint,
        arm,
        stored.version,
        stored.digest,
        np.frombuffer(stored.positions, np.int64),
        np.frombuffer(stored.scores, np.float64),
    )
