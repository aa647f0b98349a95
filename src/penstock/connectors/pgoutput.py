"""Messages of PostgreSQL's logical replication (plugin ``pgoutput``, protocol version 1) as changes of one table's rows.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.core.errors import InputError

_SINCE_2000_US = 946_684_800_000_000
_U32, _U16 = struct.Struct(">I"), struct.Struct(">H")

Row = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction did to the table.

    Attributes
    ----------
    end
        The place in the server's log behind it.
    time_us
        When it was committed, by the server's clock.
    rows
        In order: whole rows as they are since, as texts; of a deleted row its key, and null in all else.
    """

    end: int
    time_us: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Relation:
    name: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Changes:
    """Puts messages together to transactions.

    Parameters
    ----------
    owner
        Whose changes they are, for errors.
    table
        ``schema.table``; what happens to others is passed over.
    key
        The columns that name a row.
    """

    owner: str
    table: str
    key: Sequence[str]
    _relations: dict[int, _Relation] = field(default_factory=dict)
    _rows: list[Row] = field(default_factory=list)

    def take(self, message: bytes) -> Transaction | None:
        """The transaction that a message ends; None for any other message."""
        kind = message[:1]
        if kind == b"B":
            self._rows = []
        elif kind == b"R":
            self._relate(message)
        elif kind in b"IUD":
            self._change(kind, message)
        elif kind == b"C":
            end, time_us = struct.unpack_from(">Qq", message, 10)
            return Transaction(end, time_us + _SINCE_2000_US, tuple(self._rows))
        return None

    def _relate(self, message: bytes) -> None:
        number, at = _U32.unpack_from(message, 1)[0], 5
        schema, at = _text(message, at)
        name, at = _text(message, at)
        count, at = _U16.unpack_from(message, at + 1)[0], at + 3
        columns = []
        for _ in range(count):
            column, at = _text(message, at + 1)
            columns.append(column)
            at += 8
        relation = _Relation(f"{schema}.{name}", tuple(columns))
        missing = [one for one in self.key if one not in columns]
        if relation.name == self.table and missing:
            raise InputError(
                f"{self.owner}: table {self.table} has no column {missing[0]!r}; it has {', '.join(columns)}. Correct the key."
            )
        self._relations[number] = relation

    def _change(self, kind: bytes, message: bytes) -> None:
        relation = self._relations[_U32.unpack_from(message, 1)[0]]
        if relation.name != self.table:
            return
        before: Row | None = None
        at, which = 6, message[5:6]
        if which in b"KO":
            before, at = self._tuple(relation, message, at, None)
            which, at = message[at : at + 1], at + 1
        if kind == b"D":
            self._rows.append(self._gone(before))
            return
        after, _ = self._tuple(relation, message, at, before if message[5:6] == b"O" else None)
        if before is not None and any(before[one] != after[one] for one in self.key):
            self._rows.append(self._gone(before))
        self._rows.append(after)

    def _gone(self, before: Row | None) -> Row:
        if before is None or any(before[one] is None for one in self.key):
            raise InputError(
                f"{self.owner}: of a row deleted from {self.table} the server does not tell {', '.join(self.key)}; allowed is a key "
                f"that is the table's primary key. Run: ALTER TABLE {self.table} REPLICA IDENTITY FULL."
            )
        return {name: value if name in self.key else None for name, value in before.items()}

    def _tuple(self, relation: _Relation, message: bytes, at: int, before: Row | None) -> tuple[Row, int]:
        count, at = _U16.unpack_from(message, at)[0], at + 2
        row: Row = {}
        for name in relation.columns[:count]:
            kind, at = message[at : at + 1], at + 1
            if kind == b"t":
                size, at = _U32.unpack_from(message, at)[0], at + 4
                row[name] = message[at : at + size].decode()
                at += size
            elif kind == b"u":
                row[name] = self._unchanged(name, before)
            else:
                row[name] = None
        return row, at

    def _unchanged(self, name: str, before: Row | None) -> str | None:
        """A large value that an update did not touch, which the server sends with the whole old row only."""
        if before is None:
            raise InputError(
                f"{self.owner}: column {name!r} of {self.table} holds values so large that the server does not send them with an "
                f"update that leaves them alone. Run: ALTER TABLE {self.table} REPLICA IDENTITY FULL."
            )
        return before[name]


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1
