"""What the engine needs from the rooms beside it: stores, the event-id index, models. Wired in `penstock.app`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from penstock.kernel.columns import Columns, IntArray

if TYPE_CHECKING:
    from penstock.core.records import (
        Commit,
        DecisionBatch,
        LabelRecords,
        LogBatch,
        PendingLabel,
    )
    from penstock.engine.assembly import LookedUp
    from penstock.plan.nodes import Plan, ServiceNode

HashArray = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]


class LogReader(Protocol):
    """The committed log, decisions and labels."""

    @property
    def next_position(self) -> int:
        """The length of the log."""

    @property
    def hash_seed(self) -> int:
        """The seed for hashing event ids."""

    def counters(self) -> dict[str, int]:
        """Totals since the store was created."""

    def read_log(
        self, start: int = 0, stop: int | None = None, *, sources: Collection[str] | None = None
    ) -> Iterator[LogBatch]:
        """Log batches with rows in ``[start, stop)``, by first position."""

    def log_batches_at(self, positions: IntArray) -> Iterator[LogBatch]:
        """Each log batch that holds one of `positions`."""

    def read_decisions(
        self, start: int = 0, stop: int | None = None, *, endpoints: Collection[str] | None = None
    ) -> Iterator[DecisionBatch]:
        """Decision batches with rows in ``[start, stop)``."""

    def decision_batches_at(self, positions: IntArray) -> Iterator[DecisionBatch]:
        """Each decision batch that holds one of `positions`."""

    def latest_labels(
        self, start: int = 0, stop: int | None = None, *, as_of_us: int | None = None
    ) -> LabelRecords:
        """The truth of each labelled event in ``[start, stop)``, as known at a time."""

    def labels_of(self, positions: IntArray) -> LabelRecords:
        """Every label of these events, by (event, label) position."""


class EngineStore(LogReader, Protocol):
    """The store that the engine writes: one transaction a micro-batch."""

    def commit(self, commit: Commit) -> None:
        """Store one micro-batch, all or nothing; durable on return."""

    @property
    def labels_wait(self) -> bool:
        """Whether any label waits for its event."""

    def pending_labels_for(self, hashes: HashArray) -> list[PendingLabel]:
        """Labels that wait for an event whose id has one of these hashes."""

    def offsets(self) -> dict[str, str]:
        """Where to go on reading, by source or URI."""

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""

    def tidy(self) -> None:
        """House-keeping between commits."""


class OnlineStore(Protocol):
    """The latest state of all keys, to be asked by key."""

    @property
    def plan(self) -> Plan:
        """The plan in force."""

    def look_up(
        self, plan: Plan, service: ServiceNode, columns: Columns
    ) -> tuple[int, LookedUp, IntArray] | None:
        """The features of `service`, made for `plan`, over all that was accepted so far; changes no value.

        `columns` hold the keys, the request's columns, and the times as of which is asked (`penstock.engine.online.AT`).
        Returns the length of the log, the rows, and int64[n, look-ups] with the time of the newest row that each key has in
        each view (`NO_EVENT` where there is none); None where another plan is in force by now.
        """


class BlobReader(Protocol):
    """What is kept for others to read by name: bytes, each as of a position of the log."""

    def get(self, names: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        """Position and bytes by name, all of one moment; None where there is nothing. Raises `StoreError` in time."""


class BlobStore(BlobReader, Protocol):
    """Where they are kept; what is of an older position never takes the place of what is of a newer one."""

    def put(self, items: Sequence[tuple[bytes, bytes]], position: int) -> None:
        """Keep bytes by name, as of a position."""

    def delete(self, names: Sequence[bytes], position: int) -> None:
        """Drop what is of this position or an older one."""

    def names(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The names that begin so, some at a time."""


class EventIdIndex(Protocol):
    """Finds the log positions of event ids by hash."""

    def lookup(self, hashes: HashArray) -> IntArray:
        """For each hash a position that was added with it, or -1."""

    def candidates(self, wanted: int) -> IntArray:
        """Every position that was added with this hash."""

    def add(self, hashes: HashArray, positions: IntArray) -> None:
        """Add the ids of new events."""


class Scorer(Protocol):
    """A loaded model version."""

    @property
    def version(self) -> str:
        """The name that decisions record."""

    @property
    def digest(self) -> str:
        """SHA-256 of the version's manifest."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of a vector, in order."""

    def score(self, vectors: FloatArray) -> FloatArray:
        """Scores of float64[n, F] vectors."""
