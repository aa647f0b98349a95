"""One writer a project: an advisory lock on a file beside the store, held as long as the process lives."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from penstock.core.errors import BusyError

_POLL_S = 0.02


class WriterLock:
    """The exclusive right to write to `what`. The system releases it when the process ends, however it ends."""

    def __init__(self, path: Path, *, what: str | None = None) -> None:
        self._path = path
        self._what = what or f"store {path.parent}"
        self._descriptor = -1

    def acquire(self, *, wait_s: float = 0.0) -> None:
        """Take the lock, within `wait_s`; raises `BusyError` naming the process that holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + wait_s
        while not _taken(descriptor):
            if time.monotonic() < give_up:
                time.sleep(_POLL_S)
                continue
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise BusyError(
                f"{self._what}: process {holder} is writing to it, and only one may. Stop that process "
                "first; `penstock status` and `penstock audit` read beside it."
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, since removing it would let two processes in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
