"""What happened in the last minutes, hours and days, in bounded memory: per second for 15 minutes, per minute for a day, per hour for 30 days.

A slot is one stretch of the wall clock. Micro-batches add to the slot of the present second; when that is over, it is stored, and added to
its minute and its hour. Counts are sums, latencies a histogram, so that a quantile of an hour is that of its micro-batches, not a mean of
quantiles. Where the clock is set back, what comes is counted in the second that was under way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.monitoring.batch_facts import SCORE_EDGES, SCORE_STEPS, BatchFacts, IntArray

Step = Literal["second", "minute", "hour"]
STEPS: dict[Step, tuple[int, int]] = {"second": (1, 900), "minute": (60, 1_440), "hour": (3_600, 720)}
"""Seconds of a slot, and how many slots are kept."""

MOST_ACTIONS = 8
OTHER = "(other)"
_SHORTEST_S, _GROWTH, _LATENCIES = (
    50e-6,
    1.15,
    100,
)  # 50 µs to 50 s, each step 15 % longer than the one before
_LOG_GROWTH = math.log(_GROWTH)
_SECOND_US = 1_000_000

_SUMS = ("events", "scored", "alerts", "late", "too_late", "duplicate", "rejected", "labels", "positives")
_SLOT = np.dtype(
    [
        ("number", np.int64),
        *((name, np.int64) for name in _SUMS),
        ("actions", np.int64, (MOST_ACTIONS,)),
        ("scores", np.uint32, (SCORE_STEPS,)),
        ("score_sum", np.float64),
        ("latencies", np.uint32, (_LATENCIES,)),
        ("samples", np.uint32),
        ("cpu", np.float64),
        ("read_bytes", np.float64),
        ("written_bytes", np.float64),
        ("memory_bytes", np.float64),
        ("lag_s", np.float64),
        ("queue", np.int64),
    ]
)
_MAXIMA = frozenset({"memory_bytes", "lag_s", "queue"})
_ADDED = tuple(name for name in _SLOT.names or () if name != "number" and name not in _MAXIMA)

SlotArray = npt.NDArray[np.void]


class Sample(NamedTuple):
    """What is read once a second: of this process, and of what waits for it.

    Attributes
    ----------
    cpu
        Processors in use by this process: 1.5 is one and a half.
    read_bytes, written_bytes
        To and from disks, since the last sample.
    memory_bytes
        Resident.
    lag_s
        How far the newest event time is behind the clock.
    queue
        Requests that wait.
    """

    cpu: float = 0.0
    memory_bytes: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    lag_s: float = 0.0
    queue: int = 0


@dataclass(slots=True, eq=False)
class _Now:
    """The slot of the present second: plain numbers, which count up faster than fields of an array."""

    number: int = 0
    events: int = 0
    scored: int = 0
    alerts: int = 0
    late: int = 0
    too_late: int = 0
    duplicate: int = 0
    rejected: int = 0
    labels: int = 0
    positives: int = 0
    score_sum: float = 0.0
    samples: int = 0
    cpu: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    memory_bytes: float = 0.0
    lag_s: float = 0.0
    queue: int = 0
    actions: list[int] = field(default_factory=lambda: [0] * MOST_ACTIONS)
    latencies: list[int] = field(default_factory=lambda: [0] * _LATENCIES)
    scores: IntArray = field(default_factory=lambda: np.zeros(SCORE_STEPS, np.int64))


class LiveHistory:
    """Slots of the last 15 minutes, 24 hours and 30 days. Written by a few threads, read by any.

    Examples
    --------
    >>> history = LiveHistory()
    >>> history.durable(0.004, at_us=5_000_000)
    >>> shown = history.read("second", now_us=6_500_000)
    >>> shown["start_us"], [round(seconds, 3) for seconds in shown["p50_s"]]
    ([5000000], [0.004])
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._actions: list[str] = []
        self._rings = {step: _empty(slots) for step, (_, slots) in STEPS.items()}
        self._now = _Now()

    @property
    def nbytes(self) -> int:
        """Memory of all slots."""
        return sum(ring.nbytes for ring in self._rings.values())

    def add(self, facts: BatchFacts, *, at_us: int) -> None:
        """Count a micro-batch that was processed at a time of the wall clock."""
        with self._lock:
            slot = self._slot(at_us)
            slot.positives += facts.positives
            for came in facts.came:
                if came.outcome == "label":
                    slot.labels += came.received
                    continue
                slot.events += came.received
                slot.duplicate += came.duplicate
                slot.rejected += sum(came.rejected.values())
                slot.late += came.late
                slot.too_late += came.too_late
            for decided in facts.decided:
                taken = decided.taken.tolist()
                slot.scored += sum(taken)
                slot.alerts += sum(taken[1:])
                slot.scores += decided.scores
                slot.score_sum += decided.score_sum
                for action, count in zip(decided.actions, taken, strict=True):
                    slot.actions[self._code(action)] += count

    def durable(self, seconds: float, *, at_us: int) -> None:
        """Count how long a micro-batch took until it was durable."""
        step = int(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S) / _LOG_GROWTH)
        with self._lock:
            self._slot(at_us).latencies[min(step, _LATENCIES - 1)] += 1

    def sample(self, sample: Sample, *, at_us: int) -> None:
        """Note what was read of the process."""
        with self._lock:
            slot = self._slot(at_us)
            slot.samples += 1
            for name, value in sample._asdict().items():
                known = getattr(slot, name)
                setattr(slot, name, max(known, value) if name in _MAXIMA else known + value)

    def read(self, step: Step, *, now_us: int, since_us: int | None = None) -> dict[str, Any]:
        """The slots of one resolution as JSON values: a list for each figure, the oldest slot first.

        Slots without a running engine are left out. The last one may be under way: it counts up to ``until_us``.

        Parameters
        ----------
        since_us
            Only slots that begin at this time or later.
        """
        seconds, slots = STEPS[step]
        with self._lock:
            found = self._present(step)
            actions = list(self._actions)
        width = seconds * _SECOND_US
        oldest = max(now_us // width - slots + 1, -(-(since_us or 0) // width))
        return {
            "step_s": seconds,
            "until_us": now_us,
            "score_edges": SCORE_EDGES,
            **_shown(found[found["number"] >= oldest], width, actions),
        }

    def dump(self) -> tuple[Sequence[str], Mapping[str, bytes]]:
        """Names of the actions, and the slots as bytes, for `restore`."""
        with self._lock:
            return list(self._actions), {step: self._present(step).tobytes() for step in STEPS}

    def restore(self, actions: Sequence[str], slots: Mapping[str, bytes]) -> None:
        """Take over what `dump` gave.

        Raises
        ------
        ValueError
            They are no slots of this version.
        """
        found = {step: np.frombuffer(slots.get(step, b""), _SLOT) for step in STEPS}
        if len(actions) > MOST_ACTIONS:
            raise ValueError(f"{len(actions)} actions; allowed are {MOST_ACTIONS}")
        with self._lock:
            self._actions = list(actions)
            for step, rows in found.items():
                ring = self._rings[step]
                ring[rows["number"] % len(ring)] = rows

    def _slot(self, at_us: int) -> _Now:
        """The slot of the present second; those before are stored."""
        number = at_us // _SECOND_US
        if number > self._now.number:
            if self._now.number:
                for step, ring in self._rings.items():
                    _merge(ring, self._now, self._now.number // STEPS[step][0])
            self._now = _Now(number)
        return self._now

    def _present(self, step: Step) -> SlotArray:
        """A copy of the slots in use, with what is under way, in the order of time."""
        ring = self._rings[step].copy()
        if self._now.number:
            _merge(ring, self._now, self._now.number // STEPS[step][0])
        used = ring[ring["number"] > 0]
        return used[np.argsort(used["number"])]

    def _code(self, action: str) -> int:
        if action not in self._actions:
            if len(self._actions) >= MOST_ACTIONS - 1:
                action = OTHER
            if action not in self._actions:
                self._actions.append(action)
        return self._actions.index(action)


def _empty(slots: int) -> SlotArray:
    return np.zeros(slots, _SLOT)


def _merge(ring: SlotArray, slot: _Now, number: int) -> None:
    """Add a slot to the one with this number, which takes the place of the one that was there."""
    into = ring[number % len(ring)]
    if into["number"] > number:  # the clock was set back by more than the ring holds
        return
    if into["number"] < number:
        ring[number % len(ring)] = np.zeros((), _SLOT)
        into["number"] = number
    for name in _ADDED:
        into[name] = into[name] + np.array(getattr(slot, name), into[name].dtype)
    for name in _MAXIMA:
        into[name] = max(into[name], getattr(slot, name))


def _shown(slots: SlotArray, width_us: int, actions: Sequence[str]) -> dict[str, Any]:
    samples = np.maximum(slots["samples"], 1)
    counted = slots["scores"].sum(axis=1)
    means = slots["score_sum"] / np.maximum(counted, 1)
    return {
        "start_us": (slots["number"] * width_us).tolist(),
        **{name: slots[name].tolist() for name in _SUMS},
        "actions": {name: slots["actions"][:, code].tolist() for code, name in enumerate(actions)},
        "mean_score": [m if n else None for m, n in zip(means.tolist(), counted.tolist(), strict=True)],
        "scores": slots["scores"].tolist(),
        "p50_s": _quantiles(slots["latencies"], 0.5),
        "p99_s": _quantiles(slots["latencies"], 0.99),
        "cpu": (slots["cpu"] / samples).tolist(),
        **{name: slots[name].tolist() for name in ("memory_bytes", "read_bytes", "written_bytes", "lag_s")},
        "queue": slots["queue"].tolist(),
    }


def _quantiles(counts: npt.NDArray[np.uint32], share: float) -> list[float | None]:
    """Of each row of a histogram the value that `share` of all do not exceed, to within 7 %; None where there are none."""
    sums = np.cumsum(counts, axis=1, dtype=np.int64)
    totals = sums[:, -1]
    ranks = np.maximum(np.ceil(share * totals), 1)
    steps = (sums < ranks[:, None]).sum(axis=1)
    values = _SHORTEST_S * _GROWTH ** (steps + 0.5)
    return [value if total else None for value, total in zip(values.tolist(), totals.tolist(), strict=True)]
