"""The state of one view: keys in, features out, and its snapshot.

`ViewState` owns the flat arrays; `step.run` works on them and says when one is too small, which is then replaced by a
larger one here. What the numbers mean is defined by `penstock.testing.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.kernel import key_states, snapshot
from penstock.kernel.batch import PLANNED_IN_SCRATCH, workspace_words
from penstock.kernel.cells import NEVER
from penstock.kernel.columns import BoolArray, IntArray, Text
from penstock.kernel.interner import Interner
from penstock.kernel.jit import ByteArray, unchecked
from penstock.kernel.key_states import KeyStates
from penstock.kernel.keys import COUNT
from penstock.kernel.memory import Memory, to_floats
from penstock.kernel.program import R_NEWEST, RECORD, LaneKind, Program
from penstock.kernel.rows import EVICTED, ROWS_HELD
from penstock.kernel.step import APPLY, LOOKUP, NO_KEY, run

FloatMatrix = npt.NDArray[np.float64]
NO_EVENT = NEVER
"""The time of the newest row of a key that has none."""
_Batch = tuple[Text, IntArray, IntArray, BoolArray, ByteArray]
# Rows worked on at once, and with many outputs a quarter: the more, the more of them have the same key, but their columns
# should stay in the CPU's cache.
_PART, _PART_OUTPUTS = 1 << 16, 1 << 19
_SHRINK_EVERY = 1 << 12  # rows between looks at how much memory lies idle
_NO_SPACE = np.zeros(0, np.int64)


class Op:
    """What to do with a row: apply it, only look up, or answer as for a key that is not there (uint8 codes)."""

    APPLY = APPLY
    LOOKUP = LOOKUP
    NONE = NO_KEY


class Taken(Protocol):
    """Values of n rows, of which some can be taken."""

    def take(self, rows: IntArray, /) -> Self:
        """The values of the rows at these indices, in that order."""
        ...


class Output(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The features of n rows.

    `bits` (int64[n, A], 0 where null) are floats, integers or codes as `Program.output_kinds` says; `valid` is
    bool[n, A]; `lateness` is 0, 1 or 2 for each applied row: in order, late, too late.

    What is made beside the kernel and does not fit 64 bits, texts and lists, stands in `apart` by output; `failed`, bool[n], are rows for
    which a function of a user's failed.
    """

    bits: IntArray
    valid: BoolArray
    lateness: ByteArray
    apart: Mapping[int, Taken] | None = None
    failed: BoolArray | None = None

    def take(self, rows: IntArray) -> Output:
        """The rows at these indices, in that order."""
        apart = None if self.apart is None else {at: values.take(rows) for at, values in self.apart.items()}
        failed = None if self.failed is None else self.failed[rows]
        return Output(self.bits[rows], self.valid[rows], self.lateness[rows], apart, failed)


@dataclass(frozen=True, slots=True)
class StateStats:
    """How much a state holds."""

    keys: int
    rows: int
    evicted_keys: int
    nbytes: int


