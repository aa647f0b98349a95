from __future__ import annotations

import numpy as np

from penstock.engine.row_ids import with_row_ids
from penstock.kernel.columns import Columns, Numeric
from penstock.types import Field, Float64


def test_numbers_that_are_equal_make_the_same_row():
    quiet, signed = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    ids = [_id_of(value) for value in (0.0, -0.0, quiet, signed, 1.0)]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 3


def _id_of(value: float) -> int:
    columns = Columns(1, {"amount": Numeric(np.array([value]))})
    return int(with_row_ids(columns, [Field("amount", Float64)], "id")["id"].values[0])
