"""Memory of programs with an extension: what is freed, written out and read back besides keys and rows."""

from __future__ import annotations

import numpy as np
from numba import types

from penstock.kernel.bases import HAS, base_at, cell_of_base, list_value, listed_value, owner_of
from penstock.kernel.bits import stay_apart
from penstock.kernel.cells import WIDE_COUNT, WIDE_ROW, add_distinct, leave, take_pool_row
from penstock.kernel.columns import IntArray
from penstock.kernel.extended import drop_extended
from penstock.kernel.extension import (
    B_COUNT,
    B_DISTINCT,
    BASE_HEADER,
    X_BASE_COUNT,
    XB_CELL,
    XB_DISTINCT,
    XB_FIRSTS,
    XB_LASTS,
    XB_RECORD,
)
from penstock.kernel.jit import I8, I8_2D, READ_I8, READ_I8_2D, entry, inner
from penstock.kernel.keys import detach
from penstock.kernel.program import (
    C_COUNT,
    C_DISTINCT,
    C_FLAGS,
    C_SQUARES,
    C_SUM,
    C_WINDOW,
    EXTENSION,
    KEEPS_SQUARES,
    KEEPS_SUM,
    POOL_WORDS,
    RECORD_HEADER,
    SQUARES_WORDS,
    SUM_WORDS,
)
from penstock.kernel.ranks import count_ranks
from penstock.kernel.rows import Kernel, kernel_at, record_of, row_at
from penstock.kernel.windows import repair_back

# A base's words in a snapshot: its header, then count, sum, how many values were wide, and squares of its cell.
S_COUNT, S_SUM = BASE_HEADER, BASE_HEADER + 1
S_WIDE = S_SUM + SUM_WORDS
S_SQUARES = S_WIDE + 1
SAVED_WORDS = S_SQUARES + SQUARES_WORDS


@entry(types.void, I8, types.int64)
def drop_extended_key(
    frame: IntArray,
    slot: int,
) -> None:
    """Drop a key and free all that it holds."""
    k = kernel_at(frame)
    detach(k.table, slot)
    drop_extended(k, slot)


@inner
def settle(k: Kernel, slot: int, r: int, c: int) -> None:
    """Let the rows that are still held out of a lifetime window, at its upper edge: what is left is its base."""
    stay_apart()
    window = k.program[c + C_WINDOW]
    edges = r + RECORD_HEADER + 2 * window
    lo = k.states[edges]
    for number in range(k.states[edges + 1] - 1, lo - 1, -1):
        leave(k, slot, r, window, row_at(k, r, number))
    k.states[edges + 1] = lo
    repair_back(k, r, window, lo)


@inner
def save_words(k: Kernel, r: int, at: int, out: IntArray, row: int, start: int) -> None:
    """Write the words of a base and its cell to a row of `out`."""
    c = cell_of_base(k, at)
    b, flags = r + k.program[at + XB_RECORD], k.program[c + C_FLAGS]
    for i in range(BASE_HEADER):
        out[row, start + i] = k.states[b + i]
    out[row, start + S_COUNT] = k.states[r + k.program[c + C_COUNT]]
    if flags & KEEPS_SUM:
        for i in range(SUM_WORDS + 1):  # the count of wide values stands behind the sum
            out[row, start + S_SUM + i] = k.states[r + k.program[c + C_SUM] + i]
    if flags & KEEPS_SQUARES:
        for i in range(SQUARES_WORDS):
            out[row, start + S_SQUARES + i] = k.states[r + k.program[c + C_SQUARES] + i]


