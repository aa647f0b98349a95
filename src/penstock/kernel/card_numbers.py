"""Numbers of payment cards among bytes and integers: which rows hold one, and where.

A card number stands as 14 to 19 digits without a gap, or as it is embossed: in groups of 4-4-4-4, 4-4-4-4-3, 4-6-5 or 4-6-4 with the same
space or hyphen between them. It begins as an issuer's do (`penstock.core.card_issuers`) and passes Luhn's check. No digit may stand
next to it, and no ASCII letter either, so that hexadecimal ids are none; the ``%B`` of a magnetic stripe may. Where bytes are
searched `loosely`, letters may stand next to it: in JSON a line break ends in an n.

Most texts cost one look at every 14th byte: a window of 14 bytes that ends in anything but a digit, space or hyphen holds none.
"""

from __future__ import annotations

import numpy as np
from numba import types

from penstock.core.card_issuers import ISSUERS, LONGEST, SHORTEST, prefixes
from penstock.kernel.bits import pointer
from penstock.kernel.columns import IntArray, Text
from penstock.kernel.jit import I8, READ_I8, READ_U1, ByteArray, entry, inner

_WIDTH = 64  # a number and its separators are shorter
_SMALLEST = 10 ** (SHORTEST - 1)


def _lengths_by_prefix() -> ByteArray:
    """By the first four digits: bit i is set where a number of `SHORTEST` + i digits begins so."""
    table = np.zeros(10_000, np.uint8)
    for _, starts, lengths in ISSUERS:
        for prefix in (p for some in prefixes(starts) for p in some):
            for length in lengths:
                table[prefix] |= 1 << (length - SHORTEST)
    table.setflags(write=False)
    return table


_ISSUED = _lengths_by_prefix()


@inner
def _is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@inner
def _is_issued(issued: ByteArray, prefix: int, count: int) -> bool:
    return count >= SHORTEST and count <= LONGEST and (issued[prefix] >> (count - SHORTEST)) & 1 != 0


@inner
def _is_card(data: ByteArray, start: int, stop: int, issued: ByteArray) -> bool:
    """Whether the digits of ``data[start:stop]``, which begins with one, are a card's number."""
    count, prefix, even, odd = 0, 0, 0, 0
    for i in range(start, stop):
        digit = np.int64(data[i]) - 48
        if digit < 0:
            continue  # a separator
        if count < 4:
            prefix = prefix * 10 + digit
        doubled = 2 * digit - 9 if digit > 4 else 2 * digit
        if count & 1 == 0:
            even += doubled
            odd += digit
        else:
            even += digit
            odd += doubled
        count += 1
    total = even if count & 1 == 0 else odd
    return total % 10 == 0 and _is_issued(issued, prefix, count)


@inner
def _digits_end(data: ByteArray, start: int, stop: int) -> int:
    """Where the digits that begin at `start` end."""
    i = start
    while i < stop and _is_digit(data[i]):
        i += 1
    return i


@inner
def _grouped_end(data: ByteArray, start: int, stop: int, groups: int) -> int:
    """Where so many groups end, of which the first are the four digits at `start`; -1 where they are no card's layout."""
    end = start + 4
    separator = data[end] if end < stop else np.uint8(0)
    layout = 4
    if separator != 32 and separator != 45:
        return -1
    for _ in range(1, groups):
        if end >= stop or data[end] != separator:
            return -1
        before = end + 1
        end = _digits_end(data, before, stop)
        layout = (layout << 4) + min(end - before, 15)
    return end if layout in (0x44443, 0x4444, 0x465, 0x464) else -1


@inner
def _is_letter(byte: int) -> bool:
    return 97 <= (byte | 32) <= 122


@inner
def _is_free(data: ByteArray, at: int, start: int, stop: int, loosely: int) -> bool:
    """Whether what stands at `at`, next to a number, is no part of a word."""
    if at < start or at >= stop or loosely != 0:
        return True
    if not _is_letter(data[at]):
        return True
    return data[at] | 32 == 98 and at > start and data[at - 1] == 37  # %B


