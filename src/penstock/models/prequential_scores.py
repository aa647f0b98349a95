"""Test, then learn: the scores that a learning model gives its events before their labels are known.

Each event is scored by the copy that was published before it came, as it would have been live.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.models.fold import Arrived
from penstock.models.published import Scores, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.fold import Fold


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A stretch of the log: events with their features as served, and the labels that joined their events in it.

    Attributes
    ----------
    positions
        int64[n], ascending: of events.
    vectors
        float64[n, features].
    scored
        bool[n]: whose scores are wanted.
    arrived
        Labels, of events in this stretch or before.
    """

    positions: NDArray[np.int64]
    vectors: NDArray[np.float64]
    scored: NDArray[np.bool_]
    arrived: Arrived


class Held:
    """Vectors by position, each until it is asked for; at most half of what is in memory has been."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]] = []

    def add(self, positions: NDArray[np.int64], vectors: NDArray[np.float64]) -> None:
        """Hold rows; their positions are ascending, and after those before."""
        if len(positions):
            self._parts.append((positions, vectors, np.ones(len(positions), np.bool_)))

    def fill(self, wanted: NDArray[np.int64], out: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Write the rows at `wanted` into `out`, and let go of them; which were there."""
        found = np.zeros(len(wanted), np.bool_)
        if not len(wanted):
            return found
        low, high = int(wanted.min()), int(wanted.max())
        kept = []
        for positions, vectors, there in self._parts:
            if positions[-1] >= low and positions[0] <= high:
                at = np.minimum(np.searchsorted(positions, wanted), len(positions) - 1)
                hit = positions[at] == wanted
                out[hit] = vectors[at[hit]]
                found |= hit
                there[at[hit]] = False
            left = int(np.count_nonzero(there))
            if left and 2 * left <= len(there):
                kept.append((positions[there], vectors[there], np.ones(left, np.bool_)))
            elif left:
                kept.append((positions, vectors, there))
        self._parts = kept
        return found


def prequential_scores(fold: Fold, stretches: Iterable[Stretch], *, features: int) -> NDArray[np.float64]:
    """Fold all labels, and score the wanted events on the way.

    Copies are taken from the stretch on after which events are wanted: of a long past that nobody asks about, none is made.

    Returns
    -------
    float64, one score for each wanted event, in log order.
    """
    held, out = Held(), [np.empty(0)]
    scores: Scores | None = None
    for stretch, soon in _with_next(stretches):
        held.add(stretch.positions, stretch.vectors)
        labelled = np.full((len(stretch.arrived), features), np.inf)
        held.fill(stretch.arrived.event_positions, labelled)
        wanted = np.flatnonzero(stretch.scored)
        if len(wanted) and scores is None:
            scores = _scores(fold, features)
        done = 0
        for point in fold.learn(stretch.arrived, labelled):
            upto = int(np.searchsorted(stretch.positions[wanted], point.position))
            if upto > done and scores is not None:
                out.append(scores(stretch.vectors[wanted[done:upto]]))
                done = upto
            scores = _scores(fold, features) if soon or len(wanted) else None
        if len(wanted) > done and scores is not None:
            out.append(scores(stretch.vectors[wanted[done:]]))
    return np.concatenate(out)


def stretches_by_time(
    vectors: NDArray[np.float64],
    times_us: NDArray[np.int64],
    *,
    labels: NDArray[np.float64],
    known_at_us: NDArray[np.int64],
    scored: NDArray[np.bool_],
    rows: int = 50_000,
) -> Iterator[Stretch]:
    """The log that would have been: events and labels merged by time, at equal times labels first.

    Parameters
    ----------
    vectors
        float64, shape [n, features].
    times_us, known_at_us
        Of events, ascending, and of their labels; int64 microseconds, shape [n]. Labels known after the last event never come.
    labels
        float64, shape [n]; NaN where there is none.
    scored
        Whose scores are wanted, bool, shape [n].
    """
    of_label = np.flatnonzero(~np.isnan(labels) & (known_at_us <= times_us[-1:].max(initial=0)))
    of_label = of_label[np.argsort(known_at_us[of_label], kind="stable")]
    known = known_at_us[of_label]
    positions = np.arange(len(times_us)) + np.searchsorted(known, times_us, side="right")
    arrivals = np.arange(len(known)) + np.searchsorted(times_us, known, side="left")
    begun = 0
    for first in range(0, len(times_us), rows):
        part = slice(first, first + rows)
        end = (
            len(known)
            if first + rows >= len(times_us)
            else int(np.searchsorted(arrivals, positions[first + rows]))
        )
        now = slice(begun, end)
        events = of_label[now]
        arrived = Arrived(arrivals[now], arrivals[now], positions[events], labels[events])
        yield Stretch(positions[part], vectors[part], scored[part], arrived)
        begun = end


def _scores(fold: Fold, features: int) -> Scores:
    return scores_of(fold.copy().form, features=features)


def _with_next(stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, bool]]:
    """Each stretch, and whether scores are wanted in the one after it."""
    iterator = iter(stretches)
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield current, following is not None and bool(following.scored.any())
        current = following
