"""Cutting a file of lines into blocks, in bounded memory and without touching single lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

from penstock.core.limits import MAX_EVENT_BYTES

READ_BYTES = 1 << 20
BLOCK_BYTES = 1 << 23
"""A block ends about here even if it has fewer lines than wanted."""


def blocks_of_lines(file: IO[bytes], start: int, *, rows: int, final: bool) -> Iterator[tuple[bytes, int]]:
    """Blocks of up to `rows` lines from byte `start` on, each with the byte at which the next one starts.

    A line longer than `MAX_EVENT_BYTES` comes as a block of its own, cut just behind that bound: the contract refuses it,
    and reading goes on at the next line. A last line without a line break is held back unless the file is `final`.
    """
    file.seek(start)
    rest, at = b"", start
    while more := file.read(READ_BYTES):
        rest += more
        used = 0
        for end in _cuts(rest, rows):
            yield rest[used:end], at + end
            used = end
        rest, at = rest[used:], at + used
        if len(rest) > MAX_EVENT_BYTES and b"\n" not in rest:
            length, ended = _skip_line(file, len(rest))
            if not ended and not final:
                return
            yield rest[: MAX_EVENT_BYTES + 1], at + length
            rest, at = b"", at + length
    end = len(rest) if final else rest.rfind(b"\n") + 1
    if end:
        yield rest[:end], at + end


def _cuts(data: bytes, rows: int) -> list[int]:
    """Where to cut: behind every `rows` lines; earlier where the block or an unfinished line grows too long."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    cuts: list[int] = ends[rows - 1 :: rows].tolist()
    whole = int(ends[-1]) if len(ends) else 0
    used = cuts[-1] if cuts else 0
    if whole > used and (len(data) - used > BLOCK_BYTES or len(data) - whole > MAX_EVENT_BYTES):
        cuts.append(whole)
    return cuts


def _skip_line(file: IO[bytes], length: int) -> tuple[int, bool]:
    """Read on to the end of a line of which `length` bytes are read: its whole length, and whether it has an end."""
    while chunk := file.readline(READ_BYTES):
        length += len(chunk)
        if chunk.endswith(b"\n"):
            return length, True
    return length, False