@inner
def _end_of_card(data: ByteArray, at: int, start: int, stop: int, issued: ByteArray, loosely: int) -> int:
    """Where the card number ends that begins with the first digit of a group at `at`; -1 where none does."""
    if not _is_free(data, at - 1, start, stop, loosely):
        return -1
    end = _digits_end(data, at, stop)
    if end - at >= SHORTEST:
        if (
            end - at <= LONGEST
            and _is_free(data, end, start, stop, loosely)
            and _is_card(data, at, end, issued)
        ):
            return end
    elif end - at == 4:
        for fewer in range(3):
            end = _grouped_end(data, at, stop, 5 - fewer)
            if end >= 0 and _is_free(data, end, start, stop, loosely) and _is_card(data, at, end, issued):
                return end
    return -1


@inner
def _find(data: ByteArray, start: int, stop: int, issued: ByteArray, loosely: int, begin: int) -> int:
    """The first card number in ``data[start:stop]`` from `begin` on, as start * 64 + length; -1 where there is none."""
    i = begin
    while i + SHORTEST <= stop:
        last = data[i + SHORTEST - 1]
        if not _is_digit(last) and last != 32 and last != 45:
            i += SHORTEST
            continue
        if not _is_digit(data[i]):
            i += 1
            continue
        end = _end_of_card(data, i, start, stop, issued, loosely)
        if end >= 0:
            return i * _WIDTH + end - i
        i = _digits_end(data, i, stop)
    return -1


@entry(types.int64, READ_U1, READ_U1, types.int64, types.int64)
def _find_in(data: ByteArray, issued: ByteArray, loosely: int, begin: int) -> int:
    return _find(pointer(data), 0, len(data), pointer(issued), loosely, begin)


@entry(types.int64, READ_I8, READ_U1, READ_U1, I8)
def _rows_with(offsets: IntArray, data: ByteArray, issued: ByteArray, out: IntArray) -> int:
    count = 0
    bytes_, table = pointer(data), pointer(issued)
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        if stop - start >= SHORTEST and _find(bytes_, start, stop, table, 0, start) >= 0:
            if count < len(out):
                out[count] = row
            count += 1
    return count


@entry(types.int64, READ_I8, READ_U1, I8)
def _integers_with(values: IntArray, issued: ByteArray, out: IntArray) -> int:
    count = 0
    table = pointer(issued)
    for row in range(len(values)):
        left = values[row] if values[row] >= 0 else -values[row]
        if left < _SMALLEST:
            continue
        digits, total, prefix = 0, 0, 0
        while left > 0:  # from the right, where every second digit is doubled
            if left < 10_000 and prefix == 0:
                prefix = left
            digit = left % 10
            left //= 10
            if digits & 1 != 0:
                digit = 2 * digit - 9 if digit > 4 else 2 * digit
            total += digit
            digits += 1
        if total % 10 == 0 and _is_issued(table, prefix, digits):
            if count < len(out):
                out[count] = row
            count += 1
    return count


_ROOM = 256


def texts_with_cards(values: Text) -> IntArray:
    """The rows whose text holds a card number.

    >>> texts_with_cards(Text.from_strings(["c-7", "4111111111111111", "4111 1111 1111 1111!"])).tolist()
    [1, 2]
    """
    out = np.empty(_ROOM, np.int64)
    count = _rows_with(values.offsets, values.data, _ISSUED, out)
    if count > _ROOM:
        out = np.empty(count, np.int64)
        _rows_with(values.offsets, values.data, _ISSUED, out)
    return out[:count]


def integers_with_cards(values: IntArray) -> IntArray:
    """The rows whose integer, without its sign, is a card number.

    >>> integers_with_cards(np.array([7, 4111111111111111, 4111111111111112])).tolist()
    [1]
    """
    out = np.empty(_ROOM, np.int64)
    count = _integers_with(values, _ISSUED, out)
    if count > _ROOM:
        out = np.empty(count, np.int64)
        _integers_with(values, _ISSUED, out)
    return out[:count]


def find_card(data: bytes, begin: int = 0, *, loosely: bool = False) -> tuple[int, int] | None:
    """Where the first card number in `data` from `begin` on starts and ends; None where there is none.

    >>> find_card(b"card 4111-1111-1111-1111, thanks")
    (5, 24)
    """
    found = _find_in(np.frombuffer(data, np.uint8), _ISSUED, loosely, begin)
    return None if found < 0 else (found // _WIDTH, found // _WIDTH + found % _WIDTH)
