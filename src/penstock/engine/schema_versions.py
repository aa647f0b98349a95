"""Which schema an event was accepted under, and what another event would have been under it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.types import Field
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text

END = sys.maxsize
"""Past the last position of any log."""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The fields of a source's events from log position `since` up to, not including, `until`."""

    fields: tuple[Field, ...]
    since: int = 0
    until: int = END

    def holds_at(self, positions: IntArray) -> BoolArray:
        """Which of `positions` lie where it was in force."""
        found: BoolArray = (positions >= self.since) & (positions < self.until)
        return found

    def reading(self, columns: Columns) -> Columns:
        """What of `columns` it would have accepted: its fields, Float32 rounded to that type."""
        shared = [field for field in self.fields if field.name in columns]
        return Columns(columns.length, {f.name: _rounded(columns[f.name], f) for f in shared})


def in_force(schemas: Sequence[tuple[int, Sequence[Field]]]) -> tuple[SchemaVersion, ...]:
    """The versions of schemas that each held from a position on; those that no event can have are left out.

    >>> from penstock.types import Int64
    >>> for version in in_force([(0, [Field("n", Int64)]), (0, [Field("k", Int64)]), (7, [])]):
    ...     print(version.since, [field.name for field in version.fields])
    0 ['k']
    7 []
    """
    ends = [*(since for since, _ in schemas[1:]), END]
    return tuple(
        SchemaVersion(tuple(fields), since, until)
        for (since, fields), until in zip(schemas, ends, strict=True)
        if since < until
    )


def _rounded(column: Column, field: Field) -> Column:
    if isinstance(column, Text) or field.dtype.name != "Float32":
        return column
    with np.errstate(over="ignore"):
        return Numeric(column.values.astype(np.float32).astype(np.float64), column.valid)
