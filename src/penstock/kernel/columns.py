"""Columnar batches: the one form in which rows move through Penstock.

A batch is a `Columns`: equally long `Numeric` and `Text` columns by name. Nothing here knows about features;
nothing holds a Python object per row. `Columns.to_bytes` is the payload of the log.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

Item = TypeVar("Item", bound=np.generic)

_LARGE = 1 << 22  # bytes from which on NumPy asks for huge pages
# Not shared with children, as they would be by default; some systems know no other.
_OWN_PAGES = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
_MAGIC = b"PSC1"
_ENCODER = msgspec.msgpack.Encoder()
_PADDING = [b"\0" * (-size & 7) for size in range(8)]  # by the size's remainder
_HEADER = struct.Struct("<4sIQ")  # magic, checksum, size: 16 bytes, so that the arrays behind stay aligned


class Numeric(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A column of int64, float64 or bool values; `valid` is None when no row is null."""

    values: npt.NDArray[np.generic]
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Numeric:
        """The column at `rows`, in that order."""
        return Numeric(self.values[rows], None if self.valid is None else self.valid[rows])


class Text(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A column of UTF-8 texts: row i is ``data[offsets[i]:offsets[i + 1]]``."""

    offsets: IntArray
    data: npt.NDArray[np.uint8]
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_strings(cls, strings: Sequence[str | None]) -> Text:
        """A column of Python strings; None is null."""
        valid = None
        if None in strings:
            valid = np.fromiter((s is not None for s in strings), np.bool_, len(strings))
            strings = ["" if s is None else s for s in strings]
        joined = "".join(strings)  # type: ignore[arg-type]
        if joined.isascii():
            data = joined.encode()
            lengths = np.fromiter(map(len, strings), np.int64, len(strings))  # type: ignore[arg-type]
        else:
            encoded = [s.encode() for s in strings]  # type: ignore[union-attr]
            data = b"".join(encoded)
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return cls(offsets_of(lengths), np.frombuffer(data, np.uint8), valid)

    def to_strings(self) -> list[str | None]:
        """Python strings; null is None."""
        data = self.data.tobytes()
        bounds = self.offsets.tolist()
        if data.isascii():
            whole = data.decode("ascii")
            out: list[str | None] = [whole[a:b] for a, b in pairwise(bounds)]
        else:
            out = [data[a:b].decode() for a, b in pairwise(bounds)]
        if self.valid is not None:
            out = [s if ok else None for s, ok in zip(out, self.valid.tolist(), strict=True)]
        return out

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Text:
        """The column at `rows`, in that order."""
        if isinstance(rows, slice) and rows.step is None:
            return self._between(*rows.indices(len(self))[:2])
        starts = self.offsets[:-1][rows]
        lengths = self.offsets[1:][rows] - starts
        offsets = offsets_of(lengths)
        gather = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Text(offsets, self.data[gather], None if self.valid is None else self.valid[rows])

    def _between(self, start: int, stop: int) -> Text:
        """The rows from `start` up to `stop`, which share the bytes."""
        offsets = self.offsets[start : max(start, stop) + 1]
        data = self.data[offsets[0] : offsets[-1]]
        return Text(offsets - offsets[0], data, None if self.valid is None else self.valid[start:stop])


Column = Numeric | Text


def roomy(shape: int | tuple[int, ...], dtype: type[Item]) -> npt.NDArray[Item]:
    """An array to be written; where it is large, on ordinary pages.

    NumPy asks for huge pages. In a virtual machine that gives free ones back to its host, the first touch of each costs 5 ms, which is
    more than all the work on what it holds. Ordinary pages cost little anywhere.
    """
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, size, **_OWN_PAGES))


def multiples(count: int, step: int) -> IntArray:
    """The first `count` multiples of `step`, from 0 on, int64[count].

    >>> multiples(4, 8).tolist()
    [0, 8, 16, 24]
    """
    if 8 * count < _LARGE:
        return np.arange(0, count * step, step, dtype=np.int64)
    made = roomy(count, np.int64)
    made.fill(step)
    made[:1] = 0
    return np.cumsum(made, out=made)


def offsets_of(lengths: npt.NDArray[np.integer]) -> IntArray:
    """Row offsets (n + 1) of texts with these lengths in bytes."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


class Columns(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A batch of `length` rows. Treat it as immutable: arrays may be shared between batches."""

    length: int
    columns: Mapping[str, Column] = msgspec.field(default_factory=dict)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Columns:
        """The rows at these indices, in that order."""
        count = len(range(self.length)[rows]) if isinstance(rows, slice) else len(rows)
        return Columns(count, {name: column.take(rows) for name, column in self.columns.items()})

    def select(self, names: Iterable[str]) -> Columns:
        """The batch with these columns only."""
        return Columns(self.length, {name: self.columns[name] for name in names})

    def with_columns(self, more: Mapping[str, Column]) -> Columns:
        """The batch with columns added or replaced."""
        return Columns(self.length, {**self.columns, **more})

    def to_bytes(self) -> bytes:
        """The batch as bytes: magic, checksum, then a msgpack header followed by the raw arrays."""
        described: list[tuple[str, str, list[int]]] = []
        parts: list[bytes] = [b"", b""]
        for name, column in self.columns.items():
            sizes: list[int] = []
            if isinstance(column, Text):
                described.append((name, "text", sizes))
                _append(column.valid, parts, sizes)
                _append(column.offsets, parts, sizes)
                _append(column.data, parts, sizes)
            else:
                described.append((name, _name_of(column.values.dtype), sizes))
                _append(column.valid, parts, sizes)
                _append(column.values, parts, sizes)
        header = _ENCODER.encode((self.length, described))
        parts[:2] = len(header).to_bytes(8, "little"), _aligned(header)
        body = b"".join(parts)
        return _HEADER.pack(_MAGIC, zlib.crc32(body), len(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Columns:
        """The batch of `to_bytes`; raises `CorruptionError` where the checksum does not match."""
        body = _checked_body(data)
        header_size = int.from_bytes(body[:8], "little")
        length, described = msgspec.msgpack.decode(
            body[8 : 8 + header_size], type=tuple[int, list[tuple[str, str, list[int]]]]
        )
        at = 8 + _padded(header_size)
        columns: dict[str, Column] = {}
        for name, kind, sizes in described:
            pieces: list[memoryview | None] = []
            for size in sizes:
                pieces.append(None if size < 0 else body[at : at + size])
                at += _padded(max(size, 0))
            columns[name] = _column(kind, pieces)
        return cls(length, columns)


def concat(batches: Sequence[Columns]) -> Columns:
    """The rows of several batches with the same columns, one after another."""
    if len(batches) == 1:
        return batches[0]
    names = batches[0].columns.keys()
    columns = {name: _concat_column([b[name] for b in batches]) for name in names}
    return Columns(sum(b.length for b in batches), columns)


def _concat_column(parts: Sequence[Column]) -> Column:
    valid = None
    if any(p.valid is not None for p in parts):
        valid = np.concatenate([np.ones(len(p), np.bool_) if p.valid is None else p.valid for p in parts])
    texts = [p for p in parts if isinstance(p, Text)]
    if texts:
        lengths = np.concatenate([np.diff(p.offsets) for p in texts])
        data = np.concatenate([p.data[p.offsets[0] : p.offsets[-1]] for p in texts])
        return Text(offsets_of(lengths), data, valid)
    return Numeric(np.concatenate([p.values for p in parts if isinstance(p, Numeric)]), valid)


def _padded(size: int) -> int:
    return (size + 7) & ~7


def _aligned(data: bytes) -> bytes:
    return data.ljust(_padded(len(data)), b"\0")


def _append(array: npt.NDArray[np.generic] | None, parts: list[bytes], sizes: list[int]) -> None:
    """Add an array's bytes to `parts`, padded, and their number to `sizes`; -1 where there is no array."""
    if array is None:
        sizes.append(-1)
        return
    data = array.tobytes()
    size = len(data)
    sizes.append(size)
    parts.append(data)
    if size & 7:
        parts.append(_PADDING[size & 7])


@cache
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.str


def _column(kind: str, pieces: Sequence[memoryview | None]) -> Column:
    valid = None if pieces[0] is None else np.frombuffer(pieces[0], np.bool_)
    if kind == "text":
        return Text(_array(pieces[1], np.int64), _array(pieces[2], np.uint8), valid)
    return Numeric(_array(pieces[1], np.dtype(kind)), valid)


def _array(piece: memoryview | None, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.frombuffer(b"" if piece is None else piece, dtype)


def _checked_body(data: bytes | memoryview) -> memoryview:
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise CorruptionError(f"columnar batch: {len(view)} bytes found, at least {_HEADER.size} needed.")
    magic, checksum, size = _HEADER.unpack(view[: _HEADER.size])
    body = view[_HEADER.size :]
    if magic != _MAGIC or len(body) != size or zlib.crc32(body) != checksum:
        raise CorruptionError(
            f"columnar batch: checksum does not match ({len(body)} bytes found, {size} written). "
            "The file was changed or damaged outside Penstock; restore it from a backup."
        )
    return body
