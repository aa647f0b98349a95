"""Lists of values, one a row: features of several values, and their Arrow form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.core.types import ArrayType
from penstock.engine.frames import to_arrow
from penstock.engine.values import to_list
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, concat, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """A column of lists: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: IntArray
    values: Column

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of_row(cls, there: BoolArray, values: Column) -> Lists:
        """Lists of the values that are there, bool[n, w]; `values` are those n * w, row after row."""
        kept = values.take(np.flatnonzero(there.ravel()))
        return cls(offsets_of(there.sum(axis=1)), kept)

    def take(self, rows: npt.NDArray[np.integer]) -> Lists:
        """The lists at `rows`, in that order."""
        starts, lengths = self.offsets[:-1][rows], np.diff(self.offsets)[rows]
        offsets = offsets_of(lengths)
        gather = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Lists(offsets, self.values.take(gather))

    def to_arrow(self, dtype: ArrayType) -> pa.Array:
        """The column as an Arrow list array."""
        import pyarrow as pa

        values = to_arrow(self.values, dtype.elem)
        return pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), values)

    def to_lists(self, dtype: ArrayType) -> list[list[Any]]:
        """The column as Python lists; null is None."""
        values = to_list(self.values, dtype.elem)
        bounds = self.offsets.tolist()
        return [values[a:b] for a, b in pairwise(bounds)]


def concat_lists(parts: Sequence[Lists]) -> Lists:
    """The rows of several columns, one after another."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    columns = [Columns(len(part.values), {"values": part.values}) for part in parts]
    return Lists(offsets_of(lengths), concat(columns)["values"])
