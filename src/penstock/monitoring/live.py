"""Live metrics of an engine: what came in, what was decided, how fast. Memory does not grow with the stream.

Counts are the engine's own (`Processed.counters`), so the panel and the store's totals cannot disagree. Times are
seconds of any monotonic clock; the caller reads it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penstock.monitoring.timeline import Timeline

RECENT_S = 5.0
SLOT_S = 0.1
ACTION = "action."
_SHORTEST_S, _GROWTH, _BUCKETS = (
    1e-6,
    1.02,
    1_100,
)  # 1 µs to 40 min, each bucket 2 % longer than the one before
_FIRST_RATE_S = 0.001  # a rate over less time than this says nothing


class LatencyHistogram:
    """Durations in buckets that grow by 2 %: any quantile to within 1 %, in 9 KB.

    Examples
    --------
    >>> latencies = LatencyHistogram()
    >>> for milliseconds in range(1, 101):
    ...     latencies.add(milliseconds / 1000)
    >>> round(latencies.quantile(0.5), 3), round(latencies.quantile(0.99), 3)
    (0.05, 0.098)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, seconds: float) -> None:
        """Count one duration; those outside 1 µs to 40 min count at the ends."""
        bucket = int(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S) / math.log(_GROWTH))
        self._counts[min(bucket, _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that `share` (0 to 1) of all do not exceed; None while there are none."""
        total = len(self)
        if not total:
            return None
        rank = max(math.ceil(share * total), 1)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(_SHORTEST_S * _GROWTH ** (bucket + 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSummary:
    """The live metrics at one moment.

    Attributes
    ----------
    received, scored, logged, duplicate, rejected
        Events; ``received = scored + logged + duplicate + rejected``.
    late, too_late
        Of those scored: older than their key's newest event; too old to enter features.
    labels
        Label records received.
    actions
        Decisions by action.
    alerts
        Decisions with an action other than the default.
    elapsed_s, events_per_s, recent_events_per_s
        Time since the start; received events a second since then and over the last `RECENT_S`.
    p50_s, p99_s
        From handing in a micro-batch until it was durable; None before the first.
    """

    received: int
    scored: int
    logged: int
    duplicate: int
    rejected: int
    late: int
    too_late: int
    labels: int
    actions: dict[str, int]
    alerts: int
    elapsed_s: float
    events_per_s: float
    recent_events_per_s: float
    p50_s: float | None
    p99_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self)


class LiveMetrics:
    """Counts, rates and latencies of a stream as it runs.

    Parameters
    ----------
    started_s
        The time now.
    default_action
        The action that is no alert.

    Examples
    --------
    >>> metrics = LiveMetrics(0.0)
    >>> metrics.add({"received": 90, "scored": 90, "action.approve": 89, "action.block": 1}, at_s=0.5)
    >>> metrics.add_latency(0.020, at_s=0.5)
    >>> now = metrics.summary(1.0)
    >>> now.events_per_s, now.alerts, now.actions
    (90.0, 1, {'approve': 89, 'block': 1})
    """

    def __init__(self, started_s: float, *, default_action: str = "approve") -> None:
        self._started_s = started_s
        self._default = default_action
        self._totals: dict[str, int] = {}
        self._recent: deque[tuple[int, int]] = deque()
        self.latencies = LatencyHistogram()
        self.timeline = Timeline(started_s)

    def add(self, counters: Mapping[str, int], *, at_s: float) -> None:
        """Count one micro-batch: its counters, and when it was processed."""
        for name, count in counters.items():
            self._totals[name] = self._totals.get(name, 0) + count
        received = counters.get("received", 0)
        self.timeline.add(at_s, events=received)
        slot = int(at_s / SLOT_S)
        if self._recent and self._recent[-1][0] == slot:
            received += self._recent.pop()[1]
        self._recent.append((slot, received))
        self._forget(at_s)

    def add_latency(self, seconds: float, *, at_s: float) -> None:
        """Count the latency of one micro-batch, known when it is durable."""
        self.latencies.add(seconds)
        self.timeline.add(at_s, latency_s=seconds)

    def summary(self, at_s: float) -> LiveSummary:
        """The metrics at a time."""
        self._forget(at_s)
        elapsed = max(at_s - self._started_s, _FIRST_RATE_S)
        actions = {n.removeprefix(ACTION): c for n, c in sorted(self._totals.items()) if n.startswith(ACTION)}
        total = self._totals.get
        return LiveSummary(
            received=total("received", 0),
            scored=total("scored", 0),
            logged=total("logged", 0),
            duplicate=total("duplicate", 0),
            rejected=total("rejected", 0),
            late=total("late", 0),
            too_late=total("too_late", 0),
            labels=total("labels_received", 0),
            actions=actions,
            alerts=sum(count for name, count in actions.items() if name != self._default),
            elapsed_s=at_s - self._started_s,
            events_per_s=total("received", 0) / elapsed,
            recent_events_per_s=sum(c for _, c in self._recent) / min(elapsed, RECENT_S),
            p50_s=self.latencies.quantile(0.5),
            p99_s=self.latencies.quantile(0.99),
        )

    def _forget(self, at_s: float) -> None:
        oldest = int((at_s - RECENT_S) / SLOT_S)
        while self._recent and self._recent[0][0] <= oldest:
            self._recent.popleft()
