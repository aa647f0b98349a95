"""What the engine needs from the rooms beside it: stores, the event-id index, models. Wired in `penstock.app`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from penstock.kernel.columns import IntArray

if TYPE_CHECKING:
    from penstock.core.records import (
        Commit,
        DecisionBatch,
        LabelRecords,
        LogBatch,
        PendingLabel,
    )

HashArray = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]


class LogReader(Protocol):
    """The committed log, decisions and labels."""

    @property
    def next_position(self) -> int: ...

    @property
    def hash_seed(self) -> int: ...

    def counters(self) -> dict[str, int]: ...

    def read_log(
        self, start: int = 0, stop: int | None = None, *, sources: Collection[str] | None = None
    ) -> Iterator[LogBatch]: ...

    def log_batches_at(self, positions: IntArray) -> Iterator[LogBatch]: ...

    def read_decisions(
        self, start: int = 0, stop: int | None = None, *, endpoints: Collection[str] | None = None
    ) -> Iterator[DecisionBatch]: ...

    def decision_batches_at(self, positions: IntArray) -> Iterator[DecisionBatch]: ...

    def latest_labels(
        self, start: int = 0, stop: int | None = None, *, as_of_us: int | None = None
    ) -> LabelRecords: ...

    def labels_of(self, positions: IntArray) -> LabelRecords: ...


class EngineStore(LogReader, Protocol):
    """The store that the engine writes: one transaction a micro-batch."""

    def commit(self, commit: Commit) -> None: ...

    def pending_labels_for(self, hashes: HashArray) -> list[PendingLabel]: ...

    def offsets(self) -> dict[str, str]: ...

    def tidy(self) -> None: ...


class EventIdIndex(Protocol):
    """Finds the log positions of event ids by hash."""

    def lookup(self, hashes: HashArray) -> IntArray: ...

    def candidates(self, wanted: int) -> IntArray: ...

    def add(self, hashes: HashArray, positions: IntArray) -> None: ...


class Scorer(Protocol):
    """A loaded model version."""

    @property
    def version(self) -> str: ...

    @property
    def feature_names(self) -> tuple[str, ...]: ...

    def score(self, vectors: FloatArray) -> FloatArray: ...
