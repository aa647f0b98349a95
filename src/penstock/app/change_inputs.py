"""The changes of PostgreSQL tables as inputs of a run: rows of a batch source, in commit order, each once.

1. An offset is a place in the server's log. It is committed with the rows before it; a transaction's rows come in one block.
2. The first reading takes the table as it was when the slot was made; until it is whole, another run begins it anew.
3. What the log has is known by its row ids, so that a block that is read again adds nothing.
4. The server may forget what is durable with us, and is told so about once a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from msgspec import structs

from penstock.connectors.postgres_changes import TableChanges
from penstock.core.errors import InputError, StoreError
from penstock.core.time import from_us
from penstock.core.types import Bool, Float32, Float64, Int32, Int64, Timestamp
from penstock.definitions.postgres_configs import with_environment

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.connectors.pgoutput import Row
    from penstock.core.clock import Clock
    from penstock.definitions.postgres_configs import PostgresChangesConfig
    from penstock.engine.contract import Contract, Decoded
    from penstock.engine.row_ids import RowIds

RETRY_US = 2_000_000
"""How long a running project waits before it connects again to a server that is away."""


@dataclass(slots=True)
class ChangeInput:
    """The changes of a batch source's table.

    Parameters
    ----------
    source, config
        Whose rows they are, and where they come from.
    clock
        The time, for trying again.
    store_id
        Who reads, see `TableChanges`.
    row_ids
        By source what gives its rows their ids.
    durable
        The offset that is committed.
    problems
        Where it is noted that the server is away; at the first look the error is raised.
    """

    source: str
    config: PostgresChangesConfig
    clock: Clock
    store_id: str
    row_ids: Callable[[str], RowIds]
    durable: Callable[[str], str | None]
    problems: dict[str, str] = field(default_factory=dict)
    waiting: int = field(default=0, init=False)
    """How many rows wait for their time: none, since a change is known when it is committed."""
    _table: TableChanges | None = None
    _reached: int | None = None
    _again_us: int = 0

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.source}:changes"

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`: what has changed by now."""
        if self.clock.now_us() < self._again_us:
            return
        try:
            yield from self._read(contract, offset, rows, final=final, stop=stop)
        except InputError as error:
            self.close()
            if final or self._again_us == 0:
                raise
            self.problems[self.source] = str(error)
            self._again_us = self.clock.now_us() + RETRY_US
            return
        self.problems.pop(self.source, None)
        self._again_us = 1  # it worked once: from now on a failure is waited out

    def close(self) -> None:
        """End the connection; the next reading makes another."""
        if self._table is not None:
            self._table.close()
        self._table = self._reached = None

    def _read(
        self, contract: Contract, offset: str | None, rows: int, *, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        owner = f"source {self.source!r}"
        table = self._table
        if table is None:
            _check_optional(contract, self.config, owner)
            url = with_environment(self.config.url, owner=owner)
            table = self._table = TableChanges(self.config, url=url, source=self.source, reader=self.store_id)
        place = place_in(offset)
        if place is None:
            yield from self._first(table, contract, rows, stop)
            return
        if place != self._reached:  # what was read further than this was not used
            table.close()
            self._reached = place
        held: list[Row] = []
        for transaction in table.transactions(place, whole=final):
            held += self._timed(transaction.rows, transaction.time_us)
            self._reached = transaction.end
            if len(held) >= rows:
                yield self._block(contract, held)
                held = []
            if stop.is_set():
                break
        if held:
            yield self._block(contract, held)
        if table.confirmation_due:
            durable = place_in(self.durable(self.key))
            if durable is not None and self._reached is not None:
                table.confirm(durable, read_to=self._reached)

    def _first(
        self, table: TableChanges, contract: Contract, rows: int, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        """The table as it was when its slot was made; the offset comes with the last block."""
        with table.begin() as beginning:
            held: list[Row] = []
            for some in table.rows(beginning, rows):
                if held:
                    yield self._decoded(contract, held), None
                held = list(self._timed(some, beginning.time_us))
                if stop.is_set():
                    return
        self._reached = beginning.place
        yield self._block(contract, held)

    def _timed(self, rows: Iterable[Row], time_us: int) -> list[Row]:
        when = from_us(time_us).isoformat()
        return [{**row, self.config.timestamp_field: when} for row in rows]

    def _block(self, contract: Contract, rows: list[Row]) -> tuple[Decoded, str]:
        return self._decoded(contract, rows), json.dumps({"place": self._reached})

    def _decoded(self, contract: Contract, rows: list[Row]) -> Decoded:
        decoded = contract.decode_dicts(typed(rows, contract))
        columns = self.row_ids(self.source).given_to(decoded.columns)
        return structs.replace(decoded, columns=columns)


def change_input(runtime: Runtime, source: str, config: PostgresChangesConfig) -> ChangeInput:
    """The input of a batch source whose rows are a table's changes."""
    return ChangeInput(
        source,
        config,
        runtime.clock,
        runtime.store.store_id,
        runtime.row_ids,
        lambda key: runtime.store.offsets().get(key),
        problems=runtime.problems,
    )


def place_in(offset: str | None) -> int | None:
    """The place that an offset names; raises `StoreError` for a text that this version does not write."""
    if offset is None:
        return None
    try:
        found = json.loads(offset)
        if isinstance(found, list):  # as `penstock.app.merging.Resume` keeps it
            return place_in(found[0])
        return int(found["place"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise StoreError(
            f"offset {offset[:80]!r}: it is not one that this version writes. Upgrade Penstock, or start a new project."
        ) from error


def typed(rows: list[Row], contract: Contract) -> list[dict[str, object]]:
    """Rows of texts as the contract's types want them; a text that is none of its type stays, to be refused."""
    readers = {f.name: _READERS[f.dtype] for f in contract.source.fields if f.dtype in _READERS}
    wanted = {f.name for f in contract.source.fields}
    return [
        {name: _value(text, readers.get(name)) for name, text in row.items() if name in wanted}
        for row in rows
    ]


def _value(text: str | None, reader: Callable[[str], object] | None) -> object:
    if text is None or reader is None:
        return text
    try:
        return reader(text)
    except (KeyError, ValueError):
        return text


def _boolean(text: str) -> bool:
    return {"t": True, "f": False, "true": True, "false": False}[text.lower()]


_READERS: dict[object, Callable[[str], object]] = {
    Int32: int,
    Int64: int,
    Float32: float,
    Float64: float,
    Bool: _boolean,
    Timestamp: datetime.fromisoformat,
}


def _check_optional(contract: Contract, config: PostgresChangesConfig, owner: str) -> None:
    """Raise where a deleted row could not be told: all but key and time are null then."""
    named = {*config.key, config.timestamp_field, contract.source.id_field}
    needed = [f.name for f in contract.source.fields if f.name not in named and not f.optional]
    if needed:
        raise InputError(
            f"{owner}: {', '.join(needed)} of its schema must be there in each row, and of a row that is deleted only the key is known. "
            "Write optional=True."
        )
