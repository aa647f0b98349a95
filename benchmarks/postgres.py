"""The stream benchmark's own run with its store in PostgreSQL, beside the same in SQLite, on one machine.

`python -m benchmarks.postgres EVENTS MODEL OUTPUT MODE DURABILITY` is one run, in a child process, over what ``PENSTOCK_STORE__URL`` names.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contestant, hold
from benchmarks.events import events_file, model_file, prefix_file
from benchmarks.machine import versions_of
from benchmarks.result import Agreement, Bar, Result, find
from benchmarks.stream import decisions_of, output_of, run_penstock
from services import SERVICES

EVENTS = 600_000
NAMESPACE = "benchmark"
WHAT = (
    "The stream benchmark (NDJSON card payments → 12 windows → XGBoost → decision and vector committed) with the store in PostgreSQL, on "
    "the same two cores, and in SQLite. In PostgreSQL each decision is a row by COPY, too, with three indexes."
)


def run(events: Path, model: Path, output: Path, *, mode: str, durability: str) -> dict[str, Any]:
    """One run; in PostgreSQL in a schema that is made anew."""
    url = os.environ.get("PENSTOCK_STORE__URL")
    if url is not None:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {NAMESPACE} CASCADE")
            connection.execute("CHECKPOINT")
    return run_penstock(events, model, output, mode=mode, durability=durability)


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """SQLite and PostgreSQL in turn."""
    server = SERVICES["postgres"]
    server.install()
    server.start()
    whole = events_file(int(EVENTS * scale))
    contestants = [
        _contestant(whole, f"{store}, {how}{durability}", server.address, int(count * scale))
        for how, count in (("", EVENTS), ("one by one, ", 20_000))
        for durability in ("power", "process")
        for store in ("SQLite", "PostgreSQL")
    ]
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants
    )
    found = find(figures, "PostgreSQL, power")
    return Result(
        benchmark="postgres",
        what=WHAT,
        figures=tuple(figures),
        bars=(Bar("events/s, PostgreSQL, power", None if found is None else found.value, 20_000, "/s"),),
        agreements=tuple(
            _same_bits(name, name.replace("PostgreSQL", "SQLite"))
            for name in contest.runs
            if name.startswith("PostgreSQL") and name.replace("PostgreSQL", "SQLite") in contest.runs
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "psycopg", "numpy", "numba", "xgboost-cpu"),
    )


def _contestant(whole: Path, name: str, url: str, events: int) -> Contestant:
    mode = "one" if "one by one" in name else "batch"

    def command() -> list[str | Path]:
        inputs = [prefix_file(whole, events), model_file()]
        return [
            sys.executable,
            "-m",
            "benchmarks.postgres",
            *inputs,
            output_of(name),
            mode,
            name.rpartition(", ")[2],
        ]

    store = {"PENSTOCK_STORE__URL": url, "PENSTOCK_STORE__NAMESPACE": NAMESPACE}
    return Contestant(
        name,
        command,
        events=events,
        repetitions=2 if mode == "batch" else 1,
        environment=store if name.startswith("PostgreSQL") else {},
    )


def _same_bits(contestant: str, reference: str) -> Agreement:
    """Ids, scores and vectors bit for bit."""
    (ids, found), (expected_ids, expected) = map(decisions_of, map(output_of, (contestant, reference)))
    if ids != expected_ids:
        return Agreement(contestant, reference, rows=len(ids), differing=len(ids), largest_difference=np.inf)
    differing = (found.view(np.int64) != expected.view(np.int64)).any(axis=1)
    largest = float(np.abs(found - expected).max(initial=0.0))
    return Agreement(
        contestant, reference, rows=len(ids), differing=int(differing.sum()), largest_difference=largest
    )


if __name__ == "__main__":
    file, model, output, mode, durability = sys.argv[1:]
    print(json.dumps(run(*map(Path, (file, model, output)), mode=mode, durability=durability)))
