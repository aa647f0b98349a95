"""The audit beside a running project: a process of its own that may take a share of one processor, and cannot disturb.

It reads the log and the decisions through a reader of its own, recomputes, compares, and writes its totals to a file that
`penstock status` and the live line read. It ends when whoever started it ends. Whatever happens to it, scoring goes on.

    python -m penstock.app.auditing PROJECT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from penstock.app.applied import AppliedHistory
from penstock.app.child import Child, stand_back, told
from penstock.app.runtime import open_reader, plan_of, state_folder
from penstock.app.settings import load_settings
from penstock.app.storing import snapshots_of
from penstock.core.errors import PenstockError, ProjectError, SnapshotError
from penstock.definitions.project import load_project
from penstock.engine.audit import OTHER_DEFINITIONS, AuditReport
from penstock.engine.decisions import Decisions
from penstock.engine.features import FeatureState
from penstock.engine.recovery import decode_state, schema_hash
from penstock.engine.running_audit import STRETCH_ROWS, RunningAudit
from penstock.plan.nodes import Plan
from penstock.stores.reader import ProjectReader

FILE = "audit.json"
START_AFTER_S = 2.0
"""A run that is over sooner needs no audit beside it: `penstock audit` compares everything in one go."""
_LOOK_S, _IDLE_S, _SAVE_S, _END_S = 1.0, 0.5, 1.0, 0.5
_FAR_BEHIND_ROWS = 2_000_000
_ANY_POSITION = 2**62

Ended = Callable[[float], bool]
"""Wait for up to so many seconds; whether to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTotals:
    """What the running audit found since the store was created.

    Attributes
    ----------
    position
        How far in the log it is.
    vectors, values, differing, missing
        As in `AuditReport`.
    skipped
        Vectors that were served by other definitions than those in force when it came to them.
    jumped
        Rows of the log that it passed over because it had fallen far behind.
    examples
        The first differing values.
    error
        Why it ended, where it failed.
    """

    store_id: str
    position: int = 0
    vectors: int = 0
    values: int = 0
    differing: int = 0
    missing: int = 0
    skipped: int = 0
    jumped: int = 0
    examples: tuple[str, ...] = ()
    error: str = ""

    def plus(self, report: AuditReport, *, position: int) -> AuditTotals:
        """These and what a stretch up to `position` came to."""
        examples = [
            f"{m.feature} at {m.position}: {m.served!r}, now {m.recomputed!r}" for m in report.examples
        ]
        return replace(
            self,
            position=max(position, self.position),
            vectors=self.vectors + report.vectors,
            values=self.values + report.values,
            differing=self.differing + report.differing,
            missing=self.missing + report.missing,
            skipped=self.skipped + report.skipped.get(OTHER_DEFINITIONS, 0),
            examples=(*self.examples, *examples)[:10],
        )

    def counters(self) -> dict[str, int]:
        """Counts for the project's counters."""
        return {
            f"audit_{name}": getattr(self, name) for name in ("vectors", "values", "differing", "missing")
        }

    def text(self) -> str:
        """The totals in a few words."""
        if self.error:
            return f"audit ended: {self.error}"
        verdict = f"{self.differing:,} differ" + (f", {self.missing:,} missing" if self.missing else "")
        skipped = f", {self.skipped:,} of other definitions skipped" if self.skipped else ""
        return f"audit {self.vectors:,} vectors, {verdict}{skipped}"


_audit_totals_decoder = msgspec.json.Decoder(AuditTotals)


