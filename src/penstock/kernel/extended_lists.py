"""Functions of several values: an output for each, the earliest first; what is missing stays null at the end."""

from __future__ import annotations

from penstock.kernel.batch import Batch
from penstock.kernel.extended_values import based, counts, earlier, value_at
from penstock.kernel.extension import BASE_HEADER, Q_LOWER, XQ_RECORD
from penstock.kernel.jit import inner
from penstock.kernel.queues import LOWER, heap_push, heap_remove, value_in
from penstock.kernel.ranks import valid_row
from penstock.kernel.rows import Kernel
from penstock.kernel.spec import Function

FIRST_N, LAST_N = int(Function.FIRST_N), int(Function.LAST_N)
FIRST_DISTINCT, LAST_DISTINCT = int(Function.FIRST_DISTINCT), int(Function.LAST_DISTINCT)


@inner
def emit_ranked(k: Kernel, b: Batch, r: int, c: int, base: int, n: int, first: bool, at: int) -> None:
    """Write the first or last n values."""
    forgotten, held = counts(k, r, c, base)
    there = min(n, forgotten + held)
    for j in range(n):
        b.bits[at + j * b.across] = 0
        b.ok[at + j * b.across] = j < there
        if j >= there:
            continue
        if not first:
            b.bits[at + j * b.across], _ = earlier(k, r, c, base, there - j)
        elif j < forgotten:
            b.bits[at + j * b.across] = k.states[based(k, r, base) + BASE_HEADER + j]
        else:
            b.bits[at + j * b.across] = value_at(k, r, c, valid_row(k, r, c, j - forgotten))


@inner
def emit_distinct(k: Kernel, b: Batch, r: int, q: int, n: int, first: bool, at: int) -> None:
    """Write the first or last n different values: the top of a heap, taken out and put back."""
    there = min(n, k.states[r + k.program[q + XQ_RECORD] + Q_LOWER])
    for j in range(n):
        b.bits[at + j * b.across] = 0
        b.ok[at + j * b.across] = j < there
    for j in range(there):
        place = j if first else there - 1 - j
        b.bits[at + place * b.across] = heap_remove(k, r, q, LOWER, 0)
    for j in range(there):
        heap_push(k, r, q, LOWER, b.bits[at + j * b.across])
    for j in range(there):
        b.bits[at + j * b.across] = value_in(k, r, q, b.bits[at + j * b.across])
