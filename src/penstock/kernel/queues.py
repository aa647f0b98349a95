"""Queues: what functions keep that need more of a window's rows than sums: order, frequencies, ages.

A queue follows one window: rows are pushed at its upper edge and popped at its lower one, in row order. Where the window moves
back, or a late row is put between others, the queue is cleared and filled anew. So it is never written out: a restored state
fills it when it is asked for.

Heaps lie in columns of the key's block: place p of a heap is in slot p of the block (of the median's upper heap, counted from the
block's end), whatever row is there, and holds a row's number; the row's own PLACE says where it stands. A block that is
resized, or whose rows are moved, loses them.

Frequencies: the table of distinct values holds, for each value of a queue, the number of the last row that has it.
EXTRA of that row counts them (of FIRST_DISTINCT: EXTRA of each row is the next one with its value).
"""

from __future__ import annotations

from penstock.kernel.bases import remove_entry
from penstock.kernel.bits import ordered, stay_apart
from penstock.kernel.cells import DISTINCT_WORDS, INT, add_distinct, find_distinct
from penstock.kernel.decays import pop_decayed, push_decayed, release_decayed
from penstock.kernel.entropies import recount
from penstock.kernel.extension import (
    DECAYED_COUNTS,
    DECAYED_SUMS,
    ENTROPIES,
    FIRSTS_DISTINCT,
    HEAP,
    LASTS_DISTINCT,
    MEDIANS,
    MODES,
    PLACE,
    Q_HI,
    Q_LO,
    Q_LOWER,
    Q_UPPER,
    SLOPES,
    X_QUEUE_COUNT,
    X_QUEUES,
    XQ_CELL,
    XQ_COLUMN,
    XQ_KIND,
    XQ_RECORD,
    XQ_WORDS,
    XQ_WORDS_OF_STATE,
)
from penstock.kernel.jit import inner
from penstock.kernel.program import (
    C_KIND,
    C_LANE,
    C_WINDOW,
    CELL_TABLE,
    CELL_WORDS,
    CELLS,
    EXTENSION,
    R_BLOCK,
    R_MASK,
    RECORD_HEADER,
    ROW_LANES,
    ROW_VALID,
    STRIDE,
)
from penstock.kernel.rows import (
    DISTINCT_MASK,
    DISTINCT_USED,
    DONE,
    NEEDED,
    NEEDS_DISTINCT,
    NEEDS_ENTRIES,
    NEEDS_POOL,
    POOL_FREE_COUNT,
    Kernel,
    row_at,
)
from penstock.kernel.slopes import add_to_slope

OWNERS = 1 << 42
LOWER, UPPER = 0, 1  # the heaps of a median; the others have a lower one only


@inner
def queue_at(k: Kernel, queue: int) -> int:
    """Return where the entry of a queue begins in `program`."""
    e = k.program[EXTENSION]
    return e + k.program[e + X_QUEUES] + queue * XQ_WORDS


@inner
def cell_of_queue(k: Kernel, q: int) -> int:
    """Return where the entry of a queue's cell begins in `program`."""
    return k.program[CELL_TABLE] + k.program[q + XQ_CELL] * CELL_WORDS


@inner
def value_in(k: Kernel, r: int, q: int, number: int) -> int:
    """Return the value of a row."""
    return k.rows[row_at(k, r, number) + ROW_LANES + k.program[cell_of_queue(k, q) + C_LANE]]


@inner
def is_valid(k: Kernel, r: int, q: int, number: int) -> bool:
    """Whether a row has a value."""
    lane = k.program[cell_of_queue(k, q) + C_LANE]
    return (k.rows[row_at(k, r, number) + ROW_VALID] >> lane) & 1 != 0


@inner
def extra_at(k: Kernel, r: int, q: int, number: int) -> int:
    """Return where EXTRA of a row is in `rows`."""
    return row_at(k, r, number) + k.program[q + XQ_COLUMN]


@inner
def heap_at(k: Kernel, r: int, q: int, side: int, place: int) -> int:
    """Return where a place of a heap is in `rows`."""
    slot = place if side == LOWER else k.states[r + R_MASK] - place
    return k.states[r + R_BLOCK] + slot * k.program[STRIDE] + k.program[q + XQ_COLUMN] + HEAP


