"""Watching how a model version scores from its first event on: failures, latency, shift of scores. Pure.

Looks are few and fixed: at 500 events, 1,000, 2,000 and so on, each with its part of the allowed false alarms. The bounds need no
distribution: Chernoff's for the share of failures, Massart's of Dvoretzky, Kiefer and Wolfowitz for the largest difference of two
distribution functions. They need nothing but NumPy, in a process that must not stop for an import.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from penstock.monitoring.drift import ks_distance
from penstock.monitoring.profile import ColumnProfile, Sample

if TYPE_CHECKING:
    from penstock.definitions.guards import Guard

FIRST_LOOK = 500
LEAST_CALLS, NEWEST_CALLS, SLOW_SHARE = 20, 64, 0.9
ROWS_A_CALL = 64


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong with a version, in words and numbers."""

    what: str
    text: str
    numbers: Mapping[str, float]


class ScoringWatch:
    """What is known of a version's scoring so far.

    Parameters
    ----------
    guard
        The limits.
    scores
        The profile of the scores of its test period; None where it has none.

    Examples
    --------
    >>> from penstock.definitions.guards import Guard
    >>> watch = ScoringWatch(Guard(), None)
    >>> watch.add(1e-5, np.full(500, np.nan))
    >>> watch.alarm().text
    '500 of 500 events got no score; at most 1% may'
    """

    def __init__(self, guard: Guard, scores: ColumnProfile | None) -> None:
        self._guard = guard
        self._sample = None if scores is None or not scores.rows else Sample(scores)
        self._slow: deque[bool] = deque(maxlen=NEWEST_CALLS)
        self._next_look = FIRST_LOOK
        self.events = self.failed = 0

    @property
    def passed(self) -> bool:
        """Whether all events that are to be watched were, without an alarm."""
        return self.events >= self._guard.events

    def add(self, seconds: float, scores: npt.NDArray[np.float64]) -> None:
        """Note a call of the model that took so long; NaN is an event without a score."""
        self.events += len(scores)
        self.failed += int(np.count_nonzero(np.isnan(scores)))
        limit = self._guard.max_latency_ms * max(1.0, len(scores) / ROWS_A_CALL)
        self._slow.append(seconds * 1000 > limit)
        if self._sample is not None:
            self._sample.add(scores)

    def alarm(self) -> Alarm | None:
        """What is wrong, if that can be said now."""
        slow = sum(self._slow)
        if len(self._slow) >= LEAST_CALLS and slow >= SLOW_SHARE * len(self._slow):
            text = f"{slow} of its newest {len(self._slow)} calls took longer than {self._guard.max_latency_ms:g} ms"
            return Alarm("latency", text, {"slow": slow, "calls": len(self._slow)})
        if self.events < min(self._next_look, self._guard.events):
            return None
        while self._next_look <= self.events:
            self._next_look *= 2
        looks = 1 + math.ceil(math.log2(max(self._guard.events / FIRST_LOOK, 1)))
        return self._failures(self._guard.false_alarms / looks) or self._shift(
            self._guard.false_alarms / looks
        )

    def _failures(self, level: float) -> Alarm | None:
        share, most = self.failed / self.events, self._guard.max_failed
        if share <= most or chernoff(self.failed, self.events, most) > level:
            return None
        text = f"{self.failed:,} of {self.events:,} events got no score; at most {100 * most:.3g}% may"
        return Alarm("failures", text, {"failed": self.failed, "events": self.events})

    def _shift(self, level: float) -> Alarm | None:
        sample = self._sample
        if sample is None or not sample.rows:
            return None
        reference = sample.reference
        size = sample.rows * reference.rows / (sample.rows + reference.rows) / reference.clustering
        distance, least = ks_distance(sample), math.sqrt(math.log(2 / level) / (2 * max(size, 1.0)))
        limit = max(self._guard.max_score_shift, least)
        if distance <= limit:
            return None
        text = f"scores differ by {distance:.2f} from those of its test period over {sample.rows:,} events; at most {limit:.2f} may"
        return Alarm(
            "scores",
            text,
            {"distance": distance, "limit": limit, "events": sample.rows, "mean": sample.total / sample.rows},
        )


def chernoff(found: int, trials: int, chance: float) -> float:
    """A bound of the probability of at least `found` hits in `trials` with this chance each.

    >>> round(chernoff(20, 500, 0.01), 5)
    0.00001
    """
    share = found / trials
    if share <= chance:
        return 1.0
    rest = 0.0 if share == 1 else (1 - share) * math.log((1 - share) / (1 - chance)) if chance < 1 else 0.0
    return math.exp(-trials * (share * math.log(share / chance) + rest))
