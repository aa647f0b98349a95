"""A project's state as it comes and goes: found again from the newest good snapshot and the log, and saved on the way."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from penstock.core.errors import SnapshotError
from penstock.engine.features import FeatureState
from penstock.engine.recovery import Progress, catch_up, schema_hash
from penstock.plan.nodes import Plan
from penstock.stores.reader import ProjectReader
from penstock.stores.snapshots import Snapshot, SnapshotSearch

PROBLEM = "snapshot"


class Snapshots(Protocol):
    """Where snapshots lie."""

    def save(self, snapshot: Snapshot) -> None:
        """Write one durably, then remove the oldest."""

    def newest_good(self, *, fingerprint: str, schema_hash: str, next_position: int) -> SnapshotSearch:
        """The newest of this plan that is whole and not ahead of the log, or else of another plan."""

    def positions(self) -> tuple[int, ...]:
        """The log positions of those that there are, newest first."""

    def clear(self) -> None:
        """Remove all."""


class Snapshotting:
    """Takes snapshots of a running project's state, and recovers it when the project is opened.

    Parameters
    ----------
    store
        Where snapshots lie.
    every_rows
        How far the log grows from one to the next.
    problems
        Where it is noted that one could not be written, under ``snapshot``.
    """

    def __init__(self, store: Snapshots, *, every_rows: int, problems: dict[str, str]) -> None:
        self._store = store
        self._every_rows = every_rows
        self._problems = problems
        self._thread = ThreadPoolExecutor(1, "penstock-snapshot")
        self._job: Future[None] | None = None
        self._saved_at = 0
        self._asked_at = 0
        self.skipped: tuple[str, ...] = ()
        """Which snapshots were not good enough to recover from, and why."""

    def recover(self, log: ProjectReader, plan: Plan, *, rebuild: bool, progress: Progress) -> FeatureState:
        """The state at the end of `log`: from the newest good snapshot, or with `rebuild` from the start."""
        if rebuild:
            self._store.clear()
        search = self._store.newest_good(
            fingerprint=plan.fingerprint, schema_hash=schema_hash(plan), next_position=log.next_position
        )
        self.skipped = tuple(f"{s.path.name}: {s.reason}" for s in search.skipped)
        newest = search.snapshot
        is_own = newest is not None and newest.fingerprint == plan.fingerprint
        self._saved_at = newest.position if newest is not None and is_own else 0
        found = None if newest is None else (newest.position, newest.state)
        try:
            return catch_up(log, plan, snapshot=found, progress=progress)
        except SnapshotError as error:
            self.skipped += (str(error),)
            return catch_up(log, plan, progress=progress)

    def is_due(self, position: int) -> bool:
        """Whether the log has grown far enough since the last one."""
        return position - max(self._saved_at, self._asked_at) >= self._every_rows

    def is_busy(self) -> bool:
        """Whether one is being written; a failure of the one before is noted."""
        if self._job is None:
            return False
        if not self._job.done():
            return True
        if (error := self._job.exception()) is not None:
            self._problems[PROBLEM] = str(error)
        return False

    def take(self, plan: Plan, position: int, state: bytes, committed: Future[None] | None) -> None:
        """Save the state of `plan` at `position` in the background, once `committed` is durable."""
        self._asked_at = position
        self._job = self._thread.submit(self._save, plan, position, state, committed)

    def finish(self) -> None:
        """Wait for the one that is being written."""
        self._thread.shutdown(wait=True)

    def save_last(self, plan: Plan, position: int, state: bytes) -> None:
        """Save the state with which a run ends, durable already."""
        self._save(plan, position, state, None)

    def has(self, position: int) -> bool:
        """Whether the state at `position` is saved."""
        return position <= self._saved_at

    def _save(self, plan: Plan, position: int, state: bytes, committed: Future[None] | None) -> None:
        if committed is not None:
            committed.result()
        snapshot = Snapshot(
            position=position, fingerprint=plan.fingerprint, schema_hash=schema_hash(plan), state=state
        )
        self._store.save(snapshot)
        self._saved_at = max(self._saved_at, position)
        self._problems.pop(PROBLEM, None)
