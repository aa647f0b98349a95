"""The ids of batch rows: a digest of a row's content, so that a row that is read again is known, whoever reads it.

What a row's content is, the schema says under which it was accepted: a column that came later is no part of it. So a row
of a table has an id under each version of its source's schema:

1. A row that the log has under its newest id, accepted under the newest schema, is that row.
2. Of the others, one that the log has under an earlier id, accepted under that earlier schema, is that row, whatever it
   holds in columns that came later: what the log never had of it cannot have changed.
3. The rest are new, and get their newest ids.

Ids of different versions never meet, so that a row which has a later column empty is not taken for an earlier one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.core.types import Field
from penstock.engine.schema_versions import SchemaVersion
from penstock.kernel.columns import Column, Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text

_AGAIN = np.uint64(0x9E3779B97F4A7C15)
_VERSION, _WORD = 0xC2B2AE3D27D4EB4F, (1 << 64) - 1

Known = Callable[[Column], IntArray]
"""For each id the log position of the row that has it, or -1."""


@dataclass(frozen=True, slots=True)
class RowIds:
    """Gives the rows of a batch source the ids by which the log knows them.

    Parameters
    ----------
    name
        The column of the ids.
    versions
        The schemas that its rows were accepted under, oldest first.
    known
        Where the log has rows.
    """

    name: str
    versions: Sequence[SchemaVersion]
    known: Known

    def given_to(self, columns: Columns) -> Columns:
        """`columns` with the rows' ids; all rows that are equal in everything are to be among them (`with_row_ids`)."""
        newest, *earlier = reversed(self.versions)
        ids = self._under(newest, columns)
        if earlier:
            known = newest.holds_at(self.known(Numeric(ids)))
            rows = np.flatnonzero(~known)
            for version in earlier:
                found = self._under(version, columns.take(rows))
                same = version.holds_at(self.known(Numeric(found)))
                ids[rows[same]] = found[same]
                rows = rows[~same]
            # Equal rows are counted without those that go by an earlier id: the numbers of a version have no gaps.
            own = np.concatenate([np.flatnonzero(known), rows])
            ids[own] = self._under(newest, columns.take(own))
        return columns.with_columns({self.name: Numeric(ids)})

    def _under(self, version: SchemaVersion, columns: Columns) -> IntArray:
        fields = [field for field in version.fields if field.name != self.name]
        digests = _digests(version.reading(columns), fields)
        return _distinct(digests + np.uint64(version.since * _VERSION & _WORD))


def with_row_ids(columns: Columns, fields: Sequence[Field], name: str) -> Columns:
    """`columns` with the rows' ids as column `name`: 64 bits that are equal where all values of `fields` are.

    -0.0 is 0.0, and NaN is NaN whatever its bits. Nulls are left out. Rows of one block that are equal in everything
    are different rows: they are told apart by how many of them came before. All rows of the same time are to be in one
    block, then the same table gives the same ids, wherever it is cut.
    """
    return columns.with_columns({name: Numeric(_distinct(_digests(columns, fields)))})


def _digests(columns: Columns, fields: Sequence[Field]) -> npt.NDArray[np.uint64]:
    digests = np.zeros(columns.length, np.uint64)
    for field in fields:
        column = columns[field.name]
        hashes = hash_text(encode_keys([_one_nan(column)]), zlib.crc32(field.name.encode()))
        digests += hashes if column.valid is None else np.where(column.valid, hashes, np.uint64(0))
    return digests


def _distinct(digests: npt.NDArray[np.uint64]) -> IntArray:
    return (digests + _AGAIN * _occurrences(digests)).view(np.int64)


def _one_nan(column: Text | Numeric) -> Text | Numeric:
    if isinstance(column, Text) or column.values.dtype.kind != "f":
        return column
    return Numeric(np.where(np.isnan(column.values), np.nan, column.values), column.valid)


def _occurrences(digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """How many earlier rows have the same digest."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(starts) >= len(digests):
        return np.zeros(len(digests), np.uint64)
    counts = np.diff(np.append(starts, len(digests)))
    before: IntArray = np.arange(len(digests)) - np.repeat(starts, counts)
    found = np.empty(len(digests), np.uint64)
    found[order] = before.astype(np.uint64)
    return found
