"""Does an event's cost grow with history? The kernel from 10⁵ to 10⁷ events, and from 1-hour to 90-day windows.

`python -m benchmarks.scaling EVENTS WINDOW_HOURS` is one run, in a child process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.result import Bar, Figure, Result

WHAT = (
    "Nanoseconds of CPU an event of one view (count and mean of one column over one window) by 5,000 keys at the pace of the "
    "published payments, in batches of 100,000. Before the clock starts the code is compiled and the window is filled: twice as "
    "many days of events as it is long go in unmeasured, so that in every setting a row leaves for each that enters. The bar is "
    "the largest distance from the middle of a row of settings."
)
KEYS, PER_DAY, BATCH = 5_000, 9_585, 100_000
DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
EVENTS = (100_000, 1_000_000, 10_000_000)
WINDOW_HOURS = (1, 24, 30 * 24, 90 * 24)
STANDARD_EVENTS, STANDARD_HOURS = 2_000_000, 30 * 24
LIMIT = 0.15


def run_penstock(events: int, window_us: int) -> float:
    """CPU seconds that the kernel takes for so many events of a stream whose window is full."""
    from penstock.kernel.columns import Numeric
    from penstock.kernel.hashing import encode_keys
    from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
    from penstock.kernel.state import ViewState

    functions = (Function.COUNT, Function.MEAN)
    aggregates = tuple(AggregateSpec(function, 0, 0) for function in functions)
    program = Program((LaneKind.FLOAT,), (Window(window_us),), aggregates)
    random = np.random.default_rng(11)
    before = max(2 * window_us * PER_DAY // DAY_US, KEYS)
    total = before + events
    times = np.cumsum(random.exponential(DAY_US / PER_DAY, total).astype(np.int64) + 1)
    keys = random.integers(0, KEYS, total)
    lanes = np.round(random.gamma(2.0, 30.0, (total, 1)), 2).view(np.int64)

    def process(state: ViewState, first: int, last: int) -> None:
        size = last - first
        state.process_floats(
            encode_keys([Numeric(keys[first:last])]),
            times[first:last],
            lanes[first:last],
            np.ones((size, 1), np.bool_),
            np.zeros(size, np.uint8),
        )

    state = ViewState(program)
    for first in range(0, before, BATCH):
        process(state, first, min(first + BATCH, before))
    started = time.process_time()
    for first in range(before, total, BATCH):
        process(state, first, min(first + BATCH, total))
    return time.process_time() - started


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Each setting in turns, three times."""
    by_events = [_contestant(int(events * scale), STANDARD_HOURS) for events in EVENTS]
    by_window = [_contestant(int(STANDARD_EVENTS * scale), hours) for hours in WINDOW_HOURS]
    contestants = by_events + [setting for setting in by_window if setting not in by_events]
    contest = hold(contestants, say)

    def figures_of(settings: list[Contestant]) -> list[Figure]:
        return contest.figures(
            "ns/event", lambda run: run.report["seconds"] / run.report["events"] * 1e9, settings
        )

    return Result(
        benchmark="scaling",
        what=WHAT,
        figures=tuple(figures_of(contestants)),
        bars=(
            Bar("±, 10⁵ to 10⁷ events", _unevenness(figures_of(by_events), by_events), LIMIT, at_most=True),
            Bar(
                "±, windows of 1 h to 90 d",
                _unevenness(figures_of(by_window), by_window),
                LIMIT,
                at_most=True,
            ),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "numba"),
    )


def _contestant(events: int, hours: int) -> Contestant:
    name = f"{events:,} events, window {hours} h"
    return Contestant(name, partial(_command, events, hours), events=events, repetitions=3)


def _command(events: int, hours: int) -> list[str | Path]:
    return [sys.executable, "-m", "benchmarks.scaling", str(events), str(hours)]


def _unevenness(figures: list[Figure], settings: list[Contestant]) -> float | None:
    """How far the dearest and the cheapest setting are from the middle between them, as a share of it."""
    if len(figures) < len(settings):
        return None
    costs = [figure.value for figure in figures]
    return (max(costs) - min(costs)) / (max(costs) + min(costs))


if __name__ == "__main__":
    events, hours = map(int, sys.argv[1:])
    print(json.dumps({"events": events, "seconds": run_penstock(events, hours * HOUR_US)}))
