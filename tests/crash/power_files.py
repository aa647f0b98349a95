"""Files outside SQLite that can lose power with it: snapshots, and runs of the event-id index.

What is written with plain system calls is durable when the file was synced, and under its name when its directory was.
At a cut each name that is not settled is there or not, as it was or as it is, and a file that was never synced is torn.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class PowerFolder:
    """One directory, and what of it is sure to be there."""

    path: Path
    chance: random.Random
    settled: dict[str, bytes] = field(default_factory=dict)  # names and contents, as of the last sync
    contents: dict[int, bytes] = field(default_factory=dict)  # by inode: as of its last sync
    remains: dict[str, bytes] | None = None
    _pins: list[int] = field(default_factory=list)  # open files, so that no inode is given to another

    def start(self) -> None:
        """Everything that is there is durable."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self._files():
            self.sync_file(path)
        self.sync_directory()

    def close(self) -> None:
        for descriptor in self._pins:
            os.close(descriptor)
        self._pins.clear()

    def sync_file(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self.contents:
            self._pins.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self.contents[inode] = path.read_bytes()

    def sync_directory(self) -> None:
        self.settled = {path.name: self._after(path) for path in self._files()}

    def cut(self) -> None:
        """The power is off: decide what remains."""
        now = {path.name: self._after(path) for path in self._files()}
        self.remains = {}
        for name in now.keys() | self.settled.keys():
            before, after = self.settled.get(name), now.get(name)
            chosen = after if before == after else self.chance.choice((before, after))
            if chosen is not None:
                self.remains[name] = chosen

    def restore(self, directory: Path) -> None:
        """Write what remains into another directory."""
        directory.mkdir(parents=True)
        for name, data in (self.remains or {}).items():
            (directory / name).write_bytes(data)

    def _files(self) -> list[Path]:
        return [path for path in self.path.iterdir() if path.is_file()]

    def _after(self, path: Path) -> bytes:
        with suppress(FileNotFoundError):  # renamed or removed meanwhile
            synced = self.contents.get(path.stat().st_ino)
            if synced is not None:
                return synced
            data = path.read_bytes()
            return data[: self.chance.randrange(len(data) + 1)]
        return b""


class PowerSyncs:
    """`os.fsync` and `os.fdatasync` with a power switch, for the files of some folders."""

    def __init__(self, folders: list[PowerFolder], operate: Callable[[], None]) -> None:
        self._folders = {folder.path: folder for folder in folders}
        self._operate = operate
        self._fsync = os.fsync

    def sync(self, descriptor: int) -> None:
        """Take the place of `os.fsync`."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path in self._folders:
            self._operate()
            self._folders[path].sync_directory()
        elif path.parent in self._folders:
            self._operate()
            self._folders[path.parent].sync_file(path)
        else:
            self._fsync(descriptor)
