"""The values of aggregates that the core does not know: lifetime windows, times since the first row, earlier values."""

from __future__ import annotations

from penstock.kernel.bases import base_at
from penstock.kernel.bits import ordered, stay_apart
from penstock.kernel.cells import BACK_MAX, BACK_MIN, INT
from penstock.kernel.emit import LAST, MIN, TIME_SINCE_LAST, seconds
from penstock.kernel.extension import (
    B_COUNT,
    B_FIRST_TIME,
    B_LAST_TIME,
    B_MAX,
    B_MIN,
    BASE_HEADER,
    XB_FIRSTS,
    XB_LASTS,
    XB_RECORD,
)
from penstock.kernel.jit import inner
from penstock.kernel.program import (
    C_COUNT,
    C_EXTREMES,
    C_KIND,
    C_LANE,
    C_WINDOW,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
)
from penstock.kernel.ranks import valid_row
from penstock.kernel.rows import Kernel, row_at
from penstock.kernel.spec import Function
from penstock.kernel.windows import front

TIME_SINCE_FIRST, LAG = int(Function.TIME_SINCE_FIRST), int(Function.LAG)
NO_BASE = -1


@inner
def value_of_lifetime(k: Kernel, r: int, c: int, base: int, function: int, time: int) -> tuple[int, bool]:
    """Return the value of a function of the core that a base has a part in."""
    if function == TIME_SINCE_LAST:
        return since_last_of_lifetime(k, r, c, base, time)
    if function == LAST:
        return earlier(k, r, c, base, 1)
    return extreme_of_lifetime(k, r, c, base, function == MIN)


@inner
def based(k: Kernel, r: int, base: int) -> int:
    """Return where the words of a base begin in `states`."""
    return r + k.program[base_at(k, base) + XB_RECORD]


@inner
def counts(k: Kernel, r: int, c: int, base: int) -> tuple[int, int]:
    """Return how many valid rows a window has forgotten, and how many it still has."""
    count = k.states[r + k.program[c + C_COUNT]]
    if base == NO_BASE:
        return 0, count
    forgotten = k.states[based(k, r, base) + B_COUNT]
    return forgotten, count - forgotten


@inner
def value_at(k: Kernel, r: int, c: int, number: int) -> int:
    """Return the value of a row."""
    return k.rows[row_at(k, r, number) + ROW_LANES + k.program[c + C_LANE]]


@inner
def earlier(k: Kernel, r: int, c: int, base: int, n: int) -> tuple[int, bool]:
    """Return the n-th latest value."""
    forgotten, held = counts(k, r, c, base)
    if n <= held:
        return value_at(k, r, c, valid_row(k, r, c, held - n)), True
    back = n - held
    if back > forgotten:
        return 0, False
    at = base_at(k, base)
    kept = min(forgotten, k.program[at + XB_LASTS])
    return k.states[based(k, r, base) + BASE_HEADER + k.program[at + XB_FIRSTS] + kept - back], True


@inner
def since_first(k: Kernel, r: int, c: int, base: int, time: int) -> tuple[int, bool]:
    """Return the seconds since the first valid row."""
    stay_apart()
    forgotten, held = counts(k, r, c, base)
    if forgotten + held == 0:
        return 0, False
    if forgotten > 0:
        return seconds(time - k.states[based(k, r, base) + B_FIRST_TIME]), True
    return seconds(time - k.rows[row_at(k, r, valid_row(k, r, c, 0)) + ROW_TIME]), True


@inner
def since_last_of_lifetime(k: Kernel, r: int, c: int, base: int, time: int) -> tuple[int, bool]:
    """Return the seconds since the last valid row, forgotten or not."""
    forgotten, held = counts(k, r, c, base)
    if held > 0:
        return seconds(time - k.rows[row_at(k, r, valid_row(k, r, c, held - 1)) + ROW_TIME]), True
    if forgotten > 0:
        return seconds(time - k.states[based(k, r, base) + B_LAST_TIME]), True
    return 0, False


@inner
def extreme_of_lifetime(k: Kernel, r: int, c: int, base: int, smallest: bool) -> tuple[int, bool]:
    """Return the minimum or maximum of all rows, forgotten or not."""
    forgotten, held = counts(k, r, c, base)
    if forgotten + held == 0:
        return 0, False
    e = r + k.program[c + C_EXTREMES]
    low, high = front(k, r, c, k.states[r + RECORD_HEADER + 2 * k.program[c + C_WINDOW]])
    order = min(low, k.states[e + BACK_MIN]) if smallest else max(high, k.states[e + BACK_MAX])
    if forgotten > 0:
        b = based(k, r, base)
        order = min(order, k.states[b + B_MIN]) if smallest else max(order, k.states[b + B_MAX])
    return (order if k.program[c + C_KIND] == INT else ordered(order)), True
