"""Throughput and latency over time, in a bounded number of slots: when they are full, neighbours are joined."""

from __future__ import annotations

from dataclasses import dataclass

MOST_SLOTS = 240
FIRST_SLOT_S = 0.5


@dataclass(slots=True)
class Slot:
    """What happened in one stretch of time."""

    events: int = 0
    batches: int = 0
    latency_sum_s: float = 0.0
    latency_max_s: float = 0.0

    def join(self, other: Slot) -> Slot:
        """Both stretches as one."""
        return Slot(
            self.events + other.events,
            self.batches + other.batches,
            self.latency_sum_s + other.latency_sum_s,
            max(self.latency_max_s, other.latency_max_s),
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One slot, ready to be drawn: seconds since the start (its middle), rate, mean and greatest latency."""

    at_s: float
    events_per_s: float
    mean_latency_s: float
    max_latency_s: float


class Timeline:
    """Events and latencies by time since `started_s`.

    Examples
    --------
    >>> timeline = Timeline(100.0)
    >>> for tick in range(10_000):
    ...     timeline.add(100.0 + tick, events=5)
    >>> points = timeline.points()
    >>> len(points) <= 240, points[3].events_per_s
    (True, 5.0)
    """

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._slot_s = FIRST_SLOT_S
        self._slots: list[Slot] = []

    def add(self, at_s: float, *, events: int = 0, latency_s: float | None = None) -> None:
        """Count events, or the latency of a micro-batch, at a time."""
        since = max(at_s - self._started_s, 0.0)
        while since >= MOST_SLOTS * self._slot_s:
            self._halve()
        index = int(since / self._slot_s)
        self._slots += [Slot() for _ in range(index + 1 - len(self._slots))]
        slot = self._slots[index]
        slot.events += events
        if latency_s is not None:
            slot.batches += 1
            slot.latency_sum_s += latency_s
            slot.latency_max_s = max(slot.latency_max_s, latency_s)

    def points(self) -> list[Point]:
        """The slots that are over, oldest first; the one that is running would show too few events."""
        return [
            Point(
                (index + 0.5) * self._slot_s,
                slot.events / self._slot_s,
                slot.latency_sum_s / slot.batches if slot.batches else 0.0,
                slot.latency_max_s,
            )
            for index, slot in enumerate(self._slots[:-1])
        ]

    def _halve(self) -> None:
        slots = [*self._slots, Slot()][: len(self._slots) + len(self._slots) % 2]
        self._slots = [a.join(b) for a, b in zip(slots[::2], slots[1::2], strict=True)]
        self._slot_s *= 2
