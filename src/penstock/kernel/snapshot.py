"""Snapshots as bytes: magic, format version, the program's digest, size, checksum; then plain arrays.

Nothing is read before the header fits and the checksum is right. What is written is what the state holds, not how it
is laid out, so equal states give equal bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import SnapshotError
from penstock.kernel.columns import IntArray, Text, offsets_of
from penstock.kernel.memory import Held, HeldBases
from penstock.kernel.program import LaneKind, Program

MAGIC = b"PSKERNEL"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<8sI16sQ16s")  # magic, version, program, size of the body, checksum
_CHECKSUM_BYTES = 16


def encode(program: Program, held: Held, texts: Mapping[int, Text]) -> bytes:
    """Return the bytes of a snapshot; `texts` are those of the text lanes, in the order of their codes."""
    parts: list[npt.NDArray[Any]] = [
        np.array([held.evicted_keys]),
        np.diff(held.keys.offsets),
        held.keys.data,
    ]
    parts += [held.newest, held.counts, held.rows.ravel()]
    if held.bases is not None:
        parts += [held.bases.words.ravel(), held.bases.values, held.bases.wide]
    for lane in sorted(texts):
        parts += [np.diff(texts[lane].offsets), texts[lane].data]
    body = [piece for part in parts for piece in _packed(part)]  # copied once, into what is returned
    head = (MAGIC, FORMAT_VERSION, _digest_of(program), sum(map(len, body)))
    return b"".join([_HEADER.pack(*head, _checksum(_HEADER.pack(*head, b""), body)), *body])


def decode(program: Program, data: bytes) -> tuple[Held, dict[int, Text]]:
    """Return what a snapshot holds, and the texts of the text lanes.

    Raises
    ------
    SnapshotError
        Where the bytes are damaged, of another format version, or of another program.
    """
    parts = _Parts(_checked_body(program, data))
    evicted = int(parts.ints()[0])
    keys = parts.text()
    newest, counts = parts.ints(), parts.ints()
    rows = parts.ints().reshape(-1, 2 + len(program.lanes)).copy()
    bases = None
    if program.is_extended:
        words = parts.ints()
        words = words.reshape(len(keys), len(words) // max(len(keys), 1))
        bases = HeldBases(words, parts.ints().copy(), parts.ints())
    texts = {lane: parts.text() for lane, kind in enumerate(program.lanes) if kind is LaneKind.CODE}
    if not (len(keys) == len(newest) == len(counts) and counts.sum() == len(rows)):
        raise SnapshotError(
            f"snapshot: {len(keys)} keys and {len(rows)} rows do not fit together. Recompute it."
        )
    return Held(keys, newest, counts, rows, evicted, bases), texts


@cache
def _digest_of(program: Program) -> bytes:
    """A program's digest, made once: a snapshot of one key is small."""
    return program.digest()


class _Parts:
    """The arrays of a body, one after another."""

    __slots__ = ("_at", "_body")

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def take(self) -> memoryview:
        size = int.from_bytes(self._body[self._at : self._at + 8], "little")
        start = self._at + 8
        self._at = start + (size + 7 & ~7)
        return self._body[start : start + size]

    def ints(self) -> IntArray:
        return np.frombuffer(self.take(), np.int64)

    def text(self) -> Text:
        offsets = offsets_of(self.ints())
        return Text(offsets, np.frombuffer(self.take(), np.uint8))


def _packed(part: npt.NDArray[Any]) -> tuple[bytes, memoryview, bytes]:
    data = memoryview(np.ascontiguousarray(part).view(np.uint8))  # type: ignore[arg-type]
    return len(data).to_bytes(8, "little"), data, bytes(-len(data) & 7)


def _checksum(head: bytes, body: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(head, digest_size=_CHECKSUM_BYTES)
    for piece in body:
        digest.update(piece)
    return digest.digest()


def _checked_body(program: Program, data: bytes) -> memoryview:
    if len(data) < _HEADER.size:
        raise SnapshotError(f"snapshot: {len(data)} bytes found, at least {_HEADER.size} needed. {_REMEDY}")
    magic, version, digest, size, checksum = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != MAGIC:
        raise SnapshotError(
            f"snapshot: it begins with {magic!r}, not {MAGIC!r}: another kind of file. {_REMEDY}"
        )
    if version != FORMAT_VERSION:
        raise SnapshotError(f"snapshot: format version {version} found, {FORMAT_VERSION} is read. {_REMEDY}")
    if len(body) != size or checksum != _checksum(_HEADER.pack(magic, version, digest, size, b""), [body]):
        raise SnapshotError(f"snapshot: damaged ({len(body)} bytes found, {size} written). {_REMEDY}")
    if digest != _digest_of(program):
        raise SnapshotError(f"snapshot: it was made by another program. {_REMEDY}")
    return body


_REMEDY = "Use an older snapshot, or recompute the state from the log."
