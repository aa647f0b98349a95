"""What a model has learned, as a fold: labels in the order of their arrival, in batches, each once.

    state, labels  ->  state

1. A batch is full when it holds a given number of labels that can be learned. Until then its labels wait. Others are counted and gone.
2. It is learned. If then not all is finite numbers, the learner goes back to the last published copy, and the batch is counted.
3. After a given number of labels a copy is published. A state may be saved between any two batches.

So neither the clock, nor how labels came in pieces, nor a crash has a say in what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from penstock.core.errors import ModelError
from penstock.models.online_state import dump, load
from penstock.models.published import Published

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.learning import Online
    from penstock.models.learners import Learner

_CHECKED_ROWS = 8
_START = (-1, -1)
_FAILURES = (ArithmeticError, ValueError, TypeError, KeyError, IndexError, AttributeError, ModelError)
"""What libraries raise on numbers that are too much for them."""


class Counts(msgspec.Struct, frozen=True):
    """What became of the labels.

    Attributes
    ----------
    labels
        Learned, or gone with a batch that was taken back.
    positives
        Those of them that are not 0.
    refused
        Neither 0 nor 1 in a binary task, or not a finite number.
    unknown
        Of events whose features cannot be had any more: they were erased.
    taken_back
        Batches after which the learner was not sound.
    """

    labels: int = 0
    positives: int = 0
    refused: int = 0
    unknown: int = 0
    taken_back: int = 0


class State(msgspec.Struct, frozen=True):
    """A learner between two batches, as it is saved.

    Attributes
    ----------
    definition
        Fingerprint of what is learned and how; another one's state is of no use.
    libraries
        Versions with which it was made; with others it may not be readable, or mean something else.
    position, label_position
        The last label that was learned: when it had joined its event, and its own position in the log.
    counts
        Up to there.
    erasures
        How many keys had been forgotten; after another one the log is another.
    learner
        Bytes of `online_state.dump`.
    good
        What the learner goes back to.
    log
        The id of the log that was learned.
    """

    definition: str
    libraries: dict[str, str]
    position: int
    label_position: int
    counts: Counts
    erasures: int
    learner: bytes
    good: bytes
    log: str = ""


_state_decoder = msgspec.msgpack.Decoder(State)


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """Labels in the order in which they joined their events, each event's first, one array element each.

    Attributes
    ----------
    positions
        int64[n]: the position in the log at which both label and event were there.
    label_positions, event_positions
        int64[n].
    values
        float64[n].
    """

    positions: NDArray[np.int64]
    label_positions: NDArray[np.int64]
    event_positions: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Any) -> Arrived:
        """Those at these indices."""
        return Arrived(
            self.positions[rows], self.label_positions[rows], self.event_positions[rows], self.values[rows]
        )

    def place(self, row: int) -> tuple[int, int]:
        """When one of them had joined its event, and its own position in the log."""
        return int(self.positions[row]), int(self.label_positions[row])

    def plus(self, others: Arrived) -> Arrived:
        """These, and others after them."""
        pairs = (
            (getattr(self, name), getattr(others, name))
            for name in ("positions", "label_positions", "event_positions", "values")
        )
        return Arrived(*(np.concatenate(pair) for pair in pairs))


class Point(NamedTuple):
    """Where a copy is published: the position in the log, and how many more follow of the labels that were given."""

    position: int
    following: int


class Fold:
    """A learner and what it has learned so far.

    Parameters
    ----------
    learner, online
        Who learns, and in which steps.
    binary
        Whether labels are 0 and 1.
    counts, cursor, good
        Of a state that is gone on with.
    """

    def __init__(
        self,
        learner: Learner,
        online: Online,
        *,
        binary: bool,
        counts: Counts | None = None,
        cursor: tuple[int, int] = _START,
        good: bytes | None = None,
    ) -> None:
        self.learner = learner
        self.counts = counts or Counts()
        self.cursor = cursor
        self._online, self._binary = online, binary
        self._good = learner.keep() if good is None else good
        self._waiting: tuple[Arrived, NDArray[np.float64]] | None = None
        self._passed = (0, 0)
        """Refused and unknown ones behind the first label that waits; they count when it does."""

    @property
    def waiting(self) -> int:
        """Labels that wait for their batch to be full."""
        return 0 if self._waiting is None else len(self._waiting[0])

    def learn(self, arrived: Arrived, vectors: NDArray[np.float64]) -> Iterator[Point]:
        """Learn labels that follow those before; yields at each point where a copy is to be taken.

        Parameters
        ----------
        vectors
            float64, shape [n, features]: the events' features as served. A row of an event that is gone holds infinity.
        """
        unknown = np.logical_and.reduce(np.isinf(vectors), axis=1)
        refused = ~(self._allowed(arrived.values) | unknown)
        fine, held = np.flatnonzero(~unknown & ~refused), self.waiting
        ends = np.concatenate(
            [np.zeros(held, np.int64), fine + 1]
        )  # after which of the arrived each is passed
        arrived_fine, vectors_fine = self._with_waiting(arrived.take(fine), vectors[fine])
        values, done, start = arrived_fine.values, 0, 0
        copies = self._copies(self.counts.labels + len(values)) - self._copies(self.counts.labels)
        while done + self._online.batch <= len(values):
            rows = slice(done, done + self._online.batch)
            done, stop = rows.stop, int(ends[rows.stop - 1])
            self._step(vectors_fine[rows], values[rows])
            self._count(values[rows], refused[start:stop], unknown[start:stop])
            self.cursor, start = arrived_fine.place(done - 1), stop
            if self.counts.labels % self._online.publish_every == 0:
                self._waiting = (arrived_fine.take(slice(done, None)), vectors_fine[done:])
                self._publish()
                copies -= 1
                yield Point(self.cursor[0], copies)
        self._waiting = (arrived_fine.take(slice(done, None)), vectors_fine[done:])
        first = max(int(ends[done]) - 1, 0) if done < len(values) else len(arrived)
        if first > start:  # nothing waits before these
            self._count(values[:0], refused[start:first], unknown[start:first])
            self.cursor, start = arrived.place(first - 1), first
        self._passed = (
            self._passed[0] + int(refused[start:].sum()),
            self._passed[1] + int(unknown[start:].sum()),
        )

    def copy(self) -> Published:
        """What is known, to be published."""
        return Published(self.learner.form(), self.counts.labels, self.cursor[0])

    def state(self, *, definition: str, libraries: dict[str, str], erasures: int, log: str = "") -> bytes:
        """All that `restored` needs, as bytes to be sealed."""
        learner = dump(self.learner)
        return msgspec.msgpack.encode(
            State(definition, libraries, *self.cursor, self.counts, erasures, learner, self._good, log)
        )

    @classmethod
    def restored(cls, state: State, online: Online, *, binary: bool) -> Fold:
        """The fold of a state whose seal was checked."""
        learner: Learner = load(state.learner)
        cursor = (state.position, state.label_position)
        return cls(learner, online, binary=binary, counts=state.counts, cursor=cursor, good=state.good)

    @property
    def problem(self) -> str:
        """What is wrong with the learner, though it goes on."""
        return self.learner.problem

    def _with_waiting(
        self, arrived: Arrived, vectors: NDArray[np.float64]
    ) -> tuple[Arrived, NDArray[np.float64]]:
        if self._waiting is None:
            return arrived, vectors
        return self._waiting[0].plus(arrived), np.concatenate([self._waiting[1], vectors])

    def _copies(self, labels: int) -> int:
        """How many copies are published within so many labels."""
        return labels // self._online.publish_every

    def _allowed(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (values == 0.0) | (values == 1.0) if self._binary else np.isfinite(values)

    def _step(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        if not self._survives(vectors, labels):
            self.learner.go_back(self._good)
            self.counts = msgspec.structs.replace(self.counts, taken_back=self.counts.taken_back + 1)

    def _survives(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> bool:
        try:
            with np.errstate(all="ignore"):
                self.learner.learn(vectors, labels)
                return self.learner.sound(vectors[-_CHECKED_ROWS:])
        except _FAILURES:
            return False

    def _publish(self) -> None:
        self.learner.settle()
        self._good = self.learner.keep()

    def _count(
        self, labels: NDArray[np.float64], refused: NDArray[np.bool_], unknown: NDArray[np.bool_]
    ) -> None:
        found = self.counts
        self.counts = Counts(
            labels=found.labels + len(labels),
            positives=found.positives + int(np.count_nonzero(labels)),
            refused=found.refused + self._passed[0] + int(refused.sum()),
            unknown=found.unknown + self._passed[1] + int(unknown.sum()),
            taken_back=found.taken_back,
        )
        self._passed = (0, 0)


def parse_state(data: bytes) -> State:
    """The state in bytes whose seal was checked."""
    return _state_decoder.decode(data)
