"""Whether a user's function looks at each row alone, as it must: an event's features may not depend on its batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penstock.core.errors import PlanError
from penstock.engine.transform import Transformed
from penstock.kernel.columns import Column, Columns, IntArray, Numeric, Text

_RTOL, _ATOL = 1e-6, 1e-12
"""Libraries may round one row other than many in the last bits; looking at other rows shows far above that."""


def needs_check(function: object, mode: str) -> bool:
    """Whether a function gets several rows at once: in mode python it sees one at a time."""
    return function is not None and mode != "python"


def check_row_wise(
    made: Transformed, count: int, alone: Callable[[IntArray], Transformed], *, owner: str
) -> None:
    """Compare what a function made of `count` rows with what it makes of up to three of them alone.

    Parameters
    ----------
    made
        What it made of all rows.
    alone
        Calls it on the row at an index; the `TransformError` of a row that fails alone passes.

    Raises
    ------
    PlanError
        Where a row's values differ, or whether it is dropped. Not a `TransformError`, since no event is at fault.
    """
    for row in sorted({0, count // 2, count - 1}):
        at = np.array([row]) if made.rows is None else np.flatnonzero(made.rows == row)
        differing = _differing(made.columns.take(at), alone(np.array([row])).columns)
        if differing is not None:
            raise PlanError(
                f"{owner}: the function looks at other rows: {differing} of row {row} is one thing among {count} rows and "
                "another alone. Allowed is what looks at each row alone, since events come in batches of any size; not "
                "mean, rank, shift, sort or random numbers. Aggregate other events in a stream feature view."
            )


def _differing(among: Columns, alone: Columns) -> str | None:
    """What of the row differs, if anything does."""
    if among.length != alone.length:
        return "whether it is kept,"
    return next((f"column {n!r}" for n, c in among.columns.items() if not _same(c, alone[n])), None)


def _same(a: Column, b: Column) -> bool:
    if isinstance(a, Text) or isinstance(b, Text):
        return isinstance(a, Text) and isinstance(b, Text) and a.to_strings() == b.to_strings()
    there = _there(a)
    if not np.array_equal(there, _there(b)):
        return False
    x, y = a.values[there], b.values[there]
    if x.dtype.kind != "f":
        return np.array_equal(x, y)
    return bool(np.isclose(x, y, rtol=_RTOL, atol=_ATOL, equal_nan=True).all())


def _there(column: Numeric) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(column), np.bool_) if column.valid is None else column.valid
