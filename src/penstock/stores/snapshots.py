"""Snapshots: the state folded from the log up to a position, kept so that a start need not fold it all again.

A snapshot is a cache of the log and may be lost. It is written to a temporary file, synced, and renamed, so that a
crash leaves the old ones; it is believed only after its digest matches, for the same store, plan and schema, and only
where the log reaches as far as it does.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import CorruptionError, StoreError
from penstock.stores.directories import sync_directory

FORMAT_VERSION = 1
KEPT = 3

_MAGIC = b"PSNAPSHT"
_HEADER = struct.Struct(
    "<8s32sIQ"
)  # magic, SHA-256 of all behind the header, bytes of description, bytes of state
_SUFFIX = ".snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """State after the log's rows below `position`, under the plan `fingerprint` and the schema `schema_hash`."""

    position: int
    fingerprint: str
    schema_hash: str
    state: bytes


@dataclass(frozen=True, slots=True)
class SkippedSnapshot:
    """A file that was not believed, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotSearch:
    """What `SnapshotStore.newest_good` found: a snapshot, or None where the log must be folded from its start."""

    snapshot: Snapshot | None
    skipped: tuple[SkippedSnapshot, ...]


class SnapshotStore:
    """The snapshots of one project's store, in a directory of their own; the newest three are kept.

    Examples
    --------
    >>> import tempfile
    >>> snapshots = SnapshotStore(Path(tempfile.mkdtemp()), store_id="5a" * 16)
    >>> snapshots.save(Snapshot(position=10, fingerprint="f", schema_hash="s", state=b"sums"))
    >>> snapshots.newest_good(fingerprint="f", schema_hash="s", next_position=12).snapshot.position
    10
    """

    def __init__(self, directory: Path, *, store_id: str) -> None:
        self._directory = directory
        self._store_id = store_id

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot durably, then remove the oldest. Everything below its position must be committed."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{snapshot.position:020d}-{_tag(snapshot.fingerprint)}{_SUFFIX}"
            _write_durably(path, self._parts(snapshot))
            self._prune(_tag(snapshot.fingerprint))
        except OSError as error:
            raise StoreError(
                f"snapshot at position {snapshot.position}: cannot be written to {self._directory} ({error}). Free disk "
                "space; the snapshots before it remain, and the log holds everything."
            ) from error

    def newest_good(self, *, fingerprint: str, schema_hash: str, next_position: int) -> SnapshotSearch:
        """The newest snapshot of this plan and schema that is whole and not ahead of the log.

        Where there is none of this plan, the newest of another: a view's state lies in it under the view's own fingerprint,
        so what both plans have can be taken over. Damaged files, those of another store or format, and those ahead of the
        log are skipped and reported; those ahead are removed, since the log may grow past them with other rows.
        """
        skipped: list[SkippedSnapshot] = []
        others: list[Snapshot] = []
        for path in self._paths():
            try:
                snapshot = self._read(path)
            except CorruptionError as error:
                skipped.append(SkippedSnapshot(path, str(error)))
                continue
            if snapshot.position > next_position:
                path.unlink()
                sync_directory(self._directory)  # it must not come back when the log has grown past it
                reason = f"ahead of the log: taken at position {snapshot.position}, the log ends at {next_position}"
                skipped.append(SkippedSnapshot(path, reason))
            elif (snapshot.fingerprint, snapshot.schema_hash) == (fingerprint, schema_hash):
                return SnapshotSearch(snapshot, tuple(skipped))
            else:
                others.append(snapshot)
        return SnapshotSearch(others[0] if others else None, tuple(skipped))

    def positions(self) -> tuple[int, ...]:
        """The log positions of the snapshots, newest first, by their names."""
        names = (path.stem.split("-")[0] for path in self._paths())
        return tuple(sorted((int(name) for name in names if name.isdigit()), reverse=True))

    def clear(self) -> None:
        """Remove every snapshot: before a rebuild, and when a key is forgotten."""
        if self._directory.exists():
            for path in self._directory.iterdir():
                if path.suffix in {_SUFFIX, ".tmp"}:
                    path.unlink()
            sync_directory(self._directory)

    def _paths(self) -> list[Path]:
        """Snapshot files, newest first."""
        if not self._directory.exists():
            return []
        return sorted((p for p in self._directory.iterdir() if p.suffix == _SUFFIX), reverse=True)

    def _parts(self, snapshot: Snapshot) -> list[bytes]:
        described = json.dumps(
            {
                "format": FORMAT_VERSION,
                "store_id": self._store_id,
                "position": snapshot.position,
                "fingerprint": snapshot.fingerprint,
                "schema_hash": snapshot.schema_hash,
            }
        ).encode()
        digest = hashlib.sha256(described)
        digest.update(snapshot.state)
        header = _HEADER.pack(_MAGIC, digest.digest(), len(described), len(snapshot.state))
        return [header, described, snapshot.state]

    def _read(self, path: Path) -> Snapshot:
        """The snapshot in a file; raises `CorruptionError` before anything of it is believed."""
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or header[:8] != _MAGIC:
                raise CorruptionError("damaged: it does not start as a snapshot does")
            _, wanted, described_size, state_size = _HEADER.unpack(header)
            if os.fstat(file.fileno()).st_size != _HEADER.size + described_size + state_size:
                raise CorruptionError("damaged: it is cut off")
            described, state = file.read(described_size), file.read(state_size)
        digest = hashlib.sha256(described)
        digest.update(state)
        if digest.digest() != wanted:
            raise CorruptionError("damaged: its SHA-256 does not match")
        meta = json.loads(described)
        if meta["format"] != FORMAT_VERSION:
            raise CorruptionError(
                f"foreign: format version {meta['format']}, this Penstock reads {FORMAT_VERSION}"
            )
        if meta["store_id"] != self._store_id:
            raise CorruptionError("foreign: taken from another store")
        return Snapshot(
            position=meta["position"],
            fingerprint=meta["fingerprint"],
            schema_hash=meta["schema_hash"],
            state=state,
        )

    def _prune(self, tag: str) -> None:
        """Keep the newest three, those of the plan in use first."""
        paths = self._paths()
        own = [path for path in paths if path.stem.endswith(tag)]
        others = [path for path in paths if not path.stem.endswith(tag)]
        for path in (own + others)[KEPT:]:
            path.unlink()


def _tag(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:12]


def _write_durably(path: Path, parts: list[bytes]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
