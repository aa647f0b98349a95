"""Windows over a key's rows: two row numbers that seek moves, forward or back, and the minima between them.

A window holds the rows ``lo <= number < hi``. `seek` moves both edges to given times, letting rows in and out of the
cells one by one. Events in order move them forward only, so a row enters and leaves each window once; late rows and
look-ups at other times move them back by as many rows as they are late.

Minima and maxima (two stacks): for the rows ``lo <= number < middle`` the extremes of (number .. middle) are stored
beside each row, those of (middle .. hi) in one running value. When `lo` passes `middle`, the suffix extremes of the whole
window are made anew, each row being in the front part once: amortised O(1). When rows leave at the back, `middle` is made
UNUSABLE, which has the same effect.
"""

from __future__ import annotations

from penstock.kernel.bits import ordered, stay_apart
from penstock.kernel.cells import (
    BACK_MAX,
    BACK_MIN,
    INT,
    MIDDLE,
    NEVER,
    NOT_YET,
    UNUSABLE,
    enter,
    leave,
    room_for_cells,
)
from penstock.kernel.jit import inlined, inner
from penstock.kernel.program import (
    C_EXTREMES,
    C_FLAGS,
    C_KIND,
    C_LANE,
    C_LAST,
    C_MAX_COLUMN,
    C_MIN_COLUMN,
    CELL_TABLE,
    CELL_WORDS,
    KEEPS_LAST,
    KEEPS_MAX,
    KEEPS_MIN,
    R_FIRST,
    R_NEXT,
    RECORD_HEADER,
    ROW_LANES,
    ROW_TIME,
    ROW_VALID,
    W_BEGIN,
    W_END,
    W_FLAGS,
)
from penstock.kernel.rows import DONE, Kernel, row_at, time_of, window_at


@inlined
def seek(k: Kernel, slot: int, r: int, w: int, lower: int, upper: int, forward: bool) -> int:
    """Make window `w` hold the rows with ``lower < time <= upper``; return DONE or what must grow first.

    `forward` says that neither edge lies before where it was sought last. Stopped half-way, the window is consistent,
    only not there yet; calling again goes on. Needs lower <= upper.
    """
    status = DONE
    if k.states[r + RECORD_HEADER + 2 * w + 1] < k.states[r + R_NEXT]:
        status = enter_back(k, slot, r, w, upper)
    if not forward and status == DONE:
        status = enter_front(k, slot, r, w, lower)
        if status == DONE:
            leave_back(k, slot, r, w, upper)
    if status == DONE:
        leave_front(k, slot, r, w, lower)
    if k.program[window_at(k, w) + W_FLAGS] & (KEEPS_MIN | KEEPS_MAX):
        repair_front(k, r, w)
    return status


@inlined
def enter_back(k: Kernel, slot: int, r: int, w: int, upper: int) -> int:
    """Let the rows up to `upper` in at the window's upper edge; return DONE or what must grow first."""
    states = k.states
    edge = r + RECORD_HEADER + 2 * w + 1
    hi, following = states[edge], states[r + R_NEXT]
    status = DONE
    while hi < following:
        row = row_at(k, r, hi)
        if k.rows[row + ROW_TIME] > upper:
            break
        status = room_for_cells(k)
        if status != DONE:
            break
        enter(k, slot, r, w, row, hi, True)
        hi += 1
    states[edge] = hi
    return status


@inner
def enter_front(k: Kernel, slot: int, r: int, w: int, lower: int) -> int:
    """Let the rows later than `lower` in at the window's lower edge; return DONE or what must grow first."""
    stay_apart()
    states = k.states
    edge = r + RECORD_HEADER + 2 * w
    while states[edge] > states[r + R_FIRST]:
        lo = states[edge] - 1
        row = row_at(k, r, lo)
        if k.rows[row + ROW_TIME] <= lower:
            break
        status = room_for_cells(k)
        if status != DONE:
            return status
        states[edge] = lo
        enter(k, slot, r, w, row, lo, False)
        push_front(k, r, w, lo)
    return DONE


@inner
def leave_back(k: Kernel, slot: int, r: int, w: int, upper: int) -> None:
    """Let the rows later than `upper` out at the window's upper edge."""
    stay_apart()
    states = k.states
    edge = r + RECORD_HEADER + 2 * w
    before = states[edge + 1]
    hi = before
    while hi > states[edge] and time_of(k, r, hi - 1) > upper:
        hi -= 1
        leave(k, slot, r, w, row_at(k, r, hi))
    states[edge + 1] = hi
    if hi < before:
        repair_back(k, r, w, hi)


@inlined
def leave_front(k: Kernel, slot: int, r: int, w: int, lower: int) -> None:
    """Let the rows up to `lower` out at the window's lower edge."""
    states = k.states
    edge = r + RECORD_HEADER + 2 * w
    lo, hi = states[edge], states[edge + 1]
    while lo < hi:
        row = row_at(k, r, lo)
        if k.rows[row + ROW_TIME] > lower:
            break
        leave(k, slot, r, w, row)
        lo += 1
    states[edge] = lo


