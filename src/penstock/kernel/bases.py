"""What a lifetime window keeps of rows that are forgotten: its base.

Counts, sums and squares of a forgotten row stay in the window's cell, which lets nothing out; likewise it stays counted
as a distinct value, once. Extremes, times, and first and last values are words of the base. The distinct values of a base are
listed in the table of distinct values itself, as (list owner, index): value, so that they can be told and freed.
"""

from __future__ import annotations

from penstock.kernel.bits import ordered, stay_apart
from penstock.kernel.cells import (
    DISTINCT_WORDS,
    INT,
    WIDE_COUNT,
    WIDE_ROW,
    add_distinct,
    drop_distinct,
    find_distinct,
)
from penstock.kernel.extension import (
    B_COUNT,
    B_DISTINCT,
    B_FIRST_TIME,
    B_LAST_TIME,
    B_MAX,
    B_MIN,
    BASE_HEADER,
    X_BASE_COUNT,
    X_BASES,
    X_DISTINCT_BASES,
    XB_CELL,
    XB_DISTINCT,
    XB_FIRSTS,
    XB_LASTS,
    XB_RECORD,
    XB_WORDS,
)
from penstock.kernel.jit import inner
from penstock.kernel.program import (
    C_FLAGS,
    C_KIND,
    C_LANE,
    C_SUM,
    C_WINDOW,
    CELL_TABLE,
    CELL_WORDS,
    CELLS,
    EXTENSION,
    KEEPS_MAX,
    KEEPS_MIN,
    KEEPS_SUM,
    R_FIRST,
    R_NEXT,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
)
from penstock.kernel.rows import (
    DISTINCT_MASK,
    DISTINCT_USED,
    DONE,
    NEEDED,
    NEEDS_ENTRIES,
    POOL_FREE,
    POOL_FREE_COUNT,
    Kernel,
    row_at,
    time_of,
)

# Owners in the table of distinct values, beside those of the cells: what a base has, and its list.
HAS, LISTS = 1 << 40, 1 << 41


@inner
def base_at(k: Kernel, base: int) -> int:
    """Return where the entry of a base begins in `program`."""
    e = k.program[EXTENSION]
    return e + k.program[e + X_BASES] + base * XB_WORDS


@inner
def cell_of_base(k: Kernel, at: int) -> int:
    """Return where the entry of a base's cell begins in `program`."""
    return k.program[CELL_TABLE] + k.program[at + XB_CELL] * CELL_WORDS


@inner
def owner_of(k: Kernel, slot: int, cell: int) -> int:
    """Return the owner of a cell's distinct values."""
    return slot * k.program[CELLS] + cell + 1


@inner
def room_to_fold(k: Kernel, r: int, time: int) -> int:
    """Return DONE where the rows up to `time` can be folded without growing an array, else what must grow."""
    stay_apart()
    program, meta = k.program, k.meta
    listing = program[program[EXTENSION] + X_DISTINCT_BASES]
    if listing == 0:
        return DONE
    number = k.states[r + R_FIRST]
    while number < k.states[r + R_NEXT] and time_of(k, r, number) <= time:
        number += 1
    wanted = 2 * listing * (number - k.states[r + R_FIRST])
    if 4 * (meta[DISTINCT_USED] + program[CELLS] + wanted) <= 3 * (meta[DISTINCT_MASK] + 1):
        return DONE
    meta[NEEDED] = wanted
    return NEEDS_ENTRIES


@inner
def fold_until(k: Kernel, slot: int, r: int, time: int) -> None:
    """Take the rows up to `time` into the bases, before they are forgotten. Needs `room_to_fold`."""
    stay_apart()
    program, states = k.program, k.states
    bases = program[program[EXTENSION] + X_BASE_COUNT]
    number = states[r + R_FIRST]
    while number < states[r + R_NEXT] and time_of(k, r, number) <= time:
        for base in range(bases):
            at = base_at(k, base)
            fold(k, slot, r, at, row_at(k, r, number))
            window = program[cell_of_base(k, at) + C_WINDOW]
            states[r + RECORD_HEADER + 2 * window] = number + 1
        number += 1


