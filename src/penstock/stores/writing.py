"""Writing a project's store, whatever database holds it: one transaction a micro-batch.

How a commit stays whole and cheap:

1. Log, decisions, labels, dead letters, counters and offsets of a micro-batch are one transaction.
2. Rows are columnar payloads, one a source and one an endpoint, side by side in one table.
3. Positions must continue the log exactly, so that a batch can be neither lost nor stored twice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import StoreError
from penstock.stores import batches, commit_rules, dead_letters, labels, schema
from penstock.stores.connection import Connection, Transaction
from penstock.stores.reader import ProjectReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.records import (
        Commit,
        DecisionBatch,
        DecisionRows,
        Erasure,
        LogBatch,
        PendingLabel,
    )

PositionArray = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]


_NO_TRANSACTION = nullcontext()


class WritableStore(ProjectReader):
    """The one writer of a project's store, and all of its reading.

    One thread at a time may write (any thread); reading is safe beside it. `commit` returns when the micro-batch is
    durable: with durability "power" it survives a power cut, with "process" only the end of the process (a power cut may
    lose the newest commits, whole ones).
    """

    def __init__(
        self,
        path: Path,
        *,
        reading: Connection,
        writing: Connection,
        identity: schema.StoreIdentity,
        max_dead_letters: int,
        max_pending_labels: int,
    ) -> None:
        super().__init__(path, reading, identity)
        self._writing = writing
        self._writing_lock = Lock()
        self._max_dead_letters = max_dead_letters
        self._max_pending_labels = max_pending_labels
        self._numbers_by_name: dict[str, int] = {}
        self._next_position = 0
        self._totals: dict[str, int] = {}
        self._letters = 0
        self.problems: dict[str, str] = {}
        """Where it is noted, under ``store``, that the database is away and waited for."""
        self._load()

    def describe_decisions(
        self, rows_of: Callable[[DecisionBatch, Sequence[LogBatch]], DecisionRows | None]
    ) -> None:
        """Say how batches of decisions are taken apart, where the store keeps them as rows, too; this one does not."""

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return False

    @abstractmethod
    def tidy(self) -> None:
        """House-keeping between commits; never needed for durability."""

    @abstractmethod
    def purge(self) -> None:
        """Rebuild what holds the rows, so that nothing erased remains in it."""

    @property
    def epoch(self) -> int | None:
        """Which writer of the store this is, counted from the first; None where the one before has always ended."""
        return None

    @property
    def next_position(self) -> int:
        """The length of the log: the position that the next row gets."""
        return self._next_position

    def counters(self) -> dict[str, int]:
        """Totals since the store was created."""
        return dict(self._totals)

    def commit(self, commit: Commit) -> None:
        """Store one micro-batch, all or nothing; durable when this returns.

        Raises
        ------
        InputError
            The log's positions do not continue at `next_position`, or a decision is for no event of this commit.
        StoreError
            It could not be written; nothing of it was stored and `next_position` stands.
        """
        with self._writing_lock, self._translated(f"committing at position {self._next_position}"):
            span = range(self._next_position, commit_rules.stop_of(commit.log, self._next_position))
            checked = commit.log[0].positions if len(commit.log) == 1 else None
            commit_rules.check_decisions(commit.decisions, span, checked=checked)
            commit_rules.check_ids(commit.ids, span, checked=checked)
            surplus = self._surplus_pending(commit)
            removed = self._letters_removed(commit)
            totals, letters = self._totals_after(commit, surplus, removed)
            stored = self._stored(commit, span)
            self._write(
                commit,
                stored,
                span=span,
                totals=msgspec.json.encode(totals).decode(),
                letters_dropped=self._letters + len(commit.dead_letters) - removed - letters,
                surplus=surplus,
            )
            self._accept(commit, span.stop, totals=totals, letters=letters, surplus=surplus)

    @property
    def labels_wait(self) -> bool:
        """Whether any committed label waits for its event."""
        return self._pending_count > 0

    def pending_labels_for(self, hashes: HashArray) -> list[PendingLabel]:
        """Committed labels that wait for an event whose id has one of these hashes, by label position.

        Different ids may share a hash: compare `PendingLabel.event_id`. Costs next to nothing where nothing waits.
        """
        if not len(self._pending):
            return []
        possible = self._pending.possible(hashes)
        return labels.pending_for(self._fetch, possible) if len(possible) else []

    def index_labels(self) -> None:
        """Let `labels_arrived` find labels without reading all; costs each label a little from then on."""
        with self._writing_lock, self._translated("indexing labels"), Transaction(self._writing):
            labels.index_by_position(self._writing)

    def delete_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove dead letters by id; returns how many there were."""
        with self._writing_lock, self._translated("deleting dead letters"):
            with Transaction(self._writing):
                deleted = dead_letters.delete(self._writing, letter_ids)
            self._letters -= deleted
            return deleted

    def erase(
        self,
        erasures: Sequence[Erasure],
        *,
        log: Iterable[LogBatch] = (),
        decisions: Iterable[DecisionBatch] = (),
        labels_of: PositionArray | None = None,
        pending: Sequence[int] = (),
        letters: Sequence[int] = (),
    ) -> None:
        """Forget keys, in one transaction: rewrite batches, drop labels and dead letters, note the erasure.

        Afterwards call `purge`, or the old bytes stay in the files.

        Parameters
        ----------
        erasures
            What to note.
        log, decisions
            Batches as they were read, with other payloads; may be generators that read from this store meanwhile.
        labels_of
            Event positions whose labels go.
        pending, letters
            Label positions of waiting labels, and ids of dead letters, that go.
        """
        with self._writing_lock, self._translated("erasing"):
            with Transaction(self._writing):
                for log_batch in log:
                    batches.rewrite(self._writing, log_batch, self._number(log_batch.source))
                for decision_batch in decisions:
                    self._rewrite_decisions(decision_batch)
                if labels_of is not None:
                    labels.delete_labels_of(self._writing, labels_of)
                labels.delete_pending(self._writing, pending)
                dead_letters.delete(self._writing, letters)
                self._writing.executemany(
                    "INSERT INTO erasures(entity, key_hash, position, erased_us) VALUES (?,?,?,?)",
                    [(one.entity, one.key_hash, one.position, one.erased_us) for one in erasures],
                )
            self._load()

    def _rewrite_decisions(self, batch: DecisionBatch) -> None:
        batches.rewrite(self._writing, batch, self._number(batch.endpoint))

    def _stored(self, commit: Commit, span: range) -> list[batches.StoredBatch]:
        of = batches.StoredBatch.of
        stored = [of(batch, span, self._number(batch.source)) for batch in commit.log]
        return stored + [of(batch, span, self._number(batch.endpoint)) for batch in commit.decisions]

    def _letters_removed(self, commit: Commit) -> int:
        """How many of the dead letters that this commit removes there are."""
        if not commit.letters_removed:
            return 0
        return dead_letters.count_of(self._writing, commit.letters_removed)

    def _totals_after(self, commit: Commit, surplus: int, removed: int) -> tuple[dict[str, int], int]:
        """The counters and the number of dead letters after this commit."""
        totals = dict(self._totals)
        for name, count in commit.counters.items():
            totals[name] = totals.get(name, 0) + count
        letters = self._letters + len(commit.dead_letters) - removed
        if letters > self._max_dead_letters:
            dropped = letters - self._max_dead_letters
            totals["dead_letters_dropped"] = totals.get("dead_letters_dropped", 0) + dropped
            letters = self._max_dead_letters
        if surplus:
            totals["labels_dropped"] = totals.get("labels_dropped", 0) + surplus
            totals["labels_pending"] = totals.get("labels_pending", 0) - surplus
        return totals, letters

    def _surplus_pending(self, commit: Commit) -> int:
        """How many waiting labels this commit brings beyond the bound; the oldest go."""
        waiting = self._pending_count + len(commit.pending_added) - len(commit.pending_resolved)
        return max(waiting - self._max_pending_labels, 0)

    def _write(
        self,
        commit: Commit,
        stored: Sequence[batches.StoredBatch],
        *,
        span: range,
        totals: str,
        letters_dropped: int,
        surplus: int,
    ) -> None:
        """Store a commit that was found in order, in one transaction."""
        # Batches alone are one statement, which is a transaction of its own.
        more = has_more(commit) or letters_dropped or surplus
        with Transaction(self._writing) if more else _NO_TRANSACTION:
            batches.insert(self._writing, stored, commit.ids, commit=span, totals=totals)
            if more:
                self._write_rest(commit, letters_dropped, surplus)

    def _write_rest(self, commit: Commit, letters_dropped: int, surplus: int) -> None:
        if commit.labels is not None and len(commit.labels):
            labels.insert_labels(self._writing, commit.labels)
        if commit.pending_added:
            labels.insert_pending(self._writing, commit.pending_added)
        if commit.pending_resolved:
            labels.delete_pending(self._writing, commit.pending_resolved)
        if surplus:
            labels.drop_oldest_pending(self._writing, surplus)
        if commit.letters_removed:
            dead_letters.delete(self._writing, commit.letters_removed)
        if commit.dead_letters:
            dead_letters.insert(self._writing, commit.dead_letters)
        if letters_dropped:
            dead_letters.drop_oldest(self._writing, letters_dropped)
        if commit.offsets:
            self._writing.executemany(
                "INSERT INTO offsets VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET value = excluded.value",
                list(commit.offsets.items()),
            )

    def _accept(
        self, commit: Commit, stop: int, *, totals: dict[str, int], letters: int, surplus: int
    ) -> None:
        """Take over in memory what the file now holds."""
        self._next_position, self._totals, self._letters = stop, totals, letters
        self._pending_count += len(commit.pending_added) - len(commit.pending_resolved) - surplus
        if commit.pending_added:
            self._pending.add([one.event_hash for one in commit.pending_added])
        if len(self._pending) > 2 * self._pending_count + 4096:
            self._load_pending()

    def _number(self, name: str) -> int:
        """The number that stands for a source's or endpoint's name; given before the commit that uses it first."""
        number = self._numbers_by_name.get(name)
        if number is None:
            number = self._new_number(name)
            self._numbers_by_name[name] = number
        return number

    def _new_number(self, name: str) -> int:
        known = self._writing.execute("SELECT number FROM names WHERE name = ?", (name,)).fetchone()
        if known is not None:
            return int(known[0])
        count = int(self._writing.execute("SELECT count(*) FROM names").fetchone()[0])
        number = count + 1  # 0 is `schema.NOBODY`
        if number >> schema.NAME_BITS:
            raise StoreError(
                f"store {self._path}: {count} sources and endpoints were ever used, and as many are "
                f"allowed; {name!r} is one too many. Start a new project."
            )
        self._writing.execute("INSERT INTO names VALUES (?, ?)", (number, name))
        return number

    def _load(self) -> None:
        """Read into memory what every commit needs."""
        self._next_position = ProjectReader.next_position.fget(self)  # type: ignore[attr-defined]
        self._totals = super().counters()
        self._letters = self.dead_letter_count()
        self._load_pending()

    def _load_pending(self) -> None:
        hashes = np.array(
            [row[0] for row in self._fetch("SELECT event_hash FROM pending_labels", ())], np.int64
        )
        self._pending = labels.PendingFilter(hashes.view(np.uint64))
        self._pending_count = len(hashes)


def has_more(commit: Commit) -> bool:
    """Whether a commit stores more than batches and totals."""
    return bool(
        commit.labels
        or commit.pending_added
        or commit.pending_resolved
        or commit.dead_letters
        or commit.letters_removed
        or commit.offsets
    )
