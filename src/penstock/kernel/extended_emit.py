"""The outputs of programs with an extension: which are read before the asking row is in its windows, and which after."""

from __future__ import annotations

import numpy as np

from penstock.kernel.batch import Batch
from penstock.kernel.bits import bits_of, is_finite_bits
from penstock.kernel.decays import decayed
from penstock.kernel.emit import LAST, MAX, MIN, TIME_SINCE_LAST, since_last, value_of
from penstock.kernel.entropies import entropy
from penstock.kernel.extended_lists import (
    FIRST_DISTINCT,
    FIRST_N,
    LAST_DISTINCT,
    LAST_N,
    emit_distinct,
    emit_ranked,
)
from penstock.kernel.extended_values import NO_BASE, earlier, since_first, value_of_lifetime
from penstock.kernel.extension import (
    Q_LOWER,
    X_OUTPUTS,
    X_WINDOWS,
    XO_BASE,
    XO_INDEX,
    XO_OF_OTHERS,
    XO_PARAMETER,
    XO_QUEUE,
    XO_WORDS,
    XQ_RECORD,
    XW_LIFETIME,
    XW_WORDS,
)
from penstock.kernel.jit import inner
from penstock.kernel.medians import median
from penstock.kernel.program import (
    A_CELL,
    A_FUNCTION,
    AGGREGATE_TABLE,
    AGGREGATE_WORDS,
    AGGREGATES,
    C_COUNT,
    C_WINDOW,
    CELL_TABLE,
    CELL_WORDS,
    EXTENSION,
    R_REMEMBERED,
)
from penstock.kernel.queues import LOWER, heap_at, queue_at, value_in
from penstock.kernel.rows import Kernel
from penstock.kernel.slopes import slope
from penstock.kernel.spec import Function

TIME_SINCE_FIRST, LAG = int(Function.TIME_SINCE_FIRST), int(Function.LAG)
MEDIAN, MODE, ENTROPY, SLOPE = (
    int(f) for f in (Function.MEDIAN, Function.MODE, Function.ENTROPY, Function.SLOPE)
)
EWMA = int(Function.EWMA)
NO_QUEUE = -1


@inner
def emit_extended(k: Kernel, b: Batch, r: int, time: int, place: int, before: bool, too_late: bool) -> None:
    """Write the outputs that are read before the asking row is in its windows, or those that are read after.

    Read before: functions of the other rows, and lifetime windows when the row is too late for them.
    """
    program = k.program
    e = program[EXTENSION]
    for a in range(program[AGGREGATES]):
        entry = program[AGGREGATE_TABLE] + a * AGGREGATE_WORDS
        o = e + program[e + X_OUTPUTS] + a * XO_WORDS
        c = program[CELL_TABLE] + program[entry + A_CELL] * CELL_WORDS
        lifetime = program[e + program[e + X_WINDOWS] + program[c + C_WINDOW] * XW_WORDS + XW_LIFETIME] != 0
        is_before = program[o + XO_OF_OTHERS] != 0 or (lifetime and too_late)
        if is_before != before or program[o + XO_INDEX] != 0:
            continue
        asked = k.states[r + R_REMEMBERED] if lifetime else time
        emit_output(k, b, r, c, o, program[entry + A_FUNCTION], asked, place * b.down + a * b.across)


@inner
def emit_output(k: Kernel, b: Batch, r: int, c: int, o: int, function: int, time: int, at: int) -> None:
    """Write one output, or the several of a function of several values, from `at` on."""
    n, base = k.program[o + XO_PARAMETER], k.program[o + XO_BASE]
    if function == FIRST_N or function == LAST_N:
        emit_ranked(k, b, r, c, base, n, function == FIRST_N, at)
        return
    if function == FIRST_DISTINCT or function == LAST_DISTINCT:
        q = queue_at(k, k.program[o + XO_QUEUE])
        emit_distinct(k, b, r, q, n, function == FIRST_DISTINCT, at)
        return
    value, valid = extended_value(k, r, c, o, function, time)
    b.bits[at] = value if valid else 0
    b.ok[at] = valid


@inner
def extended_value(k: Kernel, r: int, c: int, o: int, function: int, time: int) -> tuple[int, bool]:
    """Return one output's value as of a time."""
    base = k.program[o + XO_BASE]
    if k.program[o + XO_QUEUE] != NO_QUEUE:
        return queued_value(k, r, c, k.program[o + XO_QUEUE], function, time)
    if function == TIME_SINCE_FIRST:
        return since_first(k, r, c, base, time)
    if function == LAG:
        return earlier(k, r, c, base, k.program[o + XO_PARAMETER])
    if base != NO_BASE and function in (MIN, MAX, LAST, TIME_SINCE_LAST):
        return value_of_lifetime(k, r, c, base, function, time)
    if function == TIME_SINCE_LAST:
        return since_last(k, r, c, time)
    return value_of(k, r, c, function)


@inner
def queued_value(k: Kernel, r: int, c: int, queue: int, function: int, time: int) -> tuple[int, bool]:
    """Return the value of a function that keeps a queue."""
    q = queue_at(k, queue)
    x = r + k.program[q + XQ_RECORD]
    count = k.states[r + k.program[c + C_COUNT]]
    if function == MEDIAN:
        return median(k, r, q)
    if function == MODE and k.states[x + Q_LOWER] > 0:
        return value_in(k, r, q, k.rows[heap_at(k, r, q, LOWER, 0)]), True
    value = np.int64(0)
    valid = False
    if function == ENTROPY:
        value, valid = entropy(k, x, count), count > 0
    elif function == SLOPE:
        value, valid = slope(k, x, count)
    elif function == EWMA:
        weight = decayed(k, r, queue_at(k, queue + 1), time)
        value, valid = bits_of(decayed(k, r, q, time) / weight), weight != 0.0
    elif function != MODE:
        value, valid = bits_of(decayed(k, r, q, time)), True
    return value, valid and is_finite_bits(value)
