"""Totals of a running engine by the names of definitions, for Prometheus: counted once a micro-batch, since the process started.

How many series there are is bounded by the definitions: sources, reasons, endpoints, arms, actions, flags and rules are named there. Versions
are not, so of each arm the newest `MOST_VERSIONS` are told apart; what earlier ones decided is added up under `EARLIER`, so that sums
stay right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from penstock.monitoring.batch_facts import SCORE_STEPS, BatchFacts, Came, Decided, IntArray
from penstock.monitoring.buckets import BATCH_EVENTS, LATENCY_S, Buckets

MOST_VERSIONS = 20
EARLIER = "(earlier)"

Names = tuple[str, ...]
_ELSEWHERE = frozenset({"labels_received", "labels_rejected", "labels_pending"})
"""Counters of labels that are counted by source, or go down."""


@dataclass(slots=True, eq=False)
class ArmTotals:
    """What one version in one arm of an endpoint decided: by action, alerts, and by score."""

    taken: Counter[str] = field(default_factory=Counter)
    alerts: int = 0
    scores: IntArray = field(default_factory=lambda: np.zeros(SCORE_STEPS, np.int64))
    score_sum: float = 0.0

    def add(self, other: ArmTotals) -> None:
        """Add what another one decided."""
        self.taken += other.taken
        self.alerts += other.alerts
        self.scores = self.scores + other.scores
        self.score_sum += other.score_sum

    def count(self, decided: Decided) -> None:
        """Add what was decided in a micro-batch."""
        for action, count in zip(decided.actions, decided.taken.tolist(), strict=True):
            if count:
                self.taken[action] += count
        self.alerts += decided.alerts
        self.scores = self.scores + decided.scores
        self.score_sum += decided.score_sum


@dataclass(slots=True, eq=False)
class StreamTotals:
    """Totals at one moment; keys are the values of labels.

    Attributes
    ----------
    received
        By source.
    events
        By source and outcome: ``scored``, ``logged``, ``duplicate``, ``label``, ``rejected``.
    rejected
        By source and reason.
    late
        By source, and ``late`` or ``too_late``.
    newest_us
        By source, the latest event time.
    arms
        By endpoint, arm and version.
    flags, rules
        By endpoint, and flag or rule.
    labels
        By what became of them: the store's counters that begin with ``labels_``; `truths` by ``positive`` and ``negative``.
    evicted
        Keys that left a full view.
    batches, durable_s, commit_s
        Events in a micro-batch; seconds from handing one in until it was durable; seconds that its commit took.
    """

    received: Counter[Names] = field(default_factory=Counter)
    events: Counter[Names] = field(default_factory=Counter)
    rejected: Counter[Names] = field(default_factory=Counter)
    late: Counter[Names] = field(default_factory=Counter)
    newest_us: dict[str, int] = field(default_factory=dict)
    arms: dict[tuple[str, str, str], ArmTotals] = field(default_factory=dict)
    flags: Counter[Names] = field(default_factory=Counter)
    rules: Counter[Names] = field(default_factory=Counter)
    labels: Counter[Names] = field(default_factory=Counter)
    truths: Counter[Names] = field(default_factory=Counter)
    evicted: int = 0
    batches: Buckets = field(default_factory=lambda: Buckets(BATCH_EVENTS))
    durable_s: Buckets = field(default_factory=lambda: Buckets(LATENCY_S))
    commit_s: Buckets = field(default_factory=lambda: Buckets(LATENCY_S))


class StreamCounts:
    """Counts micro-batches; written by the engine's thread and the one that commits, read by any.

    Examples
    --------
    >>> counts = StreamCounts()
    >>> counts.durable(0.004, commit_s=0.001)
    >>> counts.totals().durable_s.total
    0.004
    """

    def __init__(self) -> None:
        self._now = StreamTotals()
        self._lock = Lock()

    def add(self, facts: BatchFacts) -> None:
        """Count a micro-batch."""
        with self._lock:
            now = self._now
            for came in facts.came:
                _count_source(now, came)
            for decided in facts.decided:
                self._arm(decided).count(decided)
            now.flags.update(facts.flags)
            now.rules.update(facts.rules)
            for name, count in facts.counters.items():
                if name.startswith("labels_") and name not in _ELSEWHERE:
                    now.labels[name.removeprefix("labels_"),] += count
            now.evicted += facts.counters.get("keys_evicted", 0)
            now.truths["positive",] += facts.positives
            now.truths["negative",] += facts.negatives
            now.batches.add(sum(came.received for came in facts.came))

    def durable(self, seconds: float, *, commit_s: float) -> None:
        """Count how long a micro-batch took until it was durable, and its commit."""
        with self._lock:
            self._now.durable_s.add(seconds)
            self._now.commit_s.add(commit_s)

    def newest_us(self) -> int | None:
        """The latest event time of all sources; None before the first event."""
        with self._lock:
            return max(self._now.newest_us.values(), default=None)

    def totals(self) -> StreamTotals:
        """The totals now, which do not move any more."""
        with self._lock:
            now = self._now
            arms: dict[tuple[str, str, str], ArmTotals] = {}
            for key, arm in now.arms.items():
                # The array is replaced when it is counted up, and never changed.
                arms[key] = ArmTotals(arm.taken.copy(), arm.alerts, arm.scores, arm.score_sum)
            return StreamTotals(
                now.received.copy(),
                now.events.copy(),
                now.rejected.copy(),
                now.late.copy(),
                now.newest_us.copy(),
                arms,
                now.flags.copy(),
                now.rules.copy(),
                now.labels.copy(),
                now.truths.copy(),
                now.evicted,
                now.batches.copy(),
                now.durable_s.copy(),
                now.commit_s.copy(),
            )

    def _arm(self, decided: Decided) -> ArmTotals:
        arms, key = self._now.arms, decided[:3]
        found = arms.pop(key, None)
        if found is None:
            found = ArmTotals()
            self._make_room(decided.endpoint, decided.arm)
        arms[key] = found  # last: the one that decided most recently
        return found

    def _make_room(self, endpoint: str, arm: str) -> None:
        """Add the version that decided longest ago to the earlier ones, where there are too many."""
        arms = self._now.arms
        known = [key for key in arms if key[:2] == (endpoint, arm) and key[2] != EARLIER]
        if len(known) >= MOST_VERSIONS:
            gone = arms.pop(known[0])
            arms.setdefault((endpoint, arm, EARLIER), ArmTotals()).add(gone)


def _count_source(now: StreamTotals, came: Came) -> None:
    name = came.source
    now.received[name,] += came.received
    if came.accepted:
        now.events[name, came.outcome] += came.accepted
    if came.duplicate:
        now.events[name, "duplicate"] += came.duplicate
    for reason, count in came.rejected.items():
        now.events[name, "rejected"] += count
        now.rejected[name, reason] += count
    if came.late:
        now.late[name, "late"] += came.late
    if came.too_late:
        now.late[name, "too_late"] += came.too_late
    if came.newest_us is not None:
        now.newest_us[name] = max(came.newest_us, now.newest_us.get(name, came.newest_us))