@inlined
def extend(k: Kernel, slot: int, r: int, w: int, number: int) -> None:
    """Let row `number`, just put at the window's upper edge, in. Needs `room_for_cells`."""
    k.states[r + RECORD_HEADER + 2 * w + 1] = number + 1
    enter(k, slot, r, w, row_at(k, r, number), number, True)


@inner
def retract(k: Kernel, slot: int, r: int, w: int, number: int) -> None:
    """Undo `extend`."""
    stay_apart()
    k.states[r + RECORD_HEADER + 2 * w + 1] = number
    leave(k, slot, r, w, row_at(k, r, number))
    repair_back(k, r, w, number)


@inner
def clear_window(k: Kernel, slot: int, r: int, w: int) -> None:
    """Let all rows out; extremes and last are left as they are."""
    stay_apart()
    edges = r + RECORD_HEADER + 2 * w
    for number in range(k.states[edges], k.states[edges + 1]):
        leave(k, slot, r, w, row_at(k, r, number))
    k.states[edges] = k.states[edges + 1]


@inner
def suffix(k: Kernel, r: int, c: int, number: int, below_min: int, below_max: int) -> tuple[int, int]:
    """Store beside a row the extremes of itself and of what follows it; return them."""
    row = row_at(k, r, number)
    program = k.program
    lane = program[c + C_LANE]
    if (k.rows[row + ROW_VALID] >> lane) & 1 != 0:
        value = k.rows[row + ROW_LANES + lane]
        order = value if program[c + C_KIND] == INT else ordered(value)
        below_min = min(below_min, order)
        below_max = max(below_max, order)
    if program[c + C_FLAGS] & KEEPS_MIN:
        k.rows[row + program[c + C_MIN_COLUMN]] = below_min
    if program[c + C_FLAGS] & KEEPS_MAX:
        k.rows[row + program[c + C_MAX_COLUMN]] = below_max
    return below_min, below_max


@inner
def front(k: Kernel, r: int, c: int, number: int) -> tuple[int, int]:
    """Return the extremes of the front part from row `number` on."""
    if number >= k.states[r + k.program[c + C_EXTREMES] + MIDDLE]:
        return NOT_YET, NEVER
    row = row_at(k, r, number)
    low = k.rows[row + k.program[c + C_MIN_COLUMN]] if k.program[c + C_FLAGS] & KEEPS_MIN else NOT_YET
    high = k.rows[row + k.program[c + C_MAX_COLUMN]] if k.program[c + C_FLAGS] & KEEPS_MAX else NEVER
    return low, high


@inner
def push_front(k: Kernel, r: int, w: int, number: int) -> None:
    """Give row `number`, just let in at the front, its suffix extremes."""
    stay_apart()
    program = k.program
    at = window_at(k, w)
    for cell in range(program[at + W_BEGIN], program[at + W_END]):
        c = program[CELL_TABLE] + cell * CELL_WORDS
        if program[c + C_FLAGS] & (KEEPS_MIN | KEEPS_MAX) == 0:
            continue
        if k.states[r + program[c + C_EXTREMES] + MIDDLE] > number:
            low, high = front(k, r, c, number + 1)
            suffix(k, r, c, number, low, high)


@inner
def repair_front(k: Kernel, r: int, w: int) -> None:
    """Make the suffix extremes anew where the front part is used up or unusable."""
    stay_apart()
    program, states = k.program, k.states
    at = window_at(k, w)
    lo, hi = states[r + RECORD_HEADER + 2 * w], states[r + RECORD_HEADER + 2 * w + 1]
    for cell in range(program[at + W_BEGIN], program[at + W_END]):
        c = program[CELL_TABLE] + cell * CELL_WORDS
        if program[c + C_FLAGS] & (KEEPS_MIN | KEEPS_MAX):
            repair_cell(k, r, c, lo, hi)


@inner
def repair_cell(k: Kernel, r: int, c: int, lo: int, hi: int) -> None:
    """`repair_front` of one cell, whose window holds the rows ``lo <= number < hi``."""
    stay_apart()
    states = k.states
    e = r + k.program[c + C_EXTREMES]
    if states[e + MIDDLE] >= lo:
        return
    low, high = NOT_YET, NEVER
    for number in range(hi - 1, lo - 1, -1):
        low, high = suffix(k, r, c, number, low, high)
    states[e + MIDDLE] = hi
    states[e + BACK_MIN] = NOT_YET
    states[e + BACK_MAX] = NEVER


@inner
def repair_back(k: Kernel, r: int, w: int, hi: int) -> None:
    """After rows left at the back: find the latest valid row again; the extremes are no longer usable."""
    stay_apart()
    program, states = k.program, k.states
    at = window_at(k, w)
    for cell in range(program[at + W_BEGIN], program[at + W_END]):
        c = program[CELL_TABLE] + cell * CELL_WORDS
        flags = program[c + C_FLAGS]
        if flags & (KEEPS_MIN | KEEPS_MAX):
            states[r + program[c + C_EXTREMES] + MIDDLE] = UNUSABLE
        if flags & KEEPS_LAST:
            last = states[r + program[c + C_LAST]]
            while last >= hi or (
                last >= states[r + R_FIRST]
                and (k.rows[row_at(k, r, last) + ROW_VALID] >> program[c + C_LANE]) & 1 == 0
            ):
                last -= 1
            states[r + program[c + C_LAST]] = last
