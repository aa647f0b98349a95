"""The values of a segment that are told apart are the most frequent ones of each window, counted in bounded memory."""

from collections import Counter

import numpy as np
import pytest

from penstock.core.time import DAY_US
from penstock.models.segments import NONE, OTHER, Coded
from penstock.monitoring.board import Periods, Scored
from penstock.monitoring.segment_counts import LEAST_COUNTED, SegmentCounts

WEEK = Periods(slot_us=DAY_US, windows_us=(7 * DAY_US, 14 * DAY_US), delay_us=5 * DAY_US)
NAMES = tuple(f"s{i}" for i in range(20_000))


def zipf(rows, days, seed=0, first=0):
    """A few values that are frequent and very many that are rare; which are frequent changes half way."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(first * DAY_US, (first + days) * DAY_US, rows))
    codes = np.minimum(draw.zipf(1.3, rows), 9_999)
    late = times >= (first + days // 2) * DAY_US
    return Scored(times, np.zeros(rows), {"shop": Coded(np.where(late, codes + 10_000, codes), NAMES)})


def added(counts, rows, parts=97):
    for part in np.array_split(np.arange(len(rows.scores)), parts):
        counts.add(rows.take(part))
    return counts


def truly(rows, start, stop, most):
    inside = (rows.times_us >= start * DAY_US) & (rows.times_us < stop * DAY_US)
    coded = rows.groups["shop"]
    found = Counter(coded.names[code] for code in coded.codes[inside].tolist())
    return [name for name, _ in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:most]]


def test_they_are_the_most_frequent_of_each_window_and_of_what_is_younger():
    rows = zipf(60_000, days=60)
    told = added(SegmentCounts(WEEK), rows).frequent(10)["shop"]
    stop = (int(rows.times_us.max()) - WEEK.delay_us + 1) // DAY_US
    expected = {
        *truly(rows, stop - 7, stop, 10),
        *truly(rows, stop - 14, stop, 10),
        *truly(rows, stop, 99, 10),
    }
    assert told == expected
    assert not told & set(truly(rows, 0, 30, 10)), "what was frequent a month ago is not what is frequent now"


def test_memory_does_not_grow_with_values_or_with_time_and_the_frequent_ones_are_found_all_the_same():
    rows = zipf(60_000, days=60)
    few = added(SegmentCounts(WEEK, most_counted=150), rows)
    held = few._slots["shop"]
    assert max(map(len, held.values())) <= 150
    assert len(held) <= 22
    assert few.frequent(5) == added(SegmentCounts(WEEK), rows).frequent(5)
    minutes = Periods(slot_us=60_000_000, windows_us=(DAY_US,), delay_us=0)
    assert SegmentCounts(minutes)._most == LEAST_COUNTED


def test_a_count_is_never_too_high_and_at_most_a_share_too_low():
    rows = zipf(30_000, days=1)
    counts = added(
        SegmentCounts(Periods(slot_us=DAY_US, windows_us=(DAY_US,), delay_us=0), most_counted=150), rows, 31
    )
    (counter,) = counts._slots["shop"].values()
    coded = rows.groups["shop"]
    exact = Counter(coded.names[code] for code in coded.codes.tolist())
    assert all(
        exact[name] - len(rows.scores) / 150 <= number <= exact[name] for name, number in counter.items()
    )


@pytest.mark.parametrize("parts", [1, 13, 400])
def test_null_is_told_apart_besides_and_batches_change_nothing(parts):
    coded = Coded(np.arange(400) % 4, ("a", NONE, "b", OTHER + "x"))
    rows = Scored(np.arange(400) * DAY_US // 20, np.zeros(400), {"shop": coded})
    assert added(SegmentCounts(WEEK), rows, parts).frequent(2) == {
        "shop": frozenset({OTHER + "x", "a", NONE})
    }
    assert SegmentCounts(WEEK).frequent(2) == {}
