"""A file system under SQLite that can lose power: what was not synced is dropped or torn, sector by sector.

Every write goes to the real file, as the page cache would have it, and is remembered until the file is synced. A power
cut happens before a chosen operation: the files are then rebuilt elsewhere from what was synced and a random part of
what was not. Sectors of 512 bytes are whole, writes between two syncs are kept or lost in any combination, and a new
file may be missing until its directory was synced. The shared-memory file is memory, and gone.
"""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import apsw

SECTOR = 512


class PowerCut(Exception):  # noqa: N818 - it is an event, not an error
    """The power went off; nothing written from here on counts."""


@dataclass
class FileImage:
    """What a file is sure to hold, and what was done to it since it was synced."""

    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(
        default_factory=list
    )  # (offset, data), or (size, None): cut
    entered: bool = False  # its directory entry is durable

    def after_cut(self, chance: random.Random) -> bytes | None:
        """One of the contents that may be found after a power cut; None: no such file."""
        if not self.entered and chance.random() < 0.5:
            return None
        kept = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        content = bytearray(self.synced)
        for offset, data in self.unsynced:
            if data is None:
                if chance.random() < kept:
                    del content[offset:]
                continue
            for start, sector in _sectors(offset, data):
                if chance.random() < kept:
                    content.extend(bytes(max(0, start - len(content))))
                    content[start : start + len(sector)] = sector
        return bytes(content)

    def sync(self, path: Path) -> None:
        """Nothing that was written so far can be lost any more."""
        self.synced = path.read_bytes()
        self.unsynced.clear()


def _sectors(offset: int, data: bytes):
    at = 0
    while at < len(data):
        size = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
        yield offset + at, data[at : at + size]
        at += size


class PowerVfs(apsw.VFS):
    """The system's VFS with a power switch: it goes off before operation number `cut_at` (writes, syncs, …)."""

    def __init__(self, name: str, *, cut_at: int, chance: random.Random):
        self.name = name
        self.images: dict[Path, FileImage] = {}
        self._deleted: dict[Path, FileImage] = {}
        self.remains: dict[str, bytes] | None = None
        self._left = cut_at
        self._chance = chance
        super().__init__(name, "")

    def excepthook(self, *_):
        """Errors after the cut are expected."""

    def operate(self) -> None:
        """Count an operation; at the chosen one the power goes off."""
        if self.remains is None:
            self._left -= 1
            if self._left > 0:
                return
            self.cut()
        raise PowerCut

    def cut(self) -> None:
        """Switch off: decide what remains. A deletion may be undone while its directory was not synced."""
        after = {path.name: image.after_cut(self._chance) for path, image in self.images.items()}
        for path, image in self._deleted.items():
            if after.get(path.name) is None and self._chance.random() < 0.5:
                after[path.name] = image.after_cut(self._chance)
        self.remains = {name: data for name, data in after.items() if data is not None}

    def restore(self, directory: Path) -> None:
        """Write what remains into an empty directory."""
        for name, data in self.remains.items():
            (directory / name).write_bytes(data)

    def image(self, path: Path) -> FileImage:
        if path not in self.images:
            there = path.exists()
            self.images[path] = FileImage(path.read_bytes() if there else b"", entered=there)
        return self.images[path]

    def sync_directory(self) -> None:
        """Make files that were created, and deletions, durable."""
        self._deleted.clear()
        for image in self.images.values():
            image.entered = True

    def xOpen(self, name, flags):  # noqa: N802
        return PowerFile(self, name, flags)

    def xDelete(self, filename, syncdir):  # noqa: N802
        self.operate()
        super().xDelete(filename, syncdir)
        image = self.images.pop(Path(filename), None)
        if syncdir:
            self.sync_directory()
        elif image is not None:
            self._deleted[Path(filename)] = image


class PowerFile(apsw.VFSFile):
    """A file that remembers what was not synced."""

    def __init__(self, vfs: PowerVfs, name, flags):
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        self._vfs, self._path = vfs, path
        self._image = vfs.image(path)
        logs = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        # As unixOpen does: the first sync of a log that was created syncs its directory, and no other sync does.
        self._syncs_directory = bool(flags[0] & logs) and not self._image.entered
        super().__init__("", name, flags)

    def excepthook(self, *_):
        """Errors after the cut are expected."""

    def xWrite(self, data, offset):  # noqa: N802
        self._vfs.operate()
        super().xWrite(data, offset)
        self._image.unsynced.append((offset, bytes(data)))

    def xTruncate(self, newsize):  # noqa: N802
        self._vfs.operate()
        super().xTruncate(newsize)
        self._image.unsynced.append((newsize, None))

    def xSync(self, flags):  # noqa: N802
        self._vfs.operate()
        self._image.sync(self._path)
        if self._syncs_directory:
            self._syncs_directory = False
            self._vfs.sync_directory()


class Cursor:
    """All rows at once."""

    def __init__(self, rows, rowcount):
        self._rows, self.rowcount = iter(rows), rowcount

    def fetchone(self):
        return next(self._rows, None)

    def fetchall(self):
        return list(self._rows)


class PowerConnection:
    """APSW's connection with the few methods of sqlite3's that the stores use, and its errors."""

    def __init__(self, path: Path, vfs: PowerVfs, access: Literal["write", "read"]):
        writing = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        flags = writing if access == "write" else apsw.SQLITE_OPEN_READONLY
        self._connection = apsw.Connection(str(path), flags=flags, vfs=vfs.name)

    @property
    def in_transaction(self):
        return self._connection.in_transaction

    def execute(self, sql, parameters=(), /):
        return self._run(self._connection.execute, sql, parameters)

    def executemany(self, sql, parameters, /):
        return self._run(self._connection.executemany, sql, parameters)

    def close(self):
        self._connection.close()

    def _run(self, method, sql, parameters):
        try:
            return Cursor(list(method(sql, parameters)), self._connection.changes())
        except apsw.Error as error:
            raised = sqlite3.OperationalError(str(error))
            raised.sqlite_errorname = apsw.mapping_result_codes.get(
                getattr(error, "result", 1), "SQLITE_ERROR"
            )
            raise raised from error