@inner
def put(k: Kernel, r: int, q: int, side: int, place: int, number: int) -> None:
    """Put a row at a place of a heap."""
    k.rows[heap_at(k, r, q, side, place)] = number
    k.rows[row_at(k, r, number) + k.program[q + XQ_COLUMN] + PLACE] = place if side == LOWER else ~place


@inner
def order_of(k: Kernel, r: int, q: int, number: int) -> int:
    """Return a row's value as an integer of the same order."""
    value = value_in(k, r, q, number)
    return value if k.program[cell_of_queue(k, q) + C_KIND] == INT else ordered(value)


@inner
def is_above(k: Kernel, r: int, q: int, side: int, left: int, right: int) -> bool:
    """Whether a row stands nearer to the top of a heap than another."""
    kind = k.program[q + XQ_KIND]
    if kind == MEDIANS:
        a, b = order_of(k, r, q, left), order_of(k, r, q, right)
        return a > b if side == LOWER else a < b
    if kind == MODES:
        a, b = k.rows[extra_at(k, r, q, left)], k.rows[extra_at(k, r, q, right)]
        return a > b or (a == b and left > right)
    return left < right if kind == FIRSTS_DISTINCT else left > right


@inner
def rise(k: Kernel, r: int, q: int, side: int, place: int) -> int:
    """Move a row towards the top as far as it belongs; return its place."""
    number = k.rows[heap_at(k, r, q, side, place)]
    while place > 0:
        parent = (place - 1) >> 1
        other = k.rows[heap_at(k, r, q, side, parent)]
        if not is_above(k, r, q, side, number, other):
            break
        put(k, r, q, side, place, other)
        place = parent
    put(k, r, q, side, place, number)
    return place


@inner
def sink(k: Kernel, r: int, q: int, side: int, place: int) -> None:
    """Move a row away from the top as far as it belongs."""
    size = k.states[r + k.program[q + XQ_RECORD] + Q_LOWER + side]
    number = k.rows[heap_at(k, r, q, side, place)]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        other = k.rows[heap_at(k, r, q, side, child)]
        if child + 1 < size:
            second = k.rows[heap_at(k, r, q, side, child + 1)]
            if is_above(k, r, q, side, second, other):
                child, other = child + 1, second
        if not is_above(k, r, q, side, other, number):
            break
        put(k, r, q, side, place, other)
        place = child
    put(k, r, q, side, place, number)


@inner
def heap_push(k: Kernel, r: int, q: int, side: int, number: int) -> None:
    """Put a row into a heap."""
    size = r + k.program[q + XQ_RECORD] + Q_LOWER + side
    put(k, r, q, side, k.states[size], number)
    k.states[size] += 1
    rise(k, r, q, side, k.states[size] - 1)


@inner
def heap_remove(k: Kernel, r: int, q: int, side: int, place: int) -> int:
    """Take the row at a place out of a heap and return it."""
    size = r + k.program[q + XQ_RECORD] + Q_LOWER + side
    gone = k.rows[heap_at(k, r, q, side, place)]
    k.states[size] -= 1
    last = k.rows[heap_at(k, r, q, side, k.states[size])]
    if place < k.states[size]:
        put(k, r, q, side, place, last)
        sink(k, r, q, side, rise(k, r, q, side, place))
    return gone


@inner
def replace(k: Kernel, r: int, q: int, old: int, new: int) -> None:
    """Let another row stand for an old one, and move to where it belongs."""
    place = k.rows[row_at(k, r, old) + k.program[q + XQ_COLUMN] + PLACE]
    put(k, r, q, LOWER, place, new)
    sink(k, r, q, LOWER, rise(k, r, q, LOWER, place))


@inner
def balance(k: Kernel, r: int, q: int) -> None:
    """Let the lower heap of a median hold as many rows as the upper one, or one more."""
    sizes = r + k.program[q + XQ_RECORD]
    while k.states[sizes + Q_LOWER] > k.states[sizes + Q_UPPER] + 1:
        heap_push(k, r, q, UPPER, heap_remove(k, r, q, LOWER, 0))
    while k.states[sizes + Q_UPPER] > k.states[sizes + Q_LOWER]:
        heap_push(k, r, q, LOWER, heap_remove(k, r, q, UPPER, 0))


