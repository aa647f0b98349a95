"""Commits from the newest to the oldest, without their payloads: what somebody looks at who wants the latest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from penstock.stores.schema import KEY_BITS, NAME_BITS

if TYPE_CHECKING:
    from penstock.stores.batches import Fetch

_PAGE_ROWS = 512
_DECISION_BIT = 1 << NAME_BITS


class Head(NamedTuple):
    """A commit: its positions, when it was accepted, (key, rows) of its decision batches, keys of its log batches."""

    start: int
    stop: int
    ingest_time_us: int
    decisions: tuple[tuple[int, int], ...]
    log: tuple[int, ...]


def heads(fetch: Fetch, position: int | None) -> Iterator[Head]:
    """The commits with a batch that starts before `position` (None: all), newest first, a page at a time.

    Of the commit that `position` lies in, only batches that start before it.
    """
    below = 1 << 62 if position is None else position << KEY_BITS
    held: list[tuple[int, int, int, int, int]] = []
    while True:
        page = fetch(
            "SELECT id, commit_start, commit_stop, rows, ingest_time_us FROM batches WHERE id < ? ORDER BY id DESC LIMIT ?",
            (below, _PAGE_ROWS),
        )
        for row in page:
            if held and row[1] != held[-1][1]:
                yield _head(held)
                held = []
            held.append(row)
        if len(page) < _PAGE_ROWS:
            break
        below = page[-1][0]
    if held:
        yield _head(held)


def _head(rows: list[tuple[int, int, int, int, int]]) -> Head:
    return Head(
        rows[0][1],
        rows[0][2],
        max(row[4] for row in rows),
        tuple((row[0], row[3]) for row in rows if row[0] & _DECISION_BIT),
        tuple(row[0] for row in rows if row[3] and not row[0] & _DECISION_BIT),
    )


def decisions_between(fetch: Fetch, start: int, stop: int) -> int:
    """How many decisions there are in batches that start in ``[start, stop)``."""
    found = fetch(
        f"SELECT coalesce(sum(rows), 0) FROM batches WHERE id >= ? AND id < ? AND id & {_DECISION_BIT} != 0",
        (start << KEY_BITS, stop << KEY_BITS),
    )
    return int(found[0][0])


def position_at(fetch: Fetch, time_us: int, stop: int) -> int:
    """The position of the first row that was accepted after `time_us`, `stop` where there is none.

    By bisection: where the clock was set back between commits, one of the places where it passed that time.
    """
    low, high = 0, stop
    while low < high:
        middle = (low + high) // 2
        start, ended, accepted_us = _log_commit(fetch, middle)
        if accepted_us > time_us:
            high = start
        else:
            low = ended
    return low


def _log_commit(fetch: Fetch, position: int) -> tuple[int, int, int]:
    """Start, stop and time of the commit that holds `position`."""
    found = fetch(
        f"SELECT commit_start, commit_stop, ingest_time_us FROM batches WHERE id < ? AND id & {_DECISION_BIT} = 0 "
        "AND rows > 0 ORDER BY id DESC LIMIT 1",
        ((position + 1) << KEY_BITS,),
    )
    start, stop, time_us = found[0]
    return start, stop, time_us
