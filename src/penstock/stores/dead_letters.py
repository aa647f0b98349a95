"""Dead letters: inputs that were refused, with their original bytes and the reason; bounded in number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from penstock.core.records import DeadLetter

if TYPE_CHECKING:
    from penstock.stores.batches import Fetch
    from penstock.stores.connection import Connection


def insert(connection: Connection, letters: Iterable[DeadLetter]) -> None:
    """Add letters; each gets the next id."""
    connection.executemany(
        "INSERT INTO dead_letters(source, received_us, reason, detail, payload) VALUES (?,?,?,?,?)",
        [(one.source, one.received_us, one.reason, one.detail, one.payload) for one in letters],
    )


def drop_oldest(connection: Connection, count: int) -> None:
    """Remove the `count` oldest letters."""
    connection.execute(
        "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT ?)", (count,)
    )


def delete(connection: Connection, letter_ids: Sequence[int]) -> int:
    """Remove letters by id; returns how many there were."""
    return sum(
        connection.execute("DELETE FROM dead_letters WHERE id = ?", (letter_id,)).rowcount
        for letter_id in letter_ids
    )


def read(fetch: Fetch, limit: int, after: int) -> list[DeadLetter]:
    """Up to `limit` letters with an id greater than `after`, oldest first."""
    rows = fetch(
        "SELECT id, source, received_us, reason, detail, payload FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [
        DeadLetter(
            letter_id=row[0], source=row[1], received_us=row[2], reason=row[3], detail=row[4], payload=row[5]
        )
        for row in rows
    ]