@inner
def push_median(k: Kernel, r: int, q: int, number: int) -> None:
    """Let a row into the heaps of a median."""
    side = LOWER
    if k.states[r + k.program[q + XQ_RECORD] + Q_LOWER] > 0:
        top = k.rows[heap_at(k, r, q, LOWER, 0)]
        side = UPPER if order_of(k, r, q, number) > order_of(k, r, q, top) else LOWER
    heap_push(k, r, q, side, number)
    balance(k, r, q)


@inner
def pop_median(k: Kernel, r: int, q: int, number: int) -> None:
    """Let a row out of the heaps of a median."""
    place = k.rows[row_at(k, r, number) + k.program[q + XQ_COLUMN] + PLACE]
    side = LOWER if place >= 0 else UPPER
    heap_remove(k, r, q, side, place if side == LOWER else ~place)
    balance(k, r, q)


@inner
def push_value(k: Kernel, r: int, q: int, owner: int, number: int) -> None:
    """Let a row into what counts values."""
    kind, value = k.program[q + XQ_KIND], value_in(k, r, q, number)
    is_new = add_distinct(k, owner, value) == 1
    entry = DISTINCT_WORDS * find_distinct(k, owner, value) + 2
    before = number if is_new else k.distinct[entry] - 1  # add_distinct has counted one more
    k.distinct[entry] = number
    count = 1 if is_new else k.rows[extra_at(k, r, q, before)] + 1
    if kind == FIRSTS_DISTINCT and not is_new:
        k.rows[extra_at(k, r, q, before)] = number
        return
    k.rows[extra_at(k, r, q, number)] = count
    if kind == ENTROPIES:
        recount(k, r + k.program[q + XQ_RECORD], count - 1, count)
    elif is_new:
        heap_push(k, r, q, LOWER, number)
    else:
        replace(k, r, q, before, number)


@inner
def pop_value(k: Kernel, r: int, q: int, owner: int, number: int) -> None:
    """Let a row out of what counts values."""
    kind, value = k.program[q + XQ_KIND], value_in(k, r, q, number)
    last = k.distinct[DISTINCT_WORDS * find_distinct(k, owner, value) + 2]
    if kind == ENTROPIES:
        count = k.rows[extra_at(k, r, q, last)]
        k.rows[extra_at(k, r, q, last)] = count - 1
        recount(k, r + k.program[q + XQ_RECORD], count, count - 1)
    elif last == number:
        heap_remove(k, r, q, LOWER, k.rows[row_at(k, r, number) + k.program[q + XQ_COLUMN] + PLACE])
    elif kind == FIRSTS_DISTINCT:
        replace(k, r, q, number, k.rows[extra_at(k, r, q, number)])
    elif kind == MODES:
        k.rows[extra_at(k, r, q, last)] -= 1
        sink(k, r, q, LOWER, k.rows[row_at(k, r, last) + k.program[q + XQ_COLUMN] + PLACE])
    if last == number:
        remove_entry(k, owner, value)


@inner
def push(k: Kernel, r: int, q: int, owner: int, number: int) -> None:
    """Let a row in."""
    kind = k.program[q + XQ_KIND]
    if kind == DECAYED_SUMS or kind == DECAYED_COUNTS:
        push_decayed(k, r, q, cell_of_queue(k, q), number)
    elif not is_valid(k, r, q, number):
        return
    elif kind == MEDIANS:
        push_median(k, r, q, number)
    elif kind == SLOPES:
        add_to_slope(k, r, q, cell_of_queue(k, q), row_at(k, r, number), False)
    else:
        push_value(k, r, q, owner, number)


@inner
def pop(k: Kernel, r: int, q: int, owner: int, number: int) -> None:
    """Let a row out."""
    kind = k.program[q + XQ_KIND]
    if kind == DECAYED_SUMS or kind == DECAYED_COUNTS:
        pop_decayed(k, r, q, cell_of_queue(k, q), number)
    elif not is_valid(k, r, q, number):
        return
    elif kind == MEDIANS:
        pop_median(k, r, q, number)
    elif kind == SLOPES:
        add_to_slope(k, r, q, cell_of_queue(k, q), row_at(k, r, number), True)
    else:
        pop_value(k, r, q, owner, number)


