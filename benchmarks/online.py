"""Reading 50 features by key, now: one key, and a thousand in one call, in process.

`python -m benchmarks.online EVENTS READS` is the run, in a child process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.result import Bar, Figure, Result

if TYPE_CHECKING:
    from penstock import FeatureService, StreamSource
    from penstock.app import Runtime

WHAT = (
    "50 features (8 functions of two columns over up to 7 windows of 1 hour to 90 days) of 5,000 keys with 500,000 events in 90 "
    "days. From a dict with the key to a dict of values; a thousand keys from a list of dicts to an Arrow table."
)
EVENTS, KEYS, READS, MANY = 500_000, 5_000, 50_000, 1_000
NAME = "Penstock"
DAY_US = 86_400_000_000
BARS = (
    ("one key, p50", "one_p50_us", 50, "µs"),
    ("one key, p99", "one_p99_us", 300, "µs"),
    ("1,000 keys", "many_ms", 5, "ms"),
)


def run_penstock(events: int, reads: int) -> dict[str, float]:
    """Quantiles of single reads in µs, and the median of reads of many keys in ms."""
    from penstock.app import Runtime
    from penstock.app.settings import Settings
    from penstock.definitions.project import Project

    source, service = _definitions()
    random = np.random.default_rng(5)
    keys = [{"card_id": f"c{number}"} for number in random.integers(0, KEYS, reads).tolist()]
    with tempfile.TemporaryDirectory() as folder:
        project = Project(
            Path(folder), "reads", {}, sources={"payments": source}, services={"reads": service}
        )
        with Runtime.open(Path(folder), project=project, settings=Settings()) as runtime:
            _fill(runtime, events, random)
            one = []
            for key in keys:
                started = time.perf_counter_ns()
                runtime.online.read("reads", key).to_dict()
                one.append(time.perf_counter_ns() - started)
            many = []
            for first in range(0, min(reads, 20 * MANY), MANY):
                started = time.perf_counter_ns()
                runtime.online.read("reads", keys[first : first + MANY]).to_arrow()
                many.append(time.perf_counter_ns() - started)
    warm = np.array(one[len(one) // 10 :]) / 1e3
    return {
        "one_p50_us": float(np.percentile(warm, 50)),
        "one_p99_us": float(np.percentile(warm, 99)),
        "many_ms": float(np.median(many) / 1e6),
    }


def _definitions() -> tuple[StreamSource, FeatureService]:
    from datetime import timedelta

    from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
    from penstock.types import Field, Float64, Int64, String, Timestamp

    amount, kind = Field("amount", Float64), Field("kind", Int64)
    hours = (1, 6, 24, 7 * 24, 30 * 24, 60 * 24, 90 * 24)
    source = StreamSource(
        "payments", PushConfig(), schema=[Field("card_id", String), Field("at", Timestamp), amount, kind]
    )
    features = [
        Aggregate(amount, function, time_window=timedelta(hours=h))
        for function in ("count", "sum", "mean", "min", "max", "stddev_samp")
        for h in hours[:6]
    ]
    features += [
        Aggregate(kind, function, time_window=timedelta(hours=h))
        for function in ("count_distinct", "last")
        for h in hours
    ]
    card = Entity("card", [Field("card_id", String)])
    view = StreamFeatureView("card_features", source=source, entities=[card], features=features)
    return source, FeatureService("reads", features=[view])


def _fill(runtime: Runtime, events: int, random: np.random.Generator) -> None:
    import pyarrow as pa

    from penstock.core.clock import SystemClock
    from penstock.engine.contract import Contract

    times = np.sort(SystemClock().now_us() - random.integers(0, 90 * DAY_US, events))
    table = pa.table(
        {
            "card_id": [f"c{number}" for number in random.integers(0, KEYS, events).tolist()],
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "amount": np.round(random.gamma(2.0, 30.0, events), 2),
            "kind": random.integers(0, 20, events),
        }
    )
    contract = Contract(runtime.plan.sources["payments"])
    for first in range(0, events, 50_000):
        runtime.process([("payments", contract.decode_table(table.slice(first, 50_000)))]).wait()


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """One process, three times."""

    def command() -> list[str | Path]:
        sizes = (int(EVENTS * scale), max(int(READS * scale), 2 * MANY))
        return [sys.executable, "-m", "benchmarks.online", *map(str, sizes)]

    contest = hold([Contestant(NAME, command, repetitions=3)], say)
    runs = contest.runs.get(NAME, [])
    figures = tuple(
        Figure.median(
            label, unit, [run.report[name] for run in runs], peak_mb=round(max(r.peak_mb for r in runs), 1)
        )
        for label, name, _, unit in BARS
        if runs
    )
    values = {figure.contestant: figure.value for figure in figures}
    return Result(
        benchmark="online",
        what=WHAT,
        figures=figures,
        bars=tuple(
            Bar(label, values.get(label), limit, unit, at_most=True) for label, _, limit, unit in BARS
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "numba", "msgspec"),
    )


if __name__ == "__main__":
    print(json.dumps(run_penstock(*map(int, sys.argv[1:]))))