@inner
def save_values(k: Kernel, slot: int, r: int, at: int, out: IntArray, n: int) -> int:
    """Write first, last and distinct values of a base from `n` on, where there is room; return how far."""
    b = r + k.program[at + XB_RECORD]
    firsts, count = k.program[at + XB_FIRSTS], k.states[b + B_COUNT]
    for i in range(min(count, firsts)):
        if n < len(out):
            out[n] = k.states[b + BASE_HEADER + i]
        n += 1
    for i in range(min(count, k.program[at + XB_LASTS])):
        if n < len(out):
            out[n] = k.states[b + BASE_HEADER + firsts + i]
        n += 1
    owner = owner_of(k, slot, k.program[at + XB_CELL])
    for i in range(k.states[b + B_DISTINCT]):
        if n < len(out):
            out[n] = listed_value(k, owner, i)
        n += 1
    return n


@inner
def save_wide(k: Kernel, r: int, at: int, out: IntArray, n: int) -> int:
    """Write the wide sums of a base's cell from `n` on, where there is room; return how far."""
    c = cell_of_base(k, at)
    s = r + k.program[c + C_SUM]
    if k.program[c + C_FLAGS] & KEEPS_SUM == 0 or k.states[s + WIDE_COUNT] == 0:
        return n
    for i in range(k.program[POOL_WORDS]):
        if n < len(out):
            out[n] = k.pool[k.states[s + WIDE_ROW] + i]
        n += 1
    return n


@entry(types.void, I8, READ_I8, I8_2D, I8, I8, I8)
def _save(
    frame: IntArray,
    slots: IntArray,
    words: IntArray,
    values: IntArray,
    wide: IntArray,
    sizes: IntArray,
) -> None:
    k = kernel_at(frame)
    sizes[0] = sizes[1] = 0
    for i in range(len(slots)):
        r = record_of(k, slots[i])
        for base in range(k.program[k.program[EXTENSION] + X_BASE_COUNT]):
            at = base_at(k, base)
            settle(k, slots[i], r, cell_of_base(k, at))
        for base in range(k.program[k.program[EXTENSION] + X_BASE_COUNT]):
            at = base_at(k, base)
            save_words(k, r, at, words, i, base * SAVED_WORDS)
            sizes[0] = save_values(k, slots[i], r, at, values, sizes[0])
            sizes[1] = save_wide(k, r, at, wide, sizes[1])


@inner
def load_base(
    k: Kernel, slot: int, r: int, at: int, words: IntArray, row: int, start: int, values: IntArray, n: int
) -> int:
    """Give a base and its cell what `save_words` and `save_values` wrote; return how far the values went."""
    program, states = k.program, k.states
    c = cell_of_base(k, at)
    b, flags = r + program[at + XB_RECORD], program[c + C_FLAGS]
    for i in range(BASE_HEADER):
        states[b + i] = words[row, start + i]
    states[r + program[c + C_COUNT]] = words[row, start + S_COUNT]
    if flags & KEEPS_SUM:
        for i in range(SUM_WORDS + 1):
            states[r + program[c + C_SUM] + i] = words[row, start + S_SUM + i]
    if flags & KEEPS_SQUARES:
        for i in range(SQUARES_WORDS):
            states[r + program[c + C_SQUARES] + i] = words[row, start + S_SQUARES + i]
    firsts, count = program[at + XB_FIRSTS], states[b + B_COUNT]
    for i in range(min(count, firsts)):
        states[b + BASE_HEADER + i] = values[n]
        n += 1
    for i in range(min(count, program[at + XB_LASTS])):
        states[b + BASE_HEADER + firsts + i] = values[n]
        n += 1
    owner = owner_of(k, slot, program[at + XB_CELL])
    for i in range(states[b + B_DISTINCT]):
        add_distinct(k, owner, values[n])
        add_distinct(k, owner | HAS, values[n])
        list_value(k, owner, i, values[n])
        n += 1
    if program[at + XB_DISTINCT] != 0:
        states[r + program[c + C_DISTINCT]] = states[b + B_DISTINCT]
    return n