class ViewState:
    """The windowed aggregates of all keys of one view.

    Not to be used by two threads at once; `process` releases the GIL.

    Parameters
    ----------
    program
        What to compute.
    seed
        Seed of the hashes. No output depends on it.

    Examples
    --------
    >>> from penstock.kernel.program import AggregateSpec, Function, Window
    >>> program = Program((LaneKind.FLOAT,), (Window(60_000_000),), (AggregateSpec(Function.SUM, 0, 0),))
    >>> state = ViewState(program)
    >>> values, lateness = state.process_floats(
    ...     Text.from_strings(["ann", "ann"]),
    ...     np.array([0, 59_999_999]),
    ...     np.array([[1.5], [2.0]]).view(np.int64),
    ...     np.ones((2, 1), bool),
    ...     np.zeros(2, np.uint8),
    ... )
    >>> values.ravel().tolist(), lateness.tolist()
    ([1.5, 3.5], [0, 0])
    """

    __slots__ = (
        "_interners",
        "_kinds",
        "_lanes",
        "_memory",
        "_outputs",
        "_run_one",
        "_run_rows",
        "_since_shrink",
        "program",
        "seed",
    )

    def __init__(self, program: Program, *, seed: int = 0) -> None:
        self.program = program
        self.seed = seed
        self._kinds = np.array(program.output_kinds, np.int64)
        self._outputs = len(self._kinds)
        self._run_rows = runner_of(program)
        self._run_one = unchecked(self._run_rows)
        self._lanes = len(program.lanes)
        self._memory = Memory(program.encode(), seed=seed)
        self._interners = {
            lane: Interner(seed=seed) for lane, kind in enumerate(program.lanes) if kind is LaneKind.CODE
        }
        self._since_shrink = 0

    def process(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """Work on rows in log order and return their features.

        Parameters
        ----------
        keys
            The entity keys (see `encode_keys`), n texts; a row with a null key is treated as `Op.NONE`.
        times
            Event times in microseconds, int64[n].
        lanes
            The input columns as 64-bit patterns, int64[n, L], C-contiguous.
        valid
            Where a value is present, bool[n, L].
        ops
            What to do with each row, uint8[n] of `Op`.

        Raises
        ------
        InputError
            Where shapes or types do not fit.
        """
        if self._interners:
            self._collect_texts()
        return self.process_more(keys, times, lanes, valid, ops)

    def process_more(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """`process` of more rows of the same batch: the codes of its texts stay good."""
        n = len(times)
        if keys.valid is not None:
            ops = np.where(keys.valid, ops, np.uint8(NO_KEY))
        shape = (n, self._lanes)
        if len(keys.offsets) != n + 1 or len(ops) != n or lanes.shape != shape or valid.shape != shape:
            self._refuse(keys, times, lanes, valid, ops)
        try:
            if n <= PLANNED_IN_SCRATCH:
                output = _room(n, self._outputs)
                run_rows = (
                    self._run_one if n == 1 and _is_plain(keys, times, lanes, valid, ops) else self._run_rows
                )
                self._run(run_rows, keys.offsets, keys.data, times, lanes, valid, ops, output, _NO_SPACE)
            else:
                output = self._in_parts(keys, times, lanes, valid, ops)
        except TypeError:
            return self.process_more(*self._cast(keys, times, lanes, valid, ops))
        return output

    def _in_parts(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> Output:
        """`process` of more than a few rows. Their outputs lie column by column, as frames take them."""
        n = len(times)
        rows = min(n, _PART, max(_PART >> 2, _PART_OUTPUTS // max(self._outputs, 1)))
        bits = np.empty((self._outputs, n), np.int64).T
        ok = np.empty((self._outputs, n), np.bool_).T
        lateness = np.empty(n, np.uint8)
        space = np.empty(workspace_words(rows, self._outputs), np.int64)
        for at in range(0, n, rows):
            p = slice(at, min(at + rows, n))
            offsets = keys.offsets[at : p.stop + 1]
            room = Output(bits[p], ok[p], lateness[p])
            self._run(self._run_rows, offsets, keys.data, times[p], lanes[p], valid[p], ops[p], room, space)
        return Output(bits, ok, lateness)

    def _run(
        self,
        run_rows: Callable[..., int],
        offsets: IntArray,
        data: ByteArray,
        times: IntArray,
        lanes: IntArray,
        valid: BoolArray,
        ops: ByteArray,
        output: Output,
        space: IntArray,
    ) -> None:
        memory = self._memory
        bits, ok, lateness = output.bits, output.valid, output.lateness
        while status := run_rows(
            memory.frame, offsets, data, times, lanes, valid, ops, bits, ok, lateness, space
        ):
            memory.grow(status, offsets)
        self._since_shrink += len(times)
        if self._since_shrink > _SHRINK_EVERY:
            self._since_shrink = 0
            memory.shrink()

    def process_floats(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> tuple[FloatMatrix, ByteArray]:
        """`process` as models want it: float64[n, A] with NaN for null, and the lateness."""
        output = self.process(keys, times, lanes, valid, ops)
        values = np.empty(output.bits.shape, np.float64)
        to_floats(output.bits, output.valid, self._kinds, values)
        return values, output.lateness

    def intern(self, lane: int, values: Text) -> IntArray:
        """Return the codes of texts for a CODE lane, int64[n]; good for this and the next `process`."""
        return self._interner(lane).intern(values)

    def texts(self, lane: int, codes: IntArray, valid: BoolArray | None = None) -> Text:
        """Return the texts of codes; to be asked before the next `process`."""
        return self._interner(lane).texts(codes, valid)

    def forget(self, key: bytes) -> bool:
        """Drop a key with all its state; return whether it was there."""
        found = self._memory.table.find(_one_text(key))[0]
        if found < 0:
            return False
        self._memory.drop_key(found)
        self._memory.table.pack()
        self._memory.shrink()  # last, since it looks up where the arrays are now
        return True

    @property
    def memory(self) -> Memory:
        """The arrays, for readers."""
        return self._memory

    def keys(self) -> Text:
        """Return the keys that are held, in no order."""
        table = self._memory.table
        return table.keys(table.live_slots())

    def newest(self, keys: Text) -> IntArray:
        """Return the time of each key's newest row, int64[n]; `NO_EVENT` where there is none."""
        memory = self._memory
        slots = memory.table.find(keys)
        times = memory.states[np.maximum(slots, 0) * memory.program[RECORD] + R_NEWEST]
        there = slots >= 0 if keys.valid is None else (slots >= 0) & keys.valid
        return np.where(there, times, NO_EVENT)

    @property
    def evicted_keys(self) -> int:
        """How many keys have left because `max_keys` were held."""
        return self._memory.table.meta.item(EVICTED)

    @property
    def stats(self) -> StateStats:
        """How much is held now."""
        meta = self._memory.table.meta
        texts = sum(i.table.nbytes for i in self._interners.values())
        return StateStats(
            keys=int(meta[COUNT]),
            rows=int(meta[ROWS_HELD]),
            evicted_keys=self.evicted_keys,
            nbytes=self._memory.nbytes + texts,
        )

    def snapshot(self) -> bytes:
        """Return the state as bytes: equal states give equal bytes, however they came about."""
        held = self._memory.export()
        texts = key_states.named_anew(self.program, held, self.texts)
        return snapshot.encode(self.program, held, texts)

    def export(self, keys: Text) -> KeyStates:
        """What these keys hold now, each given once; `load` goes on from its blobs."""
        there, held = key_states.take_out(self._memory, keys)
        texts = key_states.named_anew(self.program, held, self.texts)
        return KeyStates(self.program, there, held, texts)

    def load(self, blobs: Sequence[bytes]) -> None:
        """Hold what the keys of these blobs held when they were exported, and nothing else; each key once.

        Raises
        ------
        SnapshotError
            Where bytes are damaged, of another format version, or of another program; the state is as before.
        """
        held = key_states.joined(self.program, blobs, self.intern)
        self._memory = Memory(self._memory.program, seed=self.seed)
        if blobs:
            self._memory.load(held)

    @classmethod
    def restore(cls, program: Program, data: bytes, *, seed: int = 0) -> ViewState:
        """Return the state of a snapshot.

        Raises
        ------
        SnapshotError
            Where the bytes are damaged, of another format version, or of another program.
        """
        held, texts = snapshot.decode(program, data)
        state = cls(program, seed=seed)
        key_states.give_codes(program, held, {lane: state.intern(lane, text) for lane, text in texts.items()})
        state._memory.load(held)
        return state

    def _interner(self, lane: int) -> Interner:
        if lane not in self._interners:
            raise InputError(f"lane {lane}: it holds no text; lanes of text are {sorted(self._interners)}.")
        return self._interners[lane]

    def _collect_texts(self) -> None:
        due = [lane for lane, interner in self._interners.items() if interner.is_due()]
        if not due:
            return
        held = self._memory.export()
        for lane in due:
            self._interners[lane].collect(key_states.codes_in(self.program, lane, held))

    def _cast(self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray) -> _Batch:
        """Return the batch in the exact types of the kernel; only lossless casts are made."""
        wanted = (keys.offsets, np.int64), (keys.data, np.uint8), (times, np.int64), (lanes, np.int64)
        given: list[tuple[npt.NDArray[Any], type[np.generic]]] = [*wanted, (valid, np.bool_), (ops, np.uint8)]
        try:
            cast = [np.require(a.astype(t, casting="safe", copy=False), t, ["C", "A"]) for a, t in given]
        except TypeError:
            self._refuse(keys, times, lanes, valid, ops)
        if all(a is b for a, (b, _) in zip(cast, given, strict=True)):
            self._refuse(keys, times, lanes, valid, ops)
        return Text(cast[0], cast[1], keys.valid), cast[2], cast[3], cast[4], cast[5]

    def _refuse(
        self, keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray
    ) -> NoReturn:
        arrays = {"times": times, "lanes": lanes, "valid": valid, "ops": ops}
        found = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in arrays.items())
        raise InputError(
            f"batch of {len(keys)} keys: {found} found; times int64[n], lanes int64[n, {len(self.program.lanes)}], "
            "valid bool of the same shape and ops uint8[n] are allowed. Give arrays of these types and lengths."
        )


def runner_of(program: Program) -> Callable[..., int]:
    """Return what works on batches of a program: the core, or the extension, compiled where it is first needed."""
    if not program.is_extended:
        return run
    from penstock.kernel.extended import run_extended

    return run_extended


_I8, _U1, _B1 = np.dtype(np.int64), np.dtype(np.uint8), np.dtype(np.bool_)


def _is_plain(keys: Text, times: IntArray, lanes: IntArray, valid: BoolArray, ops: ByteArray) -> bool:
    """Whether the arrays of one row are of the very types that the kernel works on, and lie as it reads them."""
    return (
        keys.offsets.dtype is _I8
        and keys.data.dtype is _U1
        and times.dtype is _I8
        and lanes.dtype is _I8
        and valid.dtype is _B1
        and ops.dtype is _U1
        and (lanes.size < 2 or (lanes.flags.c_contiguous and valid.flags.c_contiguous))
    )


def _room(rows: int, outputs: int) -> Output:
    bits = np.empty((rows, outputs), np.int64)
    return Output(bits, np.empty((rows, outputs), np.bool_), np.empty(rows, np.uint8))


def _one_text(data: bytes) -> Text:
    return Text(np.array([0, len(data)], np.int64), np.frombuffer(data, np.uint8))
