"""Large arrays in memory of their own.

What is freed into the allocator's heap mostly stays there: once a large block has been freed, glibc takes blocks of that size
from the heap, and a hole in it is not given back. State that is replaced by a larger copy now and then would so hold
twice what it needs.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGE_BYTES = 1 << 20


def own_memory(count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros whose memory, where it is a MiB or more, goes back to the system with the array.

    Examples
    --------
    >>> own_memory(3, np.int64).tolist(), int(own_memory(1 << 20, np.int32).sum())
    ([0, 0, 0], 0)
    """
    kind = np.dtype(dtype)
    size = count * kind.itemsize
    if size < _LARGE_BYTES:
        return np.zeros(count, kind)
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), kind)