@inner
def load_wide(k: Kernel, r: int, at: int, wide: IntArray, n: int) -> int:
    """Give a base's cell its wide sums; return how far they went."""
    c = cell_of_base(k, at)
    s = r + k.program[c + C_SUM]
    if k.program[c + C_FLAGS] & KEEPS_SUM == 0 or k.states[s + WIDE_COUNT] == 0:
        return n
    row = take_pool_row(k)
    k.states[s + WIDE_ROW] = row
    for i in range(k.program[POOL_WORDS]):
        k.pool[row + i] = wide[n + i]
    return n + k.program[POOL_WORDS]


@entry(types.void, I8, types.int64, READ_I8_2D, READ_I8, READ_I8)
def _load(
    frame: IntArray,
    keys: int,
    words: IntArray,
    values: IntArray,
    wide: IntArray,
) -> None:
    """Give slots 0, 1, … their bases, and the rows their ranks."""
    k = kernel_at(frame)
    n = 0
    w = 0
    for slot in range(keys):
        r = record_of(k, slot)
        count_ranks(k, r, 0)
        for base in range(k.program[k.program[EXTENSION] + X_BASE_COUNT]):
            at = base_at(k, base)
            n = load_base(k, slot, r, at, words, slot, base * SAVED_WORDS, values, n)
            w = load_wide(k, r, at, wide, w)


def save_bases(frame: IntArray, program: IntArray, slots: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the bases of these slots: words a key, values, wide sums. All lifetime windows are settled."""
    bases = int(program[program[EXTENSION] + X_BASE_COUNT])
    words = np.zeros((len(slots), bases * SAVED_WORDS), np.int64)
    sizes = np.zeros(2, np.int64)
    nothing = np.zeros(0, np.int64)
    _save(frame, slots, words, nothing, nothing, sizes)
    values, wide = (np.zeros(int(size), np.int64) for size in sizes)
    _save(frame, slots, words, values, wide, sizes)
    return words, values, wide


def load_bases(frame: IntArray, keys: int, words: IntArray, values: IntArray, wide: IntArray) -> None:
    """Give a loaded state its bases and ranks."""
    _load(frame, keys, words, values, wide)


def lanes_of_values(bases: tuple[tuple[int, int, int], ...], words: IntArray) -> IntArray:
    """Return of which lane each saved value is; `bases` are their (lane, first values, last values)."""
    if not bases:
        return np.zeros(0, np.int64)
    lanes = np.tile([lane for lane, _, _ in bases], len(words))
    return np.repeat(lanes, _values_of_bases(bases, words).ravel())


def values_of_keys(bases: tuple[tuple[int, int, int], ...], words: IntArray) -> IntArray:
    """Return how many saved values each key has, int64[keys]."""
    return _values_of_bases(bases, words).sum(axis=1) if bases else np.zeros(len(words), np.int64)


def wide_of_keys(bases: int, words: IntArray) -> IntArray:
    """Return how many wide sums each key has, int64[keys]."""
    if not bases:
        return np.zeros(len(words), np.int64)
    return (words.reshape(len(words), bases, SAVED_WORDS)[:, :, S_WIDE] != 0).sum(axis=1).astype(np.int64)


def _values_of_bases(bases: tuple[tuple[int, int, int], ...], words: IntArray) -> IntArray:
    """Return how many saved values each base of each key has, int64[keys, bases]."""
    sizes = []
    for base, (_, firsts, lasts) in enumerate(bases):
        count, distinct = (words[:, base * SAVED_WORDS + at] for at in (B_COUNT, B_DISTINCT))
        sizes.append(np.minimum(count, firsts) + np.minimum(count, lasts) + distinct)
    return np.stack(sizes, axis=1)


def saved_distinct(bases: int, words: IntArray) -> int:
    """Return how many distinct values saved words list."""
    return int(words.reshape(len(words), bases, SAVED_WORDS)[:, :, B_DISTINCT].sum()) if bases else 0


def saved_wide(bases: int, words: IntArray) -> int:
    """Return how many wide sums saved words have."""
    return int(wide_of_keys(bases, words).sum())
