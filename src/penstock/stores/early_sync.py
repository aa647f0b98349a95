"""The write-ahead log on its way to the disk before a checkpoint has to wait for it.

A checkpoint first syncs the whole write-ahead log, since the file must not hold what the log could lose. Where commits do not
sync it themselves (durability "process") that is all that was written since the checkpoint before, and the next commit waits.
Syncing now and then from a thread beside leaves little to wait for. It promises nothing: the checkpoint syncs again.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

EVERY_PAGES = 256
"""How many pages are written between two syncs."""


class EarlySync:
    """Syncs the write-ahead log of the store at `path`, in a thread of its own.

    The descriptor is its own: SQLite's locks stand on other files, so that closing it lets go of none.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.with_name(path.name + "-wal")
        self._worker = ThreadPoolExecutor(1, "penstock-early-sync")
        self._latest: Future[None] | None = None
        self._synced_pages = 0

    def written(self, pages: int) -> None:
        """Begin a sync where `pages` since the last checkpoint ask for one, and none is under way."""
        if pages < self._synced_pages:
            self._synced_pages = 0  # there was a checkpoint
        if pages - self._synced_pages < EVERY_PAGES or (self._latest and not self._latest.done()):
            return
        self._synced_pages = pages
        self._latest = self._worker.submit(self._sync)

    def close(self) -> None:
        """Wait for what is under way."""
        self._worker.shutdown(wait=True)

    def _sync(self) -> None:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not in a file, or gone: the checkpoint does all of it
            return
        try:
            os.fdatasync(descriptor)
        except OSError:
            pass  # SQLite's own descriptor gets this error too, and it says what to do
        finally:
            os.close(descriptor)
