"""The ids of batch rows: a digest of a row's content, so that a row that is read again is known, whoever reads it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penstock.core.types import Field
from penstock.kernel.columns import Columns, IntArray, Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text

_AGAIN = np.uint64(0x9E3779B97F4A7C15)


def with_row_ids(columns: Columns, fields: Sequence[Field], name: str) -> Columns:
    """`columns` with the rows' ids as column `name`: 64 bits that are equal where all values of `fields` are.

    -0.0 is 0.0, and NaN is NaN whatever its bits. Nulls are left out, so that a column that was added later changes no id. Rows of one block that are equal in everything
    are different rows: they are told apart by how many of them came before. All rows of the same time are to be in one
    block, then the same table gives the same ids, wherever it is cut.
    """
    digests = np.zeros(columns.length, np.uint64)
    for field in fields:
        column = columns[field.name]
        hashes = hash_text(encode_keys([_one_nan(column)]), zlib.crc32(field.name.encode()))
        digests += hashes if column.valid is None else np.where(column.valid, hashes, np.uint64(0))
    digests += _AGAIN * _occurrences(digests)
    return columns.with_columns({name: Numeric(digests.view(np.int64))})


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
