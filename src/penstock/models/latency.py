"""How long a model takes for one row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.runtimes import ScoringModel

_ROWS, _WARM_ROWS = 1000, 50


def row_latency_ms(model: ScoringModel, vectors: NDArray[np.float64]) -> float:
    """The 99th percentile of the processor time for one row, in milliseconds, over up to 1,000 rows of `vectors` [n, features].

    Processor time, not time on the wall: what else the machine does must not decide about a model.
    """
    rows = np.resize(np.arange(len(vectors)), _ROWS + _WARM_ROWS)
    took = []
    for row in rows:
        started = time.thread_time_ns()
        model.score(vectors[row : row + 1])
        took.append(time.thread_time_ns() - started)
    return float(np.quantile(took[_WARM_ROWS:], 0.99)) / 1e6
