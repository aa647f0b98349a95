"""How far the rows of a table are read: up to a cursor, as far as their transactions had ended.

Rows do not become visible in the order of their cursors: who took a smaller value may commit later. So a place says two things:
up to which cursor rows were read (`after`), and which transactions had ended by then (`seen`). What is read later is

1. rows beyond `after`;
2. rows before it of transactions that had not ended then, the late ones. They are looked for behind a floor only, below which no
   unfinished transaction can have a row.

The floor rises in generations. A mark says which transaction numbers and which cursors there were at a look. A transaction with a greater
number began to write after it, so its cursors are greater than the mark's, less what is allowed for (`look_back`). Once all
transactions before the younger mark have ended it becomes the older one, which gives the floor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from penstock.core.errors import StoreError

NONE_OPEN = "{}"
"""No transactions, as PostgreSQL writes a multirange."""


class Horizon(NamedTuple):
    """Which transactions had ended: all with numbers below `end` but those in `unfinished`, a multirange of numbers.

    `oldest` is the least number in `unfinished`, or `end`.
    """

    end: int
    unfinished: str = NONE_OPEN

    @property
    def oldest(self) -> int:
        """The least number of a transaction that had not ended.

        >>> Horizon(9, "{[4,6),[8,9)}").oldest, Horizon(9).oldest
        (4, 9)
        """
        first = self.unfinished.strip("{}").partition(",")[0].lstrip("[")
        return int(first) if first else self.end


NOTHING_ENDED = Horizon(0)


class Mark(NamedTuple):
    """The table's greatest cursor (its first column; None: it was empty) before transactions from `number` on began to write."""

    number: int
    newest: str | None


@dataclass(frozen=True, slots=True)
class TablePlace:
    """How far a table is read; values of cursors are texts, as PostgreSQL writes them.

    Parameters
    ----------
    table
        The table's number in its database: one that was made anew has another.
    seen, older, younger
        See the module.
    after
        The cursor up to which rows were read; None: none yet.
    now
        While late rows are being read: which transactions have ended now.
    late
        Up to which cursor late rows were read.
    """

    table: int
    seen: Horizon
    older: Mark
    younger: Mark
    after: tuple[str, ...] | None = None
    now: Horizon | None = None
    late: tuple[str, ...] | None = None

    @property
    def floor(self) -> str | None:
        """The cursor that no late row is below, but for what is allowed for; None: none."""
        return self.older.newest

    def looking(self, now: Horizon, newest: str | None) -> TablePlace:
        """The place when a look begins, with the transactions that have ended by now and the table's greatest cursor."""
        older, younger = self.older, self.younger
        if younger.number <= self.seen.oldest:
            older, younger = younger, Mark(now.end, newest)
        if self.after is None:
            return replace(self, seen=now, older=older, younger=younger)
        return replace(self, now=now, late=None, older=older, younger=younger)

    def settled(self) -> TablePlace:
        """The place when all late rows are read."""
        return replace(self, seen=self.now or self.seen, now=None, late=None)

    def behind(self, cursor: tuple[str, ...]) -> TablePlace:
        """The place behind a row."""
        if self.now is not None:
            return replace(self, late=cursor)
        return replace(self, after=cursor)

    def to_text(self) -> str:
        """The place as JSON."""
        return json.dumps(
            [self.table, self.seen, self.older, self.younger, self.after, self.now, self.late],
            ensure_ascii=False,
        )

    @classmethod
    def from_text(cls, text: str) -> TablePlace:
        """The place of `to_text`; raises `StoreError` for a text that this version does not write."""
        try:
            table, seen, older, younger, after, now, late = json.loads(text)
            return cls(
                int(table),
                Horizon(*seen),
                Mark(*older),
                Mark(*younger),
                _cursor(after),
                None if now is None else Horizon(*now),
                _cursor(late),
            )
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"offset {text[:80]!r}: it is not one that this version writes. Upgrade Penstock, or start a new project."
            ) from error


def beginning(table: int, now: Horizon, newest: str | None) -> TablePlace:
    """The place before the first row; transactions that are open already are taken to write no further back than those that come."""
    return TablePlace(table, now, Mark(0, newest), Mark(now.end, newest))


def _cursor(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(map(str, values))
