"""Dead letters: inputs that were refused, with their original bytes and the reason; bounded in number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from penstock.core.records import DeadLetter

if TYPE_CHECKING:
    from penstock.stores.batches import Fetch
    from penstock.stores.connection import Connection, Row

_COLUMNS = "id, source, received_us, reason, detail, payload"
_LISTED = "(SELECT json_each.value FROM json_each(?))"


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


def count_of(connection: Connection, letter_ids: Sequence[int]) -> int:
    """How many of these letters there are."""
    found = connection.execute(
        f"SELECT count(*) FROM dead_letters WHERE id IN {_LISTED}", (_listed(letter_ids),)
    )
    return int(found.fetchone()[0])


def read(fetch: Fetch, limit: int, after: int) -> list[DeadLetter]:
    """Up to `limit` letters with an id greater than `after`, oldest first."""
    return _letters(
        fetch(f"SELECT {_COLUMNS} FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    )


def read_newest(
    fetch: Fetch, limit: int, before: int | None, source: str | None, reason: str | None
) -> list[DeadLetter]:
    """Up to `limit` letters with an id less than `before` (None: all), newest first; of a source, a reason, or both."""
    wanted = {"id < ?": before, "source = ?": source, "reason = ?": reason}
    given = {condition: value for condition, value in wanted.items() if value is not None}
    where = " AND ".join(given) or "true"
    sql = f"SELECT {_COLUMNS} FROM dead_letters WHERE {where} ORDER BY id DESC LIMIT ?"
    return _letters(fetch(sql, (*given.values(), limit)))


def read_these(fetch: Fetch, letter_ids: Sequence[int]) -> list[DeadLetter]:
    """Those of these letters that there are, by id."""
    return _letters(
        fetch(
            f"SELECT {_COLUMNS} FROM dead_letters WHERE id IN {_LISTED} ORDER BY id", (_listed(letter_ids),)
        )
    )


def counts(fetch: Fetch) -> dict[tuple[str, str], int]:
    """How many letters there are, by source and reason."""
    rows = fetch("SELECT source, reason, count(*) FROM dead_letters GROUP BY 1, 2 ORDER BY 1, 2", ())
    return {(source, reason): count for source, reason, count in rows}


def _listed(letter_ids: Sequence[int]) -> str:
    return json.dumps(list(letter_ids))


def _letters(rows: Sequence[Row]) -> list[DeadLetter]:
    return [
        DeadLetter(
            letter_id=row[0], source=row[1], received_us=row[2], reason=row[3], detail=row[4], payload=row[5]
        )
        for row in rows
    ]
