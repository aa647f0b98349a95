"""Bytes kept aside on disk while a large answer is made; gone when closed, or when the process ends."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self


class SpillFile:
    """An unnamed temporary file in `folder`: what is put into it comes back by its ticket. For one thread.

    The first `memory_bytes` stay in memory.
    """

    def __init__(self, folder: Path, *, memory_bytes: int = 64 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(memory_bytes, dir=str(folder))  # noqa: SIM115 - closed in `close`
        self._places: list[tuple[int, int]] = []
        self._end = 0

    def put(self, data: bytes) -> int:
        """Keep `data`; returns the ticket for `get`."""
        self._file.seek(self._end)
        self._file.write(data)
        self._places.append((self._end, len(data)))
        self._end += len(data)
        return len(self._places) - 1

    def get(self, ticket: int) -> bytes:
        """What was put."""
        start, size = self._places[ticket]
        self._file.seek(start)
        data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
