"""What one micro-batch leaves behind: the values that the engine hands to a store and reads back.

A `Commit` is one transaction: log, event ids, decisions, labels, dead letters, counters and source offsets become
durable together or not at all. Rows travel as columnar payloads that a store never looks into; beside each
payload stand the positions of its rows. Arrays are NumPy arrays, immutable by convention; so are the classes that every
micro-batch makes, since a frozen dataclass takes three times as long to build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    HashArray = npt.NDArray[np.uint64]
    PositionArray = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class LogBatch:
    """The rows of one source in one commit.

    Attributes
    ----------
    source
        Name of the source.
    positions
        int64[n], n ≥ 1: the rows' global log positions, strictly ascending. They have gaps where rows of other
        sources stand between.
    ingest_time_us
        When the log accepted the rows, in microseconds UTC.
    payload
        The rows as bytes (``Columns.to_bytes()``), in the order of `positions`.
    """

    source: str
    positions: PositionArray
    _: KW_ONLY
    ingest_time_us: int
    payload: bytes


@dataclass(slots=True, eq=False)
class DecisionBatch:
    """What one endpoint decided in one commit: `payload` row i belongs to the event at ``positions[i]``."""

    endpoint: str
    positions: PositionArray
    _: KW_ONLY
    payload: bytes


@dataclass(slots=True, eq=False, kw_only=True)
class DecisionRows:
    """A batch of decisions taken apart, for stores that keep them as rows beside the batch.

    Attributes
    ----------
    endpoint, decided_us
        Who decided, and when (microseconds UTC).
    positions, scores, flags
        int64[n], float64[n] (NaN: none), uint8[n].
    event_ids, event_times_us
        n texts, and int64[n]; None where the source has none, or the events are not at hand.
    kinds, kind_of
        The different (action, model, arm, rule, digest of the policy, versions of lists as JSON) in the batch, empty texts for none, and
        int64[n]: which one each row has.
    """

    endpoint: str
    decided_us: int
    positions: PositionArray
    scores: FloatArray
    flags: npt.NDArray[np.uint8]
    event_ids: Sequence[str | None] | None
    event_times_us: PositionArray | None
    kinds: Sequence[tuple[str, str, str, str, str, str]]
    kind_of: PositionArray


class CommitHead(NamedTuple):
    """A commit without its payloads: the log from `start` to `stop`, when it was accepted, and its batches.

    `decisions` are the endpoint and the number of decisions by key, see `ProjectReader.decision_batch`; `log` are keys by source, see
    `ProjectReader.log_batch`.
    """

    start: int
    stop: int
    ingest_time_us: int
    decisions: Mapping[int, tuple[str, int]]
    log: Mapping[str, int]


class EventIds(NamedTuple):
    """Seeded 64-bit hashes of the event ids of a commit (uint64[n]) and the events' positions (int64[n], ascending).

    Events whose source names no id field are left out.
    """

    hashes: HashArray
    positions: PositionArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelRecords:
    """Labels joined to their events, one array element each.

    Attributes
    ----------
    event_positions
        int64[n]: the labelled events.
    label_positions
        int64[n]: where the labels themselves stand in the log.
    values
        float64[n]: the truth.
    known_at_us
        int64[n]: from when it was known, in microseconds UTC.
    """

    event_positions: PositionArray
    label_positions: PositionArray
    values: FloatArray
    known_at_us: PositionArray

    def __len__(self) -> int:
        return len(self.event_positions)

    def take(self, rows: PositionArray) -> LabelRecords:
        """Those at these indices."""
        return LabelRecords(
            event_positions=self.event_positions[rows],
            label_positions=self.label_positions[rows],
            values=self.values[rows],
            known_at_us=self.known_at_us[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLabel:
    """A label that came before its event.

    `source` is the source of the awaited event, `event_hash` the seeded 64-bit hash of `event_id` (0 … 2**64 - 1), the
    one that `EventIds.hashes` will hold when the event comes. `label_position` tells pending labels apart.
    """

    source: str
    event_id: str
    event_hash: int
    label_position: int
    value: float
    known_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An input that was refused: its original bytes, the reason's code and what was found.

    `letter_id` is given by the store, ascending; 0 until then.
    """

    source: str
    received_us: int
    reason: str
    detail: str
    payload: bytes
    letter_id: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Commit:
    """One micro-batch, to be stored all or nothing.

    Attributes
    ----------
    log
        One batch a source. Together their positions continue the log without a gap.
    ids
        Event ids of the new rows, for finding duplicates; None where no row has one.
    decisions
        One batch an endpoint, for events of this commit.
    labels
        Labels whose events are known.
    pending_added, pending_resolved
        Labels that wait for their event; label positions of those that wait no longer.
    dead_letters
        Refused inputs.
    letters_removed
        Ids of dead letters that go: replayed with success, or dropped.
    counters
        What to add to each total.
    offsets
        Where to go on reading, by source or URI; opaque texts.
    """

    log: Sequence[LogBatch] = ()
    ids: EventIds | None = None
    decisions: Sequence[DecisionBatch] = ()
    labels: LabelRecords | None = None
    pending_added: Sequence[PendingLabel] = ()
    pending_resolved: Sequence[int] = ()
    dead_letters: Sequence[DeadLetter] = ()
    letters_removed: Sequence[int] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    offsets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A key was forgotten: never its value, only a keyed hash of it, the log's length then, and when."""

    entity: str
    key_hash: bytes
    position: int
    erased_us: int
