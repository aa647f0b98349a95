"""Several sources as one: blocks of decoded events put side by side so that the log is in the order of event time.

Each step takes, of every source, the rows that no source can undercut any more:

1. every source holds one block in its head; its rows count with the running maximum of their times, since a source
   keeps its own order whatever its times;
2. the source whose block ends first sets the bound: what it reads next is at or after it;
3. of every source the rows up to the bound make one micro-batch (at equal times labels and batch rows come first).

The source that sets the bound gives its whole block, so that every step makes progress in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs

from penstock.core.errors import StoreError
from penstock.engine.contract import Decoded
from penstock.engine.times import row_times
from penstock.kernel.columns import IntArray, concat
from penstock.plan.nodes import SourceNode

Bound = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class RowOffsets:
    """The offset behind a block, of a reader that has one behind each of its rows, too: what it reads again need not be the same rows."""

    behind: str
    after: Callable[[int], str]
    """The offset behind so many of the block's rows."""


Behind = str | RowOffsets | None
"""Where to go on reading behind a block; None where reading cannot be resumed."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where to go on reading: a reader's own offset, and how many input rows after it are done."""

    at: str | None = None
    skip: int = 0

    @classmethod
    def parse(cls, text: str | None) -> Resume:
        """The offset of `str`, as the store holds it; None is the start."""
        if text is None:
            return cls()
        try:
            at, skip = json.loads(text)
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"offset {text[:80]!r}: it is not one that this version writes. Upgrade Penstock, or start a new project."
            ) from error
        return cls(at, int(skip))

    def __str__(self) -> str:
        return json.dumps([self.at, self.skip])


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one micro-batch takes of one source, and where to go on reading once it is durable."""

    source: str
    decoded: Decoded
    resume: Resume
    times: IntArray
    """int64[rows]: where each accepted row stands in its feed, as event time that never goes back."""
    key: str | None = None
    """Under which name the offset is kept."""


class Feed:
    """One source on its way through the merge.

    Parameters
    ----------
    source
        Whose events they are.
    blocks
        Decoded blocks, each with the reader's offset behind it; None where there is nothing now, and may be later.
    resume
        Where `blocks` start, and how many of their first rows are done.
    order
        The place among sources at equal times.
    key
        Under which name its offset is kept; None where reading cannot be resumed.
    """

    def __init__(
        self,
        source: SourceNode,
        blocks: Iterator[tuple[Decoded, Behind] | None],
        *,
        resume: Resume,
        order: int,
        key: str | None = None,
    ) -> None:
        self.source = source
        self.key = key
        self._blocks = blocks
        self._rank = (int(not source.comes_first), order)
        self._skip = resume.skip
        self._before = resume.at
        self._after = resume.at
        self._within: Callable[[int], str] | None = None
        self._head: Decoded | None = None
        self._times: IntArray = np.zeros(0, np.int64)
        self._latest = np.iinfo(np.int64).min
        self._taken = 0

    def load(self) -> bool:
        """Fill the head where it is empty; False at the end, or where there is nothing now."""
        while self._head is None:
            block = next(self._blocks, None)
            if block is None:
                return False
            decoded, behind = block
            self._within = behind.after if isinstance(behind, RowOffsets) else None
            self._after = behind.behind if isinstance(behind, RowOffsets) else behind
            done = min(self._skip, decoded.received)
            self._skip -= done
            self._taken = done
            if done < decoded.received:
                self._head = rows_between(decoded, done, decoded.received)
                self._times = self._running(self._head)
            else:
                self._before = self._after
        return True

    @property
    def bound(self) -> Bound:
        """Nothing that is read later comes before this."""
        return (int(self._latest), *self._rank)

    def take(self, bound: Bound) -> Part | None:
        """The rows up to `bound`; None where there are none."""
        head = self._head
        assert head is not None
        if self.bound <= bound or not len(self._times):
            self._head, self._before = None, self._after
            return Part(self.source.name, head, Resume(self._after), self._times, self.key)
        side = "right" if self._rank <= bound[1:] else "left"
        count = int(np.searchsorted(self._times, bound[0], side))  # type: ignore[call-overload]
        stop = int(head.rows[count])
        if stop == self._taken:
            return None
        part = rows_between(head, self._taken, stop)
        self._head = rows_between(head, stop, self._taken + head.received)
        taken, self._times, self._taken = self._times[:count], self._times[count:], stop
        resume = Resume(self._before, stop) if self._within is None else Resume(self._within(stop))
        return Part(self.source.name, part, resume, taken, self.key)

    def _running(self, head: Decoded) -> IntArray:
        times = row_times(head.columns, self.source)
        running: IntArray = np.maximum.accumulate(np.concatenate([[self._latest], times]))[1:]
        if len(running):
            self._latest = running[-1]
        return running


def merged(feeds: Sequence[Feed]) -> Iterator[list[Part]]:
    """The feeds' rows as micro-batches, in the order of event time; one feed alone comes as it is."""
    while (parts := next_parts(feeds)) is not None:
        yield parts


def next_parts(feeds: Sequence[Feed]) -> list[Part] | None:
    """The next micro-batch; None where no feed has anything now."""
    live = [feed for feed in feeds if feed.load()]
    if not live:
        return None
    bound = min(feed.bound for feed in live)
    return [part for feed in live if (part := feed.take(bound)) is not None]


def by_source(parts: Sequence[Part]) -> list[tuple[str, Decoded]]:
    """The parts as inputs of the engine: those of one source (the partitions of a topic) as one, in the order of event time."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.source, []).append(part)
    return [(source, joined(group)) for source, group in found.items()]


def joined(parts: Sequence[Part]) -> Decoded:
    """Parts of one source as one: rows in the order of event time, and at equal times in that of the parts."""
    if len(parts) == 1:
        return parts[0].decoded
    blocks = [part.decoded for part in parts]
    order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
    refused = [one for block in blocks for one in block.refused]
    rows = [block.rows for block in blocks]
    rows += [np.array([one.row for one in block.refused], np.int64) for block in blocks]
    block_of = np.repeat(np.arange(len(rows)) % len(blocks), [len(some) for some in rows])
    row_of = np.concatenate(rows)

    def original(row: int) -> bytes:
        at = order[row] if row < len(order) else row
        original_of: Callable[[int], bytes] = blocks[block_of[at]].original
        return original_of(int(row_of[at]))

    return Decoded(
        concat([block.columns for block in blocks]).take(order),
        np.arange(len(order)),
        tuple(replace(one, row=row) for row, one in enumerate(refused, len(order))),
        original,
        sum(block.received for block in blocks),
    )


def rows_between(decoded: Decoded, start: int, stop: int) -> Decoded:
    """The input rows ``[start, stop)`` of a block; they keep their numbers."""
    first, last = np.searchsorted(decoded.rows, (start, stop))
    if first == 0 and last == len(decoded.rows) and stop - start == decoded.received:
        return decoded
    return structs.replace(
        decoded,
        columns=decoded.columns.take(np.arange(first, last)),
        rows=decoded.rows[first:last],
        refused=tuple(one for one in decoded.refused if start <= one.row < stop),
        received=stop - start,
    )
