"""When a row of a source counts: its timestamp, and of a batch source also the delay with which its data are known."""

from __future__ import annotations

import numpy as np

from penstock.kernel.columns import Columns, IntArray, Numeric
from penstock.plan.nodes import SourceNode


def row_times(columns: Columns, source: SourceNode) -> IntArray:
    """The times of the rows of `source`, int64[n] in microseconds."""
    column = columns[source.time_field]
    assert isinstance(column, Numeric)
    times = column.values.astype(np.int64, copy=False)
    return times + source.data_delay_us if source.data_delay_us else times
