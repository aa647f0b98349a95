"""Drift reports: how often one alarms without drift, at every sample size, and how often a small shift is found.

`python -m benchmarks.drift REPORTS` is the run, in a child process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.result import Bar, Figure, Result

WHAT = (
    "Reports over 15 columns (normal, skewed, heavy tails, counts, yes or no, many zeros, missing values; five of them correlated) against a "
    "reference of 20,000 rows, eight reports to one. False alarms: the share of reports without drift in which any column alarms, at 5 % asked for and "
    "without a least effect. Found: reports that name the one column shifted by 0.25 standard deviations. Beside it "
    "what the fixed threshold PSI > 0.1 does."
)
NAME = "Penstock"
SIZES = (50, 100, 300, 1_000, 5_000, 20_000, 100_000)
REPORTS, REFERENCE, COLUMNS, SHIFT, FIXED_PSI = 400, 20_000, 15, 0.25, 0.1
SHARED = 8
"""So many reports are against the same reference, for speed."""
Matrix = npt.NDArray[np.float64]


def rows_of(random: np.random.Generator, count: int) -> Matrix:
    """float64[count, 15]: rows without drift."""
    shared = random.normal(size=(count, 1))
    columns = np.empty((count, COLUMNS))
    columns[:, :5] = 0.7 * shared + 0.7 * random.normal(size=(count, 5))
    columns[:, 5] = random.lognormal(3, 1, count)
    columns[:, 6] = random.standard_t(3, count)
    columns[:, 7] = random.poisson(4, count)
    columns[:, 8] = random.poisson(60, count)
    columns[:, 9] = random.random(count) < 0.2
    columns[:, 10] = random.random(count) < 0.003
    columns[:, 11] = np.where(random.random(count) < 0.8, 0.0, random.gamma(2, 10, count))
    columns[:, 12] = np.where(random.random(count) < 0.3, np.nan, random.normal(size=count))
    columns[:, 13] = random.geometric(0.3, count)
    columns[:, 14] = np.round(random.gamma(2, 30, count), 2)
    return columns


def run_penstock(reports: int) -> dict[str, float]:
    """Rates by name; sizes beyond 10,000 rows get half of the reports."""
    from penstock.monitoring.drift import coarse_counts, judge, population_stability
    from penstock.monitoring.profile import Sample, profile_column

    found: dict[str, float] = {}
    for size in SIZES:
        count = max(reports if size <= 10_000 else reports // 2, 1)
        alarms = fixed = hits = 0
        spent = 0.0
        for number in range(count):
            if number % SHARED == 0:
                before = rows_of(np.random.default_rng([number, size, 1]), REFERENCE)
                references = [profile_column(str(j), before[:, j]) for j in range(COLUMNS)]
            now = rows_of(np.random.default_rng([number, size, 2]), size)
            begun = time.process_time()
            samples = [Sample(reference) for reference in references]
            for j, sample in enumerate(samples):
                sample.add(now[:, j])
            alarms += any(verdict.drifted for verdict in judge(samples, false_alarms=0.05))
            spent += time.process_time() - begun
            fixed += any(population_stability(*coarse_counts(sample)) > FIXED_PSI for sample in samples)
            if size == 5_000:
                samples[0] = Sample(references[0])
                samples[0].add(now[:, 0] + SHIFT * references[0].spread)
                hits += judge(samples, false_alarms=0.05, min_effect=0.02)[0].drifted
        found[f"alarms {size}"] = alarms / count
        found[f"fixed {size}"] = fixed / count
        found[f"ms {size}"] = spent / count * 1e3
        if size == 5_000:
            found["shift"] = hits / count
    return found


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """One process, once: it is rates that are measured, with seeds."""

    def command() -> list[str | Path]:
        return [sys.executable, "-m", "benchmarks.drift", str(int(REPORTS * scale))]

    contest = hold([Contestant(NAME, command, repetitions=1)], say)
    runs = contest.runs.get(NAME, [])
    rates: dict[str, float] = runs[0].report if runs else {}
    figures = tuple(_figure(name, value) for name, value in rates.items())
    alarms = [
        Bar(f"false alarms, {n:,} rows", _percent(rates, f"alarms {n}"), 5, "%", at_most=True) for n in SIZES
    ]
    return Result(
        benchmark="drift",
        what=WHAT,
        figures=figures,
        bars=(*alarms, Bar("shift of 0.25 sd found, 5,000 rows", _percent(rates, "shift"), 95, "%")),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "scipy"),
    )


def _figure(name: str, value: float) -> Figure:
    kind, _, size = name.partition(" ")
    rows = f", {int(size):,} rows" if size else ""
    if kind == "ms":
        return Figure.median(f"a report of 15 columns{rows}", "ms of processor", [value])
    labels = {"alarms": "false alarms", "fixed": "PSI > 0.1 alarms", "shift": "shift of 0.25 sd found"}
    return Figure.median(f"{labels[kind]}{rows}", "%", [100 * value])


def _percent(rates: dict[str, float], name: str) -> float | None:
    return round(100 * rates[name], 2) if name in rates else None


if __name__ == "__main__":
    print(json.dumps(run_penstock(*map(int, sys.argv[1:]))))
