"""How long a model takes for one row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.runtimes import ScoringModel

_ROWS, _WARM_ROWS = 1000, 50


def row_latency_ms(model: ScoringModel, vectors: NDArray[np.float64]) -> float:
    """The 99th percentile of the processor time for one row, in milliseconds, over 1,000 rows drawn in turn from `vectors` [n, features]."""
    count = len(vectors)
    turns = [lambda row: model.score(vectors[row % count : row % count + 1])]
    return latencies_ms(turns, _ROWS + _WARM_ROWS)[0]


def latencies_ms(calls: Sequence[Callable[[int], object]], rows: int) -> list[float]:
    """The 99th percentile of the processor time of each call, in milliseconds, over ``range(rows)``, of which the first few do not count.

    The calls take turns, row by row and each as often the first, so that what the machine does meanwhile concerns all alike. Processor time, not
    time on the wall: what else the machine does must not decide about a model.

    >>> len(latencies_ms([lambda row: row, lambda row: row + 1], 100))
    2
    """
    took = np.zeros((rows, len(calls)))
    for row in range(rows):
        for turn in range(len(calls)):
            at = (row + turn) % len(calls)
            started = time.thread_time_ns()
            calls[at](row)
            took[row, at] = time.thread_time_ns() - started
    counted = took[min(_WARM_ROWS, rows // 2) :]
    return [float(value) / 1e6 for value in np.quantile(counted, 0.99, axis=0)]