@inner
def counts_values(kind: int) -> bool:
    """Whether queues of a kind use the table of distinct values."""
    return kind == MODES or kind == ENTROPIES or kind == FIRSTS_DISTINCT or kind == LASTS_DISTINCT


@inner
def owner_of_queue(k: Kernel, slot: int, queue: int) -> int:
    """Return the owner of a queue's values in the table of distinct ones."""
    return OWNERS | (slot * k.program[k.program[EXTENSION] + X_QUEUE_COUNT] + queue + 1)


@inner
def clear_queues(k: Kernel, slot: int, r: int) -> None:
    """Empty all queues of a key."""
    stay_apart()
    program, states = k.program, k.states
    for queue in range(program[program[EXTENSION] + X_QUEUE_COUNT]):
        q = queue_at(k, queue)
        x = r + program[q + XQ_RECORD]
        kind = program[q + XQ_KIND]
        if counts_values(kind):
            owner = owner_of_queue(k, slot, queue)
            for number in range(states[x + Q_LO], states[x + Q_HI]):
                value = value_in(k, r, q, number)
                if is_valid(k, r, q, number):
                    d = DISTINCT_WORDS * find_distinct(k, owner, value)
                    if k.distinct[d] != 0:
                        remove_entry(k, owner, value)
        elif kind == DECAYED_SUMS or kind == DECAYED_COUNTS:
            release_decayed(k, r, q)
        for word in range(program[q + XQ_WORDS_OF_STATE]):
            states[x + word] = 0


@inner
def room_for_queues(k: Kernel) -> int:
    """Return DONE where a row can enter all queues without growing an array, else what must grow."""
    meta = k.meta
    queues = k.program[k.program[EXTENSION] + X_QUEUE_COUNT]
    if meta[POOL_FREE_COUNT] < queues + k.program[CELLS]:
        return NEEDS_POOL
    if 4 * (meta[DISTINCT_USED] + queues + k.program[CELLS]) <= 3 * (meta[DISTINCT_MASK] + 1):
        return DONE
    meta[NEEDED] = queues
    return NEEDS_ENTRIES


@inner
def follow(k: Kernel, slot: int, r: int) -> int:
    """Let all queues of a key hold what their windows do; return DONE or what must grow first."""
    program, states = k.program, k.states
    for queue in range(program[program[EXTENSION] + X_QUEUE_COUNT]):
        q = queue_at(k, queue)
        edges = r + RECORD_HEADER + 2 * program[cell_of_queue(k, q) + C_WINDOW]
        x = r + program[q + XQ_RECORD]
        if states[edges] < states[x + Q_LO] or states[edges + 1] < states[x + Q_HI]:
            clear_queues(k, slot, r)
            return follow_forward(k, slot, r)
    return follow_forward(k, slot, r)


@inner
def follow_forward(k: Kernel, slot: int, r: int) -> int:
    """`follow` where no window has moved back."""
    program, states = k.program, k.states
    for queue in range(program[program[EXTENSION] + X_QUEUE_COUNT]):
        q, owner = queue_at(k, queue), owner_of_queue(k, slot, queue)
        edges = r + RECORD_HEADER + 2 * program[cell_of_queue(k, q) + C_WINDOW]
        lo, hi = states[edges], states[edges + 1]
        x = r + program[q + XQ_RECORD]
        while states[x + Q_LO] < min(lo, states[x + Q_HI]):
            pop(k, r, q, owner, states[x + Q_LO])
            states[x + Q_LO] += 1
        if states[x + Q_HI] < lo:
            states[x + Q_LO] = states[x + Q_HI] = lo
        while states[x + Q_HI] < hi:
            if k.meta[POOL_FREE_COUNT] < 1:
                return NEEDS_POOL
            if 4 * (k.meta[DISTINCT_USED] + 1) > 3 * (k.meta[DISTINCT_MASK] + 1):
                return NEEDS_DISTINCT
            push(k, r, q, owner, states[x + Q_HI])
            states[x + Q_HI] += 1
    return DONE
