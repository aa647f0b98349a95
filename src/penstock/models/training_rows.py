"""A sample of a model's training rows, by which rows that it was trained on are known again.

Each row (time and vector) has a hash; kept are the smallest `SKETCH_ROWS` of them, a fair sample whatever the order of the
rows. A holdout row whose hash is among them was trained on, whatever the manifest says about periods.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ArtifactError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SKETCH_ROWS = 4096
_SPREAD, _MIX_1, _MIX_2 = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


def row_hashes(times_us: NDArray[np.int64], vectors: NDArray[np.float64]) -> NDArray[np.uint64]:
    """One hash a row, shape [n]: of its time and of every value; all nulls are one, and both zeros.

    >>> rows = np.array([[0.0, np.nan], [-0.0, np.nan], [1.0, 2.0]])
    >>> a, b, c = row_hashes(np.array([5, 5, 5]), rows)
    >>> bool(a == b), bool(a == c)
    (True, False)
    """
    values = np.where(np.isnan(vectors), np.nan, vectors) + 0.0
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    hashes = _mixed(np.ascontiguousarray(times_us, np.int64).view(np.uint64))
    for column in bits.T:
        hashes = _mixed(hashes ^ _mixed(column))
    return hashes


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread each word's bits over all of it (SplitMix64)."""
    x = x + _SPREAD
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def write_sketch(times_us: NDArray[np.int64], vectors: NDArray[np.float64]) -> bytes:
    """The smallest hashes of the rows, ascending, as the bytes of a NumPy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.unique(row_hashes(times_us, vectors))[:SKETCH_ROWS], allow_pickle=False)
    return buffer.getvalue()


def read_sketch(data: bytes) -> NDArray[np.uint64]:
    """The hashes of `write_sketch`, whose digest has been checked."""
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"Training rows: {error}. Train and register the model again.") from error
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ArtifactError(
            f"Training rows: {found.dtype} of shape {found.shape}; expected is uint64 of shape [n]. Train and register the "
            "model again."
        )
    return np.asarray(found, np.uint64)
