from __future__ import annotations

from pathlib import Path

import numpy as np

from penstock.kernel.pages import own_memory


def resident_bytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_large_arrays_are_zeros_that_can_be_written():
    array = own_memory(1 << 20, np.int64)
    assert array.dtype == np.int64
    assert len(array) == 1 << 20
    assert not array.any()
    array[7] = 3
    assert array.sum() == 3


def test_memory_goes_back_with_the_array():
    """Blocks of 8 MiB that were freed into the heap would stay, behind the one that is held."""
    arrays = []
    for _ in range(8):
        array = own_memory(1 << 20, np.int64)
        array.fill(1)
        arrays.append(array)
    full = resident_bytes()
    del arrays[:7], array
    assert full - resident_bytes() > 6 * (8 << 20)