@inner
def fold(k: Kernel, slot: int, r: int, at: int, row: int) -> None:
    """Take one row into one base."""
    program, states = k.program, k.states
    c = cell_of_base(k, at)
    lane = program[c + C_LANE]
    if (k.rows[row + ROW_VALID] >> lane) & 1 == 0:
        return
    value, time = k.rows[row + ROW_LANES + lane], k.rows[row + ROW_TIME]
    b = r + program[at + XB_RECORD]
    count = states[b + B_COUNT]
    if count == 0:
        states[b + B_FIRST_TIME] = time
    states[b + B_LAST_TIME] = time
    if program[c + C_FLAGS] & (KEEPS_MIN | KEEPS_MAX):
        order = value if program[c + C_KIND] == INT else ordered(value)
        states[b + B_MIN] = order if count == 0 else min(states[b + B_MIN], order)
        states[b + B_MAX] = order if count == 0 else max(states[b + B_MAX], order)
    firsts, lasts = program[at + XB_FIRSTS], program[at + XB_LASTS]
    if count < firsts:
        states[b + BASE_HEADER + count] = value
    keep_last(k, b + BASE_HEADER + firsts, min(count, lasts), lasts, value)
    states[b + B_COUNT] = count + 1
    if program[at + XB_DISTINCT] != 0:
        fold_distinct(k, owner_of(k, slot, program[at + XB_CELL]), b, value)


@inner
def keep_last(k: Kernel, at: int, held: int, most: int, value: int) -> None:
    """Put a value behind the `held` ones at `at` of `states`, of which at most `most` stay."""
    if most == 0:
        return
    if held == most:
        for i in range(most - 1):
            k.states[at + i] = k.states[at + i + 1]
        held -= 1
    k.states[at + held] = value


@inner
def fold_distinct(k: Kernel, owner: int, b: int, value: int) -> None:
    """Let a base keep one count of a value, and none of its repetitions."""
    if add_distinct(k, owner | HAS, value) == 0:
        drop_distinct(k, owner | HAS, value)
        drop_distinct(k, owner, value)
        return
    index = k.states[b + B_DISTINCT]
    list_value(k, owner, index, value)
    k.states[b + B_DISTINCT] = index + 1


@inner
def list_value(k: Kernel, owner: int, index: int, value: int) -> None:
    """Write a value into the list of an owner."""
    add_distinct(k, owner | LISTS, index)
    k.distinct[DISTINCT_WORDS * find_distinct(k, owner | LISTS, index) + 2] = value


@inner
def listed_value(k: Kernel, owner: int, index: int) -> int:
    """Return a value of the list of an owner."""
    return k.distinct[DISTINCT_WORDS * find_distinct(k, owner | LISTS, index) + 2]


@inner
def remove_entry(k: Kernel, owner: int, value: int) -> None:
    """Delete the entry of a value, whatever its count."""
    k.distinct[DISTINCT_WORDS * find_distinct(k, owner, value) + 2] = 1
    drop_distinct(k, owner, value)


@inner
def free_bases(k: Kernel, slot: int, r: int) -> None:
    """Free what the bases of a dropped key hold outside of its record."""
    stay_apart()
    program, states = k.program, k.states
    for base in range(program[program[EXTENSION] + X_BASE_COUNT]):
        at = base_at(k, base)
        c = cell_of_base(k, at)
        s = r + program[c + C_SUM]
        if program[c + C_FLAGS] & KEEPS_SUM and states[s + WIDE_COUNT] != 0:
            row = states[s + WIDE_ROW]
            k.pool[row] = k.meta[POOL_FREE]
            k.meta[POOL_FREE] = row
            k.meta[POOL_FREE_COUNT] += 1
        owner = owner_of(k, slot, program[at + XB_CELL])
        for index in range(states[r + program[at + XB_RECORD] + B_DISTINCT]):
            value = listed_value(k, owner, index)
            remove_entry(k, owner, value)
            remove_entry(k, owner | HAS, value)
            remove_entry(k, owner | LISTS, index)
