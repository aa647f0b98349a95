"""Snapshots in PostgreSQL, beside the log that they are folded from: any machine that takes the store over finds them."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import CorruptionError
from penstock.stores.connection import Transaction
from penstock.stores.postgres.errors import translated
from penstock.stores.postgres.session import Session
from penstock.stores.snapshots import FORMAT_VERSION, KEPT, SkippedSnapshot, Snapshot, SnapshotSearch

if TYPE_CHECKING:
    from penstock.stores.postgres.target import Target

_PART_BYTES = 8 << 20


class PostgresSnapshots:
    """The snapshots of one store; the newest three are kept. See `penstock.stores.snapshots.SnapshotStore`."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot, then remove the oldest. Everything below its position must be committed."""
        doing = f"writing the snapshot at position {snapshot.position}"
        with (
            translated(self._target, doing),
            closing(self._session("write")) as session,
            Transaction(session),
        ):
            row = session.execute(
                "INSERT INTO snapshots(position, fingerprint, schema_hash, format, digest, state_bytes) "
                "VALUES (?,?,?,?,?,?) RETURNING id",
                (*_described(snapshot), FORMAT_VERSION, _digest(snapshot), len(snapshot.state)),
            ).fetchone()
            assert row is not None
            for part, at in enumerate(range(0, len(snapshot.state), _PART_BYTES)):
                session.execute(
                    "INSERT INTO snapshot_parts VALUES (?,?,?)",
                    (row[0], part, snapshot.state[at : at + _PART_BYTES]),
                )
            session.execute(
                "DELETE FROM snapshots WHERE id NOT IN "
                "(SELECT id FROM snapshots ORDER BY (fingerprint = ?) DESC, position DESC, id DESC LIMIT ?)",
                (snapshot.fingerprint, KEPT),
            )

    def newest_good(self, *, fingerprint: str, schema_hash: str, next_position: int) -> SnapshotSearch:
        """See `SnapshotStore.newest_good`."""
        skipped: list[SkippedSnapshot] = []
        others: list[Snapshot] = []
        with translated(self._target, "reading snapshots"), closing(self._session("write")) as session:
            ahead = session.execute(
                "DELETE FROM snapshots WHERE position > ? RETURNING id, position", (next_position,)
            )
            for number, position in ahead.fetchall():
                reason = f"ahead of the log: taken at position {position}, the log ends at {next_position}"
                skipped.append(SkippedSnapshot(_name(number, position), reason))
            for row in session.execute(
                "SELECT id, position, fingerprint, schema_hash, format, digest, state_bytes FROM snapshots "
                "ORDER BY position DESC, id DESC"
            ).fetchall():
                try:
                    snapshot = _read(session, row)
                except CorruptionError as error:
                    skipped.append(SkippedSnapshot(_name(row[0], row[1]), str(error)))
                    continue
                if (snapshot.fingerprint, snapshot.schema_hash) == (fingerprint, schema_hash):
                    return SnapshotSearch(snapshot, tuple(skipped))
                others.append(snapshot)
        return SnapshotSearch(others[0] if others else None, tuple(skipped))

    def positions(self) -> tuple[int, ...]:
        """The log positions of the snapshots, newest first."""
        with translated(self._target, "listing snapshots"), closing(self._session("read")) as session:
            found = session.execute("SELECT position FROM snapshots ORDER BY 1 DESC").fetchall()
        return tuple(position for (position,) in found)

    def clear(self) -> None:
        """Remove all snapshots."""
        with translated(self._target, "removing snapshots"), closing(self._session("write")) as session:
            session.execute("DELETE FROM snapshots")
            session.driver.execute("VACUUM snapshot_parts")

    def _session(self, access: str) -> Session:
        return Session(self._target, access="write" if access == "write" else "read")


def _read(session: Session, row: tuple[object, ...]) -> Snapshot:
    number, position, fingerprint, schema_hash, version, digest, size = row
    if version != FORMAT_VERSION:
        raise CorruptionError(f"foreign: format version {version}, this Penstock reads {FORMAT_VERSION}")
    parts = session.execute(
        "SELECT data FROM snapshot_parts WHERE snapshot = ? ORDER BY part", (number,)
    ).fetchall()
    state = b"".join(part for (part,) in parts)
    if len(state) != size:
        raise CorruptionError("damaged: it is cut off")
    found = Snapshot(
        position=int(str(position)), fingerprint=str(fingerprint), schema_hash=str(schema_hash), state=state
    )
    if _digest(found) != digest:
        raise CorruptionError("damaged: its SHA-256 does not match")
    return found


def _described(snapshot: Snapshot) -> tuple[int, str, str]:
    return snapshot.position, snapshot.fingerprint, snapshot.schema_hash


def _digest(snapshot: Snapshot) -> bytes:
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, *_described(snapshot)]).encode())
    digest.update(snapshot.state)
    return digest.digest()


def _name(number: object, position: object) -> Path:
    return Path(f"snapshot-{number}-at-{position}")
