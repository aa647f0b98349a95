"""Decisions as rows, for people and programs that ask the database: in partitions of a day, added by COPY.

They are derived: what is read back bit for bit are the batches.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from penstock.stores.postgres.session import escaped

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.core.records import DecisionRows
    from penstock.stores.postgres.session import Session

_COPY = (
    "COPY decisions (decided_at, position, endpoint, event_id, event_time, score, action, model, arm, rule, policy, lists, "
    "flags) FROM STDIN"
)
_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000
_YEAR_9999_US = 253_370_764_800_000_000  # beyond it a time is not shown
_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


class DecisionTable:
    """Adds rows of decisions, and the partitions that they need."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._days: set[int] = set()

    def add(self, rows: DecisionRows) -> None:
        """Add rows, in the transaction that is open."""
        day = rows.decided_us // _DAY_US
        if day not in self._days:
            self._partition(day)
        with self._session.driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write(_lines(rows))
        self._days.add(day)

    def replace(self, rows: DecisionRows) -> None:
        """Put rows in the place of those at the same positions."""
        self._session.execute("DELETE FROM decisions WHERE position = ANY(?)", (rows.positions.tolist(),))
        self.add(rows)

    def forget_days(self) -> None:
        """Look again which partitions there are: a transaction that made one may not have come to its end."""
        self._days.clear()

    def _partition(self, day: int) -> None:
        """Make a day's partition where there is none; attached, since that waits for no reader."""
        first = _EPOCH + timedelta(days=day)
        name = f"decisions_{first:%Y%m%d}"
        known = self._session.execute("SELECT to_regclass(?) IS NOT NULL", (f'"{name}"',)).fetchone()
        if known is not None and known[0]:
            return
        table = sql.Identifier(name)
        self._session.driver.execute(
            sql.SQL("CREATE TABLE {} (LIKE decisions INCLUDING DEFAULTS)").format(table)
        )
        self._session.driver.execute(
            sql.SQL("ALTER TABLE decisions ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                table,
                sql.Literal(f"{first}T00:00:00Z"),
                sql.Literal(f"{first + timedelta(days=1)}T00:00:00Z"),
            )
        )


def _lines(rows: DecisionRows) -> str:
    """The rows in COPY's text format."""
    decided = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=rows.decided_us)
    head, endpoint = decided.isoformat(), _field(rows.endpoint)
    scores = [_NULL if score != score else repr(score) for score in rows.scores.tolist()]
    tails = ["\t".join(map(_field, kind)) for kind in rows.kinds]
    ids = (
        [_NULL] * len(scores)
        if rows.event_ids is None
        else [_NULL if one is None else _field(one) for one in rows.event_ids]
    )
    return "".join(
        f"{head}\t{position}\t{endpoint}\t{event_id}\t{time}\t{score}\t{tails[kind]}\t{flags}\n"
        for position, event_id, time, score, kind, flags in zip(
            rows.positions.tolist(),
            ids,
            _times(rows.event_times_us, len(scores)),
            scores,
            rows.kind_of.tolist(),
            rows.flags.tolist(),
            strict=True,
        )
    )


def _field(text: str | None) -> str:
    return _NULL if not text else escaped(text).translate(_SPECIAL)


def _times(times_us: npt.NDArray[np.int64] | None, count: int) -> list[str]:
    if times_us is None:
        return [_NULL] * count
    shown = (times_us >= 0) & (times_us < _YEAR_9999_US)
    found = np.datetime_as_string(np.where(shown, times_us, 0).astype("datetime64[us]"), timezone="UTC")
    return [time if ok else _NULL for time, ok in zip(found.tolist(), shown.tolist(), strict=True)]
