"""What single keys hold, taken out of a view's state and put into an empty one: each key goes on with the same bits elsewhere.

A key's bytes are a snapshot of a state that holds that key alone. They are made in two steps: `take_out` copies the arrays, quickly, while nobody
moves the state; `KeyStates.blobs` makes bytes of them, whenever there is time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import types

from penstock.kernel import snapshot
from penstock.kernel.columns import BoolArray, IntArray, Text, offsets_of
from penstock.kernel.jit import I8, I8_2D, READ_I8, entry
from penstock.kernel.memory import Held, HeldBases, Memory
from penstock.kernel.program import LANES, POOL_WORDS, R_FIRST, R_NEWEST, R_NEXT, RECORD, Program
from penstock.kernel.rows import kernel_at, record_of, row_at

Texts = dict[int, Text]
"""The texts of the lanes of text, in the order of their codes."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyStates:
    """What some keys held at one moment.

    Attributes
    ----------
    program
        Of whose view.
    there
        bool[n]: which of the keys that were asked for were held.
    held, texts
        What those hold, one key after another.
    """

    program: Program
    there: BoolArray
    held: Held
    texts: Texts

    def blobs(self) -> list[bytes | None]:
        """Bytes for each key that was asked for; None where it was not held."""
        found: list[bytes | None] = [None] * len(self.there)
        parts = _split(self.program, self.held)
        for row, part in zip(np.flatnonzero(self.there).tolist(), parts, strict=True):
            texts = named_anew(self.program, part, lambda lane, codes: self.texts[lane].take(codes))
            found[row] = snapshot.encode(self.program, part, texts)
        return found


@entry(types.void, I8, READ_I8, I8_2D)
def _copy_rows(frame: IntArray, slots: IntArray, out: IntArray) -> None:
    k = kernel_at(frame)
    at = 0
    for i in range(len(slots)):
        r = record_of(k, slots[i])
        for number in range(k.states[r + R_FIRST], k.states[r + R_NEXT]):
            row = row_at(k, r, number)
            for j in range(out.shape[1]):
                out[at, j] = k.rows[row + j]
            at += 1


def take_out(memory: Memory, keys: Text) -> tuple[BoolArray, Held]:
    """Which of `keys` a state holds, and a copy of what those hold; each key once."""
    found = memory.table.find(keys)
    there = found >= 0 if keys.valid is None else (found >= 0) & keys.valid
    slots = found[there]
    records = slots * memory.program[RECORD]
    counts = memory.states[records + R_NEXT] - memory.states[records + R_FIRST]
    rows = np.empty((int(counts.sum()), 2 + int(memory.program[LANES])), np.int64)
    _copy_rows(memory.frame, slots, rows)
    held = Held(memory.table.keys(slots), memory.states[records + R_NEWEST], counts, rows, 0)
    return there, replace(held, bases=memory.bases_of(slots))


def joined(program: Program, blobs: Sequence[bytes], intern: Callable[[int, Text], IntArray]) -> Held:
    """What the keys of `blobs` hold, with the codes that `intern` gives their texts.

    Raises
    ------
    SnapshotError
        Where bytes are damaged, of another format version, or of another program.
    """
    parts = []
    for blob in blobs:
        held, texts = snapshot.decode(program, blob)
        give_codes(program, held, {lane: intern(lane, text) for lane, text in texts.items()})
        parts.append(held)
    if len(parts) == 1:
        return replace(parts[0], evicted_keys=0)
    sizes = np.concatenate([np.diff(one.keys.offsets) for one in parts] or [np.zeros(0, np.int64)])
    data = np.concatenate([one.keys.data for one in parts] or [np.zeros(0, np.uint8)])
    none = np.zeros((0, 2 + len(program.lanes)), np.int64)
    return Held(
        Text(offsets_of(sizes), data),
        _concatenated([one.newest for one in parts]),
        _concatenated([one.counts for one in parts]),
        np.concatenate([one.rows for one in parts] or [none]),
        0,
        _joined_bases([one.bases for one in parts if one.bases is not None]),
    )