def read_totals(root: Path) -> AuditTotals | None:
    """The totals of the project in `root`; None where nothing was audited yet, or what is there cannot be read."""
    try:
        return _audit_totals_decoder.decode((state_folder(root) / FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def follow(root: Path, *, rate: float, ended: Ended, far_behind: int = _FAR_BEHIND_ROWS) -> AuditTotals:
    """Audit the project in `root` as its log grows, until `ended`; totals are saved on the way.

    After a stretch that took *c* seconds of processor it waits for ``c / rate - c``. Definitions that are applied meanwhile are taken
    over where they began to decide.
    """
    version = AppliedHistory(state_folder(root)).newest_version()
    plan = plan_of(load_project(root))
    with open_reader(root, patient=True) as store:
        auditing = _Follower(root, plan, version, store, rate=rate, far_behind=far_behind)
        pause = 0.0
        while not ended(pause):
            begun = time.process_time()
            moved = auditing.step()
            spent = time.process_time() - begun
            pause = spent / rate - spent if moved else _IDLE_S
        auditing.save()
        return auditing.totals


class _Follower:
    """A running audit, its totals, and where it goes on when it has fallen behind."""

    def __init__(
        self, root: Path, plan: Plan, version: int, store: ProjectReader, *, rate: float, far_behind: int
    ) -> None:
        self._root, self._plan, self._version, self._store = root, plan, version, store
        self._applied = AppliedHistory(state_folder(root))
        self._own_until = 0  # the log was written under these definitions at least up to here
        self._next: tuple[int, Plan] | None = None
        self._gone: set[str] = set()
        self._may_jump, self._far_behind = rate < 1, far_behind
        self._snapshots = snapshots_of(root, load_settings(root), store_id=store.store_id)
        known = read_totals(root)
        if known is None or known.store_id != store.store_id or known.position > store.next_position:
            known = AuditTotals(store_id=store.store_id)
        self._before = replace(known, error="")
        self._saved_s = 0.0
        self._audit = self._begin()

    @property
    def totals(self) -> AuditTotals:
        return self._before.plus(self._audit.report, position=self._audit.position)

    def step(self) -> int:
        behind = self._store.next_position - self._audit.position
        if self._may_jump and behind > self._far_behind:
            self._jump()
        begin = self._audit.position
        moved = self._audit.step(stop=self._until())
        if self._gone and begin >= self._before.position:
            self._skip_gone(begin, begin + moved)
        if moved and time.monotonic() - self._saved_s >= _SAVE_S:
            self.save()
        return moved

    def save(self) -> None:
        save_totals(self._root, self.totals)
        self._saved_s = time.monotonic()

    def _until(self) -> int:
        """Up to where to compare under the present definitions."""
        end = (
            self._store.next_position
        )  # before the version: what it has by now was not written under a later one
        newest = self._applied.newest_version()
        if newest == self._version:
            self._own_until = end
        elif self._audit.position >= self._own_until:
            self._own_until = self._beyond(newest, end)
        return self._own_until

    def _beyond(self, newest: int, end: int) -> int:
        """The same once other definitions are applied, which the engine takes over a while later; goes on with them if it has."""
        if self._next is None or self._next[0] != newest:
            self._next = newest, self._plan_of(newest)
        plan, begin = self._next[1], self._audit.position
        old, new = _deciding(self._plan), _deciding(plan)
        stop = min(end, begin + STRETCH_ROWS)
        first = self._first_decision(new - old, begin, stop)
        gone = {name for name, _ in old} - {name for name, _ in new}
        if first is None and new != old and not gone:
            return stop
        if first is not None and first > begin:
            return first
        self._before, self._gone = self.totals, self._gone | gone
        self._plan, self._version = plan, newest
        self._audit = self._begin()
        return begin

    def _skip_gone(self, start: int, stop: int) -> None:
        """Count what endpoints decided that the present definitions do not have."""
        batches = self._store.read_decisions(start, stop, endpoints=self._gone)
        skipped = sum(int(np.sum((b.positions >= start) & (b.positions < stop))) for b in batches)
        self._before = replace(self._before, skipped=self._before.skipped + skipped)

    def _plan_of(self, version: int) -> Plan:
        plan = plan_of(load_project(self._root))
        applied = self._applied.newest()
        if applied is not None and applied.version == version and applied.fingerprint != plan.fingerprint:
            raise ProjectError(
                f"the files are not those of version {version} of the definitions, which was applied. Look at `penstock plan`"
            )
        return plan

    def _first_decision(self, services: set[tuple[str, str]], start: int, stop: int) -> int | None:
        """The position of the first decision in a stretch that one of these endpoints made with one of these services."""
        for batch in self._store.read_decisions(start, stop, endpoints={name for name, _ in services}):
            positions = batch.positions[(batch.positions >= start) & (batch.positions < stop)]
            if len(positions) and (batch.endpoint, Decisions.from_bytes(batch.payload).service) in services:
                return int(positions[0])
        return None

    def _begin(self) -> RunningAudit:
        """From the newest snapshot that is not past what was compared, else from the start of the log."""
        compared = self._before.position
        found = self._newest()
        if found is not None and found[0] <= compared:
            return RunningAudit(self._store, found[1], position=found[0], compared=compared)
        return RunningAudit(self._store, FeatureState(self._plan), compared=compared)

    def _jump(self) -> None:
        """Go on from the newest snapshot, if it is ahead."""
        found = self._newest()
        if found is None or found[0] <= max(self._audit.position, self._before.position):
            return
        totals = self.totals
        self._before = replace(totals, jumped=totals.jumped + found[0] - totals.position, position=found[0])
        self._audit = RunningAudit(self._store, found[1], position=found[0])

    def _newest(self) -> tuple[int, FeatureState] | None:
        try:
            # Any position: this process must not remove a snapshot that the other took a moment ago.
            found = self._snapshots.newest_good(
                fingerprint=self._plan.fingerprint,
                schema_hash=schema_hash(self._plan),
                next_position=_ANY_POSITION,
            ).snapshot
            if found is None or found.position > self._store.next_position:
                return None
            return found.position, decode_state(self._plan, found.state)
        except (SnapshotError, FileNotFoundError):  # of other definitions, or removed meanwhile
            return None


def _deciding(plan: Plan) -> set[tuple[str, str]]:
    """The plan's endpoints, each with the fingerprint of its service."""
    return {(name, plan.services[one.service].fingerprint) for name, one in plan.endpoints.items()}


def save_totals(root: Path, totals: AuditTotals) -> None:
    """Write the totals so that a reader finds the old ones or the new."""
    path = state_folder(root) / FILE
    aside = path.with_suffix(".tmp")
    aside.write_bytes(msgspec.json.encode(asdict(totals)))
    aside.replace(path)


@dataclass(slots=True)
class AuditBeside:
    """Starts the audit of the project in `root` once a run has lasted a while, and ends it with the run.

    Use it as a context manager, and call `look` as often as you like.
    """

    root: Path
    rate: float
    start_after_s: float = START_AFTER_S
    now_s: Callable[[], float] = time.monotonic
    _began_s: float = 0.0
    _looked_s: float = field(default=float("-inf"))
    _child: Child | None = None
    _text: str = ""

    def __enter__(self) -> Self:
        self._began_s = self.now_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end(_END_S)  # its totals are saved; what it had in hand is done again next time

    @property
    def started(self) -> bool:
        """Whether the run lasted long enough for an audit."""
        return self._child is not None

    def look(self) -> str:
        """What the audit has found, in a few words; empty while there is nothing to say."""
        now = self.now_s()
        if self.rate and self._child is None and now - self._began_s >= self.start_after_s:
            self._child = Child("penstock.app.auditing", str(self.root))
        if self._child is not None and now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            totals = read_totals(self.root)
            self._text = "" if totals is None else totals.text()
            if self._child.returncode and not self._text.startswith("audit ended"):
                self._text = f"audit ended with code {self._child.returncode}"
        return self._text


def main(root: Path) -> int:
    """Audit until stdin is closed; what goes wrong is written into the totals."""
    stand_back()
    try:
        follow(root, rate=load_settings(root).audit.rate, ended=lambda seconds: told(seconds) is not None)
    except (PenstockError, OSError) as error:
        known = read_totals(root) or AuditTotals(store_id="")
        save_totals(root, replace(known, error=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
