"""Sealed runs of the event-id index: immutable files of sorted hashes, their positions, and a Bloom filter.

A run is derived from the log and may be lost: a file that is missing, damaged, foreign or ahead of the log is dropped,
and its part of the index is made again from the hashes beside the log.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError
from penstock.stores import id_kernel

HashArray = npt.NDArray[np.uint64]
PositionArray = npt.NDArray[np.int64]

_MAGIC = b"PSRUN001"
_HEADER = struct.Struct(
    "<8s16s5q3I"
)  # magic, store, start, stop, level, count, filter words, three checksums
_HEADER_BYTES = 4096  # so that the arrays start on a page
_FILTER_KEYS_PER_WORD = 4  # 16 bits a key
_PIECE = 1 << 17  # entries handled at a time when runs are written and merged
_MAPPED_BYTES_PER_TOUCH = (
    128 << 10
)  # the kernel maps the 64 KiB around a fault: once for the hash, once for the position
_MAX_MAPPED_BYTES = 16 << 20


@dataclass(slots=True)
class Run:
    """The ids of the events at positions ``[start, stop)``; level n was merged from 2**n memtables.

    The filter stays in memory (2 bytes an id); hashes and positions are mapped, and unmapped pages at a time, so that
    the process does not grow with them.
    """

    path: Path
    start: int
    stop: int
    level: int
    hashes: HashArray
    positions: PositionArray
    bloom: HashArray
    mapping: mmap.mmap
    touched: int = 0

    def find(self, hashes: HashArray, out: PositionArray) -> None:
        """Fill in the first position of each hash that has none yet (-1) in `out`."""
        self.touched += id_kernel.run_find(self.bloom, self.hashes, self.positions, hashes, out)
        if self.touched * _MAPPED_BYTES_PER_TOUCH > _MAX_MAPPED_BYTES:
            self.release_pages()

    def all_of(self, wanted: int) -> PositionArray:
        """Every position of one hash, ascending."""
        first = np.searchsorted(self.hashes, np.uint64(wanted), "left")
        last = np.searchsorted(self.hashes, np.uint64(wanted), "right")
        return self.positions[first:last].copy()

    def release_pages(self) -> None:
        """Let the mapped pages go; the system's cache keeps them."""
        self.mapping.madvise(mmap.MADV_DONTNEED)
        self.touched = 0

    @classmethod
    def open(cls, path: Path, store_id: str) -> Self:
        """Open a run after checking every byte of it; raises `CorruptionError` where it is not to be believed."""
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or header[:8] != _MAGIC:
                raise CorruptionError(f"id run {path}: not a run of this format.")
            _, store, start, stop, level, count, words, *checksums = _HEADER.unpack(header)
            size = _HEADER_BYTES + 8 * (2 * count + words)
            if store != bytes.fromhex(store_id) or os.fstat(file.fileno()).st_size != size or count < 1:
                raise CorruptionError(f"id run {path}: of another store, or cut off.")
            file.seek(_HEADER_BYTES)
            found = [_checksum_of(file.fileno(), 8 * n) for n in (count, count)]
            bloom = np.fromfile(file, np.uint64, words)
            if [*found, zlib.crc32(bloom.data, zlib.crc32(header[: _HEADER.size - 12]))] != checksums:
                raise CorruptionError(f"id run {path}: the checksum does not match.")
            mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        mapping.madvise(mmap.MADV_RANDOM)
        hashes = np.frombuffer(mapping, np.uint64, count, _HEADER_BYTES)
        positions = np.frombuffer(mapping, np.int64, count, _HEADER_BYTES + 8 * count)
        return cls(path, start, stop, level, hashes, positions, bloom, mapping)


def _checksum_of(descriptor: int, size: int) -> int:
    """The checksum of the next `size` bytes, without holding them."""
    checksum = 0
    while size:
        piece = os.read(descriptor, min(size, 8 * _PIECE))
        if not piece:
            return -1
        checksum, size = zlib.crc32(piece, checksum), size - len(piece)
    return checksum


class RunWriter:
    """Writes one run, a sorted piece at a time; it exists under its name only once it is whole and on disk."""

    def __init__(self, directory: Path, *, store_id: str, span: range, level: int, count: int) -> None:
        self.path = directory / f"{span.start:016x}-{span.stop:016x}.run"
        self._temporary = self.path.with_suffix(".tmp")
        self._store_id = store_id
        self._span, self._level, self._count = span, level, count
        self._bloom = np.zeros(max(1, -(-count // _FILTER_KEYS_PER_WORD)), np.uint64)
        self._checksums = [0, 0]
        self._written = 0
        self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, hashes: HashArray, positions: PositionArray) -> None:
        """Append a piece; its hashes are not below those before."""
        at = _HEADER_BYTES + 8 * self._written
        for i, (array, offset) in enumerate(((hashes, at), (positions, at + 8 * self._count))):
            data = array.tobytes()
            self._checksums[i] = zlib.crc32(data, self._checksums[i])
            _write_at(self._descriptor, data, offset)
        id_kernel.bloom_add(self._bloom, hashes)
        self._written += len(hashes)
        os.fdatasync(self._descriptor)  # in pieces, so that no commit has to wait behind one long flush

    def finish(self) -> None:
        """Write the filter and the header, and put the file in its place."""
        words = len(self._bloom)
        store, span = bytes.fromhex(self._store_id), self._span
        fields = (_MAGIC, store, span.start, span.stop, self._level, self._count, words)
        described = _HEADER.pack(*fields, 0, 0, 0)[: _HEADER.size - 12]
        checksum = zlib.crc32(self._bloom.data, zlib.crc32(described))
        _write_at(self._descriptor, self._bloom.tobytes(), _HEADER_BYTES + 16 * self._count)
        _write_at(self._descriptor, _HEADER.pack(*fields, *self._checksums, checksum), 0)
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._temporary.rename(self.path)

    def abandon(self) -> None:
        """Give up: close and remove what was written."""
        with suppress(OSError):
            os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)


def write_sorted(writer: RunWriter, hashes: HashArray, positions: PositionArray) -> None:
    """Write a whole run that lies sorted in memory."""
    for at in range(0, len(hashes), _PIECE):
        writer.write(hashes[at : at + _PIECE], positions[at : at + _PIECE])


def write_merged(writer: RunWriter, older: Run, newer: Run) -> None:
    """Write the union of two runs, in a few MiB of memory: both are cut at the same hashes, piece by piece."""
    total = len(older.hashes) + len(newer.hashes)
    pieces = -(-total // _PIECE)
    bounds = [np.uint64(i * ((1 << 64) // pieces)) for i in range(1, pieces)]
    cuts = [
        [0, *np.searchsorted(run.hashes, np.array(bounds, np.uint64)).tolist(), len(run.hashes)]
        for run in (older, newer)
    ]
    for i in range(pieces):
        a, b = slice(cuts[0][i], cuts[0][i + 1]), slice(cuts[1][i], cuts[1][i + 1])
        size = a.stop - a.start + b.stop - b.start
        merged = np.empty(size, np.uint64), np.empty(size, np.int64)
        id_kernel.merge((older.hashes[a], older.positions[a]), (newer.hashes[b], newer.positions[b]), merged)
        writer.write(*merged)
        older.release_pages()
        newer.release_pages()


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