def named_anew(program: Program, held: Held, texts: Callable[[int, IntArray], Text]) -> Texts:
    """Number the texts of `held` in the order in which they appear; return them, as `texts` knows them by the codes of before."""
    named = {}
    for lane in text_lanes(program):
        places = _codes_of(program, lane, held)
        codes, renamed = _by_appearance(np.concatenate([column[at] for column, at in places]))
        named[lane] = texts(lane, codes)
        _rename(places, renamed)
    return named


def give_codes(program: Program, held: Held, codes: Mapping[int, IntArray]) -> None:
    """Write the codes that the texts of `held` have in another state, int64 by lane, for their numbers."""
    for lane, given in codes.items():
        places = _codes_of(program, lane, held)
        _rename(places, given[np.concatenate([column[at] for column, at in places])])


def codes_in(program: Program, lane: int, held: Held) -> IntArray:
    """The codes of a lane of text that stand in `held`."""
    return np.concatenate([column[at] for column, at in _codes_of(program, lane, held)])


def text_lanes(program: Program) -> list[int]:
    """The lanes of text."""
    return [lane for lane, kind in enumerate(program.lanes) if kind.name == "CODE"]


def _split(program: Program, held: Held) -> list[Held]:
    """What each key holds."""
    rows = offsets_of(held.counts).tolist()
    bases = _split_bases(program, held.bases, len(held.counts))
    return [
        Held(
            held.keys.take(slice(i, i + 1)),
            held.newest[i : i + 1],
            held.counts[i : i + 1],
            held.rows[rows[i] : rows[i + 1]].copy(),
            0,
            bases[i],
        )
        for i in range(len(held.counts))
    ]


def _split_bases(program: Program, bases: HeldBases | None, keys: int) -> Sequence[HeldBases | None]:
    if bases is None:
        return [None] * keys
    from penstock.kernel.extended_memory import values_of_keys, wide_of_keys

    pool = int(program.encode()[POOL_WORDS])
    values = offsets_of(values_of_keys(bases_of(program), bases.words)).tolist()
    wide = offsets_of(wide_of_keys(len(program.bases), bases.words) * pool).tolist()
    return [
        HeldBases(
            bases.words[i : i + 1],
            bases.values[values[i] : values[i + 1]].copy(),
            bases.wide[wide[i] : wide[i + 1]],
        )
        for i in range(keys)
    ]


def bases_of(program: Program) -> tuple[tuple[int, int, int], ...]:
    """Of each lifetime window its lane, and how many first and last values it keeps."""
    return tuple((base.lane, base.firsts, base.lasts) for base in program.bases)


def _joined_bases(parts: Sequence[HeldBases]) -> HeldBases | None:
    if not parts:
        return None
    words = np.concatenate([one.words for one in parts])
    return HeldBases(
        words, _concatenated([one.values for one in parts]), _concatenated([one.wide for one in parts])
    )


def _concatenated(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _codes_of(program: Program, lane: int, held: Held) -> list[tuple[IntArray, BoolArray]]:
    """The columns of `held` in which codes of a lane stand, and where."""
    places = [(held.rows[:, 2 + lane], (held.rows[:, 1] >> lane) & 1 == 1)]
    if held.bases is not None and len(held.bases.values):
        from penstock.kernel.extended_memory import lanes_of_values

        places.append((held.bases.values, lanes_of_values(bases_of(program), held.bases.words) == lane))
    return places


def _rename(places: Sequence[tuple[IntArray, BoolArray]], codes: IntArray) -> None:
    """Write codes, one after another, where others stand."""
    start = 0
    for column, at in places:
        stop = start + int(np.count_nonzero(at))
        column[at] = codes[start:stop]
        start = stop


def _by_appearance(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Return the distinct codes in order of appearance, and for each code its place among them."""
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[inverse]
