"""The fraud simulator at its defaults: the published totals, and the time that they take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.result import Bar, Result

if TYPE_CHECKING:
    from benchmarks.process import Run

WHAT = "All 1,754,155 payments of the published data simulated and labelled; the totals must be the published ones."
ROWS = 1_754_155
SCENARIOS = {1: 973, 2: 9_077, 3: 4_631}
# What was published, to the digits that were published.
TOTALS = {
    "rows": ROWS,
    "frauds": 14_681,
    **{f"frauds of scenario {number}": count for number, count in SCENARIOS.items()},
    "largest amount": 2_628.00,
    "mean amount": 53.63,
    "rows that share their second": 231_973,
    "customers": 4_990,
}
LIMIT_S = 40.0


def totals() -> dict[str, float]:
    """Simulate, and count what the publication counts."""
    import pyarrow.compute as pc

    from examples.fraud.simulator import simulate

    started = time.perf_counter()
    table = simulate()
    seconds = time.perf_counter() - started
    shared = pc.value_counts(table["time_seconds"]).field("counts")
    return {
        "seconds": seconds,
        "rows": table.num_rows,
        "frauds": pc.sum(table["is_fraud"]).as_py(),
        **{
            f"frauds of scenario {number}": pc.sum(pc.equal(table["fraud_scenario"], number)).as_py()
            for number in SCENARIOS
        },
        "largest amount": pc.max(table["amount"]).as_py(),
        "mean amount": round(pc.mean(table["amount"]).as_py(), 2),
        "rows that share their second": pc.sum(pc.filter(shared, pc.greater(shared, 1))).as_py(),
        "customers": pc.count_distinct(table["customer_id"]).as_py(),
    }


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Run the simulator in a process of its own; the world is always the published one, whatever the scale."""
    contestant = Contestant(
        "Penstock's simulator",
        lambda: [sys.executable, "-m", "benchmarks.simulator"],
        events=ROWS,
        repetitions=3 if scale == 1.0 else 1,
    )
    contest = hold([contestant], say)
    runs = contest.runs.get(contestant.name, [])
    figures = contest.figures("s", lambda run: run.report["seconds"], [contestant])
    return Result(
        benchmark="simulator",
        what=WHAT,
        figures=tuple(figures),
        bars=(
            Bar("published totals that differ", _differing(runs), 0, at_most=True),
            Bar("seconds", figures[0].value if figures else None, LIMIT_S, "s", at_most=True),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("numpy", "pyarrow"),
    )


def _differing(runs: list[Run]) -> int | None:
    """How many totals are not the published ones, in the worst run."""
    return max(
        (sum(run.report[name] != total for name, total in TOTALS.items()) for run in runs), default=None
    )


if __name__ == "__main__":
    print(json.dumps(totals()))
