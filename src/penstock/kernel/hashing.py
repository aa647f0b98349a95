"""Keys as bytes: composite keys made into one text, and seeded 64-bit hashes of texts.

The hash folds 128-bit products over the bytes (the scheme of wyhash). It spreads keys over buckets; equality is
always decided by the bytes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import types

from penstock.core.errors import InputError
from penstock.kernel.bits import load_word, multiply_high, pointer
from penstock.kernel.columns import BoolArray, IntArray, Numeric, Text, multiples, offsets_of
from penstock.kernel.jit import (
    I8,
    READ_I8,
    READ_U1,
    U1,
    U8,
    ByteArray,
    Word,
    WordArray,
    entry,
    inner,
    unchecked,
)

_P0, _P1, _P2, _P3 = 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3


@inner
def fold(left: Word, right: Word) -> Word:
    """Both halves of the 128-bit product of two words, folded into one."""
    return (left * right) ^ multiply_high(left, right)


@inner
def hash_bytes(data: ByteArray, start: int, stop: int, seed: int) -> Word:
    """Return the seeded hash of ``data[start:stop]``."""
    size = stop - start
    h = np.uint64(seed) ^ np.uint64(_P0)
    i = start
    while i + 8 <= stop:
        h = fold(h ^ load_word(data, i), np.uint64(_P1))
        i += 8
    tail = np.uint64(0)
    if size >= 8:
        tail = load_word(data, stop - 8)
    else:
        while i < stop:
            tail = (tail << np.uint64(8)) | np.uint64(data[i])
            i += 1
    return fold(fold(h ^ tail, np.uint64(_P2) ^ np.uint64(size)) ^ np.uint64(_P3), np.uint64(_P1))


@inner
def hash_words(first: int, second: int, seed: int) -> Word:
    """Return the seeded hash of two integers."""
    h = fold(np.uint64(seed) ^ np.uint64(_P0) ^ np.uint64(first), np.uint64(_P1))
    return fold(h ^ np.uint64(second), np.uint64(_P2) ^ np.uint64(_P3))


@inner
def same_bytes(left: ByteArray, at: int, right: ByteArray, start: int, size: int) -> bool:
    """Whether ``left[at:at + size]`` equals ``right[start:start + size]``."""
    i = 0
    while i + 8 <= size:
        if load_word(left, at + i) != load_word(right, start + i):
            return False
        i += 8
    while i < size:
        if left[at + i] != right[start + i]:
            return False
        i += 1
    return True


@entry(types.void, READ_I8, READ_U1, types.int64, U8)
def _hash_rows(offsets: IntArray, data: ByteArray, seed: int, out: WordArray) -> None:
    bytes_ = pointer(data)
    for i in range(len(offsets) - 1):
        out[i] = hash_bytes(bytes_, offsets[i], offsets[i + 1], seed)


_hash_row = unchecked(_hash_rows)


@entry(types.void, READ_I8, READ_U1, READ_I8, READ_U1, types.int64, I8, U1)
def _join_rows(
    left_offsets: IntArray,
    left: ByteArray,
    right_offsets: IntArray,
    right: ByteArray,
    prefix: int,
    offsets: IntArray,
    out: ByteArray,
) -> None:
    """Write each row of the left, the size of the right's row in `prefix` bytes, and the right's row."""
    at = 0
    for i in range(len(offsets) - 1):
        offsets[i] = at
        for j in range(left_offsets[i], left_offsets[i + 1]):
            out[at] = left[j]
            at += 1
        size = right_offsets[i + 1] - right_offsets[i]
        for j in range(prefix):
            out[at] = (size >> (8 * j)) & 0xFF
            at += 1
        for j in range(right_offsets[i], right_offsets[i + 1]):
            out[at] = right[j]
            at += 1
    offsets[-1] = at


def hash_text(values: Text, seed: int) -> WordArray:
    """Return a seeded 64-bit hash of each text, uint64[n]; nulls hash as the bytes that stand there.

    Examples
    --------
    >>> a, b, c = hash_text(Text.from_strings(["x", "y", "x"]), 7)
    >>> bool(a == c), bool(a == b)
    (True, False)
    """
    out = np.empty(len(values), np.uint64)
    hashing = _hash_row if len(out) == 1 else _hash_rows
    hashing(values.offsets, values.data, signed(seed), out)
    return out


def signed(seed: int) -> int:
    """Return the int64 with the same low 64 bits as any integer."""
    return (seed + 2**63) % 2**64 - 2**63


def encode_keys(columns: Sequence[Text | Numeric]) -> Text:
    """Return one text per row that is equal exactly where all columns are; null where any column is null.

    A single text column is its own key. Integers are their 8 bytes, booleans one byte, floats the 8 bytes of
    their bits (-0.0 counts as 0.0, NaN as null). In keys of several columns every text carries its length before it,
    so that ("a", "bc") and ("ab", "c") differ. The types of the columns are part of the definition, not of the key.

    Raises
    ------
    InputError
        Where there is no column or they differ in length.

    Examples
    --------
    >>> key = encode_keys([Text.from_strings(["a", "ab"]), Text.from_strings(["bc", "c"])])
    >>> len(key), bool((hash_text(key, 0)[0] == hash_text(key, 0)[1]))
    (2, False)
    """
    if len(columns) == 1:
        return _as_text(columns[0])
    if not columns or len({len(column) for column in columns}) != 1:
        raise InputError(
            f"entity key: columns of lengths {[len(c) for c in columns]} found; at least one column is needed, all "
            "of the same length. Give every join key for every row."
        )
    rows = len(columns[0])
    joined = Text(np.zeros(rows + 1, np.int64), np.empty(0, np.uint8))
    for column in columns:
        joined = _joined(joined, _as_text(column), prefix=4 if isinstance(column, Text) else 0)
    return joined


def _as_text(column: Text | Numeric) -> Text:
    if isinstance(column, Text):
        return column
    values, valid = column.values, column.valid
    if values.dtype.kind == "f":
        floats = values.astype(np.float64) + 0.0
        nan = np.isnan(floats)
        valid = (~nan if valid is None else valid & ~nan) if nan.any() else valid
        values = floats
    elif values.dtype.kind != "b":
        values = values.astype(np.int64, copy=False)
    data = np.ascontiguousarray(values).view(np.uint8)
    return Text(multiples(len(values) + 1, values.dtype.itemsize), data, valid)


def _joined(left: Text, right: Text, *, prefix: int) -> Text:
    rows = len(left)
    size = int(left.offsets[-1] - left.offsets[0] + right.offsets[-1] - right.offsets[0]) + prefix * rows
    offsets, data = offsets_of(np.zeros(rows, np.int64)), np.empty(size, np.uint8)
    _join_rows(left.offsets, left.data, right.offsets, right.data, prefix, offsets, data)
    return Text(offsets, data, _both(left.valid, right.valid))


def _both(left: BoolArray | None, right: BoolArray | None) -> BoolArray | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right
