"""Which values of each segment have the most decisions in the windows that are asked for, in bounded memory.

Values are counted by slot of event time, each slot by a summary of Misra and Gries: when it holds too many values, the count
of the first one too many is taken off all, and those that come to nothing leave (merging as in Agarwal et al., Mergeable summaries, 2012). So up to
1,000 values in a slot counts are exact, and of more at most a thousandth of the slot's decisions too low, never too high. Where windows have more than 50 slots,
fewer values are counted in each, at least 100.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from penstock.models.segments import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.monitoring.board import Periods, Scored

MOST_COUNTED, LEAST_COUNTED, MOST_IN_ALL = 1_000, 100, 50_000
"""Values that are counted in a slot, and about how many in all slots of a segment."""
Told = dict[str, frozenset[str]]
"""By dimension the values that are told apart."""


class SegmentCounts:
    """Counts decisions by dimension, value and slot.

    Parameters
    ----------
    periods
        How event time is cut; slots that no window can need any more are dropped.
    most_counted
        How many values of a slot are counted; default: by how many slots there are.

    Examples
    --------
    >>> from penstock.models.segments import Coded
    >>> from penstock.monitoring.board import Periods, Scored
    >>> counts = SegmentCounts(Periods(slot_us=10, windows_us=(10,), delay_us=0))
    >>> country = Coded(np.array([0, 0, 1, 1, 2]), ("DE", "FR", "IT"))
    >>> counts.add(Scored(np.array([1, 2, 3, 12, 13]), np.zeros(5), {"country": country}))
    >>> sorted(counts.frequent(1)["country"])  # of [0, 10) DE; of what is younger FR, before IT by name
    ['DE', 'FR']
    """

    def __init__(self, periods: Periods, *, most_counted: int | None = None) -> None:
        slots = periods.known_us // periods.slot_us + 2
        self._periods = periods
        self._most = most_counted or min(MOST_COUNTED, max(LEAST_COUNTED, MOST_IN_ALL // slots))
        self._slots: dict[str, dict[int, Counter[str]]] = {}
        self._newest_us: int | None = None

    def add(self, rows: Scored) -> None:
        """Count decisions."""
        if not len(rows.times_us):
            return
        self._newest_us = max(int(rows.times_us.max()), self._newest_us or 0)
        slots = rows.times_us // self._periods.slot_us
        for dimension, coded in rows.groups.items():
            mine = self._slots.setdefault(dimension, {})
            for slot in np.unique(slots).tolist():
                numbers = np.bincount(coded.codes[slots == slot], minlength=len(coded.names)).tolist()
                counter = mine.setdefault(slot, Counter())
                for name, number in zip(coded.names, numbers, strict=True):
                    if number:
                        counter[name] += number
                mine[slot] = _bounded(counter, self._most)
            for slot in [one for one in mine if one < self._first]:
                del mine[slot]

    def frequent(self, most: int) -> Told:
        """Of each dimension the `most` values with the most decisions in any of the windows, or in what is younger; of equal ones the first by name.

        Null is told apart besides.
        """
        if self._newest_us is None:
            return {}
        slot = self._periods.slot_us
        stop = (self._newest_us - self._periods.delay_us + 1) // slot
        spans = [(stop - length // slot, stop) for length in self._periods.windows_us]
        spans.append((stop, self._newest_us // slot + 1))
        return {
            dimension: frozenset().union(*(_top(mine, span, most) for span in spans))
            for dimension, mine in self._slots.items()
        }

    @property
    def _first(self) -> int:
        assert self._newest_us is not None
        return (self._newest_us - self._periods.known_us) // self._periods.slot_us - 1


def _top(slots: dict[int, Counter[str]], span: tuple[int, int], most: int) -> Iterable[str]:
    together: Counter[str] = sum(
        (counter for slot, counter in slots.items() if span[0] <= slot < span[1]), Counter()
    )
    named = sorted((name for name in together if name != NONE), key=lambda name: (-together[name], name))
    return [*named[:most], *([NONE] if NONE in together else [])]


def _bounded(counter: Counter[str], most: int) -> Counter[str]:
    if len(counter) <= most:
        return counter
    off = sorted(counter.values(), reverse=True)[most]
    return Counter({name: number - off for name, number in counter.items() if number > off})
